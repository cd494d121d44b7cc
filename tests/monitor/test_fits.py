"""Curves out of rows, and power laws through them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from mixture.errors import MonitorError
from mixture.monitor.curves import Curve, curves, error, falls
from mixture.monitor.fits import drawn_values, fit_draws, held_out, power_law, spread
from mixture.monitor.measures import Measure

TOKENS = (10e9, 20e9, 50e9, 100e9, 150e9, 200e9)


def curve(values: Sequence[float], errors: float = 0.0, metric: str = "score") -> Curve:
    names = ("tiny", "behaviour", "niah", "", metric)
    return Curve(*names, TOKENS[: len(values)], tuple(values), (errors,) * len(values))


def law(a: float, b: float, c: float) -> list[float]:
    """With b what is left to go at 10 billion tokens."""
    return [a - b * (n / 1e10) ** -c for n in TOKENS]


@pytest.mark.parametrize(("a", "b", "c"), [(0.9, 0.6, 0.5), (0.7, 0.3, 1.3), (1.2, -4.0, 0.7), (15.0, -30.0, 0.3)])
def test_a_power_law_is_found_again(a: float, b: float, c: float) -> None:
    found = power_law(curve(law(a, b, c)))
    assert (found.a, found.c) == (pytest.approx(a, rel=1e-3), pytest.approx(c, rel=1e-3))
    assert found.b == pytest.approx(b * 1e10**c, rel=0.05)
    assert found.at(4e11) == pytest.approx(a - b * 40**-c, rel=1e-4)
    assert found.noise == pytest.approx(0, abs=1e-4)
    assert found.c_interval[0] <= found.c <= found.c_interval[1]


def test_the_last_checkpoint_is_foretold_by_the_others() -> None:
    found = held_out(curve(law(0.9, 0.6, 0.5), errors=0.005))
    assert found.error == pytest.approx(0, abs=1e-3)
    assert found.inside
    jumped = held_out(curve([*law(0.9, 0.6, 0.5)[:5], 0.95], errors=0.005))
    assert jumped.measured == 0.95
    assert jumped.error == pytest.approx(0.9 - 0.6 / 20**0.5 - 0.95, abs=1e-3)
    assert not jumped.inside


def test_nine_of_ten_new_checkpoints_lie_in_the_interval() -> None:
    rng = np.random.default_rng(0)
    noisy = [curve([y + rng.normal(0, 0.01) for y in law(0.9, 0.6, 0.5)], errors=0.01) for _ in range(30)]
    assert np.mean([held_out(one, draws=200).inside for one in noisy]) >= 0.85


def test_an_interval_of_the_curve_holds_it_and_widens_beyond_the_last_checkpoint() -> None:
    found = power_law(curve(law(0.9, 0.6, 0.5), errors=0.01))
    value, low, high = found.expected([1e11, 4e11, 16e11])
    assert (low <= value).all()
    assert (value <= high).all()
    assert np.all(np.diff(high - low) > 0)
    _, new_low, new_high = found.expected([1e11], checkpoint=True)
    assert new_low[0] < low[0]
    assert new_high[0] > high[0]


def test_three_checkpoints_have_no_power_law() -> None:
    with pytest.raises(MonitorError, match="3 checkpoints with tokens above 0; a power law needs 4"):
        power_law(curve([0.1, 0.2, 0.3]))
    with pytest.raises(MonitorError, match="3 checkpoints"):
        held_out(curve([0.1, 0.2, 0.3, 0.35]))


def test_a_curve_that_never_moves_has_a_law_too() -> None:
    found = power_law(curve([0.5] * 5))
    assert found.at([1e9, 1e12]) == pytest.approx([0.5, 0.5])


def test_draws_are_fitted_as_one_is() -> None:
    x = np.array(TOKENS) / TOKENS[-1]
    ((a, b, c),) = fit_draws(x, np.array([law(0.9, 0.6, 0.5)]))
    assert a == pytest.approx(0.9, abs=0.02)
    assert c == pytest.approx(0.5, rel=0.1)
    assert a - b == pytest.approx(law(0.9, 0.6, 0.5)[-1], abs=0.002)


def test_noise_is_that_of_samples_or_of_residuals_where_these_are_more() -> None:
    residuals = np.array([0.1, -0.1, 0.1, -0.1, 0.0])
    assert spread(residuals, np.full(5, 0.01), parameters=3) == pytest.approx(np.sqrt(0.04 / 2))
    assert spread(residuals, np.full(5, 0.5), parameters=3) == 0.5
    assert spread(residuals[:3], np.zeros(3), parameters=3) == 0


def test_values_are_drawn_by_their_errors_and_no_more_where_these_explain_the_residuals() -> None:
    values, errors = np.zeros(5), np.array([0.1, 0.2, 0.1, 0.2, 0.1])
    drawn = drawn_values(values, np.full(5, 0.05), errors, parameters=2, draws=20_000, seed=0)
    assert drawn.std(axis=0) == pytest.approx(errors, rel=0.03)
    wobbling = drawn_values(values, np.full(5, 0.5), errors, parameters=2, draws=20_000, seed=0)
    assert wobbling.std(axis=0).min() > 0.5
    given = np.ones((7, 5))
    assert drawn_values(values, np.zeros(5), errors, parameters=2, draws=7, seed=0, sampled=given) is not None
    assert (drawn_values(values, np.zeros(5), errors, parameters=5, draws=7, seed=0, sampled=given) == 1).all()


ROW = Measure("tiny", 10, 100, "behaviour", "niah", "", "score", None, None, "", 0.5, 0.402, 0.598, 100)


def test_curves_are_rows_over_the_whole_grid_by_tokens() -> None:
    rows = [
        replace(ROW, step=20, tokens=200, value=0.55),
        ROW,
        replace(ROW, step=0, tokens=0),
        replace(ROW, depth=0.5, length=1024),
        replace(ROW, model="other"),
        replace(ROW, level="probability", metric="loss"),
    ]
    found = curves(rows, model="tiny")
    assert [one.name for one in found] == ["niah score", "niah loss"]
    assert (found[0].tokens, found[0].values) == ((100, 200), (0.5, 0.55))
    assert found[0].errors[0] == pytest.approx(0.05, abs=1e-3)
    assert [one.model for one in curves(rows)] == ["other", "tiny", "tiny"]


def test_steps_stand_in_where_tokens_are_not_known() -> None:
    (found,) = curves([ROW, replace(ROW, step=20, tokens=None)])
    assert found.tokens == (10, 20)


def test_an_all_or_nothing_score_has_wilson_s_error() -> None:
    # Wilson's interval of 20 of 20 is (0.839, 1).
    assert error(replace(ROW, value=1.0, low=1.0, high=1.0, n=20)) == pytest.approx(0.161 / 3.92, abs=1e-3)
    assert error(replace(ROW, metric="perplexity", value=1.0, low=1.0, high=1.0, n=20)) == 0
    assert error(replace(ROW, value=0.5, low=0.5, high=0.5, n=1)) == 0


def test_which_metrics_get_better_by_falling() -> None:
    assert all(map(falls, ["perplexity", "loss", "word_perplexity", "bits_per_byte,none", "all_perplexity"]))
    assert not any(map(falls, ["score", "acc", "acc_norm,none", "heads", "top_score"]))


@pytest.mark.parametrize(
    ("tokens", "values", "errors", "sentence"),
    [
        ((1.0, 2.0), (1.0,), (0.0,), "2 checkpoints, 1 values, 1 errors"),
        ((2.0, 1.0), (1.0, 1.0), (0.0, 0.0), "must be above 0 and rise"),
        ((0.0, 1.0), (1.0, 1.0), (0.0, 0.0), "must be above 0 and rise"),
        ((1.0,), (float("nan"),), (0.0,), "must be finite"),
        ((1.0,), (1.0,), (-0.1,), "errors at least 0"),
    ],
)
def test_a_curve_that_contradicts_itself_is_not_born(
    tokens: tuple[float, ...], values: tuple[float, ...], errors: tuple[float, ...], sentence: str
) -> None:
    with pytest.raises(MonitorError, match=sentence):
        Curve("tiny", "behaviour", "niah", "", "score", tokens, values, errors)
