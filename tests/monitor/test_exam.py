"""One checkpoint, all levels: the same questions give the same rows, and an examination may be ended early."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import numpy as np

from mixture.hashing import document_ids
from mixture.monitor.exam import Before, Exam, Examiner, StoppedError
from mixture.monitor.material import Material
from mixture.monitor.subject import Subject
from mixture.monitor.suite import FORM, LEVELS, Suite
from mixture.monitor.unseen import HeldOut
from tests.monitor.conftest import tiny
from tests.monitor.texts import haystack_of, sentences

SUITE = FORM.parse(
    """
window: 512
tasks: {niah: {lengths: [256, 512]}, json_kv: {lengths: [256]}}
depths: 2
samples: 1
holdout: {documents: 2, positions: [64, 256]}
longppl: {short: 128, step: 64, texts: 2}
interference: 2
heads: {lengths: [256], depths: 2, causal: 2, draws: 2}
""",
    "suite",
)


@pytest.fixture(scope="module")
def subject() -> Subject:
    return tiny()


@pytest.fixture(scope="module")
def material(subject: Subject) -> Material:
    codec = subject.tokenizer
    texts = [sentences(20, seed) for seed in range(3)]
    tokens = [np.array(codec.encode(text)) for text in texts]
    ids = [document_ids([text.encode()]) for text in texts]
    held = tuple(HeldOut(doc_id, "ab"[n % 2], own) for n, (doc_id, own) in enumerate(zip(ids, tokens, strict=True)))
    return Material(haystack_of(codec), held, held, (512,), 3)


def examined(subject: Subject, material: Material, suite: Suite = SUITE, before: Before | None = None) -> Exam:
    return Examiner(subject, suite, material, print).examine(suite.levels, before or Before())


def test_every_level_and_every_part_of_it_leaves_rows(subject: Subject, material: Material) -> None:
    found = examined(subject, material)
    tasks = {(row.level, row.task) for row in found.measures}
    assert tasks == {
        ("behaviour", "niah"),
        ("behaviour", "json_kv"),
        ("probability", "niah_ppl"),
        ("probability", "holdout"),
        ("probability", "longppl"),
        ("probability", "interference"),
        ("mechanism", "retrieval_heads"),
        ("mechanism", "causal_masking"),
    }
    assert tuple(found.seconds) == LEVELS
    assert found.retrieval is not None
    assert found.retrieval.samples == 2
    assert {row.step for row in found.measures} == {100}
    keys = [(row.level, row.task, row.domain, row.metric, row.length, row.depth, row.cell) for row in found.measures]
    assert len(keys) == len(set(keys))


def test_the_same_questions_give_the_same_rows(subject: Subject, material: Material) -> None:
    assert examined(subject, material).measures == examined(subject, material).measures
    other = examined(subject, material, SUITE.model_copy(update={"seed": 1, "levels": ("probability",)}))
    assert set(other.measures) - set(examined(subject, material).measures)


def test_what_is_left_out_is_not_measured(subject: Subject, material: Material) -> None:
    suite = SUITE.model_copy(update={"holdout": None, "longppl": None, "interference": 0, "levels": ("probability",)})
    found = examined(subject, material, suite)
    assert {row.task for row in found.measures} == {"niah_ppl"}
    assert found.retrieval is None


def test_the_heads_are_compared_with_those_of_the_checkpoint_before(subject: Subject, material: Material) -> None:
    suite = SUITE.model_copy(update={"levels": ("mechanism",)})
    first = examined(subject, material, suite)
    again = examined(subject, material, suite, Before(first.retrieval, first.retrieval))
    overlap = [row.value for row in again.measures if row.metric == "top_overlap"]
    assert overlap == [1.0]
    assert not [row for row in first.measures if row.metric == "top_overlap"]


def test_heads_are_silenced_on_prompts_that_did_not_rank_them(subject: Subject, material: Material) -> None:
    examiner = Examiner(subject, SUITE, material, print)
    grid = SUITE.heads_grid
    ranked = {tuple(probe.prompt.tolist()) for probe in examiner._probes("niah", grid)}
    others = {tuple(probe.prompt.tolist()) for probe in examiner._others(grid)}
    assert len(others) == 2
    assert not ranked & others


def test_documents_that_are_too_short_for_longppl_are_told_of(subject: Subject, material: Material) -> None:
    said: list[str] = []
    suite = SUITE.model_copy(update={"levels": ("probability",), "longppl": FORM.parse("longppl: {}", "s").longppl})
    Examiner(subject, suite, material, said.append).examine(suite.levels, Before())
    assert [sentence for sentence in said if sentence.startswith("longppl: left out")]


@pytest.mark.parametrize("after", [0, 1, 3, 8])
def test_it_ends_early_when_it_is_asked_to(subject: Subject, material: Material, after: int) -> None:
    asked = iter([False] * after)
    examiner = Examiner(subject, SUITE, material, print, lambda: next(asked, True))
    with pytest.raises(StoppedError):
        examiner.examine(SUITE.levels, Before())
