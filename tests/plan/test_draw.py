"""Draws against the obvious way: a cell's documents in order, one after the other, until the quota is met."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mixture.hashing import draw, fraction
from mixture.plan.cells import Grid
from mixture.plan.pool import appearances
from tests.plan.worlds import Documents, World, check, documents, in_turn

#: Of each domain edges of its own, inside what `documents` draws.
GRID = Grid(("a", "b", "c"), ((50, 120), (), (20, 60, 200)))


def world(folder: Path, seed: int, *, alike: bool = False, weighted: bool = False, seen: int = 0) -> World:
    random = np.random.default_rng(seed)
    found = documents(random, ["a", "b", "c"], 300, alike=alike, seen=seen)
    more = {"holdout": (0.0, 0.2, 0.05), "separators": seed % 3, "seed": seed}
    return World.make(folder, found, GRID, weighted=weighted, seen=bool(seen), **more)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("seen", [0, 2])
@pytest.mark.parametrize("alike", [False, True])
def test_a_quota_is_met_to_the_token_by_the_documents_whose_turn_comes_first(
    tmp_path: Path, seed: int, weighted: bool, seen: int, alike: bool
) -> None:
    here = world(tmp_path, seed, alike=alike, weighted=weighted, seen=seen)
    found = here.survey()
    supply = found.supply()
    rate = np.random.default_rng(seed).choice([0, 0.01, 0.3, 1, 1.5, 2, 3.7], GRID.size)
    quota = (supply.tokens * rate).astype(np.int64)
    check(here, here.draw(found, quota).thresholds, quota, here.documents.seen * bool(seen))


@pytest.mark.parametrize("weighted", [False, True])
def test_phases_go_on_where_the_ones_before_them_ended(tmp_path: Path, weighted: bool) -> None:
    here = world(tmp_path, 5, weighted=weighted, seen=1, alike=True)
    seen = here.documents.seen.copy()
    random = np.random.default_rng(0)
    for _ in range(3):
        found = here.survey()
        supply = found.supply()
        written = here.documents.tokens + here.pool.separators
        for c, queue in enumerate(in_turn(here)):
            assert supply.used[c] == (written[queue] * seen[queue]).sum()
        quota = (supply.tokens * random.choice([0, 0.4, 1, 1.3], GRID.size)).astype(np.int64)
        thresholds = here.draw(found, quota).thresholds
        seen = seen + check(here, thresholds, quota, seen)
        here = here.after(thresholds)
    assert seen.max() > 2


def test_no_document_is_drawn_again_while_another_of_its_cell_was_drawn_less(tmp_path: Path) -> None:
    here = world(tmp_path, 6, weighted=True, seen=2)
    found = here.survey()
    quota = found.supply().tokens * 5 // 4
    total = here.documents.seen + check(here, here.draw(found, quota).thresholds, quota, here.documents.seen)
    times = total - here.documents.seen
    for queue in in_turn(here):
        again = [total[n] for n in queue if times[n]]
        assert max(again, default=0) - min((total[n] for n in queue), default=0) <= 1


@pytest.mark.parametrize("weighted", [False, True])
def test_the_draws_of_a_smaller_quota_are_among_those_of_a_larger_one(tmp_path: Path, weighted: bool) -> None:
    here = world(tmp_path, 7, weighted=weighted)
    found = here.survey()
    before = np.zeros(len(here.documents), np.int64)
    for part in range(1, 6):
        quota = found.supply().tokens * part // 4
        times = check(here, here.draw(found, quota).thresholds, quota, before * 0)
        assert (times >= before).all()
        before = times


@pytest.mark.parametrize("weighted", [False, True])
def test_a_domain_more_moves_no_draw_of_the_others(tmp_path: Path, weighted: bool) -> None:
    """Law 4: with the quotas of the others unchanged."""
    here = world(tmp_path, 8, weighted=weighted, seen=1)
    found = here.survey()
    quota = found.supply().tokens * 3 // 5
    before = here.draw(found, quota).thresholds
    more = documents(np.random.default_rng(9), ["aa"], 100, alike=False, seen=1)
    there = here.joined(tmp_path / "more", "aa", more)
    grid = there.pool.grid
    surveyed = there.survey()
    larger = np.insert(quota, GRID.span(1).start, surveyed.supply().tokens[grid.span(1)] // 2)
    after = there.draw(surveyed, larger).thresholds
    span = grid.span(1)
    assert before == (*after[: span.start], *after[span.stop :])


def test_held_out_filtered_and_empty_documents_are_counted_apart_and_never_drawn(tmp_path: Path) -> None:
    here = world(tmp_path, 3, weighted=True)
    found, docs = here.survey(), here.documents
    empty = docs.tokens == 0
    limits = np.select([docs.domain == "b", docs.domain == "c"], [fraction(0.2), fraction(0.05)], 0).astype(np.uint64)
    out = ~empty & (draw(0, "holdout", docs.hi, docs.lo) < limits)
    filtered = ~empty & ~out & (docs.weight == 0)
    assert found.held_out[:, 0].tolist() == [(out & (docs.domain == name)).sum() for name in "abc"]
    assert found.held_out[:, 1].sum() == docs.tokens[out].sum() > 0
    assert found.fates == {"without_tokens": empty.sum(), "filtered": filtered.sum(), "aside": 0}
    assert found.supply().documents.sum() == (~empty & ~out & ~filtered).sum()
    quota = found.supply().tokens * 2
    times, _ = appearances(here.look(), here.draw(found, quota).thresholds)
    assert not times[empty | out | filtered].any()
    assert (times[~(empty | out | filtered)] == 2).all()


def test_who_is_held_out_does_not_follow_the_seed(tmp_path: Path) -> None:
    here = world(tmp_path, 3)
    other = replace(here, pool=replace(here.pool, seed=99))
    assert (here.look().cell == other.look().cell).all()
    assert (here.look().key != other.look().key).any()


def test_a_heavier_document_comes_sooner_by_its_weight(tmp_path: Path) -> None:
    """Of documents of weight 4 a small quota takes four times as many as of weight 1."""
    random = np.random.default_rng(1)
    count = 20_000
    hi, lo = (random.integers(0, 2**64, count, np.uint64) for _ in range(2))
    weight = np.where(np.arange(count) % 2, 4.0, 1.0)
    found = Documents.sorted(
        hi=hi, lo=lo, domain=np.full(count, "a"), tokens=np.full(count, 10), weight=weight, seen=np.zeros(count, int)
    )
    grid = Grid(("a",), ((),))
    here = World.make(tmp_path, found, grid, weighted=True, seen=False, holdout=(0.0,), separators=0, seed=1)
    quota = np.array([10 * count // 10])
    times, _ = appearances(here.look(), here.draw(here.survey(), quota).thresholds)
    heavy, light = (int(times[found.weight == w].sum()) for w in (4.0, 1.0))
    assert heavy + light == count // 10
    assert heavy / light == pytest.approx(4, rel=0.15)


def test_weights_as_far_apart_as_they_come_keep_their_order(tmp_path: Path) -> None:
    here = world(tmp_path, 4)
    docs = replace(here.documents, weight=10.0 ** np.random.default_rng(4).uniform(-44, 38, len(here.documents)))
    pool = {"holdout": here.pool.holdout, "separators": 1, "seed": 4}
    here = World.make(tmp_path, docs, GRID, weighted=True, seen=False, **pool)
    found = here.survey()
    quota = found.supply().tokens * 7 // 5
    check(here, here.draw(found, quota).thresholds, quota, docs.seen * 0)
    key = here.look().key
    bins = here.pool.bins(key)
    assert (np.diff(bins[np.argsort(key)]) >= 0).all()
    assert len(np.unique(bins)) > 100


def test_a_pilot_draws_from_its_share_of_the_documents(tmp_path: Path) -> None:
    here = world(tmp_path, 2)
    pilot = replace(here, pool=replace(here.pool, pilot=0.25))
    found = pilot.survey()
    supply = found.supply()
    assert found.fates["aside"] + supply.documents.sum() == here.survey().supply().documents.sum()
    assert 0.15 < supply.documents.sum() / here.survey().supply().documents.sum() < 0.35
    quota = supply.tokens * 3 // 2
    times, _ = appearances(pilot.look(), pilot.draw(found, quota).thresholds)
    docs = here.documents
    assert (draw(pilot.pool.seed, "pilot", docs.hi, docs.lo)[times > 0] < np.uint64(fraction(0.25))).all()


def test_lengths_inside_cells_add_up_to_the_cells(tmp_path: Path) -> None:
    here = world(tmp_path, 2)
    here = replace(here, pool=replace(here.pool, lengths=True))
    supply = here.survey().supply()
    assert supply.lengths is not None
    assert supply.lengths.sum(axis=1).tolist() == supply.tokens.tolist()
    eighths = [np.flatnonzero(row) / 8 for row in supply.lengths[:3]]
    assert 2 ** eighths[0].max() <= 50
    assert 2 ** (eighths[2].min() + 1 / 8) > 120
