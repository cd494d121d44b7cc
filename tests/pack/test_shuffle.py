"""The order in which a trainer takes sequences: a permutation, window by window, computed place by place."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixture.pack.shuffle import taken

totals = st.integers(0, 400)
windows = st.integers(0, 500)
seeds = st.integers(-5, 1 << 70)
groups = st.integers(1, 9)


@given(totals, windows, seeds, groups)
def test_every_sequence_has_one_place(total: int, window: int, seed: int, group: int) -> None:
    assert sorted(taken(total, window, seed, 0, total, group).tolist()) == list(range(total))


@given(totals, windows, seeds, groups, st.data())
def test_a_range_of_places_is_the_same_as_in_the_whole(
    total: int, window: int, seed: int, group: int, data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, total))
    stop = data.draw(st.integers(first, total))
    whole = taken(total, window, seed, 0, total, group)
    assert taken(total, window, seed, first, stop, group).tolist() == whole[first:stop].tolist()


@given(totals, st.integers(1, 500), seeds)
def test_no_sequence_leaves_its_window(total: int, window: int, seed: int) -> None:
    places = np.arange(total)
    assert (taken(total, window, seed, 0, total) // window == places // window).all()


@given(totals, windows, seeds, st.integers(2, 9))
def test_sequences_that_belong_together_stay_together(total: int, window: int, seed: int, group: int) -> None:
    order = taken(total, window, seed, 0, total, group)
    whole = total // group * group
    batches = order[:whole].reshape(-1, group)
    assert (batches == batches[:, :1] + np.arange(group)).all()
    assert not (batches[:, 0] % group).any()
    assert order[whole:].tolist() == list(range(whole, total))


@given(totals, seeds, st.integers(0, 1000))
def test_a_window_beyond_all_is_the_whole(total: int, seed: int, more: int) -> None:
    one = taken(total, total, seed, 0, total)
    assert taken(total, total + more, seed, 0, total).tolist() == (one.tolist() if total else [])


@given(totals, seeds)
def test_no_window_is_the_order_of_the_stream(total: int, seed: int) -> None:
    assert taken(total, 0, seed, 0, total).tolist() == list(range(total))


@pytest.mark.parametrize("size", [2, 3, 4, 5, 6])
def test_small_windows_take_every_order_equally_often(size: int) -> None:
    # Windows of one long stream are as many draws.
    draws = 24_000
    orders = Counter(map(tuple, (taken(draws * size, size, 7, 0, draws * size).reshape(-1, size) % size).tolist()))
    every = list(itertools.permutations(range(size)))
    expected = draws / len(every)
    square = sum((orders[order] - expected) ** 2 for order in every) / expected
    # Chi-square with k-1 degrees of freedom: mean k-1, standard deviation √(2(k-1)).
    free = len(every) - 1
    assert square < free + 5 * (2 * free) ** 0.5


def test_a_sequence_is_at_any_place_equally_often() -> None:
    size, draws = 37, 20_000
    order = taken(draws * size, size, 3, 0, draws * size).reshape(-1, size) % size
    counts = np.zeros((size, size))
    np.add.at(counts, (np.tile(np.arange(size), draws), order.reshape(-1)), 1)
    square = ((counts - draws / size) ** 2).sum() / (draws / size)
    free = (size - 1) ** 2
    assert abs(square - free) < 5 * (2 * free) ** 0.5


def test_neighbours_are_torn_apart() -> None:
    order = taken(100_000, 100_000, 1, 0, 100_000)
    beside = np.corrcoef(order[:-1], order[1:])[0, 1]
    assert abs(beside) < 0.02
    assert abs(np.corrcoef(np.arange(len(order)), order)[0, 1]) < 0.02


def test_seeds_and_windows_have_orders_of_their_own() -> None:
    one, other = (taken(4096, 4096, seed, 0, 4096) for seed in (1, 2))
    assert (one == other).mean() < 0.01
    first, second = (taken(8192, 4096, 1, 0, 8192) % 4096).reshape(2, -1)
    assert (first == second).mean() < 0.01


def test_a_phase_of_a_billion_sequences_answers_for_a_few_places() -> None:
    some = taken(10**9, 10**9, 5, 123_456_789, 123_456_889)
    assert len(set(some.tolist())) == 100
    assert 0 <= some.min() <= some.max() < 10**9
    assert some.max() - some.min() > 10**8


def test_orders_never_change_with_a_release() -> None:
    assert taken(10, 10, 42, 0, 10).tolist() == [0, 1, 4, 2, 9, 3, 6, 5, 7, 8]
    assert taken(10, 4, 42, 0, 10).tolist() == [1, 2, 0, 3, 6, 4, 7, 5, 9, 8]


def test_places_that_are_not_there_are_refused() -> None:
    with pytest.raises(ValueError, match=r"places \[3, 11\) of 10 sequences"):
        taken(10, 4, 0, 3, 11)
