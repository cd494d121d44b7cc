"""The local engine: every task once, killed workers replaced, errors passed on, nothing left behind."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from mixture.engine import Task
from mixture.engine.local import Local
from mixture.errors import EngineError, InputError

HERE = "tests.engine.test_local"


def _task(function: str, **arguments: Any) -> Task:
    return Task(f"{HERE}:{function}", arguments, 1, f"{function} {arguments}")


def square(number: int) -> int:
    return number * number


def bad(number: int) -> int:
    raise InputError(f"row {number} is bad")


def die_once(flag: str) -> int:
    try:
        os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return os.getpid()
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def always_die(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def slow(number: int, folder: str) -> int:
    (Path(folder) / str(number)).touch()
    time.sleep(30)
    return number


@pytest.mark.parametrize("workers", [1, 2])
def test_every_task_runs_once_and_brings_its_record(workers: int) -> None:
    with Local(workers) as engine:
        tasks = [_task("square", number=n) for n in range(9)]
        assert {task.arguments["number"]: record for task, record in engine.run(tasks)} == {n: n * n for n in range(9)}
        # The pool stays for the next stage.
        assert [record for _, record in engine.run([_task("square", number=5), _task("square", number=5)])] == [25, 25]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_task_s_own_error_arrives_as_it_is(workers: int) -> None:
    with Local(workers) as engine, pytest.raises(InputError, match="row 3 is bad"):
        list(engine.run([_task("square", number=1), _task("bad", number=3)]))


def test_a_killed_worker_s_tasks_run_again(tmp_path: Path) -> None:
    tasks = [_task("square", number=n) for n in range(6)] + [_task("die_once", flag=str(tmp_path / "flag"))]
    with Local(2) as engine:
        done = [task for task, _ in engine.run(tasks)]
    assert sorted(t.label for t in done) == sorted(t.label for t in tasks)


def test_a_task_that_always_kills_its_worker_is_given_up_with_a_sentence() -> None:
    with Local(2) as engine, pytest.raises(EngineError, match=r"killed 3 times while .* always_die .* fewer --workers"):
        list(engine.run([_task("always_die", number=1), _task("always_die", number=2)]))


def test_an_error_stops_the_others_and_leaves_no_process(tmp_path: Path) -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    began = time.monotonic()
    with Local(2) as engine:
        tasks = [_task("slow", number=n, folder=str(tmp_path)) for n in range(6)] + [_task("bad", number=1)]
        tasks[-1] = Task(tasks[-1].function, tasks[-1].arguments, 9, "first")
        with pytest.raises(InputError):
            list(engine.run(tasks))
    assert time.monotonic() - began < 20
    left = {child.pid for child in psutil.Process().children(recursive=True)} - before
    # The resource tracker of multiprocessing may stay; workers may not.
    assert all("resource_tracker" in " ".join(psutil.Process(pid).cmdline()) for pid in left)
    assert len(list(tmp_path.iterdir())) < 6
