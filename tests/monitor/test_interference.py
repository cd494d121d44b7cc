"""Interference: only what stands before the needle changes, and the loss is told by how much of it there is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from mixture.errors import MonitorError  # noqa: E402
from mixture.monitor.interference import interference, prefixes_of, slopes, with_prefix  # noqa: E402
from mixture.monitor.measures import Measure  # noqa: E402
from mixture.monitor.probes import Probe  # noqa: E402
from tests.monitor.conftest import tiny  # noqa: E402
from tests.monitor.test_probability import naive, text  # noqa: E402


def probe(sample: int, *, before: int = 300, after: int = 20) -> Probe:
    """Return a prompt with a sentence of 10 tokens after `before`, of which the middle 4 are the answer."""
    prompt = text(before + 10 + after, seed=sample)
    needle, sentence = (before + 3, before + 7), (before, before + 10)
    answer = prompt[needle[0] : needle[1]].copy()
    return Probe("niah", len(prompt), 1.0, sample, prompt, answer, needle, sentence, ("x",), True)


def test_a_prefix_is_cut_from_the_front_and_the_rest_stays() -> None:
    one = probe(0)
    assert np.array_equal(with_prefix(one, 0), one.prompt[300:])
    assert np.array_equal(with_prefix(one, 64), one.prompt[236:])
    assert np.array_equal(with_prefix(one, 300), one.prompt)
    opened = with_prefix(one, 64, opening=2)
    assert np.array_equal(opened[:2], one.prompt[:2])
    assert np.array_equal(opened[2:], one.prompt[236:])
    with pytest.raises(MonitorError, match="has 298 before its needle"):
        with_prefix(one, 299, opening=2)


def test_prefixes_double_up_to_what_every_probe_has() -> None:
    assert prefixes_of([probe(0), probe(1, before=290)]) == (0, 64, 128, 256, 290)
    assert prefixes_of([probe(0, before=256)], opening=0) == (0, 64, 128, 256)
    assert prefixes_of([probe(0, before=1)], opening=1) == (0,)


def cell(measures: list[Measure], metric: str, name: str = "") -> Measure:
    (found,) = [m for m in measures if (m.metric, m.cell) == (metric, name)]
    return found


def test_losses_are_those_of_the_answer_after_each_prompt() -> None:
    subject = tiny()
    probes = [probe(sample) for sample in range(3)]
    found = interference(subject, probes, [0, 64, 128], places=200)
    by_hand: dict[int, list[float]] = {}
    for prefix in (0, 64, 128):
        rows = [np.concatenate([with_prefix(one, prefix), one.answer]) for one in probes]
        by_hand[prefix] = [float(naive(subject, row)[-4:].mean()) for row in rows]
        got = cell(found, "loss", f"prefix {prefix}")
        assert got.value == pytest.approx(np.mean(by_hand[prefix]), rel=1e-4)
        assert got.n == 3
    excess = np.array(by_hand[128]) - np.array(by_hand[0])
    assert cell(found, "excess").value == pytest.approx(excess.mean(), abs=1e-4)
    # One doubling from 64 to 128: the slope is the difference.
    assert cell(found, "slope").value == pytest.approx(np.subtract(by_hand[128], by_hand[64]).mean(), abs=1e-4)
    assert {m.task for m in found} == {"interference"}


def test_slopes_are_nats_a_doubling() -> None:
    prefixes = np.array([0, 64, 128, 256])
    losses = np.array([[9.0, 0.0], [1.0, 2.0], [1.5, 2.0], [2.0, 2.0]])
    assert slopes(prefixes, losses) == pytest.approx([0.5, 0.0])
    assert slopes(prefixes[:2], losses[:2]) is None


def test_a_model_that_sees_only_its_window_is_indifferent_to_what_lies_before_it() -> None:
    # Two layers see 8 places each, so nothing beyond 14 places before the answer reaches it.
    subject = tiny("mistral", sliding_window=8)
    found = interference(subject, [probe(sample) for sample in range(2)], [0, 100, 200])
    assert cell(found, "excess").value == pytest.approx(0, abs=1e-5)
    assert cell(found, "slope").value == pytest.approx(0, abs=1e-5)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Collect the prompts that are scored; all answers cost 1."""
    seen: list[list[int]] = []

    def spy(_: Any, prompts: Any, answers: Any, **__: Any) -> Any:
        seen.extend(prompt.tolist() for prompt in prompts)
        return [np.ones(len(answer)) for answer in answers]

    monkeypatch.setattr("mixture.monitor.interference.answer_losses", spy)
    return seen


def opened(one: Probe, *tokens: int) -> Probe:
    return replace(one, prompt=np.concatenate([tokens, one.prompt[len(tokens) :]]))


def test_what_all_prompts_begin_with_stays(asked: list[list[int]]) -> None:
    probes = [opened(probe(sample), 65, 66, 67) for sample in range(2)]
    interference(tiny(), probes, [0, 64])
    assert [prompt[:3] for prompt in asked] == [[65, 66, 67]] * 4
    assert [len(prompt) for prompt in asked] == [33, 33, 97, 97]
    assert asked[2][3:] == probes[0].prompt[300 - 64 :].tolist()


def test_of_a_single_prompt_what_its_tokenizer_adds_stays(asked: list[list[int]]) -> None:
    subject = tiny()
    opens = replace(subject, tokenizer=replace(subject.tokenizer, opening=(257,)))
    interference(opens, [opened(probe(0), 257)], [0, 64])
    interference(subject, [opened(probe(0), 257)], [0, 64])
    assert [len(prompt) for prompt in asked] == [31, 95, 30, 94]
    assert [prompt[0] == 257 for prompt in asked] == [True, True, False, False]


def test_what_cannot_be_compared_is_refused_in_a_sentence() -> None:
    with pytest.raises(MonitorError, match="no probe was given"):
        interference(tiny(), [])
    with pytest.raises(MonitorError, match="at least two different ones"):
        interference(tiny(), [probe(0)], [64, 64])
    with pytest.raises(MonitorError, match=r"a prefix of 400 tokens, and a probe of 330 tokens has 300 before"):
        interference(tiny(), [probe(0)], [0, 400])
