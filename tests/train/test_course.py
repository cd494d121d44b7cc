"""A run's course: what was decided is followed once, also by a run that goes on, and is in the record before."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

pytest.importorskip("torch")

from mixture.errors import ConfigError, StoreError
from mixture.train.checkpoint import Stand
from mixture.train.config import parse
from mixture.train.course import GATES, Course
from mixture.train.examining import Finding
from mixture.train.run import Leg, Run
from mixture.train.schedule import Stretch

CONFIG = """
name: x
lock: x.lock.json
model: {path: m}
batch: {sequences: 10}
optimizer: {lr: 1.0}
schedule: {kind: wsd, warmup: 2 steps, decay: 4 steps, shape: linear}
"""
ADVANCE = Finding({}, "advance", "short context has recovered")
STOP = Finding({}, "stop", "all is saturated")


@dataclass
class Road:
    """A run of two phases, 10 and 5 steps of 10 sequences, and what is heard of its course."""

    out: Path
    config: str = CONFIG
    first: bool = True
    waits: int = 0
    said: list[str] = field(default_factory=list)

    def course(self, step: int = 0, *, anew: bool = False) -> Course:
        config = parse(self.config)
        run = Run(config, cast("Any", None), "x.lock.json", [], self.out)
        legs = [
            Leg(config, cast("Any", None), Stretch(*rest)) for rest in (("short", 100, 64, 10), ("long", 50, 128, 10))
        ]
        return Course(run, cast("Any", self), self.said.append, legs, step=step, anew=anew)

    def wait(self) -> None:
        self.waits += 1

    def decisions(self) -> list[tuple[int, str]]:
        return [(one["step"], one["action"]) for one in json.loads((self.out / GATES).read_text())["decisions"]]


@pytest.fixture
def road(tmp_path: Path) -> Road:
    return Road(tmp_path)


def at(step: int) -> Stand:
    """Where the run stands after some steps of its first phase."""
    return Stand(step, 0, 10 * step, 640 * step, "", {}, {})


def steps(course: Course) -> list[int]:
    return [leg.stretch.steps for leg in course.legs]


def rates(course: Course) -> list[float]:
    return [
        round(course.rates.lr(number, step), 2) for number, many in enumerate(steps(course)) for step in range(many)
    ]


def test_a_phase_that_is_left_is_as_long_as_it_was_and_the_rates_end_where_the_run_does(road: Road) -> None:
    course = road.course()
    assert (steps(course), course.gate) == ([10, 5], "")
    assert rates(course) == [0.5, *[1.0] * 11, 0.75, 0.5, 0.25]
    kept = course.legs[1]
    course.decide(ADVANCE, at(3))
    assert (steps(course), course.gate) == ([3, 5], "")
    assert rates(course) == [0.5, 1, 1, 1, 1, 0.75, 0.5, 0.25]
    assert course.legs[1] is kept
    assert road.said == ["step 3: advance: short context has recovered"]
    assert json.loads((road.out / GATES).read_text())["decisions"] == [
        {"step": 3, "action": "advance", "phase": 0, "sequences": 30, "reason": "short context has recovered"}
    ]


def test_a_stop_leaves_phases_and_rates_as_they_are(road: Road) -> None:
    course = road.course()
    course.decide(STOP, at(3))
    assert (steps(course), course.gate) == ([10, 5], "all is saturated")
    assert rates(course) == rates(Road(road.out / "other").course())
    assert road.decisions() == [(3, "stop")]


def test_to_stay_is_no_decision(road: Road) -> None:
    course = road.course()
    course.decide(Finding({"niah score": 1.0}), at(3))
    assert (steps(course), road.said) == ([10, 5], [])
    assert not (road.out / GATES).exists()


def test_a_run_that_goes_on_follows_what_was_decided_before_it_and_nothing_of_later(road: Road) -> None:
    course = road.course()
    course.decide(ADVANCE, at(3))
    course.decide(STOP, Stand(5, 1, 20, 0, "", {}, {}))
    for step, found in ((2, ([10, 5], "")), (3, ([3, 5], "")), (4, ([3, 5], "")), (5, ([3, 5], "all is saturated"))):
        road.said.clear()
        again = road.course(step)
        assert (steps(again), again.gate) == found
        told = ["step 3: advance, as was decided there: short context has recovered"] if step >= 3 else []
        told += ["step 5: stop, as was decided there: all is saturated"] if step == 5 else []
        assert road.said == told
    # Whoever goes another way from step 4 writes its own record.
    road.course(4).decide(STOP, Stand(6, 1, 30, 0, "", {}, {}))
    assert road.decisions() == [(3, "advance"), (6, "stop")]


def test_what_was_decided_is_not_decided_again_by_the_run_that_goes_on_from_there(road: Road) -> None:
    road.course().decide(ADVANCE, at(3))
    again = road.course(3)
    road.said.clear()
    again.decide(ADVANCE, at(3))
    assert (road.said, road.decisions(), steps(again)) == ([], [(3, "advance")], [3, 5])
    again.decide(STOP, at(3))
    assert road.decisions() == [(3, "advance"), (3, "stop")]


def test_a_stop_that_is_waived_is_not_decided_again_there_but_later_on(road: Road) -> None:
    course = road.course()
    course.decide(ADVANCE, at(3))
    course.decide(STOP, Stand(5, 1, 20, 0, "", {}, {}))
    record = (road.out / GATES).read_bytes()
    anew = road.course(5, anew=True)
    assert (steps(anew), anew.gate) == ([3, 5], "")
    assert (road.out / GATES).read_bytes() == record  # until the run begins
    anew.waive()
    assert road.decisions() == [(3, "advance")]
    anew.decide(STOP, Stand(5, 1, 20, 0, "", {}, {}))
    assert (anew.gate, road.decisions()) == ("", [(3, "advance")])
    anew.decide(STOP, Stand(6, 1, 30, 0, "", {}, {}))
    assert (anew.gate, road.decisions()) == ("all is saturated", [(3, "advance"), (6, "stop")])


def test_where_nothing_is_waived_the_record_is_not_touched(road: Road) -> None:
    road.course(0, anew=True).waive()
    assert not (road.out / GATES).exists()
    course = road.course()
    course.decide(STOP, at(3))
    road.course(2).waive()
    assert road.decisions() == [(3, "stop")]


def test_a_phase_is_not_left_where_the_schedule_would_not_fit_into_the_rest(tmp_path: Path) -> None:
    # Warm-up and decay are 6 steps, and 0 + 5 would be left.
    road = Road(tmp_path)
    course = road.course()
    before = rates(course)
    course.decide(ADVANCE, at(0))
    assert (steps(course), rates(course), course.gate) == ([10, 5], before, "")
    (said,) = road.said
    assert said.startswith("step 0: advance is not possible: schedule: warmup 2 steps")
    assert not (tmp_path / GATES).exists()


def test_every_rank_decides_and_waits_for_the_record_that_the_first_one_writes(tmp_path: Path) -> None:
    road = Road(tmp_path, first=False)
    course = road.course()
    course.decide(ADVANCE, at(3))
    assert (steps(course), road.waits) == ([3, 5], 1)
    assert not (tmp_path / GATES).exists()


def test_a_decision_that_cannot_be_written_is_not_followed(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    from mixture.train import course as module

    def full(*_: Any) -> None:
        raise StoreError("the disk is full")

    course = road.course()
    monkeypatch.setattr(module, "write_json", full)
    with pytest.raises(StoreError, match="the disk is full"):
        course.decide(ADVANCE, at(3))
    assert (steps(course), road.said) == ([10, 5], [])


def test_a_record_that_is_damaged_is_told(road: Road) -> None:
    road.course().decide(ADVANCE, at(3))
    text = (road.out / GATES).read_text()
    (road.out / GATES).write_text(text.replace('"step": 3', '"step": 4'))
    with pytest.raises(StoreError, match=GATES):
        road.course()


def test_a_schedule_that_does_not_fit_what_was_decided_before_is_told(road: Road) -> None:
    road.course().decide(ADVANCE, at(3))
    road.config = CONFIG.replace("4 steps", "7 steps")
    with pytest.raises(ConfigError, match="do not fit into 8 steps"):
        road.course(3)
