"""Memory of batches that nobody uses any more, lent again.

    batch 1 ─ empty(4 MB) ─► block a          batch 1 is collected: a is free
    batch 2 ─ empty(4 MB) ─► block a          no page of it is new

Megabytes that are given back to the system come back page by page, each a fault and a clearing: several times what it
costs to fill them. A block is free when no array or tensor that looks into it is left.
"""

from __future__ import annotations

import math
import weakref
from collections import deque

import numpy as np

from mixture.loader import Ints

#: Blocks that wait to be used again: three for each of a few micro-batches.
_FREE: deque[bytearray] = deque(maxlen=12)


def empty(shape: tuple[int, ...]) -> Ints:
    """Return an int64 array of a shape, with anything in it."""
    size = 8 * math.prod(shape)
    if not size:
        return np.empty(shape, np.int64)
    block = _free(size) or bytearray(size)
    # Views of views are views of this one, whose owner is no array: it lives as long as any of them.
    lent = np.frombuffer(block, np.int64)
    weakref.finalize(lent, _FREE.append, block).atexit = False
    return lent.reshape(shape)


def _free(size: int) -> bytearray | None:
    for _ in range(len(_FREE)):
        try:
            block = _FREE.popleft()
        except IndexError:
            # Another thread was faster.
            return None
        if len(block) == size:
            return block
        _FREE.append(block)
    return None
