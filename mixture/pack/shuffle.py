"""In which order a trainer takes the sequences of a phase: as they were written, or shuffled by arithmetic.

    stream order            0 1 2 3 4 5 6 7
    windows of 4            2 0 1 3 | 6 7 4 5
    the whole               1 0 6 2 3 5 7 4

Which sequence stands at a place is computed from the place, the window and a seed alone: no list of all sequences is
made or kept, so a phase of 10^9 opens as fast as one of ten, and any rank or worker may ask for any place. Inside a
window the order is a permutation of 0 … n-1 by a keyed Feistel network over two digits of base √n, walked until it is
below n (Black and Rogaway 2002, "Ciphers with arbitrary finite domains"):

    x = (left, right) in base a × b ≥ n       left += F(0, right) mod a,  right += F(1, left) mod b,  left += F(2, …) …

F is SplitMix64's finaliser with an address (seed, window, round): see `mixture.hashing`.

Sequences that belong together (the batches of `packing: vsl`) move together; what the end of the phase leaves of such a
batch stays last.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mixture.hashing import GOLDEN, U64, key, mix
from mixture.pack import Ints

#: Rounds of the network: few numbers need more of them until every order of theirs is as likely as any other.
_ROUNDS, _ROUNDS_OF_FEW, _FEW = 8, 16, 1 << 16


@dataclass(frozen=True)
class Shuffle:
    """How the sequences of a phase are shuffled.

    Attributes:
        window: sequences among which each stays; 0 for the order of the stream, as many as there are (or more) for
            one window over the whole phase.
        seed: of the draws.
    """

    window: int = 0
    seed: int = 0


def taken(total: int, window: int, seed: int, first: int, stop: int, group: int = 1) -> Ints:
    """Return which sequences stand at places [first, stop) of the order, int64, shape (stop - first,).

    Args:
        total: sequences of the phase.
        window: see `Shuffle`; rounded up to whole groups.
        seed: see `Shuffle`.
        first: a place, from 0.
        stop: past the last one, at most `total`.
        group: sequences that move together, `Packing.together`; group g is the sequences g · group and those after it.

    Raises:
        ValueError: places that are not there.
    """
    if not 0 <= first <= stop <= total:
        raise ValueError(f"places [{first:,}, {stop:,}) of {total:,} sequences")
    place = np.arange(first, stop, dtype=np.int64)
    groups = total // group
    if window <= 0 or groups < 2:
        return place
    moves = place < groups * group
    number, member = np.divmod(place[moves], group)
    place[moves] = _shuffled(number, groups, min(-(-window // group), groups), seed) * group + member
    return place


def _shuffled(place: Ints, total: int, window: int, seed: int) -> Ints:
    """Return which of `total` things stand at some places, if each window is shuffled."""
    number, inside = np.divmod(place, window)
    keys = mix(number.astype(np.uint64) ^ np.uint64(key(seed, "shuffle")))
    whole = number < total // window
    out = number * window
    # Only the last window may be smaller than the others.
    for mine, size in ((whole, window), (~whole, total % window)):
        if mine.any():
            out[mine] += _permuted(inside[mine], size, keys[mine])
    return out


def _permuted(place: Ints, size: int, keys: U64) -> Ints:
    """Return the images of numbers in [0, size) under the permutation of each one's key."""
    low = math.isqrt(size - 1) + 1
    high = -(-size // low)
    out = place.astype(np.uint64)
    # low · high may pass size: what falls above it is sent on, until it comes back below.
    left = np.arange(len(out))
    while len(left):
        out[left] = _feistel(out[left], low, high, keys[left])
        left = left[out[left] >= size]
    return out.astype(np.int64)


def _feistel(number: U64, low: int, high: int, keys: U64) -> U64:
    upper, lower = np.divmod(number, np.uint64(low))
    for turn in range(_ROUNDS_OF_FEW if low * high < _FEW else _ROUNDS):
        keyed = mix(keys + np.uint64((turn + 1) * GOLDEN & (1 << 64) - 1))
        if turn % 2:
            upper = (upper + mix(keyed ^ lower) % np.uint64(high)) % np.uint64(high)
        else:
            lower = (lower + mix(keyed ^ upper) % np.uint64(low)) % np.uint64(low)
    return upper * np.uint64(low) + lower
