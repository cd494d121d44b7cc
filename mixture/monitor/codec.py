"""Text to tokens of the model under examination, and back: a thin coat over `mixture.tokens.tokenizer`.

    codec = open_codec(Path("qwen-0.5b"))       a Hugging Face folder, a vocabulary file, `bytes`, or a run's checkpoint
    codec.encode("The end.")                    as a text of its own
    codec.after(" 7382914")                     as a text that follows another

Probes are laid together from pieces: a sentence, a number, a question. Each piece is encoded by itself and the pieces
are joined *as tokens*, so a place in a prompt is known exactly, and a number has the same tokens in the haystack and in
the answer. Encoding the joined text again would move borders: a vocabulary may write " 7382914." as one piece here and
as another there. The price: where a vocabulary would join the end of one piece with the beginning of the next, it
cannot. Pieces therefore begin with a space or after a line break, where vocabularies cut anyway.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixture import lockfile
from mixture.errors import MonitorError, TokenizerError
from mixture.lockfile import Lock
from mixture.recipe.sources import TokenizerSpec
from mixture.storage import as_place
from mixture.tokens.tokenizer import Tokenizer, load

#: After which a piece is encoded; the first one that stays a token of its own is taken. A line break is, in nearly
#: every vocabulary; a full stop serves pieces that begin with a line break.
_ANCHORS = ("\n", ".")
#: Vocabularies in a folder, likeliest first: file, kind.
_FILES = (("tokenizer.json", "huggingface"), ("tokenizer.model", "sentencepiece"))
_SUFFIXES = {".json": "huggingface", ".model": "sentencepiece", ".tiktoken": "tiktoken"}


@dataclass(frozen=True)
class Codec:
    """A model's tokenizer.

    Attributes:
        tokenizer: the vocabulary.
        opening: tokens that a text of this model begins with, as `<s>`; empty for many.
    """

    tokenizer: Tokenizer
    opening: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """What people call the vocabulary."""
        return self.tokenizer.name

    @property
    def fingerprint(self) -> str:
        """32 hex digits of the vocabulary's content."""
        return self.tokenizer.fingerprint

    @property
    def n_vocab(self) -> int:
        """1 + the largest id, specials included."""
        return self.tokenizer.n_vocab

    @property
    def bos_id(self) -> int | None:
        """Opening separator, or None."""
        return self.tokenizer.bos_id

    @property
    def eos_id(self) -> int | None:
        """Closing separator, or None."""
        return self.tokenizer.eos_id

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text, without separators; text that looks like a special token stays text."""
        tokens: list[int] = self.tokenizer.encode_text(text).tolist()
        return tokens

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of tokens; bytes that are not UTF-8 become U+FFFD."""
        return self.tokenizer.decode([int(token) for token in tokens])

    def after(self, text: str) -> list[int]:
        """Return the tokens of a text that follows another one.

        Some vocabularies put a space before every text: the piece is encoded after an anchor, whose tokens are then
        taken off. Where they are no longer there by themselves, the text is encoded alone.
        """
        for anchor, before in self._anchors:
            tokens = self.encode(anchor + text)
            if tokens[: len(before)] == before and len(tokens) > len(before):
                return tokens[len(before) :]
        return self.encode(text)

    @functools.cached_property
    def _anchors(self) -> list[tuple[str, list[int]]]:
        return [(anchor, self.encode(anchor)) for anchor in _ANCHORS]


def open_codec(place: Path | str) -> Codec:
    """Open a model's tokenizer.

    Args:
        place: a folder with a tokenizer.json or a SentencePiece tokenizer.model; such a file, or a tiktoken one;
            `bytes`; a lock; or a run's folder, export or checkpoint, whose lock names a vocabulary that needs no file,
            or the one of the model that the run began with.

    Raises:
        MonitorError: no tokenizer is there.
        TokenizerError: the vocabulary is damaged.
    """
    place = Path(place)
    if place.is_dir():
        return _of_folder(place)
    if place.name.endswith(".lock.json") and place.is_file():
        return _of_lock(place, place)
    if str(place) == "bytes":
        return Codec(_load(TokenizerSpec(kind="bytes"), place))
    if not place.is_file():
        raise MonitorError(
            f"{place}: no such tokenizer; give a tokenizer.json, a .model or .tiktoken file, the folder of a model, or "
            "bytes"
        )
    return _of_file(place, _SUFFIXES.get(place.suffix, ""))


def _of_file(path: Path, kind: str) -> Codec:
    if not kind:
        raise MonitorError(
            f"{path}: not known as a tokenizer by its name; give a file that ends in {', '.join(_SUFFIXES)}"
        )
    spec = TokenizerSpec.model_validate({"kind": kind, "path": path.name})
    tokenizer = _load(spec, path)
    return Codec(tokenizer, _opening(tokenizer, path, kind))


def _of_folder(folder: Path) -> Codec:
    for name, kind in _FILES:
        if (folder / name).is_file():
            return _of_file(folder / name, kind)
    ranks = sorted(folder.glob("*.tiktoken"))
    if len(ranks) == 1:
        return _of_file(ranks[0], "tiktoken")
    # A run keeps its lock beside `checkpoints` and `export`.
    own = folder.resolve()
    for above in (own, own.parent, own.parent.parent):
        locks = sorted(above.glob("*.lock.json"))
        if len(locks) == 1:
            return _of_lock(locks[0], folder)
    raise MonitorError(
        f"{folder}: no tokenizer is there (tokenizer.json, tokenizer.model, *.tiktoken, or a run's lock); name the "
        "model's tokenizer with --tokenizer"
    )


def _of_lock(path: Path, place: Path) -> Codec:
    """Open the vocabulary that a lock names, if it needs no file.

    Raises:
        MonitorError: it needs one, or is another than the lock's.
    """
    lock = lockfile.read(as_place(path))
    if lock is None:
        raise MonitorError(f"{path}: the lock is gone; name the model's tokenizer with --tokenizer")
    told: dict[str, Any] = lock.recipe["content"]["tokenizer"]
    spec = TokenizerSpec.model_validate(told) if told["kind"] == "bytes" or told.get("name") else None
    if spec is None:
        found = _of_model(path.parent)
        if found is not None and found.fingerprint == lock.tokenizer["fingerprint"]:
            return found
        raise MonitorError(
            f"{place}: its lock {path.name} was made with a {told['kind']} vocabulary of "
            f"{lock.tokenizer['vocabulary']:,} tokens, whose file it does not hold; name that file with --tokenizer"
        )
    tokenizer = _load(spec, path)
    if tokenizer.fingerprint != lock.tokenizer["fingerprint"]:
        raise MonitorError(
            f"{place}: {tokenizer.name} has the fingerprint {tokenizer.fingerprint}, its lock {path.name} says "
            f"{lock.tokenizer['fingerprint']}; name the vocabulary that the lock was made with with --tokenizer"
        )
    return Codec(tokenizer, _prefix(lock))


def _of_model(run: Path) -> Codec | None:
    """Open the tokenizer of the model that a run began with; None where that is not there."""
    from mixture.train.config import load as load_config

    told = run / "config.yaml"
    model = load_config(told).model.path if told.is_file() else None
    files = [(Path(model) / name, kind) for name, kind in _FILES] if model else []
    return next((_of_file(file, kind) for file, kind in files if file.is_file()), None)


def _prefix(lock: Lock) -> tuple[int, ...]:
    """Return what opens a document of the last phase."""
    return tuple(int(token) for token in lock.phases[-1]["stream"]["prefix"])


def _load(spec: TokenizerSpec, path: Path) -> Tokenizer:
    # The reference: it is right by definition, and a haystack is small.
    return load(spec, as_place(path.parent), engine="reference")


def _opening(tokenizer: Tokenizer, path: Path, kind: str) -> tuple[int, ...]:
    """Return what the model's own tokenizer puts before a text: by its post-processor, or by its settings."""
    if kind == "huggingface":
        opening = _before_a_text(path)
        if opening:
            return opening
    if _settings(path).get("add_bos_token") is True and tokenizer.bos_id is not None:
        return (tokenizer.bos_id,)
    return ()


def _before_a_text(path: Path) -> tuple[int, ...]:
    import tokenizers

    own = tokenizers.Tokenizer.from_file(str(path))
    own.no_truncation()
    own.no_padding()
    plain = own.encode("a", add_special_tokens=False).ids
    whole = own.encode("a", add_special_tokens=True).ids
    at = next((n for n in range(len(whole)) if whole[n : n + len(plain)] == plain), 0)
    return tuple(whole[:at])


def _settings(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads((path.parent / "tokenizer_config.json").read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise TokenizerError(
            f"{path.parent / 'tokenizer_config.json'}: not valid JSON ({error}); mend it or remove it"
        ) from error
    return found if isinstance(found, dict) else {}
