"""Interleave: the documents of a sequence take turns, part by part.

    one sequence, parts = 2:     aaaabbbbbbcc   →   aa bbb c  aa bbb c

Each document that stands in a sequence is cut into parts of near equal size, and the parts are laid round-robin: the
first parts of all documents, then the second ones. So what a document goes on with is a whole round away, and a model
must look past the other documents to find it. The method is chunk-interleaved pre-training (LongSkywork, arXiv
2406.00605). Tokens are permuted inside their sequence; none is added.
"""

from __future__ import annotations

import numpy as np

from mixture.pack import Pieces
from mixture.pack.runs import places, spread


def interleave(pieces: Pieces, *, parts: int) -> Pieces:
    """Cut the pieces of each sequence into parts and lay these round-robin, from place 0 on.

    Part j of a piece of n tokens in k parts is [j·n // k, (j+1)·n // k); a piece of fewer than `parts` tokens has one
    part for each token. Parts that come to stand where they go on are one piece again, as in a sequence of a single
    document, which stays as it was.

    Args:
        pieces: as a packing laid them, arrays of shape (m,); padding between pieces moves to the sequence's end.
        parts: parts of a document in its sequence, at least 1.
    """
    count = np.minimum(pieces.size, parts)
    piece, part = spread(count)
    size, count = pieces.size[piece], count[piece]
    begin = part * size // count
    size = (part + 1) * size // count - begin
    order = np.lexsort((piece, part, pieces.sequence[piece]))
    piece, begin, size = piece[order], begin[order], size[order]
    sequence = pieces.sequence[piece]
    return _joined(Pieces(pieces.row[piece], pieces.offset[piece] + begin, size, sequence, places(sequence, size)))


def _joined(pieces: Pieces) -> Pieces:
    if not len(pieces.row):
        return pieces
    goes_on = np.zeros(len(pieces.row), np.bool_)
    goes_on[1:] = (
        (pieces.sequence[1:] == pieces.sequence[:-1])
        & (pieces.row[1:] == pieces.row[:-1])
        & (pieces.offset[1:] == pieces.offset[:-1] + pieces.size[:-1])
    )
    first = np.flatnonzero(~goes_on)
    size = np.add.reduceat(pieces.size, first)
    return Pieces(pieces.row[first], pieces.offset[first], size, pieces.sequence[first], pieces.start[first])
