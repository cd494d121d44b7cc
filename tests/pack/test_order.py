"""Orders of sequences: shuffled, and as a curriculum."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixture.pack import Ints, Pieces
from mixture.pack.best_fit import best_fit
from mixture.pack.order import arrange, ranked, shuffled
from mixture.pack.vsl import curriculum, vsl
from tests.pack.laws import LENGTHS, check, ints, rows_of


def bucket(pieces: Pieces, length: int) -> list[int]:
    """Size of the pieces of each row, 0 for mixed or padded ones."""
    out = []
    for number in range(pieces.sequences):
        sizes = pieces.size[pieces.sequence == number].tolist()
        out.append(sizes[0] if len(set(sizes)) == 1 and sum(sizes) == length else 0)
    return out


@given(st.lists(st.integers(0, 1 << 50)), st.integers(0, 50))
def test_ranked_is_a_stable_sort(values: list[int], shift: int) -> None:
    keys = np.array(values, np.int64) >> shift
    assert ranked(keys).tolist() == np.argsort(keys, kind="stable").tolist()


@given(LENGTHS, st.integers(0, 9), st.integers(0, 9))
def test_a_shuffle_is_a_permutation_and_arrange_keeps_sequences_as_they_are(
    lengths: Ints, seed: int, window: int
) -> None:
    pieces = best_fit(lengths, 16)
    order = shuffled(pieces, seed, window)
    assert sorted(order.tolist()) == list(range(pieces.sequences))
    arranged = arrange(pieces, order)
    check(arranged, lengths, 16)
    before, after = rows_of(pieces), rows_of(arranged)
    assert after == [before[number] for number in order]


def test_another_seed_or_window_is_another_shuffle() -> None:
    pieces = best_fit(np.full(50, 8), 8)
    orders = {tuple(shuffled(pieces, seed, window).tolist()) for seed in range(4) for window in range(4)}
    assert len(orders) == 16


def test_a_shuffle_does_not_change_with_a_release() -> None:
    assert shuffled(best_fit(np.full(8, 8), 8), 42, 3).tolist() == [7, 6, 5, 1, 3, 4, 0, 2]


@given(LENGTHS, st.integers(1, 4), st.integers(1, 4), st.sampled_from([1, 4, 16, 64]), st.sampled_from([1, 2, 8]))
def test_a_curriculum_is_a_permutation_of_pure_batches_then_what_is_left(
    lengths: Ints, batch: int, cycles: int, length: int, smallest: int
) -> None:
    pieces = vsl(lengths, length, smallest)
    order = curriculum(pieces, 7, 2, smallest=smallest, batch=batch, cycles=cycles)
    assert sorted(order.tolist()) == list(range(pieces.sequences))
    # Pieces below the smallest fill rows by chance alone: those are mixed, and so is a row that is not full.
    kind = [size if size >= min(smallest, length) else 0 for size in bucket(pieces, length)]
    full = sum(count // batch for size, count in Counter(kind).items() if size)
    of_row = [kind[number] for number in order]
    for number in range(full):
        assert len(set(of_row[number * batch : (number + 1) * batch])) == 1
    left = of_row[full * batch :]
    assert all(count < batch for size, count in Counter(left).items() if size)
    assert left == sorted(left, key=lambda size: (size == 0, size))


def batches(lengths: Ints, length: int, **how: object) -> list[int]:
    """Bucket of each batch of 2 rows, in order."""
    pieces = vsl(lengths, length)
    order = curriculum(pieces, 1, 0, batch=2, **how)  # type: ignore[arg-type]
    kind = bucket(pieces, length)
    return [kind[number] for number in order[::2]]


MANY = np.r_[np.full(400, 16), np.full(800, 8), np.full(1600, 4)]


def mean_place(kinds: list[int], size: int) -> float:
    return float(np.mean([place for place, kind in enumerate(kinds) if kind == size])) / len(kinds)


def test_short_pieces_come_mostly_first_by_default() -> None:
    kinds = batches(MANY, 16)
    assert Counter(kinds) == {4: 200, 8: 200, 16: 200}
    assert mean_place(kinds, 4) + 0.1 < mean_place(kinds, 8) < mean_place(kinds, 16) - 0.1


def test_equal_odds_are_an_even_mixture_and_reversed_ones_put_long_pieces_first() -> None:
    even = batches(MANY, 16, odds=(1, 1, 1))
    assert all(abs(mean_place(even, size) - 0.5) < 0.05 for size in (4, 8, 16))
    long_first = batches(MANY, 16, odds=(1, 2, 4))
    assert mean_place(long_first, 16) < mean_place(long_first, 8) < mean_place(long_first, 4)


def test_each_cycle_has_its_part_of_every_bucket() -> None:
    kinds = batches(MANY, 16, cycles=4)
    for cycle in range(4):
        assert Counter(kinds[150 * cycle : 150 * (cycle + 1)]) == {4: 50, 8: 50, 16: 50}


def test_rows_of_buckets_without_odds_come_last() -> None:
    kinds = batches(MANY, 16, odds=(1, 1))
    assert set(kinds[:400]) == {8, 16}
    assert set(kinds[400:]) == {4}


def test_a_row_that_is_not_full_belongs_to_no_bucket() -> None:
    pieces = vsl(ints(8, 8, 8, 5), 8, 8)
    assert curriculum(pieces, 0, smallest=8, batch=2).tolist()[-1] == 3
    assert [curriculum(pieces, seed, smallest=8).tolist()[-1] for seed in range(20)] == [3] * 20


def test_a_curriculum_does_not_change_with_a_release() -> None:
    pieces = vsl(np.r_[np.full(4, 16), np.full(8, 8), np.full(16, 4)], 16)
    assert curriculum(pieces, 42, 3, batch=1).tolist() == [8, 4, 9, 5, 10, 0, 1, 11, 2, 6, 7, 3]


def test_odds_must_be_above_zero() -> None:
    with pytest.raises(ValueError, match="odds: 0 is not above 0"):
        curriculum(vsl(ints(8, 8), 8), 1, odds=(1, 0))
