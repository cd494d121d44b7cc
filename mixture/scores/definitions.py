"""What is computed of a text. A change of a definition needs a new version: stored scores are kept by it.

    gzip_ratio        bytes of the gzip file of the text (level 6, header and trailer included) per byte of UTF-8.
                      "aaaa…" → 0.00…, prose about 0.4, noise a little over 1; the 18 bytes around weigh on short texts.
    type_token_ratio  different words per word; words are lower-cased and separated by white space. A longer text
                      repeats more, so it is the mean over its whole stretches of 1,000 words; a text of fewer words is
                      one stretch, and what is left over after the last whole one does not count.

A text without a word has no type-token ratio: NULL.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from math import nan

import xxhash

_LEVEL = 6
_GZIP = 31
#: Words in a stretch.
STRETCH = 1000


@dataclass(frozen=True)
class Definition:
    """How a score is computed.

    Attributes:
        of: gives the score of a text in UTF-8, or NaN where it has none.
        version: names the definition, and whatever of this machine decides about its results.
    """

    of: Callable[[bytes], float]
    version: str


def gzip_ratio(text: bytes) -> float:
    """Return the bytes of a text's gzip file per byte of the text."""
    return len(zlib.compress(text, _LEVEL, _GZIP)) / len(text)


def type_token_ratio(text: bytes) -> float:
    """Return the share of different words, in stretches of 1,000; NaN where there is no word."""
    words = bytes(text).decode().lower().split()
    if not words:
        return nan
    whole = max(1, len(words) // STRETCH)
    size = min(STRETCH, len(words))
    return sum(len(set(words[at * size : (at + 1) * size])) for at in range(whole)) / (whole * size)


def _compressor() -> str:
    """Name the compressor of this Python by what it makes: zlib's many offspring differ in their sizes."""
    sample = b"".join(f"{n * n % 9973} of {n % 97} documents, ".encode() for n in range(5000))
    return xxhash.xxh3_64_hexdigest(zlib.compress(sample, _LEVEL))


#: Every measure, by the name that recipes use.
DEFINITIONS = {
    "gzip_ratio": Definition(gzip_ratio, f"1-{_compressor()}"),
    "type_token_ratio": Definition(type_token_ratio, "1"),
}
