"""Concatenate and cut: documents end to end, cut wherever a sequence is full.

    lengths 5, 2, 6 in sequences of 4:  aaaa | abbc | cccc | c···

No token is dropped and none is padded but in an unfinished last sequence; a document longer than the rest of a
sequence goes on in the next one.
"""

from __future__ import annotations

import numpy as np

from mixture.pack import Ints, Pieces
from mixture.pack.runs import spread


def concat(lengths: Ints, length: int) -> Pieces:
    """Lay documents end to end and cut at every multiple of `length`.

    Args:
        lengths: tokens of each document, int64, shape (n,), none below 0; those of 0 give no piece.
        length: tokens in a sequence, above 0.
    """
    ends = np.cumsum(lengths)
    starts = ends - lengths
    pieces = np.where(lengths > 0, (ends - 1) // length - starts // length + 1, 0)
    row, nth = spread(pieces)
    sequence = starts[row] // length + nth
    begin = np.maximum(starts[row], sequence * length)
    end = np.minimum(ends[row], (sequence + 1) * length)
    return Pieces(row, begin - starts[row], end - begin, sequence, begin - sequence * length)
