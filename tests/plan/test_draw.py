"""Draws against the obvious way: sort a cell's documents by their draw and take until the quota is met."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixture.hashing import draw, fraction
from mixture.index.rows import Rows
from mixture.plan.draw import CellMap, appearances, survey, thresholds
from mixture.plan.order import id_ranges, slice_count


def _rows(seed: int, count: int, domains: int) -> Rows:
    random = np.random.default_rng(seed)
    hi = np.sort(random.integers(0, 2**64, count, np.uint64))
    numbers = np.zeros(count, np.int64)
    return Rows(
        hi,
        random.integers(0, 2**64, count, np.uint64),
        random.integers(0, domains, count),
        random.integers(0, 200, count),
        numbers,
        numbers + 1,
        pa.table({}),
    )


def _batches(rows: Rows, size: int) -> list[Rows]:
    return [
        Rows(
            *(getattr(rows, f)[at : at + size] for f in ("hi", "lo", "domain", "tokens", "occurrence", "occurrences")),
            pa.table({}),
        )
        for at in range(0, len(rows), size)
    ]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(1, 400),
    st.integers(1, 3),
    st.integers(0, 2),
    st.floats(0, 0.5),
    st.floats(0, 3),
)
def test_a_quota_is_met_to_the_token_by_the_documents_of_smallest_draw(
    seed: int, count: int, domains: int, separators: int, holdout: float, rate: float
) -> None:
    rows = _rows(seed, count, domains)
    cells = CellMap(domains, np.array([50, 120]), separators, holdout)
    batches = _batches(rows, 97)
    histogram = survey(batches, cells, seed)
    held = histogram.tokens.sum(axis=1)
    quota = (held * rate).astype(np.int64)
    found = thresholds(lambda: batches, cells, seed, histogram, quota)
    times, last = appearances(rows, cells, seed, found)
    cell, written = cells.cell(rows), cells.written(rows)
    draws = draw(seed, "draw", rows.hi, rows.lo)
    for c in range(cells.cells):
        mine = np.flatnonzero(cell == c)
        assert held[c] == written[mine].sum()
        total = sum(int(written[n]) * (int(times[n]) - 1) + int(last[n]) for n in mine if times[n])
        assert total == quota[c]
        if not quota[c]:
            assert not times[mine].any()
            continue
        epochs, rest = divmod(int(quota[c]), int(held[c]))
        expected = dict.fromkeys(mine.tolist(), epochs)
        for n in sorted(mine.tolist(), key=lambda n: (draws[n], rows.hi[n], rows.lo[n])):
            if rest <= 0:
                break
            expected[n] += 1
            rest -= int(written[n])
        assert {n: int(times[n]) for n in mine} == expected
        assert found[c].documents == sum(1 for n in mine if times[n])
    assert not times[cell < 0].any()


def test_held_out_documents_and_empty_ones_are_counted_apart() -> None:
    rows = _rows(3, 2000, 2)
    cells = CellMap(2, np.array([50]), 1, 0.25)
    histogram = survey([rows], cells, 0)
    out = draw(0, "holdout", rows.hi, rows.lo) < np.uint64(fraction(0.25))
    some = rows.tokens > 0
    assert histogram.held_out[:, 0].sum() == (out & some).sum()
    assert histogram.held_out[:, 1].sum() == rows.tokens[out & some].sum()
    assert histogram.empty == (~some).sum() > 0
    assert histogram.documents.sum() == (some & ~out).sum()


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
