"""N then M is N + M, at any number of ranks, and nothing is seen twice: arithmetic over steps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixture.errors import MixtureError
from mixture.loader import Ints
from mixture.loader.order import BLANK, Share, deal
from mixture.pack.shuffle import taken

shares = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))


def walk(total: int, share: tuple[int, int, int], first: int, *, costs: Ints | None = None) -> list[list[list[int]]]:
    """What each step gives each rank."""
    ranks, micro, accumulate = share
    order = lambda low, high: taken(total, 10, 5, low, high)  # noqa: E731
    price = None if costs is None else (lambda sequences: costs[sequences])
    ways = [
        list(deal(total, Share(ranks * micro * accumulate, micro, rank, ranks), first, order, price))
        for rank in range(ranks)
    ]
    assert len({len(way) for way in ways}) == 1
    for steps in zip(*ways, strict=True):
        assert len({step.mine.shape for step in steps}) == 1
        assert len({tuple(step.sequences.tolist()) for step in steps}) == 1
    return [[step.mine.reshape(-1).tolist() for step in steps] for steps in zip(*ways, strict=True)]


@given(st.integers(0, 120), shares, st.booleans(), st.data())
def test_every_sequence_is_dealt_once_and_blanks_fill_up(
    total: int, share: tuple[int, int, int], level: bool, data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, total))
    costs = np.array(data.draw(st.lists(st.integers(1, 99), min_size=total, max_size=total)), np.int64)
    steps = walk(total, share, first, costs=costs if level else None)
    dealt = [sequence for step in steps for rank in step for sequence in rank]
    real = [sequence for sequence in dealt if sequence != BLANK]
    assert sorted(real) == sorted(taken(total, 10, 5, first, total).tolist())
    # Only the last step has blanks, and fewer than one micro-batch of all ranks.
    assert dealt.count(BLANK) < share[0] * share[1]
    assert all(BLANK not in rank for step in steps[:-1] for rank in step)


@given(
    st.integers(0, 120),
    st.integers(1, 30),
    st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=5),
    st.data(),
)
def test_a_step_is_the_same_sequences_whatever_the_ranks(
    total: int, batch: int, ranks: list[int], data: st.DataObject
) -> None:
    batch *= 12
    seen = []
    at = 0
    for number in ranks:
        steps = data.draw(st.integers(0, 3))
        for step in walk(total, (number, 1, batch // number), at)[:steps]:
            seen.append(sorted(sequence for rank in step for sequence in rank if sequence != BLANK))
            at = min(total, at + batch)
    whole = taken(total, 10, 5, 0, total)
    assert seen == [sorted(whole[low : low + batch].tolist()) for low in range(0, at, batch)]


@given(st.integers(0, 200), shares)
def test_steps_and_micro_batches_are_counted_before_they_are_made(total: int, share: tuple[int, int, int]) -> None:
    ranks, micro, accumulate = share
    how = Share(ranks * micro * accumulate, micro, 0, ranks)
    steps = list(deal(total, how, 0, np.arange))
    assert how.steps(total) == len(steps)
    assert how.micros(total) == sum(len(step.mine) for step in steps)
    assert how.accumulate == accumulate


def test_ranks_are_level_and_begin_with_their_costliest() -> None:
    costs = np.array([900, 10, 10, 10, 500, 400, 20, 30])
    _, mine = np.arange(8), [Share(8, 1, rank, 2).deal(8, costs)[rank].reshape(-1) for rank in range(2)]
    sums = [int(costs[rank].sum()) for rank in mine]
    assert abs(sums[0] - sums[1]) <= 20
    assert all((np.diff(costs[rank]) <= 0).all() for rank in mine)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((10, 1, 0, 4), "a step of 10 sequences does not share out over 4 ranks: choose a batch of 8 or 12"),
        ((2, 1, 0, 4), "over 4 ranks: choose a batch of 4, or"),
        ((12, 4, 0, 2), r"over 2 ranks · 4 rows: choose a batch of 8 or 16"),
        ((8, 1, 4, 4), "rank 4 of 4: ranks are numbered from 0 to 3"),
        ((8, 1, -1, 4), "rank -1 of 4"),
        ((0, 1, 0, 1), "batch is 0: give at least 1"),
        ((4, 0, 0, 1), "micro is 0"),
        ((4, 1, 0, 0), "ranks is 0"),
    ],
)
def test_shares_that_do_not_come_out_even_are_refused(arguments: tuple[int, int, int, int], sentence: str) -> None:
    with pytest.raises(MixtureError, match=sentence):
        Share(*arguments)
