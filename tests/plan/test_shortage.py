"""Why there are no quotas: the sentence, and that what it offers works."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixture.errors import ShortageError
from mixture.plan.quota import Supply
from mixture.plan.shortage import largest_budget
from mixture.plan.solve import solve
from mixture.recipe.rules import Mix
from tests.plan.problems import Problem, by_domain, mix, problems, supply

UPSAMPLING = {"threshold": "4K", "long": 0.7}


def refusal(rules: Mix, found: Supply, budget: int, sequence: int = 1) -> str:
    with pytest.raises(ShortageError) as caught:
        solve(rules, found, budget, sequence)
    return str(caught.value)


def test_a_shortage_names_the_cells_what_they_hold_and_the_options() -> None:
    rules = mix(lengths=UPSAMPLING, max_epochs=2)
    found = supply(c4=[9000, 1000], web=[5000, 5000])
    message = refusal(rules, found, 10_000, 100)
    assert message == (
        "1 cell holds less than the recipe wants of 10,000 tokens: c4 ≥4K holds 1,000 (2,000 at max_epochs 2), wanted "
        "3,500 (3.50 epochs). Options: budget: 5700 (the largest that this recipe can have); or max_epochs: 4 "
        "(on_shortage: repeat does that for the short cells alone); or on_shortage: redistribute, the nearest mixture "
        "that fits: c4 <4K 1,500 → 3,000, c4 ≥4K 3,500 → 2,000; or a smaller share or a gentler length rule for c4, or "
        "more such documents"
    )
    assert by_domain(found, solve(rules, found, 5700, 100).granted)["c4"] == [855, 1995]


@pytest.mark.parametrize(
    ("caps", "cells", "said"),
    [
        (1, [[5], [5]], "a ≥4K holds 5, wanted 50 (10.00 epochs)"),
        (1.5, [[5], [5]], "a ≥4K holds 5 (7 under its caps), wanted 50"),
        (0.1, [[5], [5]], "a ≥4K holds 5 (0 under its caps), wanted 50"),
        (2, [[5], [2, 3]], "a ≥4K holds 5 (7 may still be drawn, after 3), wanted 50"),
        (2, [[5], [0, 0, 5]], "a ≥4K holds 5 (0 may still be drawn, after 10), wanted 50"),
        (1, [[5], [0]], "a ≥4K holds nothing, wanted 50"),
        ({"document": 50, "domain": 2}, [[5], [5]], "a, all of it, holds 10 (20 at max_epochs 2), wanted 50"),
        ({"document": 50, "domain": 0.5}, [[5], [5]], "a, all of it, holds 10 (5 under its caps), wanted 50"),
    ],
)
def test_what_is_short_is_said_with_what_there_is_and_what_was_used(caps: Any, cells: list[Any], said: str) -> None:
    shares = [0.5, 0.5] if isinstance(caps, dict) else [0, 1]
    named = {"a": {"share": 0.5, "max_epochs": caps, "lengths": {"shares": shares}}, "b": 0.5}
    assert said in refusal(mix(domains=named), supply(a=cells, b=[100]), 100)


def test_a_domain_s_cap_alone_is_called_that() -> None:
    rules = mix(domains={"a": {"share": 1.0, "max_epochs": {"document": 2, "domain": 0.5}}})
    message = refusal(rules, supply(a=[100], b=[100]), 60)
    assert message.startswith("a domain's cap allows less than the recipe wants of 60 tokens: a, all of it,")
    assert "budget: 50 " in message
    assert "rule for a, or more" in message


def test_the_worst_is_named_first_and_not_more_than_six() -> None:
    found = supply(**{f"d{n}": [10, n + 1] for n in range(9)})
    message = refusal(mix(lengths={"shares": [0, 1]}, domains={f"d{n}": 1 / 9 for n in range(9)}), found, 900)
    assert re.findall(r"d\d(?= ≥4K holds)", message) == ["d0", "d1", "d2", "d3", "d4", "d5"]
    assert "; and 3 more domains. Options" in message


def test_slimpajama_does_not_hold_what_150b_tokens_of_70_percent_long_ask_of_it() -> None:
    """LongWanjuan's count of documents of 8K tokens and more, in millions; of 627B in all."""
    long = {"arxiv": 25600, "books": 25100, "c4": 8200, "cc": 87200, "github": 8700, "stack": 94, "wiki": 3700}
    share = {"arxiv": 0.043, "books": 0.042, "c4": 0.266, "cc": 0.533, "github": 0.05, "stack": 0.032, "wiki": 0.034}
    cells = {name: [max(0, int(627_000 * share[name]) - held), held] for name, held in long.items()}
    found = supply(**cells)
    rules = {"domains": share, "lengths": UPSAMPLING}
    message = refusal(mix(**rules), found, 150_000)
    assert message.startswith(
        "2 cells hold less than the recipe wants of 150,000 tokens: c4 ≥4K holds 8,200, wanted 27,930"
    )
    assert "stack ≥4K holds 94, wanted 3,360 (35.74 epochs)" in message
    assert "github" not in message.partition("Options")[0]
    four = refusal(mix(**rules, max_epochs=4), found, 150_000)
    assert four.startswith("1 cell holds less than the recipe wants of 150,000 tokens: stack ≥4K holds 94 (376 at ")
    granted = by_domain(found, solve(mix(**rules, max_epochs=4, on_shortage="redistribute"), found, 150_000, 1).granted)
    assert granted["stack"] == [4800 - 376, 376]
    assert granted["c4"] == [11970, 27930]


def test_a_higher_cap_is_offered_to_the_domains_that_are_short() -> None:
    rules = {"domains": {"a": {"share": 0.5}, "b": {"share": 0.5, "max_epochs": 5}}}
    found = supply(a=[10], b=[10])
    assert "max_epochs: 2 for a (on_shortage" in refusal(mix(**rules), found, 40)
    rules["domains"]["a"]["max_epochs"] = 2
    solve(mix(**rules), found, 40, 1)


def test_a_wish_for_what_no_domain_holds_is_refused_at_its_cell() -> None:
    message = refusal(mix(lengths=UPSAMPLING), supply(wiki=[100, 0]), 10)
    assert "wiki ≥4K holds nothing, wanted 7." in message
    assert "max_epochs" not in message


@pytest.mark.parametrize(
    ("mode", "found", "largest"),
    [
        ("error", {"a": [10, 10], "b": [90, 90]}, 40),  # b's half is bound by a's
        ("redistribute", {"a": [10, 10], "b": [90, 90]}, 200),
        ("repeat", {"a": [10, 10], "b": [90, 0]}, 0),
        ("redistribute", {"a": [10, 10], "b": [90, 0]}, 110),
    ],
)
def test_the_largest_budget_is_the_one_that_the_recipe_s_way_out_allows(
    mode: str, found: dict[str, list[int]], largest: int
) -> None:
    rules = mix(domains={"a": 0.5, "b": 0.5}, lengths={"shares": [0.5, 0.5]}, on_shortage=mode)
    assert largest_budget(rules, supply(**found), 500, 10) == largest
    said = f"budget: {largest} (" if largest else "no budget at all as the recipe stands"
    assert said in refusal(rules, supply(**found), 500, 10)


def test_where_repeating_is_no_way_out_only_what_it_cannot_mend_is_named() -> None:
    rules = mix(domains={"a": 0.5, "b": 0.5}, on_shortage="repeat")
    message = refusal(rules, supply(a=[10], b=[0]), 100)
    assert message.startswith("1 cell holds less than the recipe wants of 100 tokens: b all holds nothing, wanted 50.")


def test_where_rounding_skips_a_budget_the_larger_one_is_found() -> None:
    rules, found = mix(domains={"a": 9 / 22, "b": 4 / 22, "c": 9 / 22}), supply(a=[6], b=[2], c=[7])
    solve(rules, found, 12, 1)
    refusal(rules, found, 13)  # b would get 3, and 2 of one more token
    assert solve(rules, found, 14, 1).granted.tolist() == [6, 2, 6]
    assert largest_budget(rules, found, 100, 1) == 14


@st.composite
def small_problems(draw: st.DrawFn) -> Problem:
    """Problems in which every cell gets at least a few tokens of each sequence, so that rounding moves little."""
    cells = st.lists(st.integers(20, 60), min_size=2, max_size=3)
    found = supply(**{f"d{n}": draw(cells) for n in range(draw(st.integers(1, 3)))})
    rule = draw(st.sampled_from([{}, {"threshold": "4K", "long": 0.6}, {"threshold": "4K", "keep_short": 0.5}]))
    mode = draw(st.sampled_from(["error", "redistribute"]))
    caps = draw(st.sampled_from([0.5, 1, 1.7, 2, {"document": 2, "domain": 1.2}]))
    return Problem(mix(lengths=rule, on_shortage=mode, max_epochs=caps), found, draw(st.integers(1, 120)) * 9, 9)


@settings(deadline=None, max_examples=60)
@given(small_problems())
def test_the_largest_budget_is_what_trying_every_one_finds(problem: Problem) -> None:
    def works(budget: int) -> bool:
        try:
            solve(problem.mix, problem.supply, budget, problem.sequence)
        except ShortageError:
            return False
        return True

    sequence = problem.sequence
    tried = [n for n in range(sequence, problem.budget + 1, sequence) if works(n)]
    assert largest_budget(problem.mix, problem.supply, problem.budget, sequence) == max(tried, default=0)


@settings(deadline=None)
@given(problems())
def test_every_refusal_offers_what_works(problem: Problem) -> None:
    arguments = problem.supply, problem.budget, problem.sequence
    try:
        solve(problem.mix, *arguments)
    except ShortageError as error:
        message = str(error)
    else:
        return
    largest = re.search(r"budget: (\d+) \(the largest", message)
    if largest:
        budget = int(largest[1])
        assert 0 < budget < problem.budget
        assert budget % problem.sequence == 0
        assert solve(problem.mix, problem.supply, budget, problem.sequence).granted.sum() == budget
    if "on_shortage: redistribute" in message:
        way_out = problem.mix.model_copy(update={"on_shortage": "redistribute"})
        assert solve(way_out, *arguments).granted.sum() == problem.budget
    epochs = re.search(r"max_epochs: (\d+) for (.+?) \(on_shortage: repeat", message)
    if epochs:
        dump = problem.mix.model_dump(exclude_none=True)
        for name in epochs[2].split(", "):
            dump["domains"][name]["max_epochs"] = int(epochs[1])
        if "all of it," not in message:  # a domain's cap binds, too
            solve(Mix.model_validate(dump), *arguments)
        solve(problem.mix.model_copy(update={"on_shortage": "repeat"}), *arguments)


@settings(deadline=None)
@given(problems(fixed=True, on_shortage="error"), st.integers(2, 9))
def test_with_fixed_shares_more_text_lowers_the_largest_budget_by_nothing(problem: Problem, factor: int) -> None:
    found = problem.supply
    seen = found.seen.copy()
    seen[:, 0] *= factor
    larger = Supply(found.grid, found.documents, seen.sum(axis=1), seen)
    before = largest_budget(problem.mix, found, problem.budget, problem.sequence)
    assert largest_budget(problem.mix, larger, problem.budget, problem.sequence) >= before
