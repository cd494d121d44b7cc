"""A model that copies what is asked for scores 1, one that does not scores 0, and the rows say both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from mixture.errors import MonitorError  # noqa: E402
from mixture.monitor.behaviour import (  # noqa: E402
    Answer,
    answers,
    batches,
    behave,
    judged,
    measures,
    rouge1_recall,
    substring_score,
)
from mixture.monitor.codec import open_codec  # noqa: E402
from mixture.monitor.intervals import interval  # noqa: E402
from mixture.monitor.probes import Probe  # noqa: E402
from mixture.monitor.subject import Subject  # noqa: E402
from mixture.monitor.tasks import TASKS, probes  # noqa: E402
from tests.monitor.conftest import tiny  # noqa: E402
from tests.monitor.texts import haystack_of  # noqa: E402

BYTES = open_codec("bytes")
DEPTHS = (0.0, 0.4, 1.0)


def grid(task: str, **how: Any) -> list[Probe]:
    usual = {"lengths": (1500, 1700), "depths": DEPTHS, "samples": 2}
    return list(probes(task, BYTES, haystack_of(BYTES), **(usual | how)))


class Actor:
    """Says to each prompt what a function of its tokens returns, one token a step, as a causal model would."""

    def __init__(self, says: Callable[[list[int]], list[int]]) -> None:
        self._says, self.config = says, SimpleNamespace(vocab_size=258, num_hidden_layers=1)
        self.batches: list[tuple[int, int]] = []

    def __call__(self, *, input_ids: Any, logits_to_keep: int, **_others: Any) -> Any:
        assert logits_to_keep == 1
        if input_ids.shape[1] > 1:
            self.batches.append(tuple(input_ids.shape))
            self._lines = [iter([*self._says(row), *[257] * 99]) for row in input_ids.tolist()]
        logits = torch.zeros(len(input_ids), 1, 258)
        for row, line in enumerate(self._lines):
            logits[row, 0, next(line)] = 1
        return SimpleNamespace(logits=logits)


Cast = Callable[[Callable[[list[int]], list[int]]], Subject]


@pytest.fixture
def actor(monkeypatch: pytest.MonkeyPatch) -> Cast:
    """A subject whose model says what a function returns; it needs no cache."""
    monkeypatch.setattr("mixture.monitor.decode.DynamicCache", lambda **_: None)
    return lambda says: replace(tiny(), model=Actor(says))


def induction(tokens: list[int]) -> list[int]:
    """Copy what followed the last place that looks most like the end: what a perfect copy head does."""
    whole = bytes(token if token < 256 else 0 for token in tokens)
    # The asked name or key is the longest suffix of the question that stands in the text as well.
    for size in range(len(whole), 0, -1):
        at = whole.rfind(whole[-size:], 0, -1)
        if at >= 0:
            return tokens[at + size : at + size + 60]
    return [32]


def knows(task: str, found: list[Probe]) -> Callable[[list[int]], list[int]]:
    """Look the needle up in the prompt: a model that knows where to look."""
    places = {probe.prompt.tobytes(): probe for probe in found}

    def says(tokens: list[int]) -> list[int]:
        probe = places[np.array(tokens, np.int64).tobytes()]
        return tokens[slice(*probe.needle)] if probe.copied else probe.answer.tolist()

    return says


@pytest.mark.parametrize("task", TASKS)
def test_a_model_that_copies_the_needle_scores_1_in_every_cell(task: str, actor: Cast) -> None:
    found = grid(task)
    rows = behave(actor(knows(task, found)), found)
    assert {row.metric for row in rows} == {"score", "rouge1"}
    assert all((row.value, row.low, row.high) == (1, 1, 1) for row in rows)


@pytest.mark.parametrize("task", TASKS)
def test_a_model_that_does_not_scores_0(task: str, actor: Cast) -> None:
    rows = behave(actor(lambda _: list(b" I do not know")), grid(task))
    assert all((row.value, row.low, row.high) == (0, 0, 0) for row in rows)


def test_a_copy_head_alone_solves_many_shot(actor: Cast) -> None:
    """The end of the prompt stands in it word by word, so what comes after is the answer."""
    rows = behave(actor(induction), grid("many_shot"))
    assert [row.value for row in rows if row.whole] == [1, 1]


def test_the_rows_are_the_grid_and_one_over_it() -> None:
    subject = tiny(length=2048)
    rows = behave(subject, [*grid("niah"), *grid("many_shot")])
    cells = [(row.task, row.length, row.depth, row.n) for row in rows if row.metric == "score"]
    niah = [("niah", length, depth, 2) for length in (1500, 1700) for depth in DEPTHS]
    # The place of a label is no coordinate of many-shot learning.
    shots = [("many_shot", 1500, None, 6), ("many_shot", 1700, None, 6)]
    assert cells == [*niah, ("niah", None, None, 12), *shots, ("many_shot", None, None, 12)]
    assert {(row.level, row.model, row.step, row.tokens, row.domain, row.cell) for row in rows} == {
        ("behaviour", "tiny", 100, 6_400, "", "")
    }
    assert [row.whole for row in rows if row.metric == "score"] == [*[False] * 6, True, False, False, True]


def test_values_are_means_with_the_bootstrap_interval_of_the_samples() -> None:
    scores = [1, 1, 0, 1]
    given = [Answer("niah", 8, 0.5, n, "", score, score / 2) for n, score in enumerate(scores)]
    rows = measures(tiny(), given)
    assert [(row.value, row.n) for row in rows] == [(0.75, 4), (0.75, 4), (0.375, 4), (0.375, 4)]
    assert (rows[0].value, rows[0].low, rows[0].high) == interval(np.array(scores))
    assert rows[0].low < 0.75 < rows[0].high <= 1


def test_no_probes_are_an_error() -> None:
    with pytest.raises(MonitorError, match="tiny: no probes were asked"):
        behave(tiny(), [])


def test_scores_of_words_are_what_a_hand_counts() -> None:
    assert substring_score(["amber violin"], "It is Amber  violin.") == 1
    assert substring_score(["amber violin"], "amber, violin") == 0
    assert substring_score(["AB", "CD", "EF"], "EF and ab") == pytest.approx(2 / 3)
    assert rouge1_recall("amber violin harbor seven", "amber violin lake") == 0.5
    assert rouge1_recall("the cat the hat", "the hat") == 0.5
    # Said ten times it still counts as often as it is expected.
    assert rouge1_recall("the cat", "the the the the cat cat") == 1
    assert rouge1_recall("the cat", "") == 0


def test_an_answer_ends_at_its_line_or_the_end_of_the_document(actor: Cast) -> None:
    probe = grid("niah", lengths=(1500,), depths=(0.0,), samples=1)[0]
    for said, text in (
        (b"  nobody knows\nbut " + bytes(probe.answer.tolist()), "nobody knows"),
        (b"\n one\ntwo", "one"),
        (b"", ""),
    ):
        assert next(answers(actor(lambda _, said=said: list(said)), [probe])).text == text
    # The other prompt's answer is longer, so that this one is decoded past its end.
    lines = iter([[*b" a ", 257, *b" more"], list(b" twelve signs")])
    both = list(answers(actor(lambda _: next(lines)), [probe, probe]))
    assert [answer.text for answer in both] == ["a", "twelve signs"]


def test_probes_of_one_length_are_read_together_within_the_limit(actor: Cast) -> None:
    found = grid("niah")
    assert [[p.length for p in batch] for batch in batches(found, 4000)] == [[1500] * 2] * 3 + [[1700] * 2] * 3
    assert [len(batch) for batch in batches(found, 10)] == [1] * 12
    assert [probe for batch in batches(found, 99_999) for probe in batch] == found
    assert list(batches([], 10)) == []
    subject = actor(knows("niah", found))
    list(answers(subject, found, batch_tokens=6000))
    assert subject.model.batches == [(4, 1500), (2, 1500), (3, 1700), (3, 1700)]


def test_batches_change_no_answer() -> None:
    subject, found = tiny(length=2048), grid("json_kv", samples=1)
    assert list(answers(subject, found, batch_tokens=1)) == list(answers(subject, found, batch_tokens=99_999))


def test_an_answer_is_held_to_its_probe() -> None:
    probe = grid("niah", lengths=(1500,), depths=(0.0,), samples=1)[0]
    half = " ".join(probe.expected[0].split()[:2])
    assert (judged(probe, half).score, judged(probe, half).rouge1) == (0, 0.5)
    assert (judged(probe, probe.expected[0]).score, judged(probe, probe.expected[0]).rouge1) == (1, 1)
