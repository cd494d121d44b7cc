"""Where n-grams of some texts stand in others: hashed, looked up, and compared token by token.

    evaluation   7 5 9 2 │ 4 4 8 │ 6 6       three texts; n = 3: look for 7 5 9, 5 9 2, 4 4 8, and for 6 6 as a whole
    documents    1 7 5 9 2 │ 4 4 │ 8 6 6 1   three documents
    hits           ^ ^               ^       at 1 and 2 an n-gram begins, at 8 the short text; 4 4 8 crosses a border

A window of w tokens has the hash  Σ t[i+j]·M^(j+1), j = 0 … w-1, mod 2^64  (Karp and Rabin: "Efficient randomized
pattern-matching algorithms", 1987). With S the running sum of t[i]·M^i it is (S[i+w] - S[i])·M^(1-i): a few vector
operations a token, whatever w is. M is odd, so it has an inverse.

Only the high bits of such a sum are mixed by all below them: a table of bytes is asked by them first, which lets few of
the windows pass that do not belong. Whatever has the hash of a wanted n-gram is compared with it, so hits are exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixture.hashing import U64, key
from mixture.tokens.store import Tokens

I64 = npt.NDArray[np.int64]

_MULTIPLIER = key(0, "ngram") | 1
_INVERSE = pow(_MULTIPLIER, -1, 1 << 64)
#: Windows at once: what they need stays in the second cache.
_WINDOWS = 1 << 15
#: Bits of the first table for each key; two to the power of how many bits it holds at least and at most.
_TABLE_PER_KEY = 32
_TABLE_BITS = (12, 30)
#: Tokens that are compared at once.
_COMPARED = 1 << 22


@dataclass(frozen=True)
class Wanted:
    """What is looked for.

    Attributes:
        ngram: n.
        least: tokens that a text needs which is shorter than n, to be looked for as a whole.
        tokens: of all texts, uint32, shape (t,).
        keys: hashes of their n-grams, rising, shape (m,); a hash comes twice only where n-grams differ.
        places: where the first n-gram of each key begins in `tokens`, shape (m,).
        whole_keys: hashes of the first `least` tokens of each short text, rising, shape (s,).
        whole_places: where it begins, shape (s,).
        whole_sizes: its tokens, shape (s,).
    """

    ngram: int
    least: int
    tokens: npt.NDArray[np.uint32]
    keys: U64
    places: I64
    whole_keys: U64
    whole_places: I64
    whole_sizes: I64


@dataclass(frozen=True)
class Hits:
    """Places where something wanted begins, rising, each once.

    Attributes:
        at: places in the tokens that were searched, shape (k,).
        place: where the same tokens begin in `Wanted.tokens`, shape (k,).
        size: how many they are: n, or all of a shorter text, shape (k,).
    """

    at: I64
    place: I64
    size: I64


def least_whole(ngram: int) -> int:
    """Return how many tokens a text shorter than n needs, to be looked for as a whole: n/4, and 8 where n allows."""
    return min(ngram, max(8, ngram // 4))


def window_hashes(tokens: Tokens, width: int) -> Iterator[tuple[int, U64]]:
    """Yield (place of the first, hashes) of all windows of `width` tokens, some at once, lent until the next.

    Args:
        tokens: shape (t,).
        width: tokens in a window.
    """
    powers, inverses = _powers(_MULTIPLIER, _WINDOWS + width), _powers(_INVERSE, _WINDOWS)
    inverses *= np.uint64(_MULTIPLIER)
    terms = np.empty(_WINDOWS + width, np.uint64)
    sums = np.zeros(_WINDOWS + width, np.uint64)
    for start in range(0, len(tokens) - width + 1, _WINDOWS):
        some = tokens[start : start + _WINDOWS + width - 1]
        count = len(some) - width + 1
        np.multiply(some, powers[: len(some)], out=terms[: len(some)], casting="unsafe")
        np.cumsum(terms[: len(some)], out=sums[1 : len(some) + 1])
        hashes = np.subtract(sums[width : width + count], sums[:count], out=terms[:count])
        hashes *= inverses[:count]
        yield start, hashes


def _powers(base: int, count: int) -> U64:
    """Return base^0 … base^(count-1), mod 2^64."""
    factors = np.full(count, base, np.uint64)
    factors[0] = 1
    powers: U64 = np.multiply.accumulate(factors)
    return powers


def gather(tokens: npt.NDArray[np.uint32], offsets: I64, ngram: int) -> Wanted:
    """Return what to look for: every n-gram of some texts, and as a whole the texts that are a little shorter.

    Args:
        tokens: of all texts, shape (t,).
        offsets: where each text begins in them, and the end, shape (texts + 1,).
        ngram: n.
    """
    least = least_whole(ngram)
    whole = _short_texts(tokens, offsets, least, ngram)
    first = tokens[offsets[whole, None] + np.arange(least)] * _powers(_MULTIPLIER, least + 1)[1:]
    whole_keys = first.sum(1, dtype=np.uint64)
    order = np.argsort(whole_keys, kind="stable")
    begins, sizes = offsets[whole][order], np.diff(offsets)[whole][order]
    return Wanted(ngram, least, tokens, *_all_ngrams(tokens, offsets, ngram), whole_keys[order], begins, sizes)


def _all_ngrams(tokens: npt.NDArray[np.uint32], offsets: I64, ngram: int) -> tuple[U64, I64]:
    """Return the hash of every n-gram and where it first begins, sorted by hash, each n-gram once."""
    hashes = np.concatenate([np.empty(0, np.uint64), *(some.copy() for _, some in window_hashes(tokens, ngram))])
    left = np.repeat(offsets[1:], np.diff(offsets))[: len(hashes)]
    left -= np.arange(len(hashes))
    places = np.flatnonzero(left >= ngram)
    keys = hashes[places]
    order = np.argsort(keys, kind="stable")
    keys, places = keys[order], places[order]
    again = np.flatnonzero(keys[1:] == keys[:-1]) + 1
    head = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
    head = head[np.searchsorted(head, again, "right") - 1]
    # Different n-grams of one hash all stay.
    equal = _equal(tokens, places[again], tokens, places[head], np.full(len(again), ngram))
    return np.delete(keys, again[equal]), np.delete(places, again[equal])


def _short_texts(tokens: npt.NDArray[np.uint32], offsets: I64, least: int, ngram: int) -> I64:
    """Return the numbers of the texts of at least `least` and less than n tokens, the first of equal ones."""
    sizes = np.diff(offsets)
    short = np.flatnonzero((sizes >= least) & (sizes < ngram))
    first = {tokens[offsets[n] : offsets[n + 1]].tobytes(): n for n in reversed(short.tolist())}
    return np.array(sorted(first.values()), np.int64)


def _equal(a: Tokens, a_places: I64, b: Tokens, b_places: I64, sizes: I64) -> npt.NDArray[np.bool_]:
    """Say of pairs of windows whether their tokens are equal, shape (k,)."""
    out = np.zeros(len(sizes), np.bool_)
    for size in np.unique(sizes).tolist():
        mine = np.flatnonzero(sizes == size)
        views = [np.lib.stride_tricks.sliding_window_view(tokens, size) for tokens in (a, b)]
        step = max(1, _COMPARED // size)
        for start in range(0, len(mine), step):
            these = mine[start : start + step]
            out[these] = (views[0][a_places[these]] == views[1][b_places[these]]).all(1)
    return out


class _Net:
    """Catches windows of one width by their hash."""

    def __init__(self, width: int, keys: U64, places: I64, sizes: I64) -> None:
        self._width, self._keys, self._places, self._sizes = width, keys, places, sizes
        low, high = _TABLE_BITS
        bits = min(max(low, (_TABLE_PER_KEY * len(keys)).bit_length()), high)
        # A bit for each value of a hash's high bits; eight of them share a byte.
        self._byte, self._bit = np.uint64(64 - bits + 3), np.uint64(64 - bits)
        self._table = np.zeros(1 << (bits - 3), np.uint8)
        np.bitwise_or.at(self._table, keys >> self._byte, self._bits(keys))

    def _bits(self, hashes: U64) -> npt.NDArray[np.uint8]:
        return np.uint8(1) << ((hashes >> self._bit).astype(np.uint8) & np.uint8(7))

    def catch(self, tokens: Tokens) -> Iterator[tuple[I64, I64, I64]]:
        """Yield (at, place, size) of what has a wanted hash, some at once, in any document or across two."""
        room = np.empty(_WINDOWS, np.int64)
        for start, hashes in window_hashes(tokens, self._width) if len(self._keys) else ():
            slots = np.right_shift(hashes, self._byte, out=room[: len(hashes)], casting="unsafe")
            maybe = np.flatnonzero(self._table.take(slots) & self._bits(hashes))
            found = hashes[maybe]
            first = np.searchsorted(self._keys, found, "left")
            hit = np.flatnonzero(self._keys[np.minimum(first, len(self._keys) - 1)] == found)
            if len(hit):
                first = first[hit]
                count = np.searchsorted(self._keys, found[hit], "right") - first
                entry = np.repeat(first - np.cumsum(count) + count, count) + np.arange(count.sum())
                at = np.repeat(maybe[hit] + start, count)
                yield at, self._places[entry], self._sizes[entry]


class Finder:
    """Finds wanted n-grams in documents; holds what that needs.

    Args:
        wanted: what is looked for.
    """

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        sizes = np.broadcast_to(np.int64(wanted.ngram), len(wanted.keys))
        self._nets = (
            _Net(wanted.ngram, wanted.keys, wanted.places, sizes),
            _Net(wanted.least, wanted.whole_keys, wanted.whole_places, wanted.whole_sizes),
        )

    def find(self, tokens: Tokens, offsets: I64) -> Hits:
        """Return the places of documents at which something wanted begins; none of them crosses a border.

        Args:
            tokens: of all documents, shape (t,).
            offsets: where each document begins in them, and the end, shape (n + 1,).
        """
        ends = offsets[1:]
        caught = [np.empty((3, 0), np.int64)]
        for net in self._nets:
            for at, place, size in net.catch(tokens):
                inside = ends[np.searchsorted(ends, at, "right")] - at >= size
                rows = np.stack([at, place, size])[:, inside]
                caught.append(rows[:, _equal(tokens, rows[0], self._wanted.tokens, rows[1], rows[2])])
        at, place, size = np.concatenate(caught, axis=1)
        # Of several at one place the longest counts, then the first.
        order = np.lexsort((place, -size, at))
        order = order[np.r_[True, np.diff(at[order]) > 0][: len(order)]]
        return Hits(at[order], place[order], size[order])


@dataclass(frozen=True)
class Shared:
    """What documents share with evaluation files: a row for each pair that shares something, by document, then file.

    Attributes:
        document: number of the document, shape (r,).
        file: number of the evaluation file, shape (r,).
        ngrams: hits, shape (r,).
        longest: tokens of the longest stretch of the document that hits cover, shape (r,).
        place: where that stretch begins in `Wanted.tokens`, shape (r,).
        size: tokens of the hit that it begins with, shape (r,).
    """

    document: I64
    file: I64
    ngrams: I64
    longest: I64
    place: I64
    size: I64


def shared(hits: Hits, offsets: I64, files: I64) -> Shared:
    """Sum hits up by document and evaluation file.

    Args:
        hits: of the documents' tokens.
        offsets: where each document begins in them, and the end, shape (n + 1,).
        files: where each file's texts begin in `Wanted.tokens`, shape (f,).
    """
    document = np.searchsorted(offsets, hits.at, "right") - 1
    file = np.searchsorted(files, hits.place, "right") - 1
    other = (np.diff(document) != 0) | (np.diff(file) != 0)
    # How far the hits so far reach, from the last change of document or file on.
    change = np.r_[0, np.cumsum(other)][: len(document)] * (offsets[-1] + 1)
    reach = np.maximum.accumulate(hits.at + hits.size + change) - change
    breaks = other | (hits.at[1:] > reach[:-1])
    first = np.flatnonzero(np.r_[True, breaks][: len(document)])
    last = np.r_[first[1:], len(document)][: len(first)] - 1
    covered, count = reach[last] - hits.at[first], last - first + 1
    order = np.lexsort((first, -covered, file[first], document[first]))
    pair = np.stack([document[first], file[first]])[:, order]
    starts = np.flatnonzero(np.r_[True, (np.diff(pair) != 0).any(0)][: len(order)])
    best = first[order[starts]]
    ngrams = np.add.reduceat(count[order], starts) if len(starts) else count
    return Shared(document[best], file[best], ngrams, covered[order[starts]], hits.place[best], hits.size[best])
