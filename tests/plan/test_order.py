"""Where copies of documents stand: slices and their ranges of ids."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixture.plan.order import id_ranges, slice_count


@pytest.mark.parametrize(
    ("tokens", "shard", "slices"),
    [(1, 10, 1), (19, 10, 1), (39, 10, 1), (40, 10, 2), (79, 10, 2), (80, 10, 4), (6000, 10, 256)],
)
def test_slices_are_a_power_of_two_of_one_to_four_shards(tokens: int, shard: int, slices: int) -> None:
    assert slice_count(tokens, shard) == slices
    assert slices == 1 or shard <= tokens / slices < 4 * shard


@given(st.integers(0, 6), st.integers(0, 9), st.integers(-5, 5))
def test_the_slices_of_a_copy_cover_every_id_once(bits: int, copy: int, seed: int) -> None:
    count = 1 << bits
    ranges = sorted(r for number in range(count) for r in id_ranges(number, count, copy, seed))
    assert ranges[0][0] == 0
    assert ranges[-1][1] == 1 << 64
    assert all(a[1] == b[0] for a, b in pairwise(ranges))


def test_copies_of_one_document_fall_in_different_slices() -> None:
    for document in (0, 12345 << 40, (1 << 64) - 1):
        homes = [
            number
            for copy in range(4)
            for number in range(16)
            for first, stop in id_ranges(number, 16, copy, 1)
            if first <= document < stop
        ]
        assert len(homes) == len(set(homes)) == 4
