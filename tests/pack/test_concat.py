"""Concatenate and cut."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mixture.pack.concat import concat


def test_the_worked_example_of_the_module() -> None:
    pieces = concat(np.array([5, 2, 6]), 4)
    assert list(zip(pieces.row, pieces.offset, pieces.size, pieces.sequence, pieces.start, strict=True)) == [
        (0, 0, 4, 0, 0),
        (0, 4, 1, 1, 0),
        (1, 0, 2, 1, 1),
        (2, 0, 1, 1, 3),
        (2, 1, 4, 2, 0),
        (2, 5, 1, 3, 0),
    ]


@given(st.lists(st.integers(0, 60), max_size=40), st.integers(1, 25))
def test_every_token_has_its_place_and_order_is_kept(lengths: list[int], length: int) -> None:
    pieces = concat(np.array(lengths, np.int64), length)
    columns = (pieces.row, pieces.offset, pieces.size, pieces.sequence, pieces.start)
    laid = [
        (row, offset + i, sequence * length + start + i)
        for row, offset, size, sequence, start in zip(*(c.tolist() for c in columns), strict=True)
        for i in range(size)
    ]
    tokens = [(row, i) for row, size in enumerate(lengths) for i in range(size)]
    assert laid == [(row, i, place) for place, (row, i) in enumerate(tokens)]
    assert (pieces.size > 0).all()
    assert (pieces.start + pieces.size <= length).all()
