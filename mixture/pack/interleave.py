"""Interleave: the documents of a sequence take turns, part by part.

    one sequence, parts = 2:     aaaabbbbbbcc   →   aa bbb c  aa bbb c

Each document that stands in a sequence is cut into parts of near equal size, and the parts are laid round-robin: the
first parts of all documents, then the second ones. So what a document goes on with is a whole round away, and a model
must look past the other documents to find it. The method is chunk-interleaved pre-training (LongSkywork, arXiv
2406.00605). Tokens are permuted inside their sequence; none is added.
"""

from __future__ import annotations

import numpy as np

from mixture.pack import Ints, Pieces


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
