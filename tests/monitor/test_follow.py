"""A run is followed until its end: every checkpoint once, and those that are gone are told of."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from mixture.errors import MonitorError, StoreError
from mixture.monitor.follow import follow, wait_for_first
from mixture.storage import write_json
from mixture.train.ending import END


class Run:
    """A training that makes its folder's next change whenever somebody waits."""

    def __init__(self, folder: Path, *changes: Callable[[], object]) -> None:
        self.folder, self.changes = folder, list(changes)
        self.examined: list[str] = []
        self.said: list[str] = []
        self.slept = 0

    def save(self, step: int) -> None:
        place = self.folder / "checkpoints" / f"step-{step:08d}"
        place.mkdir(parents=True)
        (place / "state.json").write_text("{}")

    def remove(self, step: int) -> None:
        shutil.rmtree(self.folder / "checkpoints" / f"step-{step:08d}")

    def end(self, step: int) -> None:
        write_json(self.folder / END, {"step": step})

    def sleep(self, _seconds: float) -> None:
        self.slept += 1
        assert self.changes, "nothing comes any more"
        self.changes.pop(0)()

    def examine(self, place: Path) -> Any:
        self.examined.append(place.name)
        return object()

    def follow(self) -> None:
        follow(self, self.folder, self.said.append, seconds=0.01, sleep=self.sleep)  # type: ignore[arg-type]


def test_each_checkpoint_is_examined_once_and_in_order_until_the_end(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.save(10)
    run.changes = [lambda: run.save(20), lambda: (run.save(30), run.end(30))]
    run.follow()
    assert run.examined == ["step-00000010", "step-00000020", "step-00000030"]
    assert run.said[-1] == f"{tmp_path}: came to its end at step 30"


def test_waiting_is_said_once_for_each_wait(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.changes = [lambda: None, lambda: None, lambda: run.save(10), lambda: run.end(10)]
    run.follow()
    assert run.slept == 4
    assert sum("waiting for the next checkpoint" in sentence for sentence in run.said) == 2


def test_a_run_that_was_over_before_is_examined_and_left(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.save(10)
    run.end(10)
    run.follow()
    assert run.examined == ["step-00000010"]
    assert not run.slept


def test_checkpoints_that_were_removed_before_their_turn_are_told_of(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        "name: tiny\nlock: a.lock.json\nmodel: {path: m}\nbatch: {sequences: 1}\noptimizer: {lr: 1e-3}\n"
        "checkpoints: {every: 10 steps}\n"
    )
    run = Run(tmp_path)
    run.save(10)
    run.changes = [lambda: (run.save(40), run.end(40))]
    run.follow()
    assert run.examined == ["step-00000010", "step-00000040"]
    lost = [sentence for sentence in run.said if "was removed before it was examined" in sentence]
    assert [sentence.split()[1] for sentence in lost] == ["20", "30"]


def test_one_that_is_removed_while_it_is_read_is_skipped(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.save(10)

    def examine(place: Path) -> Any:
        if place.name.endswith("10"):
            run.remove(10)
            run.save(20)
            run.end(20)
            raise StoreError("a file is gone")
        run.examined.append(place.name)
        return object()

    run.examine = examine  # type: ignore[method-assign]
    run.follow()
    assert run.examined == ["step-00000020"]
    assert run.said[0].startswith("step-00000010: was removed before it was examined; raise checkpoints.keep")


def test_an_error_of_one_that_is_still_there_is_an_error(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.save(10)

    def examine(place: Path) -> Any:
        raise MonitorError("no such tokenizer")

    run.examine = examine  # type: ignore[method-assign]
    with pytest.raises(MonitorError, match="no such tokenizer"):
        run.follow()


def test_a_run_that_has_not_begun_is_waited_for(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.changes = [lambda: None, lambda: run.save(10)]
    wait_for_first(run.folder, run.said.append, sleep=run.sleep)
    assert run.said == [f"{run.folder}: waiting for the first checkpoint; Ctrl-C ends this"]
    wait_for_first(run.folder, run.said.append, sleep=run.sleep)
    assert run.slept == 2
