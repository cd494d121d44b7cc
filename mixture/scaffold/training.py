"""A vocabulary of one's own: SentencePiece, trained on an even sample of the sources."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from mixture import corpus
from mixture.corpus.documents import InputFile, Reading
from mixture.errors import InputError
from mixture.patterns import expand
from mixture.scaffold.sources import NamedPaths
from mixture.storage import explain
from mixture.tokens.training import train_sentencepiece


def train_tokenizer(
    sources: Sequence[NamedPaths], data: Path, target: Path, *, vocabulary: int, sample_bytes: int
) -> None:
    """Train a SentencePiece model on an even sample of the sources.

    Raises:
        InputError: a source cannot be read.
        TokenizerError: the sample is too small for the vocabulary.
    """
    each = sample_bytes // len(sources)
    texts = itertools.chain.from_iterable(_sample(source, data, each) for source in sources)
    train_sentencepiece(texts, target, vocab_size=vocabulary, sample_bytes=sample_bytes)


def _sample(source: NamedPaths, data: Path, most: int) -> Iterator[str]:
    files = expand([source.pattern], [], data)
    # A few documents of each of many files say more of a source than one file read to its end.
    each = max(1, most // len(files))
    for file in files:
        left = each
        try:
            entry = InputFile(file.name, file.path, file.path.stat().st_size, "")
        except OSError as error:
            raise InputError(explain(error, file.path)) from error
        chunk = next(iter(corpus.read(source.format, entry, Reading(skip_bad=True))), None)
        for value in chunk.texts if chunk else ():
            text = value[:left].decode(errors="ignore")
            yield text
            left -= len(text)
            if left <= 0:
                break
