"""Best-fit-decreasing: whole documents into sequences with next to no padding.

    lengths 11, 4, 3, 3, 2 in sequences of 8:   a a a a a a a a | b b b b a a a · | c c c d d d e e

Documents above a sequence's length are cut: as many whole sequences as they fill, and a rest. Rests and documents are
then taken by falling length, and each goes where it leaves the least room. None that fits in a sequence is cut (Ding et
al. 2024, "Fewer Truncations Improve Language Modeling", arXiv 2404.10830).

Cost: equal lengths are dealt together. A sequence that has the least room r that fits length l takes r // l documents
of it at once, as it would one by one: after each, it is still the one with the least room. So the work in Python grows
with the number of different lengths and of sequences, and hardly with documents.

No search tree is needed either. Lengths fall, so a sequence whose room is below the current length waits (in a heap)
until the length has fallen to it; those that wait have less room than all that fit already, so these form a stack, the
one with the least room on top.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

import numpy as np

from mixture.pack import Ints, Pieces
from mixture.pack.order import ranked
from mixture.pack.runs import spread

#: First sequence, how many, documents in each, place where the first of them goes.
_Move = tuple[int, int, int, int]


def best_fit(lengths: Ints, length: int) -> Pieces:
    """Lay documents whole into the sequence where they leave the least room, longest first.

    Sequences that one long document fills come first, in the order of the documents.

    Args:
        lengths: tokens of each document, int64, shape (n,), none below 0; those of 0 give no piece.
        length: tokens in a sequence, above 0.
    """
    whole = lengths // length
    row = np.flatnonzero(lengths % length)
    rest = packed(row, (whole * length)[row], (lengths % length)[row], length)
    return chunks(whole, length).then(rest)


def chunks(count: Ints, length: int) -> Pieces:
    """Give the first tokens of each document to sequences that they fill.

    Args:
        count: sequences that each document fills, int64, shape (n,).
        length: tokens in a sequence.
    """
    row, nth = spread(count)
    return Pieces(row, nth * length, np.full_like(row, length), np.arange(len(row)), np.zeros_like(row))


def packed(row: Ints, offset: Ints, size: Ints, length: int) -> Pieces:
    """Pack stretches of documents by best-fit-decreasing; equal sizes are taken in the order given.

    Args:
        row: which document each is of, int64, shape (k,).
        offset: where each starts in it, shape (k,).
        size: tokens of each, from 1 to `length`, shape (k,).
        length: tokens in a sequence.
    """
    falling = ranked(length - size)
    falling_size = size[falling]
    count = np.bincount(size)
    sizes = np.flatnonzero(count)[::-1]
    moves = list(_deal(sizes.tolist(), count[sizes].tolist(), length))
    first, sequences, each, place = np.array(moves, np.int64).reshape(-1, 4).T
    move, nth = spread(sequences * each)
    sequence: Ints = first[move] + nth // each[move]
    # Moves fill a sequence from its start on, so a stable sort by sequence alone leaves places rising.
    order = ranked(sequence)
    start: Ints = place[move] + nth % each[move] * falling_size
    source = falling[order]
    return Pieces(row[source], offset[source], size[source], sequence[order], start[order])


def _deal(sizes: Sequence[int], counts: Sequence[int], length: int) -> Iterator[_Move]:
    """Yield which sequences take how many documents of each size; sizes fall.

    Sequences of equal room stay together: (room, first of them, how many).
    """
    waiting: list[tuple[int, int, int]] = []  # a heap by -room: the most room on top
    fitting: list[tuple[int, int, int]] = []  # a stack: the least room on top
    opened = 0
    for size, count in zip(sizes, counts, strict=True):
        while waiting and -waiting[0][0] >= size:
            negative, first, free = heapq.heappop(waiting)
            fitting.append((-negative, first, free))
        left = count
        while left:
            if not fitting:
                fresh = -(-left // (length // size))
                fitting.append((length, opened, fresh))
                opened += fresh
            room, first, free = fitting.pop()
            each = min(room // size, left)
            full = min(free, left // each)
            yield first, full, each, length - room
            left -= full * each
            if full < free:
                fitting.append((room, first + full, free - full))
            room -= each * size
            if room >= size:
                # Documents of this size ran out before the room did.
                fitting.append((room, first, full))
            elif room:
                heapq.heappush(waiting, (-room, first, full))
