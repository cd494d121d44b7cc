"""Things that lie side by side in groups: numbered, placed and covered, without a loop over them.

spread [2, 0, 3]                   which thing each part is of   0 0 2 2 2        which of its parts   0 1 0 1 2
firsts [4, 4, 4, 7, 7]             0 3
places [4, 4, 4, 7, 7], sizes 5    0 5 10 0 5
covered [1, 4), [5, 6) of 7        . # # # . # .
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mixture.pack import Ints


def spread(count: Ints) -> tuple[Ints, Ints]:
    """Number the parts of things: which thing each part is of, and which of its parts it is, each of shape (Σ count,).

    Args:
        count: parts of each thing, shape (n,), none below 0.
    """
    owner = np.repeat(np.arange(len(count)), count)
    return owner, np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)


def firsts(group: Ints) -> Ints:
    """Return where each run of equal numbers begins, shape (runs,)."""
    changed = np.ones(len(group), np.bool_)
    changed[1:] = group[1:] != group[:-1]
    return np.flatnonzero(changed)


def places(group: Ints, size: Ints) -> Ints:
    """Return where each thing stands if the things of a group stand side by side from 0 on, shape (n,).

    Args:
        group: group of each thing, shape (n,), rising.
        size: room of each thing, shape (n,).
    """
    first = firsts(group)
    before = np.cumsum(size) - size
    return before - np.repeat(before[first], np.diff(first, append=len(group)))


def covered(begin: Ints, stop: Ints, total: int) -> npt.NDArray[np.bool_]:
    """Return which of so many places lie in a stretch [begin, stop), bool, shape (total,).

    Args:
        begin: first place of each stretch, shape (m,); stretches do not overlap.
        stop: past its last place, shape (m,).
        total: how many places there are.
    """
    edges = np.zeros(total + 1, np.int8)
    # No two stretches begin, or end, at one place.
    edges[begin] += 1
    edges[stop] -= 1
    return np.cumsum(edges[:-1], dtype=np.int8).astype(np.bool_)
