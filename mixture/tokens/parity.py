"""Proof that the fast engine gives the reference's tokens: a fixed hard set, and a sample of the store's own documents.

    at load       every string of `hard.py` through both; one difference, and the reference does the work instead
    at each part  a slice of some documents through both; one difference, and the run stops

Which documents are sampled, and where, depends on each document alone (its id and its length), never on who reads it
or on what stands beside it: a run with five workers checks the same slices as a run with one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mixture.errors import EngineMismatchError
from mixture.hashing import U64, draw
from mixture.tokens.backends import I64, U32, offsets_of

#: One slice for so much text, on average.
SAMPLE_BYTES = 1 << 20
#: Bytes in a slice, at most: a thousandth of the text costs the engine 3 to 5 % of its time.
SLICE_BYTES = 1 << 10
_SHOWN = 40

EncodeText = Callable[[str], Sequence[int] | U32]
EncodeMany = Callable[[Sequence[bytes]], tuple[U32, I64]]


@dataclass(frozen=True)
class Proof:
    """What is known of the fast engine for one vocabulary.

    Attributes:
        engine: name and version of the engine that was tried, or "none".
        outcome: equal (it does the work); differs or unavailable (the reference does); not wanted (the reference was
            asked for, or needs no help).
        strings: strings of the hard set that were compared.
        differences: how many came out differently.
        routed: strings that were not compared, because documents with such characters go to the reference.
        reason: one sentence on why the reference does the work, empty where the engine does.
    """

    engine: str
    outcome: Literal["equal", "differs", "unavailable", "not wanted"]
    strings: int = 0
    differences: int = 0
    routed: int = 0
    reason: str = ""


def differing(strings: Sequence[str], engine: EncodeMany, reference: EncodeText) -> list[str]:
    """Return the strings that the engine tokenizes differently from the reference, in their order."""
    tokens, offsets = engine([text.encode() for text in strings])
    found = np.split(tokens, offsets[1:-1])
    return [text for text, own in zip(strings, found, strict=True) if own.tolist() != list(reference(text))]


def sample(texts: Sequence[bytes], hi: U64, lo: U64) -> list[str]:
    """Return the slices of some documents that both tokenizers must agree on.

    A document of n bytes is taken with probability min(1, n / 1 MiB); its slice has at most 1 KiB, begins at a place
    that its id gives, and is narrowed to whole characters.

    Args:
        texts: n documents, UTF-8.
        hi: leading 64 bits of their ids, shape (n,).
        lo: trailing 64 bits, shape (n,).
    """
    sizes = np.diff(offsets_of(texts))
    chance = np.minimum(sizes / SAMPLE_BYTES, 1.0)
    taken = np.flatnonzero(draw(0, "parity", hi, lo) * 2.0**-64 < chance)
    places = draw(0, "parity slice", hi[taken], lo[taken])
    slices = []
    for row, place in zip(taken.tolist(), places.tolist(), strict=True):
        start = place % (max(0, len(texts[row]) - SLICE_BYTES) + 1)
        # "ignore" drops the halves of characters at both ends, nothing else: the text is valid UTF-8.
        slices.append(texts[row][start : start + SLICE_BYTES].decode(errors="ignore"))
    return slices


def check(slices: Sequence[str], engine: EncodeMany, reference: EncodeText, names: tuple[str, str]) -> int:
    """Compare both tokenizers on slices; return how many were compared.

    Args:
        slices: what `sample` took.
        engine: the fast one, many texts at once, as it tokenizes documents.
        reference: the right one.
        names: what to call them in the message.

    Raises:
        EngineMismatchError: they disagree; the message has the first difference and the text around it.
    """
    if not slices:
        return 0
    tokens, offsets = engine([text.encode() for text in slices])
    for text, start, stop in zip(slices, offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        expected = np.asarray(reference(text), dtype=np.uint32)
        if not np.array_equal(tokens[start:stop], expected):
            raise EngineMismatchError(_difference(text, tokens[start:stop], expected, names))
    return len(slices)


def _difference(text: str, got: U32, expected: U32, names: tuple[str, str]) -> str:
    shared = min(len(got), len(expected))
    unequal = np.flatnonzero(got[:shared] != expected[:shared])
    at = int(unequal[0]) if len(unequal) else shared
    near = slice(max(0, at - 2), at + 6)
    # Tokens and characters run along together, nearly enough to show the right stretch of the text.
    middle = int(len(text) * at / max(1, len(expected)))
    snippet = text[max(0, middle - _SHOWN) : middle + _SHOWN]
    return (
        f"{names[0]} and {names[1]} differ from token {at} of a slice of a document: {got[near].tolist()} against "
        f"{expected[near].tolist()}, near {snippet!r}; use the reference for this vocabulary and report the text"
    )
