"""LongPPL: key tokens are those that a naive loop over contexts finds, and no others count."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from mixture.errors import MonitorError  # noqa: E402
from mixture.monitor.longppl import (  # noqa: E402
    Contrast,
    contrasts,
    key_tokens,
    longce_weights,
    longppl,
    windows,
)
from mixture.monitor.measures import Measure  # noqa: E402
from tests.monitor.conftest import tiny  # noqa: E402
from tests.monitor.test_probability import naive, text  # noqa: E402

FULL = np.array([0.3, 1.9, 2.1, 0.5, 1.0])
SHORT = np.array([6.0, 3.8, 9.0, 2.5, 3.1])


def test_a_key_token_gains_over_two_nats_and_then_costs_under_two() -> None:
    # Gains: 5.7, 1.9, 6.9 (but it costs 2.1), 2.0 (not over), 2.1.
    assert key_tokens(FULL, SHORT).tolist() == [True, False, False, False, True]
    assert key_tokens(FULL, SHORT, gain=1.5, most=3.0).tolist() == [True] * 5


def test_longce_weighs_by_the_gain_up_to_five() -> None:
    found = longce_weights(np.array([1.0, 1.0, 2.0, 0.0]), np.array([1.0, 2.0, 1.0, 2_000.0]))
    assert found == pytest.approx([1.0, math.e, 1 / math.e, 5.0])


@given(length=st.integers(0, 400), short=st.integers(1, 60), step=st.integers(1, 60))
def test_windows_score_every_token_after_the_short_context_once(length: int, short: int, step: int) -> None:
    scored = [token for first, stop in windows(length, short, step) for token in range(first + short, stop)]
    assert scored == list(range(short, length))
    assert all(stop - first <= short + step for first, stop in windows(length, short, step))


def test_at_the_papers_sizes_a_token_has_4096_to_5119_tokens_before_it() -> None:
    assert windows(8192) == [(0, 5120), (1024, 6144), (2048, 7168), (3072, 8192)]
    assert windows(4096) == []
    assert windows(4097) == [(0, 4097)]


def slow(subject: Any, tokens: Any, short: int, step: int) -> tuple[list[float], list[float]]:
    """Score token by token: with all before it, and with what the window over it holds."""
    full, little = [], []
    for at in range(short, len(tokens)):
        begin = (at - short) // step * step
        full.append(naive(subject, tokens[: at + 1])[-1])
        little.append(naive(subject, tokens[begin : at + 1])[-1])
    return full, little


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_contrasts_are_those_of_a_loop_over_tokens(family: str) -> None:
    subject = tiny(family)
    texts = [text(70, seed=1), text(16, seed=2), text(49, seed=3)]
    found = contrasts(subject, texts, short=16, step=5, places=100)
    for tokens, contrast in zip(texts, found, strict=True):
        full, little = slow(subject, tokens, 16, 5)
        assert contrast.full == pytest.approx(full, abs=2e-5)
        assert contrast.short == pytest.approx(little, abs=2e-5)
    assert len(found[1].full) == 0
    # Within the first step, short context and long are the same.
    assert found[0].full[:5] == pytest.approx(found[0].short[:5], abs=2e-5)
    assert abs(found[0].full[6:] - found[0].short[6:]).max() > 1e-3


def one(measures: list[Measure], metric: str) -> Measure:
    (found,) = [m for m in measures if m.metric == metric]
    return found


def test_longppl_is_exp_of_the_mean_loss_over_the_key_tokens_of_all_texts() -> None:
    subject = tiny()
    texts = [text(40, seed=1), text(60, seed=2), text(50, seed=3), text(16, seed=4)]
    keys = [np.zeros(24, bool), np.zeros(44, bool), np.zeros(34, bool), np.zeros(0, bool)]
    keys[0][[3, 9]] = keys[1][7] = True
    found = longppl(subject, texts, keys=keys, short=16, step=8)
    costs = [naive(subject, row)[15:] for row in texts]
    by_hand = math.exp((costs[0][3] + costs[0][9] + costs[1][7]) / 3)
    assert one(found, "perplexity").value == pytest.approx(by_hand, rel=1e-4)
    assert one(found, "perplexity").n == 2, "texts with key tokens"
    assert one(found, "key_share").value == pytest.approx(3 / 102)
    assert one(found, "key_share").n == 3, "texts longer than the short context"
    assert one(found, "all_perplexity").value == pytest.approx(math.exp(np.concatenate(costs).mean()), rel=1e-4)
    assert {(m.task, m.level, m.cell) for m in found} == {("longppl", "probability", "")}


def test_a_model_judges_itself_where_nobody_else_does(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [Contrast(FULL, SHORT), Contrast(FULL[:2], SHORT[:2])]
    monkeypatch.setattr("mixture.monitor.longppl.contrasts", lambda *_, **__: made)
    found = longppl(tiny(), [text(20), text(17)], short=15)
    assert one(found, "perplexity").value == pytest.approx(math.exp((0.3 + 1.0 + 0.3) / 3))
    assert one(found, "key_share").value == pytest.approx(3 / 7)
    assert made[0].keys().sum() == 2
    assert made[0].weights()[0] == 5.0


def test_without_a_key_token_there_is_a_share_and_no_perplexity() -> None:
    keys = [np.zeros(24, bool)]
    found = longppl(tiny(), [text(40)], keys=keys, short=16)
    assert one(found, "key_share").value == 0
    assert [m.metric for m in found] == ["key_share", "all_perplexity"]


def test_what_cannot_be_contrasted_is_refused_in_a_sentence() -> None:
    with pytest.raises(MonitorError, match="the longest of 2 texts has 20 tokens, and the short context 4,096"):
        longppl(tiny(), [text(20), text(10)])
    with pytest.raises(MonitorError, match="no text is longer than the short context"):
        longppl(tiny(), [text(20)], keys=[np.zeros(0, bool)], short=20)
    with pytest.raises(MonitorError, match="are of other texts"):
        longppl(tiny(), [text(20)], keys=[np.zeros(9, bool)], short=10)
    with pytest.raises(MonitorError, match="in steps of 0"):
        contrasts(tiny(), [text(20)], short=10, step=0)
