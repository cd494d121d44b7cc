"""A folder of results knows what was asked, who was examined, and refuses to mix."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

import numpy as np

from mixture.errors import MonitorError, StoreError
from mixture.monitor.exam import Exam
from mixture.monitor.heads import Retrieval
from mixture.monitor.measures import Measure
from mixture.monitor.results import Results, Sitting
from mixture.monitor.suite import FORM, Suite


def measure(step: int | None, level: str = "behaviour", value: float = 0.5) -> Measure:
    return Measure("tiny", step, step, level, "niah", "", "score", None, None, "", value, value, value, 1)


def scores(step: int) -> Retrieval:
    ones = np.ones((1, 2, 2))
    return Retrieval("tiny", step, step, ones, ones, (("niah", 256, 0.5, 0),))


def sitting(step: int | None, place: Path, stamp: str = "a") -> Sitting:
    return Sitting(place, "tiny", step, stamp)


def exam(step: int | None, *levels: str, heads: bool = True) -> Exam:
    found = scores(step) if heads and step is not None else None
    return Exam(tuple(measure(step, level) for level in levels), found, dict.fromkeys(levels, 1.0))


def test_levels_that_were_examined_are_not_asked_again(tmp_path: Path) -> None:
    results, at = Results(tmp_path / "out"), sitting(100, tmp_path)
    assert results.missing(at, ["behaviour", "mechanism"]) == ["behaviour", "mechanism"]
    results.add(at, exam(100, "behaviour"))
    assert results.missing(at, ["behaviour", "mechanism"]) == ["mechanism"]
    results.add(at, exam(100, "mechanism"))
    assert results.missing(at, ["behaviour", "mechanism"]) == []
    assert {row.level for row in results.measures()} == {"behaviour", "mechanism"}


def test_other_weights_in_the_same_place_are_examined_anew(tmp_path: Path) -> None:
    results = Results(tmp_path / "out")
    results.add(sitting(100, tmp_path), exam(100, "behaviour"))
    again = sitting(100, tmp_path, "b")
    assert results.missing(again, ["behaviour"]) == ["behaviour"]
    results.add(again, exam(100, "behaviour"))
    assert results.missing(again, ["behaviour"]) == []
    assert len(results.measures()) == 1


@pytest.mark.parametrize("step", [100, None])
def test_another_model_of_the_same_name_is_refused(tmp_path: Path, step: int | None) -> None:
    results = Results(tmp_path / "out")
    results.add(sitting(step, tmp_path / "a" / "tiny"), exam(step, "behaviour"))
    with pytest.raises(MonitorError, match=r"another .*named 'tiny'.*give another --out"):
        results.missing(sitting(step, tmp_path / "b" / "tiny", "b"), ["behaviour"])


def test_a_run_that_was_moved_is_the_same_run(tmp_path: Path) -> None:
    results = Results(tmp_path / "out")
    results.add(sitting(100, tmp_path / "a" / "tiny"), exam(100, "behaviour"))
    assert results.missing(sitting(100, tmp_path / "b" / "tiny"), ["behaviour"]) == []


def test_the_first_and_the_previous_checkpoint_s_heads_are_found(tmp_path: Path) -> None:
    results = Results(tmp_path / "out")
    assert results.before(sitting(100, tmp_path)).first is None
    for step in (100, 200, 300):
        results.add(sitting(step, tmp_path), exam(step, "mechanism"))
    before = results.before(sitting(300, tmp_path))
    assert before.first is not None
    assert before.previous is not None
    assert (before.first.step, before.previous.step) == (100, 200)
    # What comes later has no say in what is earlier.
    assert results.before(sitting(100, tmp_path)).first is None


def test_rows_of_two_suites_never_stand_in_one_table(tmp_path: Path) -> None:
    results = Results(tmp_path)
    assert results.suite(Suite()) is None
    assert results.written() is None
    laid = FORM.parse("lengths: [4K]\nwindow: 4K", "s")
    results.begin(Suite(), laid, {"t": "x"})
    again = results.suite(FORM.parse("device: cpu\nlevels: [mechanism]", "s"))
    assert again is not None
    assert (again.window, again.device, again.levels) == (4096, "cpu", ("mechanism",))
    assert results.written() == Suite()
    with pytest.raises(MonitorError, match=r"another suite \(seed: 0 → 1\).*another --out"):
        results.suite(FORM.parse("seed: 1", "s"))


def test_other_text_is_refused_and_another_vocabulary_s_is_noted(tmp_path: Path) -> None:
    results = Results(tmp_path)
    results.begin(Suite(), Suite(), {"bytes": "x"})
    results.check_text("bytes", "x")
    results.check_text("words", "y")
    results.check_text("words", "y")
    with pytest.raises(MonitorError, match="was measured with other text"):
        results.check_text("words", "z")


def test_a_record_that_was_changed_by_hand_is_told_of(tmp_path: Path) -> None:
    results = Results(tmp_path)
    results.add(sitting(100, tmp_path), exam(100, "behaviour"))
    record = tmp_path / "exams" / "tiny" / "step-00000100.json"
    record.write_text(record.read_text().replace("behaviour", "mechanism"))
    with pytest.raises(StoreError, match="its seal does not fit its bytes"):
        results.missing(sitting(100, tmp_path), ["behaviour"])


def test_a_folder_without_a_table_has_no_measures(tmp_path: Path) -> None:
    assert Results(tmp_path / "none").measures() == []
