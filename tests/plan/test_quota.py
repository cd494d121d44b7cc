"""Quotas by hand, and what must hold of all of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixture.errors import PlanError, ShortageError
from mixture.plan.quota import (
    Supply,
    capacity,
    domain_shares,
    kept_short_rate,
    largest_budget,
    length_shares,
    quotas,
    raised_long_share,
    solve,
    whole,
)
from mixture.recipe.rules import LengthRule, Mix

EDGES = (4096,)


def _supply(**tokens: list[int]) -> Supply:
    names = tuple(sorted(tokens))
    table = np.array([tokens[name] for name in names], np.int64)
    edges = tuple(4096 * 4**k for k in range(table.shape[1] - 1))
    return Supply(names, tuple(f"b{k}" for k in range(table.shape[1])), edges, table // 10 + 1, table)


@pytest.mark.parametrize(
    ("long_share", "rate", "target"), [(0.30, 0.1, 0.811), (0.30, 0.184, 0.70), (0.39, 0.2, 0.762), (0.39, 0.274, 0.70)]
)
def test_fu_s_arithmetic(long_share: float, rate: float, target: float) -> None:
    assert raised_long_share(long_share, rate) == pytest.approx(target, abs=5e-4)
    assert kept_short_rate(long_share, target) == pytest.approx(rate, abs=5e-4)


def test_the_worked_example_of_the_module() -> None:
    mix = Mix.model_validate({"domains": {"books": 0.6, "wiki": 0.4}, "lengths": {"threshold": "4K", "long": 0.7}})
    supply = _supply(books=[10, 90], wiki=[80, 20])
    assert quotas(mix, supply, 1000).tolist() == [[60, 540], [120, 280]]


def test_keeping_short_documents_at_a_rate_is_the_other_form_of_the_same_rule() -> None:
    tokens = np.array([700, 200, 100])
    edges = (4096, 16384)
    raised = length_shares(LengthRule(threshold=4096, long=0.7), tokens, edges)
    kept = length_shares(LengthRule(threshold=4096, keep_short=kept_short_rate(0.3, 0.7)), tokens, edges)
    assert raised == pytest.approx(kept)
    assert raised.tolist() == pytest.approx([0.3, 0.7 * 2 / 3, 0.7 / 3])


@pytest.mark.parametrize(
    ("rule", "shares"),
    [
        ({}, [0.6, 0.3, 0.1]),
        ({"shares": [0.5, 0.25, 0.25]}, [0.5, 0.25, 0.25]),
        ({"factors": [1, 2, 4]}, [0.375, 0.375, 0.25]),
        ({"factors": [0, 0, 2.5]}, [0, 0, 1]),
        ({"threshold": "4K", "long": 0.2}, [0.6, 0.3, 0.1]),
        ({"threshold": "16K", "long": 0.4}, [0.4, 0.2, 0.4]),
        ({"threshold": "4K", "long": 1}, [0, 0.75, 0.25]),
    ],
)
def test_each_rule_by_hand(rule: dict, shares: list[float]) -> None:
    found = length_shares(LengthRule.model_validate(rule), np.array([60, 30, 10]), (4096, 16384))
    assert found.tolist() == pytest.approx(shares)


def test_domains_that_the_recipe_does_not_name_get_nothing() -> None:
    supply = _supply(a=[50, 50], b=[10, 10], c=[30, 10])
    assert domain_shares(Mix.model_validate({"domains": {"a": 0.5, "c": 0.5}}), supply).tolist() == [0.5, 0, 0.5]
    natural = Mix.model_validate({"domains": {"a": {"lengths": "natural"}, "b": {"max_epochs": 2}}})
    assert domain_shares(natural, supply).tolist() == pytest.approx([5 / 6, 1 / 6, 0])


def test_an_unknown_domain_is_named_with_the_nearest() -> None:
    with pytest.raises(PlanError, match="'boks' is not a domain of this corpus; did you mean 'books'"):
        domain_shares(Mix.model_validate({"domains": {"boks": 1}}), _supply(books=[1, 2]))


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=12).filter(lambda s: sum(s) > 1e-3),
    st.integers(0, 10**15),
)
def test_largest_remainder_sums_exactly_and_stays_within_one(weights: list[float], total: int) -> None:
    shares = np.array(weights) / np.sum(weights)
    found = whole(shares, total)
    assert found.sum() == total
    assert (found >= 0).all()
    # Doubles carry 53 bits, so at 10^15 a share itself is only known to within a token.
    assert (np.abs(found - shares * total) <= 2).all()
    assert (found[shares == 0] == 0).all()


@st.composite
def problems(draw: st.DrawFn) -> tuple[Mix, Supply, int]:
    domains = draw(st.integers(1, 5))
    buckets = draw(st.integers(2, 5))
    cells = st.lists(st.integers(0, 10**9), min_size=buckets, max_size=buckets).filter(any)
    supply = _supply(**{f"d{n}": draw(cells) for n in range(domains)})
    rule = draw(
        st.one_of(
            st.just({}),
            st.fixed_dictionaries({"threshold": st.sampled_from(supply.edges), "long": st.floats(0, 1)}),
            st.fixed_dictionaries({"threshold": st.sampled_from(supply.edges), "keep_short": st.floats(0.001, 1)}),
            st.fixed_dictionaries({"factors": st.lists(st.floats(0.01, 9), min_size=buckets, max_size=buckets)}),
        )
    )
    mix = Mix.model_validate({"lengths": rule, "max_epochs": draw(st.integers(1, 5))})
    return mix, supply, draw(st.integers(1, 10**10))


@settings(deadline=None)
@given(problems())
def test_quotas_sum_to_the_budget_and_domains_to_their_shares(problem: tuple[Mix, Supply, int]) -> None:
    mix, supply, budget = problem
    found = quotas(mix, supply, budget)
    assert found.sum() == budget
    assert (found >= 0).all()
    assert (np.abs(found.sum(axis=1) - domain_shares(mix, supply) * budget) <= 1).all()


@settings(deadline=None)
@given(problems())
def test_a_solution_keeps_every_cap_and_a_refusal_names_a_budget_that_works(problem: tuple[Mix, Supply, int]) -> None:
    mix, supply, budget = problem
    sequence = 7
    most = capacity(mix, supply)
    if (quotas(mix, supply, budget) <= most).all():
        assert (solve(mix, supply, budget, sequence) == quotas(mix, supply, budget)).all()
        return
    with pytest.raises(ShortageError) as refused:
        solve(mix, supply, budget, sequence)
    largest = largest_budget(mix, supply, budget, sequence)
    assert largest % sequence == 0
    assert largest <= budget
    if largest:
        assert f"budget: {largest} " in str(refused.value)
        assert (solve(mix, supply, largest, sequence) <= most).all()
    if largest + sequence <= budget:
        with pytest.raises(ShortageError):
            solve(mix, supply, largest + sequence, sequence)


@settings(deadline=None)
@given(problems(), st.integers(2, 50))
def test_scaling_supply_and_budget_together_scales_the_quotas(problem: tuple[Mix, Supply, int], factor: int) -> None:
    mix, supply, budget = problem
    larger = Supply(supply.domains, supply.buckets, supply.edges, supply.documents, supply.tokens * factor)
    assert (np.abs(quotas(mix, larger, budget * factor) - quotas(mix, supply, budget) * factor) <= 2 * factor).all()


def test_a_shortage_names_the_cells_what_they_hold_and_the_options() -> None:
    mix = Mix.model_validate({"lengths": {"threshold": "4K", "long": 0.7}, "max_epochs": 2})
    supply = _supply(c4=[9000, 1000], web=[5000, 5000])
    with pytest.raises(ShortageError) as caught:
        solve(mix, supply, 10_000, 100)
    message = str(caught.value)
    assert "1 cell holds less than the recipe wants of 10,000 tokens" in message
    assert "c4 b1 holds 1,000 (2,000 at max_epochs 2), wanted 3,500 (3.50 epochs)" in message
    assert "budget: 5700 (the largest that this recipe can have); or max_epochs: 4; or a smaller share" in message
    assert solve(mix, supply, 5700, 100).tolist()[0] == [855, 1995]


def test_a_wish_for_what_no_domain_holds_is_refused_at_its_cell() -> None:
    mix = Mix.model_validate({"lengths": {"threshold": "4K", "long": 0.7}})
    with pytest.raises(ShortageError, match="wiki b1 holds nothing, wanted 7"):
        solve(mix, _supply(wiki=[100, 0]), 10, 1)
