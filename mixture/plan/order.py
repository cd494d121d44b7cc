"""In what order the drawn documents stand: slices of the stream, and a random order inside each.

The stream is cut into a power of two of slices, each one to four shards' worth. With u(doc) the leading word of its id
as a fraction and φ the golden ratio's, copy c of a document belongs to the slice that holds frac(u + rotation + c·φ).
So each (part of the store, copy) gives a slice one contiguous range of ids (two where it wraps), and copies of one
document fall in different slices. Inside a slice they stand by frac(h + c·φ), h the document's addressed hash.

All fractions are 64-bit integers that wrap. The rotation follows from the seed, so a seed reshuffles everything.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mixture.hashing import GOLDEN, U64, draw, key

_WHOLE = 1 << 64
#: A slice holds more than this many shards' worth, and at most twice as many.
_SHARDS_PER_SLICE = 2


def slice_count(tokens: int, shard_tokens: int) -> int:
    """Return into how many slices a stream is cut: a power of two."""
    return 1 << max(0, (tokens // (_SHARDS_PER_SLICE * shard_tokens)).bit_length() - 1)


def id_ranges(number: int, count: int, copy: int, seed: int) -> tuple[tuple[int, int], ...]:
    """Return the ranges [first, stop) of leading id words whose copy `copy` belongs to slice `number` of `count`."""
    width = _WHOLE // count
    first = (number * width - key(seed, "rotation") - copy * GOLDEN) % _WHOLE
    stop = first + width
    if stop <= _WHOLE:
        return ((first, stop),)
    return ((0, stop - _WHOLE), (first, _WHOLE))


def place(seed: int, hi: U64, lo: U64, domain: U64, copy: npt.NDArray[np.int64]) -> U64:
    """Return where each copy stands inside its slice, as a fraction of 2^64, shape (n,).

    Args:
        seed: the recipe's.
        hi: leading words of the ids.
        lo: trailing words.
        domain: a key of each document's domain: equal texts that stay in two domains stand apart.
        copy: number of each copy.
    """
    return draw(seed, "order", hi, lo) + domain + copy.astype(np.uint64) * np.uint64(GOLDEN)
