"""A run that examines itself learns what it would have learnt, and does what its gates say, also after a kill."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.train.conftest import Gym

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("statsmodels")

from mixture.monitor import in_training  # noqa: E402
from mixture.monitor.gates import Decision  # noqa: E402
from mixture.monitor.measures import read  # noqa: E402

SUITE = {
    "window": 512,
    "tasks": {"niah": {"lengths": [256]}},
    "depths": 2,
    "samples": 1,
    "holdout": {"documents": 2, "positions": [64]},
    "longppl": None,
    "interference": 0,
    "heads": {"lengths": [256], "depths": 1, "causal": 0},
}


@pytest.fixture
def suite(gym: Gym) -> str:
    path = gym.root / "suite.yaml"
    path.write_text(yaml.safe_dump(SUITE))
    return str(path)


def steps(gym: Gym, out: str = "run") -> list[int]:
    rows = read(gym.root / out / "monitor")
    return sorted({row.step for row in rows if row.step is not None})


def examinations(gym: Gym, out: str = "run") -> list[dict[str, Any]]:
    return [event for event in gym.events(out) if "monitor" in event]


def losses(gym: Gym, out: str) -> list[float]:
    return [event["loss"] for event in gym.events(out) if "loss" in event]


def deciding(monkeypatch: pytest.MonkeyPatch, decide: Callable[[int], Decision]) -> None:
    """Let gates decide by the step."""
    monkeypatch.setattr(in_training, "decided", lambda rows, *_: decide(max(row.step or 0 for row in rows)))


def test_a_monitored_run_has_the_losses_of_one_that_is_not(gym: Gym, suite: str) -> None:
    assert gym.train(out="plain").code == 0
    said = gym.train(out="watched", monitor={"every": "3 steps", "suite": suite})
    assert said.code == 0, said.err
    assert losses(gym, "watched") == losses(gym, "plain")
    assert steps(gym, "watched") == [0, 3, 6]
    assert [event["step"] for event in examinations(gym, "watched")] == [0, 3, 6]
    assert "niah score" in examinations(gym, "watched")[-1]["monitor"]


def test_it_is_examined_in_tokens_too_and_not_before_the_first_step_where_that_is_not_wanted(
    gym: Gym, suite: str
) -> None:
    said = gym.train(monitor={"every": f"{6 * 64 * 4} tokens", "suite": suite, "first": False})
    assert said.code == 0, said.err
    assert steps(gym) == [4]
    assert gym.checkpoints() == ["step-00000002", "step-00000004", "step-00000006"]


def test_a_run_goes_on_from_where_it_was_with_the_same_losses_and_no_examination_twice(gym: Gym, suite: str) -> None:
    gym.train(out="whole")
    for stop in ("1 steps", "3 steps", "6 steps"):
        said = gym.train(out="parts", stop=stop, monitor={"every": "3 steps", "suite": suite})
        assert said.code == 0, said.err
    assert losses(gym, "parts") == losses(gym, "whole")
    assert steps(gym, "parts") == [0, 3, 6]


def test_what_was_due_when_a_run_was_killed_is_examined_when_it_goes_on(
    gym: Gym, suite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = {"every": "4 steps", "suite": suite, "first": False}
    real = in_training.InTraining.__call__

    def killed(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(in_training.InTraining, "__call__", killed)
    assert gym.train(monitor=rule).code == 130
    assert gym.checkpoints()[-1] == "step-00000004"
    monkeypatch.setattr(in_training.InTraining, "__call__", real)
    assert gym.train(monitor=rule).code == 0
    assert steps(gym) == [4]
    gym.train(out="plain")
    assert losses(gym, "run") == losses(gym, "plain")


def test_a_gate_that_stops_a_run_stops_it_for_good(gym: Gym, suite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    deciding(monkeypatch, lambda step: Decision("stop" if step >= 4 else "stay", "all is saturated"))
    rule = {"every": "2 steps", "suite": suite, "first": False}
    said = gym.train(monitor=rule)
    assert said.code == 0, said.err
    assert said.json["step"] == 4
    assert said.json["gate"] == "all is saturated"
    assert "step 4: stop: all is saturated" in said.err
    assert examinations(gym)[-1]["action"] == "stop"
    assert json.loads((gym.root / "run" / "end.json").read_text())["step"] == 4
    # As a person has it, and after a kill that lost the gate's own record of why.
    again = gym.train(monitor=rule)
    assert (again.json["step"], again.json["gate"]) == (4, "all is saturated")
    assert len(losses(gym, "run")) == 4
    assert [event["step"] for event in examinations(gym)] == [2, 4]


def test_changed_goes_on_all_the_same(gym: Gym, suite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    deciding(monkeypatch, lambda step: Decision("stop" if step == 2 else "stay", "all is saturated"))
    rule = {"every": "2 steps", "suite": suite, "first": False}
    assert gym.train(monitor=rule).json["step"] == 2
    said = gym.train("--changed", monitor=rule)
    assert (said.json["step"], said.json["gate"]) == (6, None)
    # From then on nothing was ever decided.
    said = gym.train(monitor=rule)
    assert (said.json["step"], said.json["gate"]) == (6, None)
    gym.train(out="plain")
    assert losses(gym, "run") == losses(gym, "plain")


def test_a_gate_that_advances_goes_to_the_next_phase_and_so_does_a_run_that_goes_on(
    gym: Gym, suite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    deciding(monkeypatch, lambda step: Decision("advance" if step == 2 else "stay", "short context has recovered"))
    rule = {"every": "2 steps", "suite": suite, "first": False}
    changes = {"lock": "phased.lock.json", "stop": "100%", "batch": {"sequences": 24}, "monitor": rule}
    whole = gym.train(out="whole", **changes)
    assert whole.code == 0, whole.err
    phases = [event["phase"] for event in gym.events("whole") if "phase" in event]
    assert phases[:2] == ["short", "short"]
    assert set(phases[2:]) == {"long"}
    assert "step 2: advance: short context has recovered" in whole.err
    told = [line.split(" · ")[0] for line in whole.err.splitlines() if " · loss " in line]
    assert told == ["step 1/9 short", "step 2/9 short", "step 3/5 long", "step 4/5 long", "step 5/5 long"]
    assert [event["sequences"] for event in gym.events("whole") if "phase" in event][:3] == [24, 48, 24]
    # Stopped on the way, and gone on: the same sequences, the same losses.
    for stop in ("8 steps", "100%"):
        said = gym.train(out="parts", **(changes | {"stop": stop}))
        assert said.code == 0, said.err
    assert losses(gym, "parts") == losses(gym, "whole")


def test_a_decision_at_a_run_s_last_checkpoint_is_followed_once_by_the_run_that_goes_on(
    gym: Gym, suite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    deciding(monkeypatch, lambda step: Decision("advance" if step == 2 else "stay", "short context has recovered"))
    rule = {"every": "2 steps", "suite": suite, "first": False}
    changes = {"lock": "phased.lock.json", "batch": {"sequences": 24}, "monitor": rule}
    first = gym.train(stop="2 steps", **changes)
    assert "step 2: advance: short context has recovered" in first.err
    said = gym.train(stop="100%", **changes)
    assert said.code == 0, said.err
    assert "step 2: advance, as was decided there: short context has recovered" in said.err
    assert "step 2: advance: " not in said.err
    decisions = json.loads((gym.root / "run" / "gates.json").read_text())["decisions"]
    assert [(one["step"], one["action"]) for one in decisions] == [(2, "advance")]
    assert [event["phase"] for event in gym.events() if "phase" in event] == ["short"] * 2 + ["long"] * 3


def test_an_examination_that_fails_is_told_of_and_training_goes_on(
    gym: Gym, suite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mixture.errors import MonitorError

    def fail(*_: Any, **__: Any) -> Any:
        raise MonitorError("the disk is full")

    monkeypatch.setattr(in_training.InTraining, "__call__", fail)
    said = gym.train(monitor={"every": "3 steps", "suite": suite, "first": False})
    assert said.code == 0
    assert "step-00000003 was not examined (the disk is full); training goes on" in said.err
    assert len(losses(gym, "run")) == 6


def test_a_wrong_suite_is_told_before_the_first_step(gym: Gym, suite: str) -> None:
    said = gym.train(monitor={"every": "3 steps", "suite": "nowhere.yaml"})
    assert said.code == 1
    assert "nowhere.yaml: no such suite" in said.error
    assert not (gym.root / "run" / "events.jsonl").exists()
    Path(suite).write_text("window: 64\n")
    assert "holds no question" in gym.train(monitor={"every": "3 steps", "suite": suite}).error
    said = gym.train(monitor={"every": "0.5", "suite": suite})
    assert "every: write 500 steps, or 100M for tokens" in said.error


def test_ctrl_c_in_an_examination_ends_the_run_there_and_the_next_start_examines_it(
    gym: Gym, suite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = in_training.InTraining.__call__

    def pressed(self: Any, checkpoint: Path, **how: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return real(self, checkpoint, **how)

    rule = {"every": "4 steps", "suite": suite, "first": False}
    monkeypatch.setattr(in_training.InTraining, "__call__", pressed)
    said = gym.train(monitor=rule)
    assert said.code in (130, 143)
    assert said.json["step"] == 4
    assert not (gym.root / "run" / "monitor" / "metrics.parquet").exists()
    monkeypatch.setattr(in_training.InTraining, "__call__", real)
    assert gym.train(monitor=rule).json["step"] == 6
    assert steps(gym) == [4]


def test_a_run_that_is_to_end_leaves_the_examination_to_the_next_start(
    gym: Gym, suite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mixture.train import telling

    tell, real, asked = telling.line, in_training.InTraining.__call__, list[str]()

    def interrupted(event: Any, goal: Any) -> str:
        if event.step == 3:
            signal.raise_signal(signal.SIGINT)
        return tell(event, goal)

    def counted(self: Any, checkpoint: Path, **how: Any) -> Any:
        asked.append(checkpoint.name)
        return real(self, checkpoint, **how)

    rule = {"every": "4 steps", "suite": suite, "first": False}
    monkeypatch.setattr(in_training.InTraining, "__call__", counted)
    with monkeypatch.context() as patch:
        patch.setattr(telling, "line", interrupted)
        assert gym.train(monitor=rule).json["step"] == 4
    assert asked == []
    assert gym.train(monitor=rule).json["step"] == 6
    assert asked == ["step-00000004"]


def test_two_ranks_wait_for_the_first(gym: Gym, suite: str) -> None:
    said = gym.ranks(2, monitor={"every": "3 steps", "suite": suite, "first": False}, stop="4 steps")
    assert said[0].code == 0, said[0].err
    assert steps(gym) == [3]
    assert len(losses(gym, "run")) == 4
