"""Events: lines of a file, of a terminal and of boards; spikes, and what leads to their documents."""

from __future__ import annotations

import json
import math
import random
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixture.errors import ConfigError
from mixture.train.config import TrainConfig, parse
from mixture.train.events import Event, Events, Goal, Taken, deviation, duration, line, open_events, ranges, spike

GOAL = Goal(steps=5000, tokens=1_000_000)
PLAIN = "name: x\nlock: a.lock.json\nmodel: {path: m}\nbatch: {sequences: 1}\noptimizer: {lr: 1}\n"


def _event(step: int, loss: float = 2.0, **more: Any) -> Event:
    told: dict[str, Any] = {"grad_norm": 0.84, "lr": 1.94e-5, "seconds": 0.5, "tokens_per_second": 200.0}
    return Event(step, "long", 10 * step, 100 * step, loss, **(told | more))


def _config(events: str) -> TrainConfig:
    return parse(PLAIN + f"events: {events}\n")


def _steps(folder: Path) -> list[int]:
    return [json.loads(text)["step"] for text in (folder / "events.jsonl").read_text().splitlines()]


def test_a_line_of_a_terminal_has_all_that_is_known() -> None:
    event = _event(200, 1.93124, mfu=0.4127, memory=65_712_848_896, tokens_per_second=1234.5)
    assert line(event, GOAL) == (
        "step 200/5,000 long · loss 1.9312 · grad 0.84 · lr 1.94e-05 · 1.23K tok/s · MFU 41.3 % · 61.2 GiB · ETA 13m14s"
    )
    last = Event(5000, "", 9, 1_000_000, 2.0, 1.0, 1e-3, 1.0, 2.5e6)
    assert line(last, GOAL) == "step 5,000/5,000 · loss 2.0000 · grad 1.00 · lr 1.00e-03 · 2.5M tok/s · done"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.4, "0s"),
        (59.6, "1m00s"),
        (185, "3m05s"),
        (3600 * 3 + 12 * 60, "3h12m"),
        (2 * 86400 + 4 * 3600 + 59, "2d04h"),
        (math.inf, "unknown"),
    ],
)
def test_a_duration_is_written_by_its_two_largest_units(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_an_event_is_a_line_of_json_without_what_is_not_known() -> None:
    said = json.loads(_event(3, breakdown={"books": {"<4K": {"loss": 2.0, "tokens": 7}}}).to_json())
    assert said == {
        "step": 3,
        "phase": "long",
        "sequences": 30,
        "tokens": 300,
        "loss": 2.0,
        "grad_norm": 0.84,
        "lr": 1.94e-05,
        "seconds": 0.5,
        "tokens_per_second": 200.0,
        "breakdown": {"books": {"<4K": {"loss": 2.0, "tokens": 7}}},
    }
    assert json.loads(_event(3, math.nan).to_json())["loss"] is None


def test_going_on_from_a_step_takes_away_what_came_after_it(tmp_path: Path) -> None:
    first = Events(tmp_path)
    for step in range(1, 8):
        first.write(_event(step, float(step)))
    first.close()
    # Killed while it wrote: a line without an end.
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"step": 8, "lo')
    again = Events(tmp_path, step=4)
    assert _steps(tmp_path) == [1, 2, 3, 4]
    assert list(again.recent) == [1.0, 2.0, 3.0, 4.0]
    again.write(_event(5))
    again.close()
    assert _steps(tmp_path) == [1, 2, 3, 4, 5]
    assert not list(tmp_path.glob("*.tmp")), "written aside, and renamed"
    Events(tmp_path, step=0).close()
    assert _steps(tmp_path) == []


def test_a_whole_file_is_not_written_again(tmp_path: Path) -> None:
    first = Events(tmp_path)
    first.write(_event(1))
    first.close()
    before = (tmp_path / "events.jsonl").stat()
    Events(tmp_path, step=1).close()
    after = (tmp_path / "events.jsonl").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


@given(st.integers(0, 2**32), st.floats(0.01, 1.0))
def test_noise_is_no_spike_and_a_spike_is_one(seed: int, noise: float) -> None:
    draw = random.Random(seed)
    recent = [3.0 + noise * draw.uniform(-1, 1) for _ in range(100)]
    # Uniform noise ends at 1.35 robust deviations (1 / (1.4826 · 0.5)); a sample's may be a little off.
    assert deviation(recent, 3.0 + noise) < 3
    assert deviation(recent, 3.0 + 10 * noise) > 6
    assert deviation(recent, 3.0 - 10 * noise) < 0


def test_deviations_by_hand() -> None:
    # Median 3, absolute deviations 2 1 0 1 2 each five times: their median is 1.
    assert deviation([1.0, 2.0, 3.0, 4.0, 5.0] * 5, 6.0) == pytest.approx(3 / 1.4826)
    assert deviation([2.0] * 30, 2.0) == 0
    assert deviation([2.0] * 30, 2.01) == pytest.approx(5)
    assert deviation([1.0] * 19, 100.0) == 0, "too few to know"


def test_one_spike_does_not_hide_the_next(tmp_path: Path) -> None:
    events = Events(tmp_path)
    draw = random.Random(0)
    above = [events.write(_event(step, 2 + 0.1 * draw.uniform(-1, 1))) for step in range(1, 60)]
    spikes = [events.write(_event(60, 4.0)), events.write(_event(61, 4.0))]
    events.close()
    assert max(above) < 6 < min(spikes)


def test_a_spike_names_its_sequences_and_the_command_that_finds_their_documents() -> None:
    taken = Taken("m/x.lock.json", "long", 41, 4, (164, 165, 166, 167), options="--work /w")
    assert spike(_event(200, 9.0), 7.25, taken) == (
        "step 200: loss 9.0000 is a spike, 7.2 deviations above the recent ones; it was of sequences 164-167: "
        "mixture trace m/x.lock.json --step 41 --batch 4 --phase long --work /w"
    )
    shuffled = Taken("x.lock.json", "", 41, 4, (90, 7, 8, 3), shuffled=True)
    assert shuffled.command == "mixture trace x.lock.json --sequence 90"
    # After a batch of another size, steps are no multiples of this one.
    assert Taken("x.lock.json", "", 41, 4, (100, 101, 102, 103)).command == "mixture trace x.lock.json --sequence 100"


def test_the_command_is_one_that_mixture_trace_takes() -> None:
    from typer.testing import CliRunner

    from mixture.cli import app

    for taken in (Taken("gone.lock.json", "a", 1, 2, (2, 3)), Taken("gone.lock.json", "", 1, 2, (9, 8), shuffled=True)):
        done = CliRunner().invoke(app, taken.command.split()[1:])
        assert done.exit_code == 1, done.output
        assert "gone.lock.json" in done.output


@given(st.sets(st.integers(0, 60)))
def test_ranges_name_every_number(numbers: set[int]) -> None:
    shown, _, more = ranges(numbers).partition(" and ")
    found: set[int] = set()
    for part in filter(None, shown.split(", ")):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    assert found <= numbers
    assert len(numbers - found) == int(more.split()[0] if more else 0)


def test_tensorboard_gets_every_number_and_hides_what_is_done_again(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    pytest.importorskip("torch")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for step, losses in ((0, [5.0, 4.0, 3.0]), (2, [1.0])):
        events = open_events(_config("{wandb: false}"), tmp_path, _never, step=step)
        for number, loss in enumerate(losses, step + 1):
            cell = {"books": {"<4K": {"loss": loss + 1, "tokens": 3}}}
            events.write(_event(number, loss, memory=7 if number == 1 else None, breakdown=cell))
        events.close()
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    assert [(point.step, point.value) for point in board.Scalars("train/loss")] == [(1, 5.0), (2, 4.0), (3, 1.0)]
    assert [point.value for point in board.Scalars("loss/books <4K")] == [6.0, 5.0, 2.0]
    assert [point.step for point in board.Scalars("train/memory")] == [1]


def _never(sentence: str) -> None:
    pytest.fail(f"nothing is amiss, but: {sentence}")


def test_without_tensorboard_training_goes_on_and_it_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    said: list[str] = []
    events = open_events(_config("{wandb: false}"), tmp_path, said.append)
    events.write(_event(1))
    events.write(_event(2))
    events.close()
    assert len(said) == 1
    assert "is not installed: pip install tensorboard" in said[0]
    assert _steps(tmp_path) == [1, 2]


class _Stub(types.ModuleType):
    """What Weights & Biases is to us."""

    def __init__(self, key: str | None) -> None:
        super().__init__("wandb")
        self.api = types.SimpleNamespace(api_key=key)
        self.begun: list[dict[str, Any]] = []
        self.points: list[tuple[int, dict[str, float]]] = []
        self.finished = 0

    def init(self, **how: Any) -> Any:
        self.begun.append(how)
        return types.SimpleNamespace(log=self._log, finish=self._finish)

    def _log(self, scalars: dict[str, float], step: int) -> None:
        self.points.append((step, scalars))

    def _finish(self) -> None:
        self.finished += 1


def test_weights_and_biases_is_told_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    stub = _Stub(key=None)
    monkeypatch.setitem(sys.modules, "wandb", stub)
    for step in (0, 1):
        events = open_events(_config("{tensorboard: false, project: mine}"), tmp_path, _never, step=step)
        events.write(_event(step + 1))
        events.close()
    first, second = stub.begun
    assert (first["project"], first["name"], first["mode"], first["resume"]) == ("mine", "x", "offline", "allow")
    assert first["id"] == second["id"], "the same folder is the same run"
    assert first["config"]["optimizer"]["lr"] == 1.0
    assert [step for step, _ in stub.points] == [1, 2]
    assert stub.points[0][1]["train/loss"] == 2.0
    assert stub.finished == 2
    stub.api.api_key = "k"
    open_events(_config("{tensorboard: false}"), tmp_path, _never).close()
    assert stub.begun[-1]["mode"] == "online"
    open_events(_config("{tensorboard: false, wandb: false}"), tmp_path, _never).close()
    assert len(stub.begun) == 3


def test_weights_and_biases_is_only_missed_where_it_is_demanded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    open_events(_config("{tensorboard: false}"), tmp_path, _never).close()
    with pytest.raises(ConfigError, match=r"events\.wandb: true, but wandb is not installed"):
        open_events(_config("{tensorboard: false, wandb: true}"), tmp_path, _never)
