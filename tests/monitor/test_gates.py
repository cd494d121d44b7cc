"""When to go on to longer contexts, and when to stop."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mixture.monitor.curves import Curve
from mixture.monitor.gates import advance, short_context, stop
from mixture.monitor.measures import Measure
from mixture.monitor.verdicts import Epsilon, LevelVerdict, Saturation, State, Verdict

MMLU = Measure("tiny", 0, 0, "harness", "mmlu", "", "acc", None, None, "", 0.66, 0.65, 0.67, 1000)
LOSS = Measure("tiny", 0, 0, "probability", "holdout", "", "loss", None, None, "length <4K", 2.0, 1.9, 2.1, 100)
NEEDLE = Measure("tiny", 100, 10**6, "behaviour", "niah", "", "score", 32768, 0.5, "", 1.0, 1.0, 1.0, 10)
BEFORE = [MMLU, LOSS]
NOW = [replace(row, step=100, tokens=10**6) for row in BEFORE]
SOLVED = [replace(NEEDLE, length=length, depth=depth) for length in (8192, 32768) for depth in (0.0, 0.5, 1.0)]


def changed(row: Measure, value: float) -> Measure:
    return replace(row, value=value, low=value, high=value)


def test_the_next_length_comes_when_short_context_is_back_and_the_needle_is_found() -> None:
    decision = advance(BEFORE + NOW + SOLVED, length=32768)
    assert decision.words == "advance: short context has recovered and niah is solved up to 32,768 tokens"


@pytest.mark.parametrize(("value", "action"), [(0.655, "advance"), (0.64, "stay"), (0.70, "advance")])
def test_a_score_may_stay_under_its_start_by_the_margin(value: float, action: str) -> None:
    decision = advance([*BEFORE, changed(NOW[0], value), NOW[1], *SOLVED], length=32768)
    assert decision.action == action
    if action == "stay":
        assert decision.reason == "short context has not recovered: mmlu acc is 0.64, before training it was 0.66"


@pytest.mark.parametrize(("value", "action"), [(2.019, "advance"), (2.03, "stay"), (1.5, "advance")])
def test_a_loss_may_stay_over_its_start_by_a_share(value: float, action: str) -> None:
    assert advance([*BEFORE, NOW[0], changed(NOW[1], value), *SOLVED], length=32768).action == action


def test_only_the_last_checkpoint_counts() -> None:
    dip = [changed(replace(row, step=50), 0.3) for row in (NOW[0], SOLVED[0])]
    assert advance([*BEFORE, *NOW, *SOLVED, *dip], length=32768).action == "advance"
    assert advance([*BEFORE, *NOW, *SOLVED, *(replace(row, step=200) for row in dip)], length=32768).action == "stay"


def test_one_cell_that_is_not_solved_keeps_the_length() -> None:
    decision = advance([*BEFORE, *NOW, changed(SOLVED[4], 0.9), *SOLVED[:4], SOLVED[5]], length=32768)
    assert decision.reason == (
        "the needle is not found everywhere: 1 of 6 cells are under 1, the worst is 0.9 at 32,768 tokens, depth 0.5"
    )
    assert advance([*BEFORE, *NOW, changed(SOLVED[4], 0.9), *SOLVED], length=32768, perfect=0.9).action == "advance"


def test_cells_beyond_the_length_do_not_count() -> None:
    beyond = changed(replace(NEEDLE, length=65536), 0.1)
    assert advance([*BEFORE, *NOW, *SOLVED, beyond], length=32768).action == "advance"
    assert advance([*BEFORE, *NOW, *SOLVED, beyond], length=65536).action == "stay"


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([], "nothing has been measured yet"),
        (NOW + SOLVED, "no short-context measure of step 0"),
        (BEFORE + SOLVED, "mmlu acc, holdout loss length <4K was measured before training and not since"),
        (BEFORE + NOW, "the needle was measured at no length, and 32,768 tokens are trained on"),
        (BEFORE + NOW + SOLVED[:3], "the needle was measured only up to 8,192, and 32,768"),
    ],
)
def test_what_was_not_measured_opens_no_gate(rows: list[Measure], reason: str) -> None:
    decision = advance(rows, length=32768)
    assert decision.action == "stay"
    assert reason in decision.reason


def test_what_counts_as_short_context() -> None:
    assert short_context(MMLU)
    assert short_context(LOSS)
    assert not short_context(replace(LOSS, cell="length <4K, position <256"))
    assert not short_context(replace(LOSS, domain="books"))
    assert not short_context(replace(LOSS, cell="length 4K-16K"))
    assert not short_context(NEEDLE)


def verdicts(*states: State) -> Saturation:
    curve = Curve("tiny", "behaviour", "niah", "", "score", (3e9, 4e9), (1.0, 1.0), (0.0, 0.0))
    levels = []
    for number, (level, state) in enumerate(zip(("behaviour", "probability", "mechanism"), states, strict=True)):
        since = (3 - number) * 1e9 if state == "saturated" else None
        verdict = Verdict(curve, state, 0.0, 0.0, 0.0, Epsilon(0.02), 5, since)
        levels.append(LevelVerdict(level, state, since, (verdict,)))
    return Saturation("tiny", tuple(levels))


def test_training_stops_when_all_three_levels_are_saturated() -> None:
    decision = stop(verdicts("saturated", "saturated", "saturated"))
    assert decision.words == "stop: behaviour, probability, mechanism are saturated, behaviour last"


def test_a_needle_that_is_found_is_no_reason_to_stop() -> None:
    decision = stop(verdicts("saturated", "moving", "saturated"))
    assert decision.action == "stay"
    assert "deceptive saturation" in decision.reason


def test_what_is_not_known_is_no_reason_to_stop() -> None:
    decision = stop(verdicts("saturated", "not yet known", "saturated"))
    assert decision.words == "stay: probability is not yet known"


def test_one_verdict_is_not_enough_to_stop() -> None:
    found = verdicts("saturated", "saturated", "saturated")
    late = replace(found.levels[1], since=4e9)
    once = replace(found, levels=(found.levels[0], late, found.levels[2]))
    assert stop(once).words == "stay: probability saturated at this checkpoint only; the next one confirms it"
    assert stop(once, twice=False).action == "stop"
