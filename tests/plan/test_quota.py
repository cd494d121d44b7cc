"""What rules want of cells: by hand, and what must hold of all of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from mixture.errors import PlanError
from mixture.plan.quota import (
    BINS_PER_OCTAVE,
    Supply,
    Wish,
    bucket_shares,
    clipped,
    domain_shares,
    kept_short_rate,
    normal,
    pool_needed,
    raised_long_share,
    wanted,
    whole,
)
from mixture.plan.solve import solve
from mixture.recipe.rules import LengthRule
from tests.plan.problems import Problem, by_domain, mix, problems, shares, supplies, supply

UPSAMPLING = {"threshold": "4K", "long": 0.7}


@pytest.mark.parametrize(
    ("long_share", "rate", "target"), [(0.30, 0.1, 0.811), (0.30, 0.184, 0.70), (0.39, 0.2, 0.762), (0.39, 0.274, 0.70)]
)
def test_the_arithmetic_of_fu_et_al(long_share: float, rate: float, target: float) -> None:
    assert raised_long_share(long_share, rate) == pytest.approx(target, abs=5e-4)
    assert kept_short_rate(long_share, target) == pytest.approx(rate, abs=5e-4)


@given(st.floats(0.001, 0.999), st.floats(0.001, 0.999))
def test_rate_and_target_are_each_other_s_inverse(long_share: float, target: float) -> None:
    assert raised_long_share(long_share, kept_short_rate(long_share, target)) == pytest.approx(target)


def test_c4_and_stack_exchange_need_at_150b_what_the_paper_s_corpus_does_not_hold() -> None:
    c4, stack = 0.26609933, 0.03169647
    found = supply(c4=[61, 39], rest=[61, 39], stack=[61, 39])
    rule = mix(domains={"c4": c4, "rest": 1 - c4 - stack, "stack": stack}, lengths=UPSAMPLING)
    quotas = by_domain(found, wanted(rule, found, 150 * 10**9))
    assert quotas["c4"][1] / 1e9 == pytest.approx(28, abs=0.1)
    assert quotas["stack"][1] / 1e9 == pytest.approx(3.3, abs=0.05)
    assert pool_needed(c4, 150e9, 0.39, 0.7) * 0.39 == pytest.approx(quotas["c4"][1])


@pytest.mark.parametrize(("long_share", "target"), [(0.30, 0.70), (0.39, 0.70), (0.30, 0.811), (0.5, 0.5), (0.9, 0.91)])
def test_a_pool_of_the_size_needed_is_enough_and_one_of_less_is_not(long_share: float, target: float) -> None:
    share, budget = 0.25, 1_000_000
    pool = pool_needed(share, budget, long_share, target)
    rules = mix(domains={"a": share, "b": 1 - share}, lengths={"threshold": "4K", "long": target})
    cells = [round(pool * (1 - long_share)), round(pool * long_share)]
    plenty = [10**6, 10**6 - 1]
    solve(rules, supply(a=[c + 1 for c in cells], b=plenty), budget, 1)
    with pytest.raises(PlanError, match=r"holds? less than the recipe wants"):
        solve(rules, supply(a=[int(0.99 * c) for c in cells], b=plenty), budget, 1)


def test_the_worked_example_of_the_module() -> None:
    found = supply(books=[10, 90], wiki=[80, 20])
    rules = mix(domains={"books": 0.6, "wiki": 0.4}, lengths=UPSAMPLING)
    assert by_domain(found, wanted(rules, found, 1000)) == {"books": [60, 540], "wiki": [120, 280]}


@pytest.mark.parametrize(
    ("rule", "shares"),
    [
        ({}, [0.6, 0.3, 0.1]),
        ({"shares": [0.5, 0.25, 0.25]}, [0.5, 0.25, 0.25]),
        ({"factors": [1, 2, 4]}, [0.375, 0.375, 0.25]),
        ({"factors": [0, 0, 2.5]}, [0, 0, 1]),
        ({"factors": [1e308, 1e308, 1e308]}, [0.6, 0.3, 0.1]),
        ({"threshold": "4K", "long": 0.2}, [0.6, 0.3, 0.1]),  # already above it
        ({"threshold": "16K", "long": 0.4}, [0.4, 0.2, 0.4]),
        ({"threshold": "4K", "long": 1}, [0, 0.75, 0.25]),
        ({"threshold": "4K", "long": 0}, [0.6, 0.3, 0.1]),
        ({"threshold": "4K", "long": 0.2, "exact": True}, [0.8, 0.15, 0.05]),
        ({"threshold": "16K", "long": 0, "exact": True}, [2 / 3, 1 / 3, 0]),
        ({"threshold": "4K", "keep_short": 0.5}, [0.3 / 0.7, 0.3 / 0.7, 0.1 / 0.7]),
        ({"threshold": "16K", "keep_short": 0}, [0, 0, 1]),
        ({"threshold": "4K", "keep_short": 1}, [0.6, 0.3, 0.1]),
        ({"floors": [0, 0, 0.4]}, [0.4, 0.2, 0.4]),  # the others give in proportion
        ({"floors": [0, 0.35, 0.35]}, [0.3, 0.35, 0.35]),
        ({"factors": [1, 0, 0], "floors": [0, 0.1, 0.2]}, [0.7, 0.1, 0.2]),
        ({"floors": [0.3, 0.3, 0.4]}, [0.3, 0.3, 0.4]),
        ({"floors": [0.3, 0.3, 0.4000009]}, [0.3, 0.3, 0.4]),  # what a recipe may be off by
        ({"like": {"published": "slimpajama"}}, [0.61, 0.212, 0.178]),
        ({"like": {"published": "fu-per-source"}}, [0.232 / 0.998, 0.496 / 0.998, 0.27 / 0.998]),
        ({"like": "other"}, [0.2, 0.2, 0.6]),
    ],
)
def test_each_length_rule_by_hand(rule: dict[str, Any], shares: list[float]) -> None:
    found = bucket_shares(LengthRule.model_validate(rule), supply(here=[60, 30, 10], other=[10, 10, 30]), 0)
    assert found.tolist() == pytest.approx(shares, abs=1e-6)
    assert found.sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("power", "ratio"), [(0, 1), (1, 16), (0.5, 4), (-1, 1 / 16)])
def test_a_power_of_the_length_weights_tokens_by_it(power: float, ratio: float) -> None:
    # As many tokens in documents of 2^10 as in documents of 2^14, 16 times as long; the second cell holds half of each.
    found = supply(a=[100, 100])
    lengths = np.zeros((2, 20 * BINS_PER_OCTAVE), np.int64)
    lengths[0, 10 * BINS_PER_OCTAVE] = 100
    lengths[1, [10 * BINS_PER_OCTAVE, 14 * BINS_PER_OCTAVE]] = 50
    short, both = bucket_shares(LengthRule(power=power), replace(found, lengths=lengths), 0)
    assert both / short == pytest.approx((1 + ratio) / 2)
    with pytest.raises(PlanError, match="needs the lengths inside cells"):
        bucket_shares(LengthRule(power=power), found, 0)


@pytest.mark.parametrize(
    ("rule", "shares"),
    [
        ({"threshold": "4K", "long": 0.7}, [0.3, 0.7, 0]),
        ({"threshold": "4K", "keep_short": 0}, [0, 0.5, 0.5]),
        ({"factors": [0, 1, 3]}, [0, 0.25, 0.75]),
        ({"shares": [0, 0, 1]}, [0, 0, 1]),
    ],
)
def test_a_wish_for_lengths_that_a_domain_does_not_have_stands(rule: dict[str, Any], shares: list[float]) -> None:
    found = bucket_shares(LengthRule.model_validate(rule), supply(a=[100, 0, 0]), 0)
    assert found.tolist() == pytest.approx(shares)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("bokks", "lengths of wiki: like 'bokks' is no domain of this corpus; did you mean 'books'"),
        ("code", "lengths of wiki: like 'code' has other buckets"),
        ("empty", "lengths of wiki: like 'empty' holds nothing to copy lengths from"),
    ],
)
def test_lengths_are_not_copied_from_what_has_none(name: str, said: str) -> None:
    found = supply(wiki=[1, 2], books=[1, 2], code=[1, 2, 3], empty=[0, 0])
    with pytest.raises(PlanError, match=said):
        bucket_shares(LengthRule.model_validate({"like": name}), found, 0)


@pytest.mark.parametrize(
    ("rules", "shares"),
    [
        ({}, [0.5, 0.1, 0.4]),
        ({"domains": {"a": 0.5, "c": 0.5}}, [0.5, 0, 0.5]),
        ({"domains": {"a": {"lengths": "natural"}, "b": {"max_epochs": 2}}}, [5 / 6, 1 / 6, 0]),
        ({"floor": 0.2}, [0.5 * 8 / 9, 0.2, 0.4 * 8 / 9]),
        ({"floor": 0.2, "domains": {"a": 0.9, "b": 0.1}}, [0.8, 0.2, 0]),  # none for a domain that is not drawn
        ({"floor": 0.2, "domains": {"a": {"share": 0.9, "floor": 0}, "b": 0.1}}, [0.8, 0.2, 0]),
        ({"domains": {"a": {"share": 0.1, "floor": 0.3}, "b": 0.8, "c": 0.1}}, [0.3, 0.7 * 8 / 9, 0.7 / 9]),
        ({"floor": 1 / 3}, [1 / 3, 1 / 3, 1 / 3]),
        ({"floor": 0.3333336}, [1 / 3, 1 / 3, 1 / 3]),  # what a recipe may be off by
    ],
)
def test_domains_get_their_shares_and_not_less_than_their_floors(rules: dict[str, Any], shares: list[float]) -> None:
    found = supply(a=[25, 25], b=[10], c=[10, 20, 10])
    assert domain_shares(mix(**rules), found).tolist() == pytest.approx(shares, abs=1e-6)


def test_named_domains_that_hold_nothing_are_not_replaced_by_others() -> None:
    found = supply(a=[100], b=[0], c=[0])
    rules = mix(domains={"b": {"max_epochs": 2}, "c": {"max_epochs": 2}})
    assert domain_shares(rules, found).tolist() == [0, 0.5, 0.5]


def test_floors_that_together_pass_1_are_refused_with_their_sum() -> None:
    with pytest.raises(PlanError, match=r"floors of 3 domains sum to 1.2, more than 1; lower them"):
        domain_shares(mix(floor=0.4), supply(a=[1], b=[1], c=[1], empty=[0]))


def test_an_unknown_domain_is_named_with_the_nearest() -> None:
    with pytest.raises(PlanError, match="'boks' is not a domain of this corpus; did you mean 'books'"):
        domain_shares(mix(domains={"boks": 1}), supply(books=[1, 2]))


@pytest.mark.parametrize(
    ("rules", "cells"),
    [
        # 60 short and 40 long: the long share .4 is raised to .7, by 1.75; short ones fall by half.
        ({"lengths": UPSAMPLING}, {"a": [250, 175], "b": [50, 525]}),
        ({"lengths": {"shares": [0.5, 0.5]}}, {"a": [417, 125], "b": [83, 375]}),
        ({"lengths": {"like": "b"}}, {"a": [208, 188], "b": [42, 562]}),
        # a floor on top: a is raised from .425 to .5 and keeps its lengths.
        ({"lengths": UPSAMPLING, "floor": 0.5}, {"a": [294, 206], "b": [43, 457]}),
    ],
)
def test_global_applies_the_rule_to_the_corpus_as_one(rules: dict[str, Any], cells: dict[str, list[int]]) -> None:
    found = supply(a=[50, 10], b=[10, 30])
    assert by_domain(found, wanted(mix(domains="global", **rules), found, 1000)) == cells


def test_domains_with_buckets_of_their_own_stand_side_by_side() -> None:
    found = supply(a=[60, 30, 10], b=[100], c=[50, 50])
    rules = mix(
        domains={
            "a": {"share": 0.5, "lengths": {"shares": [0.2, 0.3, 0.5]}},
            "b": 0.3,
            "c": {"share": 0.2, "lengths": UPSAMPLING},
        }
    )
    assert by_domain(found, wanted(rules, found, 100)) == {"a": [10, 15, 25], "b": [30], "c": [6, 14]}


@given(shares(7), st.integers(0, 10**15))
def test_largest_remainder_sums_exactly_and_stays_within_one(split: list[float], total: int) -> None:
    ideal = np.array(split)
    found = whole(ideal * total, total)
    assert found.sum() == total
    assert (found >= 0).all()
    # Doubles carry 53 bits, so at 10^15 a share itself is only known to within a token.
    assert (np.abs(found - ideal * total) <= 2).all()
    assert (found[ideal == 0] == 0).all()


@given(
    st.lists(st.integers(10**12, 10**14), min_size=1, max_size=9),
    st.floats(0.1, 0.9),
    st.sampled_from([-1e-3, -1e-9, 0, 1e-9, 1e-3]),
)
def test_rounding_ends_at_once_however_far_off_the_ideal_is(most: list[int], part: float, off: float) -> None:
    bounds = np.array(most)
    total = int(part * sum(most))
    found = whole(bounds * (part + off), total, bounds)
    assert found.sum() == total
    assert ((found >= 0) & (found <= bounds)).all()


@pytest.mark.parametrize(
    ("wish", "low", "high", "nearest"),
    [
        ([0.5, 0.3, 0.2], [0, 0, 0], [1, 1, 1], [0.5, 0.3, 0.2]),
        ([0.5, 0.3, 0.2], [0, 0, 0], [0.25, 1, 1], [0.25, 0.45, 0.3]),  # others keep their proportions
        ([0.5, 0.3, 0.2], [0, 0, 0.4], [1, 1, 1], [0.375, 0.225, 0.4]),
        ([0.5, 0.3, 0.2], [0, 0, 0], [0.25, 0.35, 1], [0.25, 0.35, 0.4]),
        ([1, 0, 0], [0, 0, 0.25], [1, 1, 1], [0.75, 0, 0.25]),  # what is not wanted gets its floor, no more
        ([1, 1e-310], [0, 0.5], [1, 1], [0.5, 0.5]),
    ],
)
def test_the_nearest_split_by_hand(
    wish: list[float], low: list[float], high: list[float], nearest: list[float]
) -> None:
    assert clipped(*map(np.array, (wish, low, high)), 1.0).tolist() == pytest.approx(nearest)


@settings(max_examples=150, deadline=None)
@given(st.integers(2, 6), st.randoms(use_true_random=False))
def test_the_nearest_split_is_where_a_general_optimiser_finds_least_divergence(count: int, random: Any) -> None:
    wish = normal(np.array([random.uniform(0.02, 1) for _ in range(count)]))
    inside = normal(np.array([random.uniform(0.02, 1) for _ in range(count)]))
    low = np.array([x * random.choice([0, random.random()]) for x in inside])
    high = np.array([x + (1 - x) * random.choice([1, random.random() ** 3]) for x in inside])
    found = clipped(wish, low, high, 1.0)

    def divergence(x: np.ndarray[Any, Any]) -> float:
        return float((x * np.log(np.maximum(x, 1e-300) / wish)).sum())

    reference = minimize(
        divergence,
        inside,
        jac=lambda x: np.log(np.maximum(x, 1e-12) / wish) + 1,
        bounds=list(zip(low, high, strict=True)),
        constraints={"type": "eq", "fun": lambda x: x.sum() - 1, "jac": np.ones_like},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert found.sum() == pytest.approx(1)
    assert ((found >= low) & (found <= high)).all()
    assert divergence(found) <= divergence(np.clip(reference.x, low, high)) + 1e-7
    assert found == pytest.approx(reference.x, abs=1e-3)


@settings(deadline=None)
@given(problems())
def test_what_is_wanted_sums_to_the_budget_and_in_each_domain_to_its_share(problem: Problem) -> None:
    grid, budget = problem.supply.grid, problem.budget
    found = wanted(problem.mix, problem.supply, budget)
    assert found.sum() == budget
    assert (found >= 0).all()
    assert (np.abs(grid.sums(found) - domain_shares(problem.mix, problem.supply) * budget) < 1 + 1e-4).all()


@settings(deadline=None)
@given(problems())
def test_floors_hold_but_for_the_rounding(problem: Problem) -> None:
    grid, budget = problem.supply.grid, problem.budget
    found = wanted(problem.mix, problem.supply, budget)
    sums = grid.sums(found)
    outer = domain_shares(problem.mix, problem.supply)
    for d, name in enumerate(grid.domains):
        if outer[d]:
            assert sums[d] > problem.mix.floor_of(name) * budget - 1.001
        floors = problem.mix.rule(name).floors
        if floors is not None:
            assert (found[grid.span(d)] > np.array(floors) * sums[d] - 1.001).all()


@settings(deadline=None)
@given(problems(), st.integers(2, 50))
def test_scaling_supply_and_budget_together_scales_what_is_wanted(problem: Problem, factor: int) -> None:
    found = problem.supply
    larger = Supply(found.grid, found.documents, found.tokens * factor, found.seen * factor)
    once = wanted(problem.mix, found, problem.budget)
    assert (np.abs(wanted(problem.mix, larger, problem.budget * factor) - once * factor) <= 3 * factor).all()


@settings(deadline=None)
@given(problems(), supplies(), st.randoms(use_true_random=False))
def test_with_shares_given_a_domain_s_inside_is_no_matter_for_the_others(
    problem: Problem, other: Supply, random: Any
) -> None:
    """Law 4 for quotas."""
    found, changed = problem.supply, random.randrange(len(problem.supply.grid.domains))
    split = {name: entry.model_dump(exclude_none=True) for name, entry in problem.mix.named().items()}
    for entry in split.values():
        entry |= {"share": 1 / len(split)}
        entry.pop("floor", None)
    rules = mix(domains=split)
    span = found.grid.span(changed)
    seen = found.seen.copy()
    seen[span] = seen[span] * random.randrange(3) + random.randrange(10**6)
    after = Supply(found.grid, found.documents, seen.sum(axis=1), seen)
    before = wanted(rules, found, problem.budget)
    differs = np.flatnonzero(before != wanted(rules, after, problem.budget))
    assert ((differs >= span.start) & (differs < span.stop)).all()


@settings(deadline=None)
@given(problems())
def test_wishes_are_shares_whatever_the_budget(problem: Problem) -> None:
    wish = Wish.of(problem.mix, problem.supply)
    assert wish.domains.sum() == pytest.approx(1)
    assert np.add.reduceat(wish.buckets, wish.grid.starts[:-1]) == pytest.approx(np.ones(len(wish.domains)))
    assert (wish.buckets >= 0).all()
