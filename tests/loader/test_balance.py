"""Sequences of a step over ranks."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixture.errors import MixtureError
from mixture.loader.balance import balanced, balanced_stream, costs
from tests.loader.batches import Batch, batches

numbers = st.one_of(
    st.lists(st.integers(0, 1 << 40), max_size=60).map(lambda v: np.array(v, np.int64)),
    st.lists(st.floats(0, 1e12), max_size=60).map(lambda v: np.array(v, np.float64)),
)


def whole(values: np.ndarray, ranks: int) -> np.ndarray:
    return values[: len(values) // ranks * ranks]


def test_the_worked_example_of_the_module() -> None:
    assert balanced(np.array([9, 8, 1, 2]), 2).tolist() == [[0, 2], [1, 3]]


@given(numbers, st.integers(1, 8))
def test_every_sequence_goes_to_one_rank_and_ranks_take_equally_many(values: np.ndarray, ranks: int) -> None:
    values = whole(values, ranks)
    order = balanced(values, ranks)
    assert order.shape == (ranks, len(values) // ranks)
    assert sorted(order.ravel().tolist()) == list(range(len(values)))


@given(numbers, st.integers(1, 8))
def test_no_rank_has_more_than_in_the_plain_orders(values: np.ndarray, ranks: int) -> None:
    values = whole(values, ranks)
    most = values[balanced(values, ranks)].sum(axis=1).max()
    assert most <= values.reshape(ranks, -1).sum(axis=1).max()
    assert most <= values.reshape(-1, ranks).T.sum(axis=1).max()


@given(numbers, st.integers(1, 8))
def test_equal_costs_come_out_the_same(values: np.ndarray, ranks: int) -> None:
    values = whole(values, ranks)
    assert (balanced(values, ranks) == balanced(values.copy(), ranks)).all()


@given(st.lists(st.integers(0, 1000), min_size=8, max_size=8))
def test_two_ranks_are_close_to_the_best_of_all_splits(values: list[int]) -> None:
    all_ = np.array(values)
    best = min(
        max(sum(values[i] for i in half), sum(values) - sum(values[i] for i in half))
        for half in combinations(range(8), 4)
    )
    most = int(all_[balanced(all_, 2)].sum(axis=1).max())
    assert best <= most <= 7 / 6 * best + 1


def rows_of(count: int) -> np.ndarray:
    """Σ len² of rows of 32K, filled with documents of log-normal lengths."""
    draw = np.random.default_rng(3)
    out = []
    for _ in range(count):
        left, cost = 1 << 15, 0
        while left:
            size = min(left, int(draw.lognormal(7.5, 1.6)) + 1)
            left, cost = left - size, cost + size**2
        out.append(cost)
    return np.array(out)


@pytest.mark.parametrize(("ranks", "over"), [(8, 1.001), (64, 1.01), (128, 1.1)])
def test_ranks_are_nearly_level_where_plain_orders_are_not(ranks: int, over: float) -> None:
    values = rows_of(512)
    mean = values.sum() / ranks
    assert values.reshape(ranks, -1).sum(axis=1).max() > 1.1 * mean
    assert values[balanced(values, ranks)].sum(axis=1).max() < over * mean


def test_a_rank_with_one_overwhelming_sequence_gets_the_lightest_others() -> None:
    values = np.array([1000, 50, 40, 30, 20, 10, 2, 1])
    assert balanced(values, 2).tolist() == [[0, 5, 6, 7], [1, 2, 3, 4]]


def test_sequences_that_ranks_take_together_differ_little() -> None:
    values = np.arange(64)
    together = values[balanced(values, 8)]
    assert (together.max(axis=0) - together.min(axis=0)).max() == 7


@given(st.integers(0, 4), st.integers(1, 4), st.integers(1, 4))
def test_a_stream_is_balanced_step_by_step(steps: int, ranks: int, each: int) -> None:
    values = np.random.default_rng(steps).integers(0, 1000, steps * ranks * each)
    order = balanced_stream(values, ranks, ranks * each)
    assert order.shape == (steps, ranks, each)
    for step, of in enumerate(order):
        first = step * ranks * each
        assert (of - first == balanced(values[first : first + ranks * each], ranks)).all()


def test_what_does_not_share_out_is_refused_with_the_next_move() -> None:
    with pytest.raises(MixtureError, match="10 sequences of a step do not share out over 4 ranks"):
        balanced(np.ones(10), 4)
    with pytest.raises(MixtureError, match="10 sequences are not whole steps of 4: pass the first 8"):
        balanced_stream(np.ones(10), 2, 4)


@given(batches())
def test_a_row_costs_the_squares_of_its_spans(batch: Batch) -> None:
    expected = [sum((stop - start) ** 2 for start, stop, _, _ in spans) for spans, _ in batch.rows]
    assert costs(batch.spans).tolist() == expected
