"""What is said of curves: where they lead, where that can be told."""

import pytest

pytest.importorskip("scipy")
pytest.importorskip("statsmodels")

from mixture.monitor.dynamics import dynamics
from mixture.monitor.measures import Measure
from mixture.report.monitor_dynamics import dynamics_words

TOKENS = [10**9 * n for n in (1, 2, 4, 8, 16, 32)]


def said(values, *, metric="loss"):
    rows = [
        Measure("m", step, tokens, "probability", "holdout", "", metric, None, None, "", value, value, value, 50)
        for step, (tokens, value) in enumerate(zip(TOKENS, values, strict=True), 1)
    ]
    return dynamics_words(dynamics(rows, model="m"), {f"holdout {metric}"})


def test_a_curve_that_bends_leads_somewhere():
    (line,) = said([2 + (tokens / 1e9) ** -1.0 for tokens in TOKENS])
    assert line.startswith("holdout loss: leads to 2 (1.99 to 2)")
    assert "the last checkpoint was foretold as 2.03, measured was 2.03" in line


def test_a_loss_on_a_straight_line_does_not_lead_below_nothing():
    (line,) = said([5.0 - 0.6 * n for n in range(6)])
    assert line.startswith("holdout loss: where it leads cannot be told yet; ")
    assert "a doubling of tokens moves it by -0.600" in line


def test_a_flat_curve_and_one_that_nobody_judges_are_not_spoken_of():
    assert said([2.0] * 6) == []
    assert said([2.0, 1.5, 1.2, 1.1, 1.05, 1.0], metric="perplexity") != []
