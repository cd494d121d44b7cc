"""Untie the Knots: documents of a sequence are cut, their parts shuffled, the seams marked.

    one sequence:      aaaaaa bbb cccc
    tangled:           aaT ccT bbb Haaaa Hcc          T: tail mark, H: head mark
    with back-tracing: aaT ccT bbb Haaaa02 Hcc13      parts of cut documents are numbered 0 … 3 as they stand

A model that predicts the text after a head mark must find the tail that it was torn from, anywhere before: long-range
training out of documents of any length (arXiv 2409.04774; the construction is that of the authors' `gpt_dataset_utk.py`
with `preserve_partial_order`). The parts of a document stay in their order; each interleaving of the documents' parts
is equally likely, but the last part of the last document stays last, since the next sequence may go on with it. With
back-tracing, the numbers of a document's parts follow its last one: the model says where the parts stood.

Marks need room: a document in p parts takes 2(p-1) of it, and p more where it is traced. Documents are cut from the
longest on, until the room is used; the one at which it ends is cut into as many parts as fit, those after it into none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixture.hashing import U64, draw, fraction
from mixture.pack import Ints, Marks, Pieces
from mixture.pack.runs import firsts, places, spread

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Address:
    """Where draws live: each follows from the seed, the window, the sequence and the piece's number in it.

    Attributes:
        seed: the recipe's.
        sequence: window and sequence of each piece in one word, shape (m,).
        number: which piece of its sequence it is, shape (m,).
    """

    seed: int
    sequence: U64
    number: U64

    def draw(self, purpose: str, piece: Ints, part: Ints | None = None) -> U64:
        """Return a draw for each of these pieces, or for each part of them."""
        nth = None if part is None else part.astype(np.uint64)
        return draw(self.seed, purpose, self.sequence[piece], self.number[piece], nth)


@dataclass(frozen=True)
class _Parts:
    """Parts of pieces, piece by piece; arrays of shape (n,).

    Attributes:
        piece: which piece it is of.
        part: which part of it.
        begin: where it begins in the piece.
        size: its tokens.
        last: whether no other part of the piece follows.
    """

    piece: Ints
    part: Ints
    begin: Ints
    size: Ints
    last: Bools


def utk(  # noqa: PLR0913 - a rule of the recipe, key by key
    pieces: Pieces,
    length: int,
    *,
    seed: int,
    window: int,
    probability: float,
    parts: int,
    room: int,
    head: int,
    tail: int,
    trace: tuple[int, int] | None = None,
) -> tuple[Pieces, Marks]:
    """Tangle the documents of some sequences.

    What happens to a sequence follows from its own pieces and its number alone. A sequence of one piece is left alone:
    there is nothing to tangle it with. A tangled sequence is filled from place 0, its padding is at its end.

    Args:
        pieces: as a packing laid them, arrays of shape (m,), one for each document of a sequence.
        length: tokens in a sequence; marks take what the pieces leave of it, at most `room`.
        seed: the recipe's.
        window: number of the window in the stream; below 2^32, as are the sequences in it.
        probability: share of the sequences that are tangled.
        parts: a document is cut into 1 … `parts` parts, each number equally likely, at random points.
        room: marks in a sequence, at most.
        head: id of the mark before a part that continues one.
        tail: id of the mark after a part that goes on later.
        trace: the first id that stands for a number, and how many there are; a document with a part of a larger
            number is not traced (none is, if there are at least room / 2 ids). None: no back-tracing.

    Returns:
        The pieces where they now stand, arrays of shape (n,), n ≥ m, and the marks.
    """
    first = firsts(pieces.sequence)
    several = np.diff(first, append=len(pieces.row))
    words = np.uint64(window << 32) + pieces.sequence[first].astype(np.uint64)
    drawn = draw(seed, "utk", words, np.zeros(len(first), np.uint64)) < np.uint64(fraction(probability))
    chosen = np.repeat((drawn | (probability >= 1)) & (several > 1), several)
    if not chosen.any():
        return pieces, Marks.none()
    number = np.arange(len(pieces.row)) - np.repeat(first, several)
    address = _Address(seed, np.repeat(words, several)[chosen], number[chosen].astype(np.uint64))
    some = pieces.take(chosen)
    cut = _cut(some, address, _counts(some, address, length, parts, room, traced=trace is not None))
    tangled, marks = _lay(some, cut, _slots(some, cut, address), (head, tail), trace)
    return _together(pieces.take(~chosen), tangled), marks


def _together(one: Pieces, other: Pieces) -> Pieces:
    both = Pieces(*map(np.concatenate, zip(vars(one).values(), vars(other).values(), strict=True)))
    return both.take(np.lexsort((both.start, both.sequence)))


def _below(draws: U64, bound: Ints) -> Ints:
    """Turn each draw into a number from 0 to its bound, exclusive; bounds are below 2^32."""
    return (((draws >> np.uint64(32)) * bound.astype(np.uint64)) >> np.uint64(32)).astype(np.int64)


def _counts(pieces: Pieces, address: _Address, length: int, parts: int, room: int, *, traced: bool) -> Ints:
    """Return in how many parts each piece is cut, shape (m,): as drawn, as far as the room goes, longest first."""
    every = np.arange(len(pieces.row))
    drawn = 1 + _below(address.draw("utk parts", every), np.full(len(every), parts))
    wanted = np.minimum(drawn, pieces.size)
    per_part = 3 if traced else 2
    price = np.where(wanted > 1, wanted * per_part - 2, 0)
    first = firsts(pieces.sequence)
    free = np.minimum(room, length - np.add.reduceat(pieces.size, first))
    free = np.repeat(free, np.diff(first, append=len(every)))
    # By sequence, the longest first: sequences keep their places, so `free` needs no reordering.
    order = np.lexsort((every, -pieces.size, pieces.sequence))
    left = np.maximum(free - places(pieces.sequence, price[order]), 0)
    count = np.empty_like(wanted)
    count[order] = np.minimum(wanted[order], np.maximum((left + 2) // per_part, 1))
    return count


def _cut(pieces: Pieces, address: _Address, count: Ints) -> _Parts:
    """Cut pieces at random points, all different and none at an end."""
    piece, part = spread(count)
    inner = np.flatnonzero(part > 0)
    owner = piece[inner]
    # k points among n-1: k draws below n-k with repeats, sorted; the j-th moved up by j, which tells equal ones apart.
    points = _below(address.draw("utk cut", owner, part[inner]), pieces.size[owner] - count[owner] + 1)
    begin = np.zeros(len(piece), np.int64)
    begin[inner] = points[np.lexsort((points, owner))] + part[inner]
    last = part == count[piece] - 1
    stop = np.where(last, pieces.size[piece], np.append(begin[1:], 0))
    return _Parts(piece, part, begin, stop - begin, last)


def _slots(pieces: Pieces, cut: _Parts, address: _Address) -> Ints:
    """Return the parts in the order in which they stand: sequence by sequence, shuffled, each piece's in order."""
    sequence = pieces.sequence[cut.piece]
    keys = address.draw("utk slot", cut.piece, cut.part)
    keys[np.append(firsts(sequence)[1:], len(sequence)) - 1] = np.iinfo(np.uint64).max
    slot = np.empty(len(keys), np.int64)
    slot[np.lexsort((keys, sequence))] = np.arange(len(keys))
    # A piece's parts lie side by side here; they share out their slots among themselves in rising order.
    slot = slot[np.lexsort((slot, cut.piece))]
    order = np.empty_like(slot)
    order[slot] = np.arange(len(slot))
    return order


def _lay(
    pieces: Pieces, cut: _Parts, order: Ints, knot: tuple[int, int], trace: tuple[int, int] | None
) -> tuple[Pieces, Marks]:
    """Put parts and marks in their places, in this order of the parts."""
    piece, size = cut.piece[order], cut.size[order]
    sequence = pieces.sequence[piece]
    before, after = cut.part[order] > 0, ~cut.last[order]
    named = np.zeros(len(order), np.int64)
    number = np.zeros(len(order), np.int64)
    if trace is not None:
        torn = (before | after).astype(np.int64)
        number = places(sequence, torn)
        # The last part has the largest number of its document.
        named = np.where(before & ~after & (number < trace[1]), cut.part[order] + 1, 0)
    block = places(sequence, before + size + after + named)
    start = block + before
    end = start + size
    rest = [(sequence[before], block[before], knot[0]), (sequence[after], end[after], knot[1])]
    marks = [(where, place, np.full(len(place), token)) for where, place, token in rest]
    if trace is not None:
        marks.append(_traces(cut, order, named, (sequence, end, number + trace[0])))
    laid = Pieces(pieces.row[piece], pieces.offset[piece] + cut.begin[order], size, sequence, start)
    return laid, _sorted(*(np.concatenate(column) for column in zip(*marks, strict=True)))


def _traces(cut: _Parts, order: Ints, named: Ints, laid: tuple[Ints, Ints, Ints]) -> tuple[Ints, Ints, Ints]:
    """Return sequence, place and id of the numbers of parts, written after the last part of each traced document.

    Args:
        cut: the parts, piece by piece.
        order: which of them stands in each slot.
        named: how many numbers follow the part of each slot.
        laid: sequence, end and id of the part in each slot.
    """
    sequence, end, token = laid
    owner, nth = spread(named)
    # The parts of a piece lie side by side in `cut`, the last one at order[owner].
    sibling = order[owner] - cut.part[order][owner] + nth
    slot = np.empty_like(order)
    slot[order] = np.arange(len(order))
    return sequence[owner], end[owner] + nth, token[slot[sibling]]


def _sorted(sequence: Ints, start: Ints, token: Ints) -> Marks:
    order = np.lexsort((start, sequence))
    return Marks(sequence[order], start[order], token[order].astype(np.int64))
