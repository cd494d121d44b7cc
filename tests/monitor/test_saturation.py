"""Verdicts on curves whose answer is known, and what is said of three levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from bench import saturation as bench
from mixture.errors import MonitorError
from mixture.monitor.curves import Curve
from mixture.monitor.gains import next_gain
from mixture.monitor.measures import Measure
from mixture.monitor.saturation import EPSILON, judge, saturation
from mixture.monitor.verdicts import Epsilon

B = 10**9
EVEN = tuple(float(n * B) for n in (20, 50, 100, 150, 200, 250))


def curve(
    values: Sequence[float], tokens: Sequence[float] = EVEN, metric: str = "score", errors: float = 0.002
) -> Curve:
    names = ("tiny", "behaviour", "niah", "", metric)
    return Curve(*names, tuple(tokens[: len(values)]), tuple(values), (errors,) * len(values))


def rows(
    values: Sequence[float], level: str, task: str, metric: str, *, half: float = 0.004, domain: str = ""
) -> list[Measure]:
    """A row for each checkpoint of `EVEN`, and one before training."""
    made = [Measure("tiny", 0, 0, level, task, domain, metric, None, None, "", values[0], values[0], values[0], 400)]
    for number, value in enumerate(values):
        ends = (value - half, value + half)
        place = ("tiny", number + 1, int(EVEN[number]), level, task, domain, metric, None, None, "")
        made.append(Measure(*place, value, *ends, 400))
    return made


FLAT = [0.981, 0.979, 0.98, 0.981, 0.98, 0.98]
RISING = [0.30, 0.42, 0.52, 0.58, 0.62, 0.65]


def test_a_flat_curve_is_saturated_and_a_rising_one_moves() -> None:
    assert judge(curve(FLAT)).state == "saturated"
    assert judge(curve(RISING)).state == "moving"


def test_the_gain_of_a_line_over_log_tokens_is_its_slope() -> None:
    tokens = [2.0**n for n in range(4)]
    line = curve([0.1, 0.15, 0.2, 0.25], tokens, errors=1e-6)
    gain, low, high, points = next_gain(line)
    assert (gain, points) == (pytest.approx(0.05), 4)
    assert low == pytest.approx(0.05, abs=1e-4)
    assert high == pytest.approx(0.05, abs=1e-4)


def test_the_gain_of_a_power_law_is_its_own() -> None:
    tokens = [2.0**n for n in range(7)]
    bent = curve([0.9 - 0.6 / n for n in tokens], tokens, errors=0.0)
    gain, *_, points = next_gain(bent)
    assert points == 5
    assert gain == pytest.approx(0.6 / 64 - 0.6 / 128, rel=0.1)


def test_a_perplexity_gains_by_falling_and_its_gain_is_a_share() -> None:
    tokens = [2.0**n for n in range(4)]
    falling = curve([8.0, 4.0, 2.0, 1.0], tokens, metric="perplexity", errors=1e-6)
    gain, *_ = next_gain(falling, relative=True)
    assert gain == pytest.approx(np.log(2))
    assert judge(falling).state == "moving"
    assert judge(curve([1.0, 2.0, 4.0, 8.0], tokens, metric="perplexity", errors=1e-6)).state == "saturated"
    assert "it is getting worse" in judge(curve([1.0, 2.0, 4.0, 8.0], tokens, "perplexity", 1e-6)).words


def test_noise_larger_than_epsilon_lets_nothing_be_said() -> None:
    assert judge(curve([0.6, 0.63, 0.59, 0.65, 0.6, 0.63], errors=0.03)).state == "not yet known"


def test_a_wobble_that_errors_do_not_explain_is_seen() -> None:
    values = [0.6, 0.66, 0.57, 0.64, 0.58, 0.63]
    quiet, told = next_gain(curve(values, errors=0.0)), next_gain(curve(values, errors=0.03))
    assert quiet[2] - quiet[1] > 0.5 * (told[2] - told[1])
    assert judge(curve(values, errors=0.0)).state == "not yet known"


@pytest.mark.parametrize("checkpoints", [0, 1, 2])
def test_two_checkpoints_are_no_verdict(checkpoints: int) -> None:
    verdict = judge(curve(FLAT[:checkpoints]))
    assert (verdict.state, verdict.gain) == ("not yet known", None)
    assert f"by {checkpoints} checkpoints" in verdict.words


def test_samples_of_the_same_probes_say_more_than_errors() -> None:
    rng = np.random.default_rng(0)
    hard = rng.random(400)
    solved = [(hard < bar).astype(float) for bar in (0.7, 0.705, 0.7, 0.705, 0.71, 0.71)]
    given = curve([float(one.mean()) for one in solved], errors=0.03)
    assert judge(given).state == "not yet known"
    assert judge(given, samples=solved).state == "saturated"
    # Other probes at each checkpoint have other luck.
    shuffled = [np.concatenate([rng.permutation(one), [0, 1] * number]) for number, one in enumerate(solved)]
    assert judge(given, samples=shuffled).state == "not yet known"


def test_an_interval_keeps_its_promise() -> None:
    """Of 95 % intervals for a line's slope, with noise that is told, about 95 % hold it."""
    rng = np.random.default_rng(1)
    held = []
    for run in range(200):
        values = [0.3 + 0.02 * np.log2(n) + rng.normal(0, 0.01) for n in (1, 2, 4, 8)]
        _, low, high, _ = next_gain(curve(values, (1, 2, 4, 8), errors=0.01), draws=400, seed=run)
        held.append(low <= 0.02 <= high)
    assert np.mean(held) >= 0.91


def test_false_stops_and_misses_are_rare_on_curves_whose_answer_is_known() -> None:
    """The small version of docs/saturation.md: a run of each curve and grid, with a quarter of epsilon as noise."""
    found = {name: rates for name, _, rates in bench.table(1, bench.Method(draws=200), noises=(0.25,))}
    together = found["all of them"]
    assert together.false_stop is not None
    assert together.miss is not None
    assert together.moving is not None
    assert together.false_stop <= 1
    assert together.miss <= 40
    assert together.moving >= 85
    assert found["flat"].false_stop is None
    assert (found["flat"].miss or 0) <= 10


def test_rates_are_counted_by_hand() -> None:
    look = bench.Look
    seen = [look(0, 2, "saturated"), look(0, 2, "saturated"), look(1, 1, "moving"), look(1, 0.7, "saturated")]
    seen += [look(1, 0.4, "saturated"), look(2, 0.1, "not yet known"), look(2, 1.5, "saturated"), look(2, 0, "moving")]
    found = bench.rates(seen)
    assert (found.looks, found.false_stop, found.moving) == (8, 75, 25)
    assert found.stopped_runs == pytest.approx(200 / 3)
    assert found.stopped_twice == pytest.approx(100 / 3)
    assert found.miss == pytest.approx(200 / 3)


def test_three_levels_their_order_and_what_is_settled_in_appearance_only() -> None:
    behaviour = rows(FLAT, "behaviour", "niah", "score")
    probability = rows([4.0, 3.4, 2.9, 2.6, 2.4, 2.25], "probability", "niah_ppl", "perplexity", half=0.01)
    late = rows([0.30, 0.40, 0.45, 0.45, 0.45, 0.45], "mechanism", "retrieval_heads", "top_score", half=0.001)
    found = saturation(behaviour + probability + late)
    assert [one.state for one in found.levels][:2] == ["saturated", "moving"]
    assert found.deceptive
    assert not found.all_saturated
    assert any("deceptive saturation: behaviour has settled while probability" in line for line in found.words)
    assert found.levels[0].since == EVEN[2]


def test_levels_that_have_all_settled_are_in_the_order_in_which_they_did() -> None:
    early = rows(FLAT, "behaviour", "niah", "score")
    late = rows([1.5, 1.2, 1.1, 1.1, 1.1, 1.1], "probability", "niah_ppl", "perplexity", half=0.001)
    middle = rows([0.445, 0.448, 0.45, 0.45, 0.45, 0.45], "mechanism", "retrieval_heads", "top_score", half=0.001)
    found = saturation(early + late + middle)
    assert next(one.level for one in found.order) == "behaviour"
    assert all(one.since is None or one.since >= EVEN[2] for one in found.levels)
    assert not found.deceptive


def test_a_level_moves_while_one_of_its_curves_does_and_is_unknown_without_any() -> None:
    both = rows(FLAT, "behaviour", "niah", "score") + rows(RISING, "behaviour", "json_kv", "score")
    found = saturation(both)
    assert [one.state for one in found.levels] == ["moving", "not yet known", "not yet known"]
    assert found.levels[1].words == "probability: not yet known, nothing was measured that is judged"
    assert not found.deceptive


def test_a_level_has_settled_when_the_last_of_its_curves_has() -> None:
    early, late = [0.98] * 6, [0.900, 0.960, 0.980, 0.980, 0.980, 0.980]
    alone = saturation(rows(late, "behaviour", "json_kv", "score", half=0.001)).levels[0]
    assert alone.since is not None
    assert alone.since > EVEN[2]
    both = rows(early, "behaviour", "niah", "score") + rows(late, "behaviour", "json_kv", "score", half=0.001)
    found = saturation(both).levels[0]
    assert [verdict.since for verdict in found.curves] == [alone.since, EVEN[2]]
    assert (found.since, found.last) == (alone.since, EVEN[-1])


def test_a_curve_over_all_domains_stands_for_those_of_single_ones() -> None:
    over_all = rows([2.0] * 6, "probability", "holdout", "loss")
    books = rows([2.5, 2.3, 2.1, 1.9, 1.8, 1.7], "probability", "holdout", "loss", domain="books")
    assert [verdict.curve.domain for verdict in saturation(over_all + books).levels[1].curves] == [""]
    assert saturation(books).levels[1].state == "moving"


def test_an_epsilon_of_one_s_own_decides() -> None:
    slow = rows([0.5, 0.513, 0.523, 0.529, 0.533, 0.536], "behaviour", "niah", "score", half=0.0005)
    assert saturation(slow).levels[0].state == "saturated"
    assert saturation(slow, epsilon={"score": Epsilon(0.005)}).levels[0].state == "moving"
    with pytest.raises(MonitorError, match=r"above 0, as 0\.02 for a score"):
        Epsilon(0)


def test_a_score_of_all_is_certain_by_its_samples_only() -> None:
    few = [replace(row, n=5, low=1.0, high=1.0, value=1.0) for row in rows([1.0] * 4, "behaviour", "niah", "score")]
    many = [replace(row, n=4000) for row in few]
    assert saturation(few).levels[0].state == "not yet known"
    assert saturation(many).levels[0].state == "saturated"


def test_measures_of_several_models_need_a_name() -> None:
    two = rows(FLAT, "behaviour", "niah", "score")
    two += [replace(row, model="other") for row in two]
    with pytest.raises(MonitorError, match=r"2 models \(other, tiny\)"):
        saturation(two)
    with pytest.raises(MonitorError, match="did you mean 'tiny'"):
        saturation(two, model="tinny")
    assert saturation(two, model="other").model == "other"


def test_a_metric_without_epsilon_is_named() -> None:
    with pytest.raises(MonitorError, match=r"metric 'scor' has no epsilon: did you mean 'score'\? give one"):
        judge(curve(FLAT, metric="scor"))
    assert set(EPSILON) >= {"score", "perplexity", "loss", "heads"}


def test_a_share_of_what_is_not_above_zero_is_refused() -> None:
    with pytest.raises(MonitorError, match="has no logarithm"):
        judge(curve([0.0, 1.0, 1.0], metric="perplexity"))
