"""Documents that the fast engine must not touch: those with characters that Unicode has settled only lately.

A pre-tokenizer's pattern asks whether a character is a letter, a mark or a digit. Engine and reference carry tables of
different Unicode versions (measured: gigatoken 0.10 against tiktoken 0.14 and tokenizers 0.23 over all 1.1 million
code points: 4,657 differ, 4,699 for o200k, all of them added by Unicode 17, none of them elsewhere). A document with a
character out of a script or block that is still being filled goes to the reference, whole; what is left uses
characters on which every table agrees, and there the hard set is the proof. The tokens are the reference's either way.

    "naïve 中文 😀"  →  engine        "𐀀 (Linear B)"  →  reference
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from mixture.tokens.backends import I64, U32, offsets_of
from mixture.tokens.engine import Engine

#: Code points, both ends included: all that Unicode 16 and 17 added and what lies free beside them. In the
#: supplementary planes whole stretches of rare scripts are taken, in the basic plane only the gaps.
UNSETTLED = (
    (0x088F, 0x088F),  # Arabic, extended B
    (0x0C5C, 0x0C5C),  # Telugu
    (0x0CDC, 0x0CDC),  # Kannada
    (0x1ACF, 0x1AFF),  # combining marks, extended
    (0x1C89, 0x1C8F),  # Cyrillic, extended C
    (0xA7CB, 0xA7F1),  # Latin, extended D
    (0x10000, 0x1CFFF),  # historic and minority scripts
    (0x1E000, 0x1EFFF),  # the same, and Arabic mathematics
    (0x1FB00, 0x1FFFF),  # after the emoji
    (0x2A6C0, 0x3FFFF),  # ideographs past extension B
)

_PATTERN = re.compile("[" + "".join(f"{chr(low)}-{chr(high)}" for low, high in UNSETTLED) + "]")
_BLOCK = 4 << 20
#: The first byte of every such character: a text without any of them is settled.
_LEADS = sorted({chr(code).encode()[:1] for ends in UNSETTLED for code in ends})

EncodeText = Callable[[str], Sequence[int] | U32]


def _three(code: int) -> int:
    """Return the first three bytes of a character's UTF-8 as one number; they tell every range above apart."""
    return int.from_bytes(chr(code).encode()[:3], "big")


_LOW = np.array([_three(low) for low, _ in UNSETTLED], dtype=np.uint32)
_HIGH = np.array([_three(high) for _, high in UNSETTLED], dtype=np.uint32)
_PAIRS = np.zeros(1 << 16, dtype=np.bool_)
for _first, _last in zip(_LOW.tolist(), _HIGH.tolist(), strict=True):
    _PAIRS[_first >> 8 : (_last >> 8) + 1] = True


def is_unsettled(text: str) -> bool:
    """Say whether a text has a character on which Unicode tables may differ."""
    return _PATTERN.search(text) is not None


def unsettled(texts: Sequence[bytes]) -> list[int]:
    """Return which documents go to the reference, rising."""
    one, two, three, four = _LEADS
    near = [
        row
        for row, text in enumerate(texts)
        if not text.isascii() and (one in text or two in text or three in text or four in text)
    ]
    # One array of them all: a short document does not pay for calls of its own.
    content = np.frombuffer(b"".join([texts[row] for row in near]), dtype=np.uint8)
    offsets = offsets_of([texts[row] for row in near])
    hits = [_places(content, start, min(start + _BLOCK, len(content))) for start in range(0, len(content), _BLOCK)]
    rows = np.unique(np.searchsorted(offsets, np.concatenate([np.zeros(0, np.int64), *hits]), side="right") - 1)
    return [near[row] for row in rows.tolist()]


def _places(content: npt.NDArray[np.uint8], start: int, stop: int) -> npt.NDArray[np.int64]:
    """Return where characters of `UNSETTLED` begin in one stretch of UTF-8."""
    # Valid UTF-8 has two bytes or more after a lead byte from 0xE0 on, so the look-ahead stays inside.
    leads = np.flatnonzero(content[start:stop] >= 0xE0) + start
    pairs = (content[leads].astype(np.uint32) << 8) | content[leads + 1]
    near = _PAIRS[pairs]
    leads, pairs = leads[near], pairs[near]
    codes = (pairs << 8) | content[leads + 2]
    rows = np.searchsorted(_LOW, codes, side="right") - 1
    found: npt.NDArray[np.int64] = leads[(rows >= 0) & (codes <= _HIGH[rows])]
    return found


class Routed:
    """The fast engine for documents of settled characters, the reference for the others.

    Args:
        engine: the fast one.
        reference: tokens of one text of any length, by the reference.
    """

    def __init__(self, engine: Engine, reference: EncodeText) -> None:
        self.engine = engine
        self._reference = reference

    def encode_text(self, text: str) -> U32:
        """Return the tokens of one text, shape (tokens,)."""
        if is_unsettled(text):
            return np.asarray(self._reference(text), dtype=np.uint32)
        return self.engine.encode_text(text)

    def encode(self, texts: Sequence[bytes]) -> tuple[U32, I64]:
        """Return flat tokens and n+1 offsets of n documents given as UTF-8; see `Engine.encode`."""
        tokens, offsets = self.engine.encode(texts)
        rows = unsettled(texts)
        if not rows:
            return tokens, offsets
        lengths = np.diff(offsets)
        parts: list[U32] = []
        done = 0
        for row in rows:
            own = np.asarray(self._reference(texts[row].decode()), dtype=np.uint32)
            parts += [tokens[offsets[done] : offsets[row]], own]
            lengths[row] = len(own)
            done = row + 1
        parts.append(tokens[offsets[done] :])
        np.cumsum(lengths, out=offsets[1:])
        return np.concatenate(parts), offsets
