"""Steps and learning rates: by hand, and their bounds for any numbers."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mixture.errors import ConfigError
from mixture.train.amount import Amount
from mixture.train.config import TrainConfig, parse
from mixture.train.schedule import Curve, Rates, Stretch, due, stretches

BASE = "name: x\nlock: x.lock.json\nmodel: {path: m}\n"


def _config(*lines: str, batch: str = "{sequences: 10}", lr: str = "2.0") -> TrainConfig:
    return parse("\n".join([BASE, f"batch: {batch}", f"optimizer: {{lr: {lr}}}", *lines]))


def _factors(curve: Curve, digits: int = 3) -> list[float]:
    return [round(curve.factor(step), digits) for step in range(curve.steps + 1)]


def test_the_schedules_of_the_module_s_own_table() -> None:
    assert _factors(Curve(10, warmup=2)) == [0.5, *[1.0] * 10]
    cosine = Curve(10, warmup=2, decay=8, floor=0.1, shape="cosine")
    assert _factors(cosine) == [0.5, 1.0, 1.0, 0.966, 0.868, 0.722, 0.55, 0.378, 0.232, 0.134, 0.1]
    assert _factors(Curve(10, warmup=2, decay=2, shape="sqrt")) == [0.5, *[1.0] * 8, 0.293, 0.0]


def test_decays_are_what_their_papers_say() -> None:
    assert _factors(Curve(4, decay=4)) == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert _factors(Curve(4, decay=4, floor=0.2)) == [1.0, 0.8, 0.6, 0.4, 0.2]
    assert [Curve(9, decay=9, shape="sqrt").factor(step) for step in (1, 4)] == [1 - 1 / 3, 1 - 2 / 3]
    assert Curve(3, decay=3, shape="cosine").factor(1) == pytest.approx(0.5 * (1 + math.cos(math.pi / 3)))


def _step(curve: Curve) -> float:
    """The largest that a factor can change from one step to the next."""
    fall = 1 / math.sqrt(curve.decay) if curve.shape == "sqrt" and curve.decay else math.pi / 2 / max(1, curve.decay)
    return max(1 / max(1, curve.warmup), fall if curve.decay else 0.0)


@given(
    st.integers(1, 500),
    st.integers(0, 500),
    st.integers(0, 500),
    st.floats(0, 1),
    st.sampled_from(["linear", "sqrt", "cosine"]),
)
def test_a_factor_is_above_the_floor_rises_then_falls_and_never_jumps(
    steps: int, warmup: int, decay: int, floor: float, shape: str
) -> None:
    assume(warmup + decay <= steps)
    curve = Curve(steps, warmup, decay, floor, shape)
    factors = [curve.factor(step) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)
    assert all(factor >= floor - 1e-12 for factor in factors[warmup:])
    assert factors[:warmup] == sorted(factors[:warmup])
    assert factors[warmup:] == sorted(factors[warmup:], reverse=True)
    assert all(abs(a - b) <= _step(curve) + 1e-12 for a, b in pairwise(factors))
    assert curve.factor(steps) == pytest.approx(floor if decay else 1.0)


def test_steps_of_a_phase_are_whole_batches_and_what_is_left() -> None:
    run = stretches(_config(), [("", 95, 512)])
    assert run == (Stretch("", 95, 512, 10),)
    assert (run[0].steps, run[0].taken(9), run[0].taken(10), run[0].tokens(10)) == (10, 90, 95, 95 * 512)


PHASES = [("a", 100, 1000), ("b", 50, 4000)]


@pytest.mark.parametrize(
    ("stop", "taken"),
    [
        ("", (100, 50)),
        ("stop: 4 steps", (40, 0)),
        ("stop: 12 steps", (100, 20)),
        ("stop: 99 steps", (100, 50)),
        # Steps of 10K and of 40K tokens; the last whole one before the mark.
        ("stop: 39_999 tokens", (30, 0)),
        ("stop: 40_000 tokens", (40, 0)),
        ("stop: 150K", (100, 10)),
        ("stop: 0.5", (100, 10)),
        ("stop: 1.0", (100, 50)),
    ],
)
def test_a_run_ends_with_the_last_whole_step(stop: str, taken: tuple[int, int]) -> None:
    run = stretches(_config(stop), PHASES)
    assert tuple(stretch.sequences for stretch in run) == taken


def test_a_batch_in_tokens_is_so_many_sequences_of_each_phase_s_length() -> None:
    run = stretches(_config(batch="{tokens: 8000}"), PHASES)
    assert [(stretch.batch, stretch.steps) for stretch in run] == [(8, 13), (2, 25)]


def test_a_stop_below_one_step_is_refused() -> None:
    with pytest.raises(ConfigError, match="stop: 9K is less than the first step of 10,000 tokens"):
        stretches(_config("stop: 9K"), PHASES)


def _rates(*lines: str) -> Rates:
    config = _config(*lines)
    return Rates.of(config, stretches(config, PHASES))


def test_one_schedule_runs_over_all_phases_with_each_one_s_peak() -> None:
    rates = _rates(
        "schedule: {kind: wsd, warmup: 2 steps, decay: 5 steps, shape: linear}", "phases: {b: {optimizer: {lr: 1}}}"
    )
    assert [rates.lr(0, step) for step in (0, 1, 9)] == [1.0, 2.0, 2.0]
    assert [rates.lr(1, step) for step in range(5)] == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])


def test_lengths_in_tokens_and_shares_are_steps_of_the_whole_run() -> None:
    # 15 steps of 300,000 tokens, 20,000 on average.
    rates = _rates("schedule: {kind: wsd, warmup: 60K, decay: 0.2}")
    curve = rates.curves[0]
    assert (curve.steps, curve.warmup, curve.decay, curve.shape) == (15, 3, 3, "sqrt")
    assert rates.curves[1] is curve
    assert rates.before == (0, 10)


def test_a_phase_with_a_schedule_has_it_for_itself() -> None:
    rates = _rates(
        "schedule: {kind: cosine, floor: 0}",
        "phases: {b: {schedule: {kind: wsd, warmup: 2 steps, decay: 20%, shape: linear}}}",
    )
    # The run's cosine is over before the phase begins.
    assert [round(rates.factor(0, step), 3) for step in (0, 5)] == [1.0, 0.5]
    assert rates.curves[0].steps == 10
    assert [rates.factor(1, step) for step in range(5)] == [0.5, 1.0, 1.0, 1.0, 1.0]
    first = _rates("schedule: {kind: cosine, floor: 0}", "phases: {a: {schedule: {kind: constant}}}")
    assert [first.factor(0, step) for step in (0, 9)] == [1.0, 1.0]
    assert [round(first.factor(1, step), 3) for step in (0, 4)] == [1.0, 0.095]


def test_phases_that_the_run_does_not_reach_take_no_part() -> None:
    rates = _rates("stop: 10 steps", "schedule: {kind: cosine, floor: 0}", "phases: {b: {schedule: {kind: cosine}}}")
    assert rates.curves[0].steps == 10
    assert round(rates.factor(0, 5), 3) == 0.5


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        ("{warmup: 16 steps}", r"schedule: warmup 16 steps \(16 steps\) do not fit into 15 steps"),
        ("{kind: cosine, warmup: 1B}", r"warmup 1B \(50,000 steps\) do not fit into 15 steps"),
        (
            "{kind: wsd, warmup: 0.6, decay: 0.5}",
            r"warmup 0\.6 \(9 steps\) and decay 0\.5 \(8 steps\) do not fit into 15",
        ),
    ],
)
def test_a_schedule_longer_than_its_run_is_refused(schedule: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        _rates(f"schedule: {schedule}")
    with pytest.raises(ConfigError, match=r"^phases\.b\.schedule: warmup 6 steps"):
        _rates("phases: {b: {schedule: {warmup: 6 steps}}}")


@given(st.integers(1, 50), st.lists(st.integers(1, 100), max_size=60), st.sampled_from(["steps", "tokens"]))
def test_what_is_due_every_so_often_is_due_as_often_as_it_fits(every: int, sizes: list[int], kind: str) -> None:
    done, times = (0, 0), 0
    for size in sizes:
        now = done[0] + 1, done[1] + size
        times += due(Amount(kind, every), done, now)  # type: ignore[arg-type]
        done = now
    if kind == "steps":
        assert times == done[0] // every
    else:
        # Several marks in one step are one time.
        ends = [sum(sizes[: n + 1]) // every for n in range(len(sizes))]
        assert times == sum(b > a for a, b in pairwise([0, *ends]))
