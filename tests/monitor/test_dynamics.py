"""Tasks over checkpoints: laws, neighbours, who comes first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from mixture.errors import MonitorError
from mixture.monitor.curves import Curve
from mixture.monitor.dynamics import by_domain, dynamics
from mixture.monitor.measures import Measure
from mixture.monitor.trajectories import common, lead, out_of_others, together

TOKENS = tuple(1e9 * 2**n for n in range(12))


def curve(values: Sequence[float], task: str = "a", metric: str = "acc", domain: str = "maths") -> Curve:
    names = ("tiny", "harness", task, domain, metric)
    return Curve(*names, TOKENS[: len(values)], tuple(map(float, values)), (0.01,) * len(values))


def one_s(curve: Curve) -> tuple[str, str, str, str]:
    return curve.level, curve.task, curve.domain, curve.metric


def rows_of(curves: Sequence[Curve]) -> list[Measure]:
    return [
        Measure(
            one.model,
            n + 1,
            int(t),
            one.level,
            one.task,
            one.domain,
            one.metric,
            None,
            None,
            "",
            v,
            v - 0.02,
            v + 0.02,
            9,
        )
        for one in curves
        for n, (t, v) in enumerate(zip(one.tokens, one.values, strict=True))
    ]


def test_tasks_that_rise_in_the_same_order_have_rank_correlation_one() -> None:
    found = together("maths", curve([1, 2, 4, 5, 9]), curve([0.1, 0.2, 0.3, 0.9, 1.0], "b"))
    assert (found.rho, found.n) == (pytest.approx(1), 5)
    # Two of the 120 orders are as far apart, this one and its opposite.
    assert found.p == pytest.approx(2 / 120, abs=1e-6)


def test_a_loss_that_falls_rises_with_a_score() -> None:
    assert together("maths", curve([1, 2, 4, 5]), curve([4, 3, 2, 1], "b", "loss")).rho == pytest.approx(1)
    assert together("maths", curve([1, 2, 4, 5]), curve([4, 3, 2, 1], "b")).rho == pytest.approx(-1)


def test_the_rank_correlation_by_hand() -> None:
    # Ranks 1 2 3 4 and 2 1 4 3: 1 - 6·4 / (4·15) = 0.6
    assert together("maths", curve([1, 2, 3, 4]), curve([2, 1, 4, 3], "b")).rho == pytest.approx(0.6)


def test_what_has_no_ranks_or_too_few_checkpoints_is_refused() -> None:
    with pytest.raises(MonitorError, match="3 common checkpoints with tokens above 0, at least 4"):
        together("maths", curve([1, 2, 3]), curve([1, 2, 3, 4], "b"))
    with pytest.raises(MonitorError, match="so there are no ranks"):
        together("maths", curve([1, 1, 1, 1]), curve([1, 2, 3, 4], "b"))


def test_a_task_is_foretold_by_its_neighbours_where_its_own_trend_knows_nothing() -> None:
    base = np.array([0.1, 0.4, 0.2, 0.7, 0.3, 0.8])
    found = out_of_others("maths", 0, [curve(base), curve(0.5 + base / 2, "b"), curve(1 - base, "c", "loss")])
    assert (found.task, found.others, found.n) == ("a acc (maths)", 2, 6)
    assert found.error == pytest.approx(0, abs=1e-9)
    assert found.trend_error > 0.1
    # The mean of the others is off by 6/5 of the distance to the mean of all.
    assert found.mean_error == pytest.approx(6 / 5 * base.std())


def test_a_task_that_follows_its_trend_needs_no_neighbours() -> None:
    rng = np.random.default_rng(0)
    found = out_of_others("maths", 0, [curve(np.arange(8.0)), curve(rng.random(8), "b")])
    assert found.trend_error == pytest.approx(0, abs=1e-9)
    assert found.error > 0.5


def test_a_domain_whose_steps_come_two_checkpoints_later_is_led() -> None:
    rng = np.random.default_rng(1)
    steps = rng.random(13)
    early, late = np.cumsum(steps[2:]), np.cumsum(steps[:-2])
    first = ("maths", [curve([0, *early], "a"), curve([0, *(2 * early)], "b")])
    second = ("code", [curve([0, *late], "c", domain="code")])
    for pair in ((first, second), (second, first)):
        found = lead(*pair)
        assert (found.leader, found.follower, found.lag, found.n) == ("maths", "code", 2, 11)
        assert found.correlation > 0.95
        assert found.p < 0.05


def test_domains_that_have_nothing_to_do_with_each_other_seldom_lead() -> None:
    p = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        one, other = (np.cumsum(rng.normal(size=12)) for _ in range(2))
        p.append(lead(("maths", [curve(one)]), ("code", [curve(other, "b", domain="code")])).p)
    assert np.mean(np.array(p) < 0.05) <= 0.15
    assert np.mean(np.array(p) < 0.5) >= 0.3


def test_only_common_checkpoints_count() -> None:
    tokens, values = common(
        [curve([1, 2, 3]), Curve("tiny", "harness", "b", "", "loss", TOKENS[1:4], (5, 4, 3), (0,) * 3)]
    )
    assert tokens.tolist() == list(TOKENS[1:3])
    assert values.tolist() == [[2, 3], [-5, -4]]


def test_a_task_stands_once_in_its_domain_and_not_at_all_where_it_never_moves() -> None:
    found = by_domain(
        [curve([1, 2]), curve([1, 3], metric="acc_norm"), curve([1, 1], "b"), curve([1, 2], "c", domain="")]
    )
    assert {domain: [one.name for one in tasks] for domain, tasks in found.items()} == {
        "maths": ["a acc_norm (maths)"],
        "harness": ["c acc"],
    }


def test_all_of_it_out_of_the_long_table() -> None:
    rng = np.random.default_rng(0)
    made = []
    for domain in ("maths", "code"):
        for task in ("a", "b"):
            values = [0.8 - 0.5 * (t / 1e9) ** -0.4 + rng.normal(0, 0.01) for t in TOKENS[:8]]
            made.append(curve(values, f"{domain} {task}", domain=domain))
    made.append(curve([5.0 - 0.3 * n for n in range(8)], "text", "loss", domain=""))
    found = dynamics(rows_of(made), seed=1)
    assert (found.model, len(found.laws), len(found.together), len(found.neighbours)) == ("tiny", 5, 2, 4)
    assert {(one.leader, one.follower) for one in found.leads} | {
        (one.follower, one.leader) for one in found.leads
    } >= {("maths", "code")}
    text = next(one for one in found.laws if one.curve.metric == "loss")
    assert text.line is not None
    assert text.line.a == pytest.approx(-0.3 / np.log(2))
    assert text.foretold is not None
    assert text.foretold.error == pytest.approx(0, abs=0.02)
    assert all(one.power is not None and one.power.n == 8 for one in found.laws)
    assert found.notes == ()


def test_too_few_checkpoints_are_said_and_nothing_fails() -> None:
    found = dynamics(rows_of([curve([0.1, 0.2, 0.3]), curve([0.2, 0.3, 0.5], "b"), curve([3, 2, 1], "c", "loss", "")]))
    assert [law.power for law in found.laws] == [None] * 3
    assert found.together == found.neighbours == found.leads == ()
    assert any("a power law needs 4" in note for note in found.notes)
    assert any("rank correlation of a acc (maths) and b acc (maths): 3 common" in note for note in found.notes)
    assert any(
        "lead or lag of maths and harness" in note or "lead or lag of harness and maths" in note for note in found.notes
    )


def test_several_models_need_a_name() -> None:
    rows = rows_of([curve([1, 2, 3, 4])])
    with pytest.raises(MonitorError, match=r"2 models \(other, tiny\); name one"):
        dynamics([*rows, *(replace(row, model="other") for row in rows)])
    with pytest.raises(MonitorError, match="of no such model"):
        dynamics(rows, model="huge")
