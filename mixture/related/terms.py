"""Terms: the tokens of documents in, their BM25 weights and the most telling terms of each document out.

    document 0   7 7 9 3        terms 7 9 3, twice, once, once
    document 1   7 8 3          terms 7 8 3
    postings     3: 0 1   7: 0 1   (8 and 9 stand in one document: they relate nothing)
    telling      0: 7 3   1: 7 3   by falling weight

A term is a token of the vocabulary: nothing is decoded. The weight is that of BM25 in Lucene's variant (Kamphuis et
al. 2020, "Which BM25 do you mean?"), idf · tf / (k1 (1 - b + b · l / mean l) + tf), in whole 4096ths: sums of them
are exact in any order, so a path does not hang on a machine's rounding. The one logarithm is rounded to 1024ths, the
rest is IEEE arithmetic that every machine does alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]

#: Documents in a block, at most: their numbers have 16 bits in the keys that are sorted.
MOST_DOCUMENTS = 1 << 16
#: Tokens of a document that are looked at: counts must stay below 2^16 too.
MOST_TOKENS = 4096
#: Terms by which a document is compared.
TELLING = 32
_K1, _B = 1.5, 0.75
_IDF_UNIT, _UNIT = 1024, 4096
#: A term that stands in more than this part of the documents tells nothing.
_COMMON = 8
_FEW = 64
_LOW = np.uint64(0xFFFF)


@dataclass(frozen=True)
class Terms:
    """The terms of a block's documents; terms are numbered by rising token.

    Attributes:
        token: of each term, shape (t,).
        starts: where each term's postings begin, shape (t + 1,).
        document: number of each posting's document, int32, shape (m,), rising in each term.
        weight: of each posting, in 4096ths of BM25, int32, shape (m,).
        telling: numbers of each document's most telling terms, most telling first, int32, shape (q,).
        borders: where each document's begin among them, shape (n + 1,).
    """

    token: Ints
    starts: Ints
    document: npt.NDArray[np.int32]
    weight: npt.NDArray[np.int32]
    telling: npt.NDArray[np.int32]
    borders: Ints

    def of(self, document: int) -> npt.NDArray[np.int32]:
        """Return the telling terms of a document."""
        return self.telling[self.borders[document] : self.borders[document + 1]]


def count(token: npt.NDArray[Any], document: Ints) -> U64:
    """Count the tokens of some documents; return (token, document, count) in 32, 16 and 16 bits, sorted.

    Args:
        token: flat, shape (m,).
        document: whose each is, below `MOST_DOCUMENTS`, shape (m,).
    """
    keys = token.astype(np.uint64) << np.uint64(16)
    keys |= document.astype(np.uint64)
    keys.sort()
    first = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]][: len(keys)])
    counts = np.diff(first, append=len(keys))
    return (keys[first] << np.uint64(16)) | counts.astype(np.uint64)


def weigh(counted: Iterable[U64], documents: int) -> Terms:
    """Weigh counted terms: BM25, and the most telling terms of each document.

    Args:
        counted: what `count` returned, each document in one of the arrays.
        documents: how many there are, at most `MOST_DOCUMENTS`.

    Raises:
        ValueError: there are more.
    """
    if documents > MOST_DOCUMENTS:
        raise ValueError(f"a block of {documents:,} documents, at most {MOST_DOCUMENTS:,} can be numbered")
    keys = np.concatenate([np.empty(0, np.uint64), *counted])
    keys.sort()
    document = ((keys >> np.uint64(16)) & _LOW).astype(np.int32)
    often = (keys & _LOW).astype(np.int32)
    lengths = np.bincount(document, often, documents)
    mean = float(lengths.sum()) / documents if len(keys) else 1.0
    keys >>= np.uint64(32)
    first = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]][: len(keys)])
    frequency = np.diff(first, append=len(keys))
    # A term of one document relates it to no other, one of most documents to all of them: neither is kept.
    kept = (frequency > 1) & (frequency <= max(_FEW, documents // _COMMON))
    inside = np.repeat(kept, frequency)
    token, frequency = keys[first[kept]].astype(np.int64), frequency[kept]
    document, often = document[inside], often[inside]
    weight = _weights(often, lengths[document] / mean, frequency, documents)
    telling, borders = _most_telling(document, weight, frequency, documents)
    return Terms(token, np.concatenate([[0], np.cumsum(frequency)]), document, weight, telling, borders)


def _weights(
    often: npt.NDArray[np.int32], length: npt.NDArray[np.float64], frequency: Ints, documents: int
) -> npt.NDArray[np.int32]:
    """Return BM25 weights in 4096ths; `length` is a document's over the mean."""
    rare = np.log(1 + (documents - frequency + 0.5) / (frequency + 0.5))
    idf = np.rint(rare * _IDF_UNIT) / _IDF_UNIT
    part = often / (_K1 * (1 - _B + _B * length) + often)
    return np.floor(np.repeat(idf, frequency) * part * _UNIT).astype(np.int32)


def _most_telling(
    document: npt.NDArray[np.int32], weight: npt.NDArray[np.int32], frequency: Ints, documents: int
) -> tuple[npt.NDArray[np.int32], Ints]:
    """Return the terms of largest weight of each document; of equal ones, that of the smaller token."""
    term = np.repeat(np.arange(len(frequency), dtype=np.uint64), frequency)
    # An idf is at most ln(1 + 2^17 / 3) < 11, so a weight has 16 bits.
    keys = (document.astype(np.uint64) << np.uint64(48)) | ((_LOW - weight.astype(np.uint64)) << np.uint64(32)) | term
    keys.sort()
    owner = (keys >> np.uint64(48)).astype(np.int64)
    begins = np.searchsorted(owner, np.arange(documents + 1))
    chosen = np.arange(len(keys)) - begins[owner] < TELLING
    borders = np.concatenate([[0], np.cumsum(np.minimum(np.diff(begins), TELLING))])
    return (keys[chosen] & np.uint64(0xFFFFFFFF)).astype(np.int32), borders
