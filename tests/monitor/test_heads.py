"""Heads: counts, sets and their agreement, with intervals over samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from mixture.errors import MonitorError, StoreError
from mixture.monitor import heads
from mixture.monitor.heads import Retrieval, count, load, overlap, set_score, set_weight, spearman, zero_share


def retrieval(scores: Any, *, model: str = "run", step: int | None = 10, weights: Any = None) -> Retrieval:
    values = np.asarray(scores, np.float64)
    probes = tuple(("niah", 64, 0.5, number) for number in range(len(values)))
    return Retrieval(model, step, None, values, values / 2 if weights is None else weights, probes)


#: Two samples of two layers of two heads; means .5 0 / .1 .25.
SMALL = retrieval([[[1.0, 0], [0.1, 0.5]], [[0, 0], [0.1, 0]]])


def many(samples: int = 12, shape: tuple[int, int] = (4, 16), seed: int = 0) -> Retrieval:
    rng = np.random.default_rng(seed)
    skill = rng.beta(0.3, 2, shape)
    return retrieval(rng.binomial(4, skill, (samples, *shape)) / 4)


def test_the_heads_by_hand() -> None:
    assert SMALL.mean().tolist() == [[0.5, 0], [0.1, 0.25]]
    assert SMALL.ranked() == [(0, 0), (1, 1), (1, 0), (0, 1)]
    assert SMALL.above() == [(0, 0), (1, 1), (1, 0)]
    assert SMALL.above(0.2) == [(0, 0), (1, 1)]
    assert count(SMALL)[0] == 3
    assert zero_share(SMALL)[0] == 0.25
    assert set_score(SMALL, [(0, 0), (1, 0)])[0] == pytest.approx(0.3)
    assert set_weight(SMALL, [(0, 0), (1, 0)])[0] == pytest.approx(0.15)


def test_a_tenth_is_a_retrieval_head_whatever_its_sum_leaves_behind() -> None:
    # A third of .3 is .09999999999999999.
    found = retrieval([[[0.3]], [[0.0]], [[0.0]]])
    assert found.mean()[0, 0] < 0.1
    assert found.above() == [(0, 0)]
    assert count(found)[0] == 1


def test_of_equal_heads_the_first_in_the_model_comes_first() -> None:
    assert retrieval(np.full((2, 2, 2), 0.5)).ranked() == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_intervals_are_those_of_samples_drawn_again() -> None:
    found = many()
    value, low, high = count(found)
    flat = found.scores.reshape(12, -1)
    rng = np.random.default_rng(5)
    drawn = [(flat[rng.integers(0, 12, 12)].mean(axis=0) >= 0.1 - 1e-12).sum() for _ in range(4000)]
    assert value == (flat.mean(axis=0) >= 0.1 - 1e-12).sum()
    assert low < value < high
    # BCa shifts the ends of the plain percentiles, by no more than their own width.
    assert min(drawn) <= low <= value <= high <= max(drawn)
    assert abs((low + high) / 2 - np.mean(drawn)) < np.ptp(drawn) / 2


def test_a_mean_is_over_the_samples_drawn_however_many() -> None:
    flat = np.array([[0.0, 0.4], [0.6, 0.2], [0.3, 0.1]])
    rows = np.array([[1, 1], [0, 2], [2, 1]])
    np.testing.assert_allclose(heads._drawn(rows, flat), flat[rows].mean(axis=1))


def test_one_sample_has_no_interval() -> None:
    assert count(retrieval([[[0.5, 0.2]]])) == (2, 2, 2)
    assert overlap(retrieval([[[0.5, 0.2]]]), retrieval([[[0.1, 0.2]]]), 1) == (0, 0, 0)


def test_draws_that_do_not_fit_at_once_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    found = many()
    whole = count(found)
    monkeypatch.setattr(heads, "_AT_ONCE", 64 * 7)
    assert count(found) == whole


def test_the_overlap_by_hand() -> None:
    one = retrieval([[[0.9, 0.8, 0.7, 0.0]]] * 2)
    other = retrieval([[[0.9, 0.0, 0.7, 0.8]]] * 2)
    assert [overlap(one, other, top)[0] for top in (1, 2, 3, 4)] == [1, 1, 2, 4]
    assert overlap(one, one, 2) == (2, 2, 2)


def test_overlap_is_uncertain_where_samples_disagree() -> None:
    value, low, high = overlap(many(seed=1), many(seed=2), 8)
    assert low < high
    assert 0 <= low <= value <= high <= 8


def test_rank_correlation_is_scipys() -> None:
    one, other = many(seed=1), many(seed=2)
    means = [found.mean().ravel() for found in (one, other)]
    found = spearman(one, other)
    assert found is not None
    assert found[0] == pytest.approx(stats.spearmanr(*means).statistic)
    kept = sorted({*np.argsort(-means[0], kind="stable")[:5], *np.argsort(-means[1], kind="stable")[:5]})
    best = spearman(one, other, 5)
    assert best is not None
    assert best[0] == pytest.approx(stats.spearmanr(means[0][kept], means[1][kept]).statistic)
    assert best[1] < best[0] < best[2]


def test_rank_correlation_of_heads_that_are_all_equal_is_not_defined() -> None:
    flat = retrieval(np.zeros((12, 4, 16)))
    assert spearman(many(), flat) is None


def test_draws_that_leave_no_order_do_not_hide_the_interval() -> None:
    # Only one of two samples tells the heads apart: a quarter of the draws has neither of it.
    one = retrieval([[[0.5, 0.2, 0.1]], [[0.5, 0.5, 0.5]]])
    found = spearman(one, one)
    assert found is not None
    assert found[0] == pytest.approx(1)
    assert found[1] < 0.1


@pytest.mark.filterwarnings("error")
def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    for found in (SMALL, retrieval([[[0.5]]], model="ein Lauf", step=None)):
        found.save(tmp_path / "deep" / "scores.npz")
        again = load(tmp_path / "deep" / "scores.npz")
        assert (again.model, again.step, again.tokens, again.probes) == (
            found.model,
            found.step,
            found.tokens,
            found.probes,
        )
        np.testing.assert_array_equal(again.scores, found.scores)
        np.testing.assert_array_equal(again.weights, found.weights)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="none"):
        load(tmp_path / "none.npz")
    SMALL.save(tmp_path / "a.npz")
    whole = (tmp_path / "a.npz").read_bytes()
    for bytes_ in (whole[: len(whole) // 2], b"", b"text"):
        (tmp_path / "a.npz").write_bytes(bytes_)
        with pytest.raises(MonitorError, match="measure that checkpoint again"):
            load(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", scores=np.zeros(3))
    with pytest.raises(MonitorError, match="measure that checkpoint again"):
        load(tmp_path / "b.npz")


@pytest.mark.parametrize("scores", [np.zeros((0, 2, 2)), np.zeros((2, 2)), np.full((1, 1, 1), 1.5), [[[np.nan]]]])
def test_scores_that_are_none_are_refused(scores: Any) -> None:
    with pytest.raises(MonitorError, match=r"at least one of each|between 0 and 1"):
        retrieval(scores)


def test_weights_and_probes_go_with_the_scores() -> None:
    with pytest.raises(MonitorError, match="weights of shape"):
        retrieval(np.zeros((2, 2, 2)), weights=np.zeros((2, 2, 1)))
    with pytest.raises(MonitorError, match="1 probes and 2 samples"):
        Retrieval("run", 0, 0, np.zeros((2, 1, 1)), np.zeros((2, 1, 1)), (("niah", 64, 0.5, 0),))


def test_checkpoints_are_compared_on_the_same_probes() -> None:
    with pytest.raises(MonitorError, match="same grid and seed"):
        overlap(many(12), many(11))
    with pytest.raises(MonitorError, match="checkpoints of one model"):
        spearman(many(12), many(12, (2, 32)))
    with pytest.raises(MonitorError, match="at least one head"):
        set_score(SMALL, [])
