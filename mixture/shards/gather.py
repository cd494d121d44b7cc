"""Stretches of arrays, laid into a new one: how `write` copies tokens.

    arrays                stretches             laid into 8
    a b c d e | f g h     b c d to 2, f to 6    0 0 b c d 0 f 0

A loop in Python takes a microsecond for each stretch, the time of copying some 1,500 tokens: short documents took
longer for the loop than for their bytes. But a stretch is what Arrow calls a view: how many bytes of which buffer from
where on. Casting views to an array with offsets lays their bytes end to end, and that loop is not Python's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mixture.errors import StoreError
from mixture.pack import Ints
from mixture.pack.runs import spread
from mixture.tokens.store import Tokens

#: Views count bytes in 31 bits. So an array gives a buffer from each multiple of this on, and no view is longer.
_REACH = 1 << 30
#: Up to so many bytes stand in the view itself.
_INLINE = 12


@dataclass(frozen=True)
class Sources:
    """Arrays that stretches are taken from.

    Attributes:
        arrays: of one type.
        buffers: of all arrays, in order.
        firsts: which buffer is the first of each array.
    """

    arrays: tuple[Tokens, ...]
    buffers: tuple[pa.Buffer, ...]
    firsts: Ints

    @staticmethod
    def of(arrays: Sequence[Tokens]) -> Sources:
        """Make buffers of arrays, without a copy."""
        buffers = [_buffers(array) for array in arrays]
        count = np.array([len(some) for some in buffers], np.int64)
        return Sources(tuple(arrays), tuple(one for some in buffers for one in some), np.cumsum(count) - count)


def _buffers(array: npt.NDArray[Any]) -> list[pa.Buffer]:
    return [pa.py_buffer(array[start:]) for start in range(0, len(array), _REACH // array.itemsize)]


def gather(sources: Sources, which: Ints, start: Ints, size: Ints, place: Ints, total: int) -> Tokens:
    """Return a new array: the stretches in their places, zeros elsewhere.

    Args:
        sources: where they are taken from.
        which: array of each stretch, shape (n,).
        start: where it begins there.
        size: how long it is; it may be empty.
        place: where it goes; rising, and none reaches into the next.
        total: length of the new array.

    Raises:
        StoreError: a stretch reaches out of its array.
        ValueError: a stretch reaches into the next, or past the end.
    """
    _check(sources, which, start, start + size)
    token: np.dtype[Any] = sources.arrays[0].dtype
    # A gap, a stretch, a gap, …, a gap. Gaps are stretches of zeros; most are empty, or a separator long.
    length, buffer, at = np.zeros((3, 2 * len(size) + 1), np.int64)
    length[0::2] = np.append(place, total) - np.append(0, place + size)
    if length.min() < 0:
        raise ValueError(f"stretches overlap, or reach past the end, by {-length.min()} tokens")
    zeros = _buffers(np.zeros(int(length.max()), token))
    length[1::2], at[1::2] = size, start
    buffer[0::2], buffer[1::2] = len(sources.buffers), sources.firsts[which]
    owner, nth = spread(-(-length * token.itemsize // _REACH))
    reach = nth * _REACH
    length = np.minimum(length[owner] * token.itemsize - reach, _REACH)
    at = at[owner] * token.itemsize + reach
    out = _end_to_end([*sources.buffers, *zeros], buffer[owner], at, length)
    tokens: Tokens = np.frombuffer(out, token, total)
    # What `_end_to_end` left at zero.
    short = np.flatnonzero((length <= _INLINE) & (owner % 2 > 0))
    to = np.cumsum(length) - length
    columns = (column[short] // token.itemsize for column in (at, length, to))
    numbers = (column.tolist() for column in (which[owner[short] // 2], *columns))
    for array, source, count, here in zip(*numbers, strict=True):
        tokens[here : here + count] = sources.arrays[array][source : source + count]
    return tokens


def _check(sources: Sources, which: Ints, start: Ints, stop: Ints) -> None:
    """Arrow does not look whether a view lies in its buffer."""
    held = np.array([len(array) for array in sources.arrays], np.int64)[which]
    for astray in np.flatnonzero((start < 0) | (stop > held))[:1]:
        raise StoreError(
            f"tokens {start[astray]:,} to {stop[astray]:,} are wanted of a part of the store that has "
            f"{held[astray]:,}; the plan and the store do not belong together: remove the plan and run again"
        )


def _end_to_end(buffers: Sequence[pa.Buffer], which: Ints, at: Ints, length: Ints) -> pa.Buffer:
    """Lay stretches of buffers end to end in a new one, counted in bytes; the shortest, up to `_INLINE`, as zeros."""
    views = np.zeros((len(length), 4), "<i4")
    views[:, 0] = length
    # The second word is for comparing views; nobody does here.
    views[:, 2] = which + at // _REACH
    views[:, 3] = at % _REACH
    views[length <= _INLINE, 2:] = 0
    columns = [None, pa.py_buffer(views), *buffers]
    laid = pa.Array.from_buffers(pa.binary_view(), len(views), columns, null_count=0)
    return laid.cast(pa.large_binary()).buffers()[2]
