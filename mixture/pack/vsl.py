"""Dataset decomposition for variable sequence length (Pouransari et al. 2024, arXiv 2405.13226).

    lengths 11, 5 in sequences of 8:   11 = 8 + 2 + 1, 5 = 4 + 1   a a a a a a a a | b b b b a a a b

A document is cut by the binary digits of its length, larger pieces first. A sequence (a row of `length` tokens) holds
pieces of one size only, its bucket: one of 8, or two of 4, or four of 2, … so a trainer may read it as a batch of
shorter sequences, each one document and nothing else. What does not fill a row of its bucket goes to mixed rows at the
end; powers of two, largest first, leave no gaps there, so that only the very last row has padding.

The authors drop the last tokens of a document where they are fewer than 256. With `smallest` they stay, at the very end
of the mixed rows; only there may a piece be cut once more, where a row is full.

`curriculum` orders the rows as the authors train: batches of one bucket, short ones mostly before long ones, several
times over (their Grow-P2 with cycles).
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from mixture.hashing import draw
from mixture.pack import Ints, Pieces
from mixture.pack.intact import end_to_end
from mixture.pack.runs import spread


def buckets(length: int, smallest: int = 1) -> tuple[int, ...]:
    """Return the sizes of pieces that fill rows of their own, rising: powers of two from `smallest` to `length`.

    Raises:
        ValueError: `length` or `smallest` is not a power of two.
    """
    for name, value in (("length", length), ("smallest", smallest)):
        if value < 1 or value & (value - 1):
            raise ValueError(f"{name}: {value:,} is not a power of two, and vsl cuts documents into powers of two")
    first = min(smallest, length).bit_length() - 1
    return tuple(1 << power for power in range(first, length.bit_length()))


def vsl(lengths: Ints, length: int, smallest: int = 1) -> Pieces:
    """Cut documents into powers of two, and give each size rows of its own.

    Rows of whole sequences come first, then those of half of one, … then mixed ones.

    Args:
        lengths: tokens of each document, int64, shape (n,), none below 0; those of 0 give no piece.
        length: tokens in a row, a power of two.
        smallest: a power of two; the last tokens of a document, where fewer than this, are not cut by their binary
            digits, but laid end to end in mixed rows. The authors' value is 256.

    Raises:
        ValueError: `length` or `smallest` is not a power of two.
    """
    sizes = buckets(length, smallest)
    rows = Pieces.none()
    mixed: list[tuple[Ints, Ints, Ints]] = []
    for size in reversed(sizes):
        pure, left = _rows(*_of_size(lengths, size, largest=size == length), size, length)
        rows = rows.then(pure)
        mixed.append(left)
    rest = lengths % sizes[0]
    last = np.flatnonzero(rest)
    mixed.append((last, (lengths - rest)[last], rest[last]))
    row, offset, amount = (np.concatenate(column) for column in zip(*mixed, strict=True))
    return rows.then(end_to_end(row, offset, amount, length))


def _of_size(lengths: Ints, size: int, *, largest: bool) -> tuple[Ints, Ints]:
    """Return row and offset of the pieces of one size, in the order of the stream."""
    count = lengths // size if largest else lengths // size & 1
    row, nth = spread(count)
    # All larger pieces stand before it: those are the higher digits.
    before = np.zeros_like(lengths) if largest else lengths // (2 * size) * (2 * size)
    return row, before[row] + nth * size


def _rows(row: Ints, offset: Ints, size: int, length: int) -> tuple[Pieces, tuple[Ints, Ints, Ints]]:
    """Fill rows with pieces of one size; return them, and row, offset and size of the pieces that fill no row."""
    each = length // size
    full = len(row) // each * each
    number = np.arange(full)
    sizes = np.full(len(row), size, np.int64)
    pure = Pieces(row[:full], offset[:full], sizes[:full], number // each, number % each * size)
    return pure, (row[full:], offset[full:], sizes[full:])


def curriculum(
    pieces: Pieces,
    seed: int,
    window: int = 0,
    *,
    odds: Sequence[float] | None = None,
    smallest: int = 1,
    batch: int = 1,
    cycles: int = 1,
) -> Ints:
    """Return the order of the rows that `vsl` made: batches of one bucket, short pieces mostly before long ones.

    The batches of each bucket are shared out over the cycles. In a cycle the bucket that comes next is drawn, among
    those that have batches left, with chances of its odds times its batches in the cycle, as in the authors' program:
    with equal odds a cycle is an even mixture from start to end. Rows that fill no batch come last, mixed ones at the
    very end.

    Args:
        pieces: of one window.
        seed: the recipe's.
        window: number of the window in the stream.
        odds: of the buckets, above 0, shortest first, the last for pieces that fill a row; rows of buckets that have
            none count as mixed. Where not given, twice that of the next longer bucket: the authors' Grow-P2.
        smallest: as for `vsl`; rows of smaller pieces are mixed ones, even where these are equal by chance.
        batch: rows in a batch, above 0.
        cycles: how often the curriculum starts anew, above 0.

    Returns:
        Which row comes first, which second, …, int64, shape (sequences,).

    Raises:
        ValueError: odds that are not above 0.
    """
    parts = _parts(pieces, smallest)
    powers = int(parts.max(initial=0)).bit_length()
    chances = [2.0**power for power in range(powers)] if odds is None else [float(value) for value in reversed(odds)]
    if min(chances, default=1) <= 0:
        raise ValueError(f"odds: {min(chances):g} is not above 0")
    of_bucket = [np.flatnonzero(parts == 1 << power) for power in range(len(chances))]
    batches = [rows[: len(rows) // batch * batch].reshape(-1, batch) for rows in of_bucket]
    taken = [0] * len(batches)
    order: list[Ints] = []
    for bucket in _turns([len(rows) for rows in batches], chances, cycles, seed, window):
        order.append(batches[bucket][taken[bucket]])
        taken[bucket] += 1
    left = [rows[full.size :] for rows, full in zip(of_bucket, batches, strict=True)]
    mixed = np.flatnonzero((parts == 0) | (parts >= 1 << len(chances)))
    return np.concatenate([*order, *reversed(left), mixed])


def _parts(pieces: Pieces, smallest: int) -> Ints:
    """Return into how many equal parts each row is cut, shape (sequences,), 0 for mixed rows."""
    length = 1 << max(0, int((pieces.start + pieces.size).max(initial=1)) - 1).bit_length()
    count = np.bincount(pieces.sequence, minlength=pieces.sequences)
    nth = np.arange(len(pieces.row)) - (np.cumsum(count) - count)[pieces.sequence]
    part = (length // count)[pieces.sequence]
    astray = (pieces.start != nth * part) | (pieces.size != part) | (part < smallest)
    mixed = np.bincount(pieces.sequence, astray, pieces.sequences) > 0
    return np.where(mixed | (count & (count - 1) > 0), 0, count)


def _turns(batches: Sequence[int], chances: Sequence[float], cycles: int, seed: int, window: int) -> Iterator[int]:
    """Yield the bucket of each batch."""
    step = np.arange(sum(batches), dtype=np.uint64)
    draws = draw(seed, "curriculum", np.full_like(step, window), step) >> np.uint64(11)
    fractions = iter((draws * 2.0**-53).tolist())
    for cycle in range(cycles):
        due = [count * (cycle + 1) // cycles - count * cycle // cycles for count in batches]
        weights = [chance * count for chance, count in zip(chances, due, strict=True)]
        while open_ := [bucket for bucket, count in enumerate(due) if count]:
            reached = list(itertools.accumulate(weights[bucket] for bucket in open_))
            # As long as no bucket runs out, the chances stay.
            while min(due[bucket] for bucket in open_):
                bucket = open_[bisect.bisect_right(reached, next(fractions) * reached[-1], hi=len(open_) - 1)]
                due[bucket] -= 1
                yield bucket
