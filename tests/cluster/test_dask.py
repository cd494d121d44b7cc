"""A real Dask cluster on loopback: same bytes as here, whatever is killed; one sentence for what is wrong."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from mixture.engine.local import Local
from tests.cluster import driver
from tests.conftest import Kitchen

pytest.importorskip("distributed", reason="Dask is not installed: pip install 'mixture[dask]'")
pytestmark = [pytest.mark.cluster, pytest.mark.slow]


class Dask:
    """A scheduler and its workers, all of them processes of ours."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        self.file = folder / "scheduler.json"
        self.scheduler = self.start("scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", self.file)
        until(lambda: self.file.exists() and self.file.read_text())
        self.address = str(json.loads(self.file.read_text())["address"])

    def start(self, kind: str, *options: object) -> subprocess.Popen[bytes]:
        line = [sys.executable, "-m", "dask", kind, "--no-dashboard", *map(str, options)]
        with (self.folder / f"{len(self.processes)}-{kind}.log").open("wb") as log:
            process = subprocess.Popen(line, cwd=self.folder, env=driver.environment(), stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def node(self, workers: int = 1, threads: int = 1) -> subprocess.Popen[bytes]:
        """Start a nanny with its workers: what `dask worker` is on a node."""
        folder = ("--local-directory", self.folder)
        return self.start("worker", self.address, "--nworkers", workers, "--nthreads", threads, *folder)

    def profile(self, **more: Any) -> dict[str, Any]:
        return {"engine": "dask", "dask": {"address": self.address}} | more

    def run(self, *calls: tuple[str, dict[str, Any]], **more: Any) -> dict[str, Any]:
        return driver.finish(driver.start(self.profile(**more), "tasks", json.dumps(calls)))

    def stop(self) -> None:
        for process in self.processes:
            kill_node(process)


def kill_node(nanny: subprocess.Popen[bytes]) -> None:
    """SIGKILL a process and all that it started, at once."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in [psutil.Process(nanny.pid), *psutil.Process(nanny.pid).children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
    nanny.wait(60)


def until(true: Callable[[], object]) -> None:
    for _ in range(1200):
        if true():
            return
        time.sleep(0.05)
    raise AssertionError("waited in vain")


@pytest.fixture
def dask(tmp_path: Path) -> Iterator[Dask]:
    cluster = Dask(tmp_path)
    yield cluster
    cluster.stop()


@pytest.fixture
def local(kitchen: Kitchen) -> list[str]:
    """What this machine makes of the corpus."""
    driver.corpus(kitchen)
    with Local(1) as engine:
        return driver.build(engine, kitchen.root, "local")


def test_a_dask_cluster_makes_the_same_shards(kitchen: Kitchen, local: list[str], dask: Dask) -> None:
    dask.node(workers=2)
    made = driver.finish(driver.start(dask.profile(), "build", str(kitchen.root), "dask"))
    assert len(local) > 5
    assert made == {"hashes": local, "said": []}


def test_nodes_and_the_driver_may_be_killed_and_the_shards_stay_the_same(
    kitchen: Kitchen, local: list[str], dask: Dask
) -> None:
    first = dask.node(workers=2)
    store = kitchen.root / "dask"
    running = driver.start(dask.profile(), "build", str(kitchen.root), "dask")
    until(lambda: list(store.rglob("*.arrow")) or running.poll() is not None)
    kill_node(first)
    # Without a worker it cannot have ended.
    assert running.poll() is None
    running.kill()
    running.communicate(timeout=60)
    second = dask.node(workers=2)
    running = driver.start(dask.profile(), "build", str(kitchen.root), "dask")
    until(lambda: list(store.rglob("shard-*.arrow")) or running.poll() is not None)
    kill_node(second)
    dask.node()
    assert driver.finish(running)["hashes"] == local


def test_records_come_back_and_each_error_is_what_it_was(dask: Dask) -> None:
    dask.node(workers=2)
    squares = [("square", {"number": n}) for n in range(50)]
    assert dask.run(*squares)["records"] == [n * n for n in range(50)]
    assert dask.run(("square", {"number": 1}), ("bad", {"number": 3}))["error"] == ["InputError", "row 3 is bad"]
    name, sentence = dask.run(("crash", {"number": 3}))["error"]
    assert name == "EngineError"
    assert "crash 0: failed on" in sentence
    assert f"({sys.executable}) with KeyError: 3;" in sentence
    name, sentence = dask.run(("full", {"path": "/there"}))["error"]
    assert name == "StoreError"
    assert "the disk is full" in sentence


def test_a_task_whose_worker_is_killed_runs_again_but_not_for_ever(dask: Dask, tmp_path: Path) -> None:
    dask.node(workers=2)
    done = dask.run(("die_once", {"flag": str(tmp_path / "flag")}), ("square", {"number": 3}))
    assert done["records"] == ["lived", 9]
    name, sentence = dask.run(("die", {}))["error"]
    assert name == "EngineError"
    # Dask itself tries four times before it tells.
    assert "pack: die 0: what ran it was lost 4 times" in sentence
    assert "retries: 2" in sentence
    assert "memory" in sentence


def test_a_node_that_dies_in_the_middle_of_a_task_loses_nothing(dask: Dask, tmp_path: Path) -> None:
    node = dask.node()
    mark, flag = tmp_path / "mark", tmp_path / "flag"
    running = driver.start(dask.profile(), "tasks", json.dumps([("wait_for", {"flag": str(flag), "mark": str(mark)})]))
    until(mark.exists)
    kill_node(node)
    before = mark.read_text()
    dask.node()
    until(lambda: mark.read_text() not in ("", before))
    flag.touch()
    assert driver.finish(running)["records"] == [int(mark.read_text())]


def test_a_scheduler_that_is_lost_is_one_sentence(dask: Dask, tmp_path: Path) -> None:
    dask.node()
    mark = tmp_path / "mark"
    call = ("wait_for", {"flag": str(tmp_path / "flag"), "mark": str(mark)})
    running = driver.start(dask.profile(), "tasks", json.dumps([call] * 40))
    until(mark.exists)
    kill_node(dask.scheduler)
    name, sentence = driver.finish(running)["error"]
    assert name == "EngineError"
    assert f"the Dask scheduler at {dask.address} is gone" in sentence
    assert "run the same command again" in sentence


def test_a_scheduler_that_is_not_there_is_one_sentence() -> None:
    profile = {"engine": "dask", "dask": {"address": "tcp://127.0.0.1:9"}}
    name, sentence = driver.finish(driver.start(profile, "tasks", "[]"))["error"]
    assert name == "EngineError"
    assert sentence.startswith("dask.address tcp://127.0.0.1:9: no Dask scheduler answers there within 10 s; start it")


def test_a_cluster_without_workers_is_told_of_once_and_waited_for(dask: Dask) -> None:
    running = driver.start(dask.profile(), "tasks", json.dumps([("square", {"number": 4})]))
    time.sleep(14)
    dask.node()
    made = driver.finish(running)
    assert made["records"] == [16]
    assert len(made["said"]) == 1
    assert f"no worker at the Dask scheduler {dask.address} yet" in made["said"][0]


def test_threads_of_one_worker_run_one_task_at_a_time_and_it_is_said(dask: Dask) -> None:
    dask.node(threads=4)
    assert dask.run(("square", {"number": 1}))["records"] == [1]  # There is a worker from here on.
    made = dask.run(*[("alone", {"seconds": 0.1})] * 8)
    assert made["records"] == [True] * 8
    assert "some have 4 threads" in made["said"][0]


def test_ctrl_c_leaves_nothing_waiting_on_the_cluster(dask: Dask, tmp_path: Path) -> None:
    dask.node()
    flag = str(tmp_path / "flag")
    calls = [("wait_for", {"flag": flag, "mark": str(tmp_path / f"mark-{n}")}) for n in range(6)]
    running = driver.start(dask.profile(), "tasks", json.dumps(calls))
    until((tmp_path / "mark-0").exists)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert "KeyboardInterrupt" in err
    (tmp_path / "flag").touch()
    assert dask.run(("square", {"number": 3}))["records"] == [9]
    # The one that ran could not be stopped, at most one more was on its way.
    assert len(list(tmp_path.glob("mark-*"))) <= 2


def test_a_cluster_of_a_class_is_started_and_ended(tmp_path: Path) -> None:
    options = {"n_workers": 0, "threads_per_worker": 1, "dashboard_address": None, "local_directory": str(tmp_path)}
    rules = {"cluster": "distributed.LocalCluster", "options": options, "workers": 2}
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    running = driver.start({"engine": "dask", "dask": rules}, "tasks", json.dumps([("square", {"number": 5})] * 3))
    assert driver.finish(running)["records"] == [25, 25, 25]
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before
    for wrong, why in (("distributed.NoSuchCluster", "no such class here"), ("nosuch.Cluster", "no such class here")):
        _, sentence = driver.finish(driver.start({"engine": "dask", "dask": {"cluster": wrong}}, "tasks", "[]"))[
            "error"
        ]
        assert sentence.startswith(f"dask.cluster {wrong}: {why}")


def test_a_worker_without_the_package_is_one_sentence(dask: Dask, tmp_path: Path) -> None:
    # The same environment, with our package hidden.
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(
        "import importlib.util as u\nfound = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'mixture' else found(name, *a)\n"
    )
    line = [sys.executable, "-m", "dask", "worker", dask.address, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
    environment = driver.environment() | {"PYTHONPATH": f"{tmp_path / 'site'}:{driver.REPOSITORY}"}
    dask.processes.append(subprocess.Popen(line, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL))
    name, sentence = dask.run(("square", {"number": 1}))["error"]
    assert name == "EngineError"
    assert "does not have the package mixture; install mixture" in sentence
    assert sys.executable in sentence
