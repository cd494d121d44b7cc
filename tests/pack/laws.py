"""What holds of every packing."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from mixture.pack import Ints, Pieces

LENGTHS = st.lists(st.integers(0, 70), max_size=40).map(lambda values: np.array(values, np.int64))


def ints(*values: int) -> Ints:
    return np.array(values, np.int64)


def picture(pieces: Pieces, length: int) -> str:
    """Documents as letters, padding as dots."""
    rows = [["·"] * length for _ in range(pieces.sequences)]
    columns = (pieces.row, pieces.size, pieces.sequence, pieces.start)
    for row, size, sequence, start in zip(*(column.tolist() for column in columns), strict=True):
        rows[sequence][start : start + size] = "abcdefghijklmnopqrstuvwxyz"[row] * size
    return " | ".join("".join(row) for row in rows)


def check(pieces: Pieces, lengths: Ints, length: int) -> None:
    """Every token has one place, inside a sequence, and pieces are in order, without gaps in numbering."""
    columns = (pieces.row, pieces.offset, pieces.size, pieces.sequence, pieces.start)
    assert all(column.dtype == np.int64 for column in columns)
    rows = list(zip(*(column.tolist() for column in columns), strict=True))
    placed = sorted((row, offset + i) for row, offset, size, _, _ in rows for i in range(size))
    assert placed == [(row, i) for row, size in enumerate(lengths.tolist()) for i in range(size)]
    taken = [sequence * length + start + i for _, _, size, sequence, start in rows for i in range(size)]
    assert taken == sorted(set(taken))
    assert all(size > 0 and start + size <= length for _, _, size, _, start in rows)
    assert np.unique(pieces.sequence).tolist() == list(range(pieces.sequences))


def fills(pieces: Pieces) -> list[int]:
    """Tokens in each sequence."""
    return np.bincount(pieces.sequence, pieces.size, pieces.sequences).astype(int).tolist()


def rows_of(pieces: Pieces) -> list[tuple[int, ...]]:
    """The documents in each sequence."""
    return [tuple(pieces.row[pieces.sequence == number].tolist()) for number in range(pieces.sequences)]
