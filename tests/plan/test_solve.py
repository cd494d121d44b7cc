"""What caps allow, and what gives way: by hand, against brute force, and against general optimisers."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize

from mixture.errors import MixtureError, ShortageError
from mixture.plan.cells import Grid
from mixture.plan.quota import Supply, Wish, wanted
from mixture.plan.shortage import largest_budget
from mixture.plan.solve import limits, redistribute, solve, spread
from mixture.recipe.rules import MOST_EPOCHS, Mix
from tests.plan.problems import Problem, by_domain, mix, problems, supply


@pytest.mark.parametrize(
    ("caps", "cells", "document"),
    [
        (1, [100, 40], [1, 1]),
        (4, [400, 160], [4, 4]),
        (1.5, [150, 60], [2, 2]),
        (0.1, [10, 4], [1, 1]),
        (2.3, [230, 92], [3, 3]),
        ([2, 0.5], [200, 20], [2, 1]),
        ({"document": 3}, [300, 120], [3, 3]),
        ({"document": 2, "cell": 1.25}, [125, 50], [2, 2]),
        ({"document": 1, "cell": 4}, [100, 40], [1, 1]),
    ],
)
def test_caps_of_documents_and_cells_by_hand(caps: Any, cells: list[int], document: list[int]) -> None:
    found = limits(mix(max_epochs=caps), supply(a=[100, 40]))
    assert found.cells.tolist() == cells
    assert found.documents.tolist() == document
    assert found.domains.tolist() == [140 * MOST_EPOCHS]


@pytest.mark.parametrize(
    ("caps", "cell", "domain"),
    [
        (2, 60 * 2 + 30, 100 * MOST_EPOCHS - 50),  # the 60 twice, the 30 once more; the 10 are at the cap
        (1, 50, 100 * MOST_EPOCHS - 50),  # 60 are fresh, but 50 were used of one epoch of 100
        (3, 150 + 100, 100 * MOST_EPOCHS - 50),
        (1.2, 120 - 50, 100 * MOST_EPOCHS - 50),  # used are 30 + 2 · 10
        ({"document": 3, "domain": 1.5}, 250, 150 - 50),
        ({"document": 3, "domain": 0.5}, 250, 0),
        ({"document": 3, "domain": 0.1}, 250, 0),  # more was used than that: nothing is left, not less than that
        ({"document": 3, "cell": 0.1}, 0, 100 * MOST_EPOCHS - 50),
    ],
)
def test_what_appeared_before_counts_against_every_cap(caps: Any, cell: int, domain: int) -> None:
    found = limits(mix(max_epochs=caps), supply(a=[[60, 30, 10]]))
    assert (found.cells.tolist(), found.domains.tolist()) == ([cell], [domain])


def test_epochs_are_taken_as_they_are_written() -> None:
    # 2.3 in binary is a little less, and 10 · 2.3 would be 22.
    assert limits(mix(max_epochs=2.3), supply(a=[10])).cells.tolist() == [23]
    assert limits(mix(max_epochs=0.29), supply(a=[100])).cells.tolist() == [29]
    assert limits(mix(max_epochs=1000), supply(a=[10**15])).cells.tolist() == [10**18]


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=4),
    st.integers(1, 5),
    st.one_of(st.none(), st.integers(1, 50)),
)
def test_a_cell_s_cap_is_what_drawing_its_documents_one_by_one_reaches(
    levels: list[int], document: int, tenths: int | None
) -> None:
    """Documents of one token each, drawn those first that appeared least, until a cap says stop."""
    times = [level for level, count in enumerate(levels) for _ in range(count)]
    most = min(10 * document, tenths or 10 * document) * len(times)
    drawn = 0
    while times and min(times) < document and 10 * (sum(times) + 1) <= most:
        times[times.index(min(times))] += 1
        drawn += 1
    caps = {"document": document} if tenths is None else {"document": document, "cell": tenths / 10}
    assert limits(mix(max_epochs=caps), supply(a=[levels])).cells.tolist() == [drawn]


@settings(deadline=None)
@given(problems())
def test_a_solution_is_exact_keeps_its_caps_and_draws_from_no_empty_cell(problem: Problem) -> None:
    found = problem.supply
    try:
        solution = solve(problem.mix, found, problem.budget, problem.sequence)
    except ShortageError:
        assert problem.mix.on_shortage != "error" or largest_budget(*_arguments(problem)) < problem.budget
        return
    grid, most = found.grid, solution.limits
    assert solution.wanted.tolist() == wanted(problem.mix, found, problem.budget).tolist()
    assert solution.granted.sum() == problem.budget
    assert (solution.granted >= 0).all()
    assert (solution.granted <= most.cells).all()
    assert (grid.sums(solution.granted) <= most.domains).all()
    assert (solution.granted[found.tokens == 0] == 0).all()
    assert (solution.slack >= 0).all()
    if problem.mix.on_shortage != "redistribute":
        assert solution.granted.tolist() == solution.wanted.tolist()
    if problem.mix.on_shortage != "repeat":
        assert most is solution.asked


def _arguments(problem: Problem) -> tuple[Mix, Supply, int, int]:
    return problem.mix, problem.supply, problem.budget, problem.sequence


@settings(deadline=None)
@given(problems(on_shortage="redistribute"))
def test_redistribution_keeps_the_shares_of_domains_that_can_be_kept(problem: Problem) -> None:
    grid, goal = problem.supply.grid, wanted(problem.mix, problem.supply, problem.budget)
    most = limits(problem.mix, problem.supply)
    room = np.minimum(most.domains, grid.sums(most.cells))
    drawn = grid.sums(goal) > 0
    if room[drawn].sum() < problem.budget:
        with pytest.raises(ShortageError):
            solve(*_arguments(problem))
        return
    granted = grid.sums(solve(*_arguments(problem)).granted)
    if (grid.sums(goal) <= room).all():
        assert granted.tolist() == grid.sums(goal).tolist()
    short = grid.sums(goal) > room
    assert granted[short].tolist() == room[short].tolist()
    # No domain that can hold its share loses of it to another, and floors hold as far as the domain goes.
    assert (granted >= np.minimum(grid.sums(goal), room) - 1).all()
    floors = np.array([problem.mix.floor_of(name) for name in grid.domains]) * problem.budget
    assert (granted >= np.where(drawn, np.minimum(np.floor(floors), room), 0)).all()


@settings(deadline=None)
@given(problems(on_shortage="repeat"))
def test_repeating_raises_the_caps_of_short_cells_alone_and_no_more_than_needed(problem: Problem) -> None:
    found = problem.supply
    try:
        solution = solve(*_arguments(problem))
    except ShortageError:
        left = found.seen * (MOST_EPOCHS - np.arange(found.seen.shape[1]))
        assert (wanted(problem.mix, found, problem.budget) > left.sum(axis=1)).any()
        return
    asked, most = solution.asked, solution.limits
    short = solution.wanted > asked.cells
    assert most.cells[~short].tolist() == asked.cells[~short].tolist()
    assert most.documents[~short].tolist() == asked.documents[~short].tolist()
    levels = np.arange(found.seen.shape[1])
    for c in np.flatnonzero(most.documents > asked.documents):
        below = (found.seen[c] * np.maximum(most.documents[c] - 1 - levels, 0)).sum()
        assert below < solution.wanted[c] <= most.cells[c]
    named = solution.binding(found.grid)
    assert {named[c] for c in np.flatnonzero(short)} <= {"repeat"}


@settings(deadline=None)
@given(problems(on_shortage="error"), st.integers(1, 10**9))
def test_more_fresh_text_never_lowers_what_caps_allow(problem: Problem, more: int) -> None:
    found = problem.supply
    seen = found.seen.copy()
    seen[:, 0] += more
    before, after = (
        limits(problem.mix, s) for s in (found, Supply(found.grid, found.documents, seen.sum(axis=1), seen))
    )
    assert (after.cells >= before.cells).all()
    assert (after.domains >= before.domains).all()


@settings(deadline=None)
@given(problems(fixed=True), st.randoms(use_true_random=False))
def test_with_fixed_shares_more_fresh_text_never_makes_a_feasible_problem_infeasible(
    problem: Problem, random: Any
) -> None:
    found = problem.supply
    seen = found.seen.copy()
    seen[:, 0] += [random.randrange(10**9) for _ in seen]
    larger = replace(problem, supply=Supply(found.grid, found.documents + 1, seen.sum(axis=1), seen))
    try:
        before = solve(*_arguments(problem))
    except ShortageError:
        return
    after = solve(*_arguments(larger))
    assert after.wanted.tolist() == before.wanted.tolist()
    assert after.granted.sum() == problem.budget


def test_with_natural_shares_more_short_text_can_make_long_text_fall_short() -> None:
    """Why the claim above is for fixed shares: with more short text, a gets a larger share, of long text too."""
    rules = mix(lengths={"threshold": "4K", "long": 0.5})
    solve(rules, supply(a=[100, 10], b=[10, 100]), 40, 1)
    with pytest.raises(ShortageError, match="a ≥4K holds 10"):
        solve(rules, supply(a=[500, 10], b=[10, 100]), 40, 1)


def test_the_worked_example_of_the_module() -> None:
    found = supply(wiki=[80, 15, 5])
    shares = {"shares": [30 / 70, 10 / 70, 30 / 70]}
    solution = solve(mix(lengths=shares, on_shortage="redistribute"), found, 70, 1)
    assert solution.wanted.tolist() == [30, 10, 30]
    assert solution.granted.tolist() == [50, 15, 5]
    assert solution.binding(found.grid) == ("", "cap", "cap")
    assert solution.slack.tolist() == [30, 0, 0]


@pytest.mark.parametrize(
    ("goal", "most", "granted"),
    [
        ([3, 3], [9, 9], [3, 3]),
        ([5, 0], [2, 9], [2, 3]),
        ([0, 8, 0], [5, 2, 5], [1, 2, 5]),  # as near on both sides: the longer bucket first
        ([4, 4, 0, 0], [0, 4, 4, 9], [0, 4, 4, 0]),
        ([0, 0, 6, 6], [9, 1, 0, 3], [8, 1, 0, 3]),
        ([7], [7], [7]),
        ([10**15, 0, 10**15], [0, 2 * 10**15, 0], [0, 2 * 10**15, 0]),
    ],
)
def test_what_is_too_much_goes_to_the_nearest_buckets(goal: list[int], most: list[int], granted: list[int]) -> None:
    assert spread(np.array(goal), np.array(most)).tolist() == granted


def _least_movement(goal: np.ndarray[Any, Any], most: np.ndarray[Any, Any]) -> float:
    """The transport problem, as a linear programme: x[i, j] tokens move from bucket i to j, at a cost of |i - j|."""
    size = len(goal)
    cost = np.abs(np.subtract.outer(np.arange(size), np.arange(size))).reshape(-1)
    leaves, arrives = np.kron(np.eye(size), np.ones(size)), np.kron(np.ones(size), np.eye(size))
    found = linprog(cost, A_eq=leaves, b_eq=goal, A_ub=arrives, b_ub=most, method="highs")
    assert found.success
    return float(found.fun)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=7))
def test_no_way_of_moving_is_shorter_than_the_one_taken(cells: list[tuple[int, int]]) -> None:
    goal, most = np.array(cells).T
    assume(goal.sum() <= most.sum())
    found = spread(goal, most)
    assert found.sum() == goal.sum()
    assert ((found >= 0) & (found <= most)).all()
    moved = np.abs(np.cumsum(goal - found)).sum()  # earth mover's distance on a line
    assert moved == pytest.approx(_least_movement(goal, most), abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(problems(on_shortage="redistribute", most=10**6))
def test_redistribution_is_least_divergence_over_domains_then_least_movement_inside(problem: Problem) -> None:
    grid, wish = problem.supply.grid, Wish.of(problem.mix, problem.supply)
    goal, most = wish.quotas(problem.budget), limits(problem.mix, problem.supply)
    granted = redistribute(problem.mix, wish, goal, most)
    assume(granted is not None)
    totals, budget = grid.sums(granted), problem.budget
    drawn = grid.sums(goal) > 0
    high = np.minimum(most.domains, grid.sums(most.cells))[drawn] / budget
    floors = np.array([problem.mix.floor_of(name) for name in grid.domains])[drawn]
    low, w = np.minimum(floors, high), grid.sums(goal)[drawn] / budget

    def divergence(x: np.ndarray[Any, Any]) -> float:
        x = np.maximum(x, 1e-300)
        return float((x * np.log(x / w)).sum())

    # Starts between the bounds: least divergence is a convex problem, so any start leads to the one solution.
    room = high - low
    start = low + room * ((1 - low.sum()) / max(room.sum(), 1e-12))
    reference = minimize(
        divergence,
        np.clip(start, low, high),
        jac=lambda x: np.log(np.maximum(x, 1e-12) / w) + 1,
        bounds=list(zip(low, high, strict=True)),
        constraints={"type": "eq", "fun": lambda x: x.sum() - 1, "jac": np.ones_like},
        method="SLSQP",
        options={"ftol": 1e-13, "maxiter": 500},
    )
    rounding = len(w) / budget
    if reference.success:
        assert divergence(totals[drawn] / budget) <= divergence(reference.x) + 1e-5 + 20 * rounding
    again = wish.inside(totals)
    for d in range(len(grid.domains)):
        span = grid.span(d)
        moved = np.abs(np.cumsum(again[span] - granted[span])).sum()
        assert moved == pytest.approx(_least_movement(again[span], most.cells[span]), rel=1e-6, abs=1e-3)


def test_what_a_domain_cannot_hold_goes_to_the_others_in_proportion() -> None:
    found = supply(a=[10, 10], b=[500, 500], c=[500, 500])
    rules = mix(domains={"a": 0.4, "b": 0.4, "c": 0.2}, on_shortage="redistribute")
    solution = solve(rules, found, 500, 1)
    assert by_domain(found, solution.granted) == {"a": [10, 10], "b": [160, 160], "c": [80, 80]}
    assert solution.binding(found.grid) == ("cap", "cap", "", "", "", "")


def test_a_domain_s_cap_sends_the_rest_to_others_and_is_named_as_what_binds() -> None:
    found = supply(a=[100, 100], b=[500, 500])
    caps = {"document": 4, "domain": 0.5}
    rules = mix(domains={"a": {"share": 0.5, "max_epochs": caps}, "b": 0.5}, on_shortage="redistribute")
    solution = solve(rules, found, 400, 1)
    assert by_domain(found, solution.granted) == {"a": [50, 50], "b": [150, 150]}
    assert solution.binding(found.grid) == ("domain cap", "domain cap", "", "")


def test_repeating_beyond_a_cap_is_said_where_it_happens() -> None:
    found = supply(a=[100, 10], b=[100, 100])
    rules = mix(lengths={"threshold": "4K", "long": 0.5}, max_epochs=1.5, on_shortage="repeat")
    solution = solve(rules, found, 200, 1)
    assert solution.limits.documents.tolist() == [2, 4, 2, 2]  # 35 of 10 tokens: 36 rounded, 3.5 epochs
    assert solution.binding(found.grid) == ("", "repeat", "", "")
    # A cap of a part of an epoch is passed without any document appearing more often than it might.
    solution = solve(mix(max_epochs=1.5, on_shortage="repeat"), supply(a=[100]), 170, 1)
    assert solution.limits.documents.tolist() == solution.asked.documents.tolist() == [2]
    assert solution.binding(Grid(("a",), ((),))) == ("repeat",)
    capped = mix(max_epochs={"document": 2, "domain": 0.5}, on_shortage="repeat")
    assert solve(capped, supply(a=[100]), 60, 1).binding(Grid(("a",), ((),))) == ("repeat",)


def test_repeating_counts_what_appeared_before() -> None:
    # 5 tokens are at the cap already and add nothing until the cap is above 3.
    found = supply(a=[[10, 0, 0, 5]])
    rules = mix(max_epochs=1, on_shortage="repeat")
    assert solve(rules, found, 10, 1).limits.documents.tolist() == [1]
    assert solve(rules, found, 30, 1).limits.documents.tolist() == [3]
    assert solve(rules, found, 31, 1).limits.documents.tolist() == [4]


def _hostile() -> dict[str, Problem]:
    """Problems that are meant to break the arithmetic."""
    tiny, wide = 1e-30, [1e-300, 1.0, 1e308]
    big = supply(a=[10**15, 10**15], b=[1, 10**15])
    seen = supply(a=[[0, 0, 50], [0, 0, 50]], b=[[0, 10], [0, 10]])
    return {
        "one token": Problem(mix(), supply(a=[1]), 1, 1),
        "one token of nothing": Problem(mix(), supply(a=[0]), 1, 1),
        "a corpus of nothing": Problem(mix(on_shortage="redistribute"), supply(a=[0, 0], b=[0]), 10**15, 32768),
        "one sequence": Problem(mix(), supply(a=[10**15]), 10**6, 10**6),
        "all there can be": Problem(mix(lengths={"threshold": "4K", "long": 0.7}), big, 10**15, 1),
        "all there can be, repeated": Problem(mix(max_epochs=1000, on_shortage="repeat"), big, 10**15, 1),
        "all there can be, moved": Problem(
            mix(lengths={"shares": [1, 0]}, domains={"a": 0.001, "b": 0.999}, on_shortage="redistribute"),
            big,
            10**15,
            1,
        ),
        "a share of next to nothing": Problem(mix(domains={"a": 1 - tiny, "b": tiny}), big, 10**15, 7),
        "a share of next to nothing, for what holds nothing": Problem(
            mix(domains={"a": 1 - 1e-7, "b": 1e-7}), supply(a=[10**15], b=[0]), 10**15, 7
        ),
        "factors as wide as numbers go": Problem(mix(lengths={"factors": wide}), supply(a=[10**15, 1, 1]), 10**6, 1),
        "a subnormal share": Problem(
            mix(domains={"a": {"share": 1.0}, "b": {"share": 1e-310, "floor": 0.5}}), supply(a=[9], b=[9]), 4, 1
        ),
        "a cap of next to nothing": Problem(mix(max_epochs=1e-9), big, 10**7, 1),
        "a domain's cap of a tenth": Problem(mix(max_epochs={"document": 1, "domain": 0.1}), big, 10**15, 4096),
        "all seen at its cap": Problem(mix(max_epochs=[2, 2]), seen, 10, 1),
        "all seen at its cap, redistributed": Problem(mix(max_epochs=1, on_shortage="redistribute"), seen, 10, 1),
        "all seen at its cap, repeated": Problem(mix(max_epochs=1, on_shortage="repeat"), seen, 10**5, 1),
        "floors above caps": Problem(
            mix(domains={"a": {"share": 0.5, "floor": 0.9}, "b": 0.5}, on_shortage="redistribute"),
            supply(a=[1], b=[10**6]),
            1000,
            1,
        ),
        "bucket floors above caps": Problem(
            mix(lengths={"floors": [0.5, 0.5]}, on_shortage="redistribute"), supply(a=[10**6, 1]), 1000, 1
        ),
        "floors of all": Problem(mix(floor=0.5, on_shortage="redistribute"), supply(a=[1], b=[10**6]), 10, 1),
        "floors above 1": Problem(mix(floor=0.6), supply(a=[1], b=[10**6]), 10, 1),
        "bucket floors a hair above 1, at the most": Problem(mix(lengths={"floors": [0.5, 0.5000009]}), big, 10**15, 1),
        "global, and a bucket of nothing": Problem(
            mix(domains="global", lengths={"shares": [0, 0, 1]}), supply(a=[1, 2, 0], b=[3, 4, 0]), 5, 1
        ),
        # Rounding decides, budget by budget, whether an empty cell gets one token: far too many to be tried.
        "next to nothing, for many budgets": Problem(
            mix(domains={"a": {"share": 3e-11, "lengths": {"shares": [0.4, 0.3, 0.3]}}, "b": 0.48, "c": 0.52 - 3e-11}),
            supply(a=[10**12, 0, 10**12], b=[10**12], c=[10**12]),
            343_285_004_519,
            1,
        ),
    }


@pytest.mark.parametrize("name", sorted(_hostile()))
def test_a_hostile_problem_is_solved_or_refused_with_a_sentence(name: str) -> None:
    problem = _hostile()[name]
    started = time.process_time()
    try:
        solution = solve(*_arguments(problem))
    except MixtureError as error:
        said = str(error)
        assert "Options: " in said or "; lower them" in said
        assert "nan" not in said.split()
    else:
        assert solution.granted.sum() == problem.budget
        assert (solution.granted >= 0).all()
        assert (solution.granted <= solution.limits.cells).all()
    assert time.process_time() - started < 2


@pytest.mark.parametrize("mode", ["error", "repeat", "redistribute"])
@pytest.mark.parametrize("part", [0.5, 1.5])
def test_64_domains_of_20_buckets_are_solved_or_refused_within_a_second(mode: str, part: float) -> None:
    random = np.random.default_rng(0)
    names = tuple(f"d{n:02d}" for n in range(64))
    grid = Grid(names, (tuple(64 << k for k in range(19)),) * 64)
    tokens = random.integers(0, 10**9, grid.size) * (random.random(grid.size) > 0.1)
    found = Supply(grid, tokens // 100, tokens, tokens[:, None])
    budget = int(part * tokens.sum()) // 32768 * 32768
    rules = mix(lengths={"shares": [0.05] * 20}, on_shortage=mode)
    started = time.process_time()
    try:
        solution = solve(rules, found, budget, 32768)
    except ShortageError:
        assert (mode, part) != ("redistribute", 0.5)
    else:
        assert solution.granted.sum() == budget
    assert time.process_time() - started < 1


@settings(deadline=None)
@given(problems(on_shortage="error"))
@example(Problem(mix(), supply(a=[10], b=[0]), 10, 1))
def test_what_fits_as_it_is_wanted_is_granted_in_every_mode(problem: Problem) -> None:
    try:
        solution = solve(*_arguments(problem))
    except ShortageError:
        return
    for mode in ("repeat", "redistribute"):
        other = solve(problem.mix.model_copy(update={"on_shortage": mode}), *_arguments(problem)[1:])
        assert other.granted.tolist() == solution.granted.tolist()
        assert other.binding(problem.supply.grid) == solution.binding(problem.supply.grid)
