r"""Very long documents: cut at places where a tokenizer would stop anyway, tokenize the pieces, join.

SentencePiece and tokenizers keep tens of bytes for each character of a text, and tiktoken's time grows faster than a
stretch without breaks: a 100 MB document is cut into pieces of about half a million characters. Where a text may be
cut depends on its characters alone, and each seam is tried before it is used: a window around it must give the same
tokens whole as in two. A seam that fails is passed over; a text without any good seam stays whole.

    "… the end.\nThe next …"   →   "… the end.\n" + "The next …"      (a regular expression splits there)
    "… two words …"            →   "… two" + "words …"               (SentencePiece puts the space back itself)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

Encode = Callable[[str], Sequence[int] | npt.NDArray[np.uint32]]

#: A text of more characters than this is cut.
LONG_CHARACTERS = 1_000_000
#: Characters in a piece, about.
PIECE_CHARACTERS = 500_000
#: Characters on each side of a seam that must come out the same.
WINDOW_CHARACTERS = 1_000
#: Seams in a row that may fail before a rule is given up for the rest of the text.
_TRIES = 16


@dataclass(frozen=True)
class Cut:
    """A rule for seams: the left piece ends where `pattern` ends, the right one begins `drop` characters later."""

    pattern: re.Pattern[str]
    drop: int


#: After a line's end, before a word: every published pre-tokenizer splits there.
LINE = Cut(re.compile(r"[A-Za-z0-9.,;]\n(?=[A-Za-z])"), 0)
#: At a space between words that the tokenizer's own dummy prefix restores.
PREFIXED_WORD = Cut(re.compile(r"[A-Za-z0-9](?= [A-Za-z0-9])"), 1)
#: Before a space between words, where nothing is prefixed.
WORD = Cut(re.compile(r"[A-Za-z0-9](?= [A-Za-z0-9])"), 0)


def encode_long(text: str, cuts: Sequence[Cut], encode: Encode) -> npt.NDArray[np.uint32]:
    """Return the tokens of a text of any length, the same as `encode(text)`; shape (tokens,)."""
    if len(text) <= LONG_CHARACTERS:
        return np.asarray(encode(text), dtype=np.uint32)
    return np.concatenate([np.asarray(encode(piece), dtype=np.uint32) for piece in pieces(text, cuts, encode)])


def pieces(text: str, cuts: Sequence[Cut], encode: Encode) -> Iterator[str]:
    """Yield the stretches of a text whose tokens, joined, are the text's; one stretch where no seam holds."""
    start = 0
    usable = list(cuts)
    while len(text) - start > LONG_CHARACTERS:
        seam = None
        while usable and (seam := _next_seam(text, start + PIECE_CHARACTERS, usable[0], encode)) is None:
            # A rule that found nothing from here on will find nothing later either.
            usable.pop(0)
        if seam is None:
            break
        left, right = seam
        yield text[start:left]
        start = right
    yield text[start:]


def _next_seam(text: str, at: int, cut: Cut, encode: Encode) -> tuple[int, int] | None:
    """Return the end of the left piece and the start of the right one, at the first seam past `at` that holds."""
    for match in islice(cut.pattern.finditer(text, at), _TRIES):
        left, right = match.end(), match.end() + cut.drop
        if _holds(text, left, right, encode):
            return left, right
    return None


def _holds(text: str, left: int, right: int, encode: Encode) -> bool:
    low, high = max(0, left - WINDOW_CHARACTERS), right + WINDOW_CHARACTERS
    whole = encode(text[low:high])
    cut = [*encode(text[low:left]), *encode(text[right:high])]
    return list(whole) == cut
