"""Haystacks: long text to hide things in, as tokens, with the places where a sentence ends.

    texts or tokens of documents ─ end to end, a blank line between ─▶ tokens (n,), ends (m,)

    around(3, 4)   pick a sentence end at place 9 of the pool   →   tokens 6, 7, 8  |  9, 10, 11, 12

What is hidden goes between the two stretches: at the end of a sentence, and exactly as many tokens from the start as
was asked for. The price: the text begins in mid-sentence (it ends so in any case). The pool is a ring, so every
sentence end serves, and a pool of n tokens serves prompts of up to n.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mixture.errors import MonitorError
from mixture.monitor.codec import Codec
from mixture.monitor.probes import I64, Lots

#: Tokens that a pool holds at most by default: 16 of the longest prompts of 256K, 32 MiB.
MOST_TOKENS = 4 << 20

# The full stops of Chinese and Japanese stand without a space.
_WIDE = "\u3002\uff01\uff1f"
#: How a token ends that ends a sentence, blanks taken off.
_CLOSES = re.compile(rf"[.!?{_WIDE}][\"')\]\u201d\u2019]*$")
#: What a token that ends a sentence looks like with the next one.
_BETWEEN = re.compile(rf"[.!?][\"')\]\u201d\u2019]*\s|[{_WIDE}]")


@dataclass(frozen=True)
class Text:
    """A document for a haystack.

    Attributes:
        name: for messages: file and row, or an id.
        text: of the document.
    """

    name: str
    text: str


@dataclass(frozen=True)
class Haystack:
    """A pool of text as tokens, a ring.

    Attributes:
        tokens: int64, shape (n,).
        ends: places where a sentence or a document ends: the next one begins there; rising, shape (m,).
        documents: how many it was made of.
        source: what those are, for messages.

    Raises:
        MonitorError: on construction, when it holds nothing.
    """

    tokens: I64
    ends: I64
    documents: int
    source: str

    def __post_init__(self) -> None:
        if not len(self.tokens):
            raise MonitorError(f"{self.source}: no text for a haystack; give documents that hold some")
        if not len(self.ends) or self.ends[0] < 0 or self.ends[-1] >= len(self.tokens):
            raise MonitorError(f"{self.source}: ends of sentences lie outside the haystack's tokens; find them anew")

    def __len__(self) -> int:
        return len(self.tokens)

    def around(self, before: int, after: int, lots: Lots) -> tuple[I64, I64]:
        """Return the text before and after a random sentence end, shapes (before,) and (after,).

        Raises:
            MonitorError: the pool is smaller than both together.
        """
        self._check(before + after)
        place = int(self.ends[lots.below(len(self.ends))])
        return self._ring(place - before, before), self._ring(place, after)

    def stretch(self, size: int, lots: Lots) -> tuple[I64, I64]:
        """Return some text, shape (size,), and the sentence ends in it: places in [0, size], rising.

        Raises:
            MonitorError: the pool is smaller.
        """
        self._check(size)
        place = int(self.ends[lots.below(len(self.ends))])
        behind = (self.ends - place) % len(self)
        return self._ring(place, size), np.sort(behind[behind <= size])

    def _check(self, size: int) -> None:
        if size > len(self):
            raise MonitorError(
                f"{self.source}: a haystack of {len(self):,} tokens in {self.documents:,} documents is too small, a "
                f"prompt needs {size:,} of it; give more text, or ask for shorter prompts"
            )

    def _ring(self, first: int, size: int) -> I64:
        start = first % len(self)
        whole = self.tokens[start : start + size]
        return whole if len(whole) == size else np.concatenate([whole, self.tokens[: size - len(whole)]])


def of_texts(codec: Codec, texts: Iterable[Text], source: str, *, most: int = MOST_TOKENS) -> Haystack:
    """Make a haystack of texts; the rest is left unread once it holds `most` tokens."""
    return of_tokens(codec, (np.array(codec.encode(text.text), np.int64) for text in texts), source, most=most)


def of_tokens(codec: Codec, documents: Iterable[I64], source: str, *, most: int = MOST_TOKENS) -> Haystack:
    """Make a haystack of documents' own tokens in the model's vocabulary, each int64, shape (its length,).

    Args:
        codec: of that vocabulary.
        documents: without separators; empty ones are left out.
        source: what they are, for messages.
        most: tokens after which the rest is left unread; the last document is cut there.
    """
    between = np.array(codec.after("\n\n"), np.int64)
    pieces: list[I64] = []
    borders: list[int] = []
    held = 0
    for document in documents:
        if len(document):
            pieces += [document[: most - held], between]
            held += len(pieces[-2]) + len(between)
            borders.append(held)
        if held >= most:
            break
    tokens = np.concatenate(pieces) if pieces else np.zeros(0, np.int64)
    ends = np.union1d(_sentence_ends(codec, tokens), np.array(borders, np.int64) % max(len(tokens), 1))
    return Haystack(tokens, ends, len(borders), source)


def _sentence_ends(codec: Codec, tokens: I64) -> I64:
    """Return the places before which a sentence ends, rising, shape (m,).

    A token ends a sentence when its text ends with a full stop (or !, ?, with quotes and brackets after it) and a blank
    follows, in it or in the next token. Each pair of tokens is looked at once, however often it stands in the text. An
    abbreviation counts as the end of a sentence.
    """
    if len(tokens) < 2:
        return np.zeros(0, np.int64)
    kinds = np.unique(tokens)
    closing = kinds[[bool(_CLOSES.search(codec.decode([token]).rstrip())) for token in kinds.tolist()]]
    last = np.flatnonzero(np.isin(tokens[:-1], closing))
    if not len(last):
        return last
    pairs, which = np.unique(np.stack([tokens[last], tokens[last + 1]], axis=1), axis=0, return_inverse=True)
    ends = np.array([bool(_BETWEEN.search(codec.decode(pair))) for pair in pairs.tolist()], bool)
    found: I64 = last[ends[which.reshape(-1)]] + 1
    return found
