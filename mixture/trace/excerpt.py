"""A token in its text: which characters it covers, and what stands around them.

    text "naïve 漢字", tokens na|ï|ve| |E6 BC|A2|…      token 4, two of the three bytes of 漢  →  "naïve " ⟦漢⟧ "字"

The tokens before it are decoded; where that gives the text's beginning back, the place is exact. A vocabulary that does
not give the text back (one that normalises it) is searched by tokenizing beginnings of the text: then it is near.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixture.tokens.tokenizer import Tokenizer

U32 = npt.NDArray[np.uint32]
#: Characters shown on each side of a token.
AROUND = 100


@dataclass(frozen=True)
class Excerpt:
    """A token in its text.

    Attributes:
        before: up to 100 characters before it.
        token: the characters that it covers, whole ones.
        after: up to 100 characters after it.
        byte: where it begins in the document's UTF-8.
    """

    before: str
    token: str
    after: str
    byte: int


def excerpt(tokenizer: Tokenizer, text: str, tokens: U32, offset: int) -> Excerpt:
    """Return what stands around a token of a text.

    Args:
        tokenizer: made the tokens.
        text: all of it.
        tokens: of the text, shape (n,).
        offset: which of them.
    """
    begin = characters(tokenizer, text, tokens, offset)
    end = max(begin + 1, characters(tokenizer, text, tokens, offset + 1, up=True))
    before, after = text[max(0, begin - AROUND) : begin], text[end : end + AROUND]
    return Excerpt(before, text[begin:end], after, len(text[:begin].encode()))


def characters(tokenizer: Tokenizer, text: str, tokens: U32, count: int, *, up: bool = False) -> int:
    """Return how many characters the first tokens of a text make; a part of one counts if `up`."""
    decoded = tokenizer.decode(tokens[:count])
    if text.startswith(decoded):
        return len(decoded)
    common = _common(text, decoded)
    # Tokens of bytes may end inside a character, which decodes to U+FFFD.
    if decoded[common:].strip("\ufffd"):
        return _searched(tokenizer, text, count)
    return common + (up and common < len(text))


def _searched(tokenizer: Tokenizer, text: str, count: int) -> int:
    """Return about how many characters so many tokens make: the shortest beginning that has as many."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high) // 2
        if len(tokenizer.encode_text(text[:middle])) < count:
            low = middle + 1
        else:
            high = middle
    return low


def _common(a: str, b: str) -> int:
    """Return how many characters two texts begin with alike."""
    size = min(len(a), len(b))
    one, other = (np.frombuffer(text[:size].encode("utf-32-le", "surrogatepass"), np.uint32) for text in (a, b))
    differ = np.flatnonzero(one != other)
    return int(differ[0]) if len(differ) else size
