"""Vocabularies of every kind and a haystack for them."""

from __future__ import annotations

import random
from pathlib import Path

from mixture.monitor.codec import Codec, open_codec
from mixture.monitor.haystack import Haystack, Text, of_texts

#: By the names of `tests.tokens.conftest.SPECS`.
VOCABULARIES: dict[str, str] = {
    "bytes": "bytes",
    "cl100k": "cl100k_base.tiktoken",
    "trained": "sp.model",
    "prefixed": "prefixed.model",
    "huggingface": "hf",
}


def codec_of(name: str, home: Path) -> Codec:
    return open_codec("bytes" if name == "bytes" else home / VOCABULARIES[name])


def sentences(count: int, seed: int = 0) -> str:
    """So many sentences of the words of a fairy tale."""
    draw = random.Random(seed)
    words = "the wolf and a fox went into old wood to see if any hen was at home there".split()  # noqa: SIM905
    return " ".join(" ".join(draw.choices(words, k=draw.randint(4, 9))).capitalize() + "." for _ in range(count))


def haystack_of(codec: Codec, documents: int = 4, each: int = 60) -> Haystack:
    return of_texts(codec, (Text(f"{n}.txt", sentences(each, n)) for n in range(documents)), "four tales")
