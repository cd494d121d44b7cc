"""The perplexity of a text under a KenLM model, as BERTIN (2207.06814) and CCNet (1911.00359) compute it.

    lines      "the cat"   ""   "sat"              split at line ends; an empty line is one of no words
    log10 P      -4.1    -1.2   -2.9               of the words and the end of the line
    words + 1      3       1      2
    perplexity = 10 ^ (8.2 / 6)

Words are what white space separates, or the pieces of a SentencePiece model: models that were trained on pieces, such
as CCNet's, know few words without it. The text is not changed before (CCNet lower-cases it, strips accents and writes
0 for digits); give such a model such a text.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from mixture.errors import InputError
from mixture.storage import Place

VERSION = "1"
_MOST = 308  # Powers of ten above it are infinite.


def require() -> None:
    """Refuse to start where the module is missing.

    Raises:
        InputError: says how to install it.
    """
    if find_spec("kenlm") is None:
        raise InputError("scores: a perplexity needs the module kenlm, which is not here; `pip install kenlm`")


class Perplexity:
    """A KenLM model, loaded.

    Args:
        model: binary or ARPA file.
        pieces: SentencePiece model that cuts the words, or None.
    """

    def __init__(self, model: Place, pieces: Place | None = None) -> None:
        require()
        try:
            kenlm = import_module("kenlm")
            config = kenlm.Config()
            config.show_progress = False
            self._model: Any = kenlm.Model(str(model), config)
        except (OSError, RuntimeError) as error:
            raise InputError(f"{model}: not a KenLM model ({_cause(error)}); give a binary or an ARPA file") from error
        self._pieces = None if pieces is None else _load_pieces(pieces)

    def of(self, text: bytes) -> float:
        """Return the perplexity of a text in UTF-8."""
        score, words = 0.0, 0
        for line in bytes(text).split(b"\n"):
            cut = line if self._pieces is None else " ".join(self._pieces.encode(line.decode(), out_type=str)).encode()
            score += self._model.score(cut)
            words += len(cut.split()) + 1
        return float(10.0 ** min(-score / words, _MOST))


def _load_pieces(path: Place) -> Any:
    from sentencepiece import SentencePieceProcessor

    try:
        return SentencePieceProcessor(model_file=str(path))
    except (OSError, RuntimeError) as error:
        raise InputError(f"{path}: not a SentencePiece model ({_cause(error)}); give a .model file") from error


def _cause(error: Exception) -> str:
    return " ".join(str(error).split())[:200].rstrip(". ")
