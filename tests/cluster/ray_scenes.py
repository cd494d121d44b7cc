"""Scenes on a Ray cluster of two nodes, in namespaces of its own: run by `test_ray.py` in one process.

    unshare -n -p … sh -c 'ip link set lo up && python -m tests.cluster.ray_scenes FOLDER'

Every scene's last word goes into FOLDER/scenes.json. Ray would look for a public route to find its own address; here is
none, so it stays on loopback.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ray.cluster_utils import Cluster

from tests.cluster import driver
from tests.conftest import Kitchen

_STORE = 80_000_000


def until(true: Callable[[], object]) -> None:
    for _ in range(1200):
        if true():
            return
        time.sleep(0.05)
    raise RuntimeError("waited in vain")


class Scenes:
    """One cluster, one corpus, and what is played on them."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.kitchen = Kitchen(folder, stack)
        driver.corpus(self.kitchen)
        head = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": _STORE, "resources": {"head": 1}}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        stack.callback(self.cluster.shutdown)

    def node(self) -> Any:
        return self.cluster.add_node(num_cpus=2, object_store_memory=_STORE)

    def profile(self, **resources: Any) -> dict[str, Any]:
        return {"engine": "ray", "ray": {"address": self.cluster.address}, "resources": resources}

    def run(self, *calls: tuple[str, dict[str, Any]], **resources: Any) -> dict[str, Any]:
        return driver.finish(driver.start(self.profile(**resources), "tasks", json.dumps(calls)))

    def start_build(self, work: str) -> Any:
        return driver.start(self.profile(), "build", str(self.folder), work)

    def same_shards(self) -> dict[str, Any]:
        return driver.finish(self.start_build("plain"))

    def killed_node(self) -> dict[str, Any]:
        """SIGKILL a node and all that runs on it in the middle of a build."""
        other = self.node()
        running = self.start_build("node")
        until(lambda: list((self.folder / "node").rglob("*.arrow")) or running.poll() is not None)
        self.cluster.remove_node(other, allow_graceful=False)
        return driver.finish(running)

    def killed_driver(self) -> dict[str, Any]:
        """SIGKILL the driver in the middle of a build, and run it again."""
        running = self.start_build("driver")
        until(lambda: list((self.folder / "driver").rglob("*.arrow")) or running.poll() is not None)
        alive = running.poll() is None
        running.kill()
        running.communicate(timeout=60)
        return driver.finish(self.start_build("driver")) | {"killed": alive}

    def node_dies_in_a_task(self) -> dict[str, Any]:
        """SIGKILL the node while a task of two cores, for which only it has room, runs there."""
        other = self.node()
        mark, flag = self.folder / "mark", self.folder / "flag"
        call = ("wait_for", {"flag": str(flag), "mark": str(mark)})
        running = driver.start(self.profile(cpus=2), "tasks", json.dumps([call]))
        until(lambda: mark.exists() and mark.read_text())
        before = mark.read_text()
        self.cluster.remove_node(other, allow_graceful=False)
        self.node()
        until(lambda: mark.read_text() not in ("", before))
        flag.touch()
        return driver.finish(running) | {"mark": mark.read_text()}

    def errors(self) -> dict[str, Any]:
        squares = [("square", {"number": n}) for n in range(50)]
        return {
            "squares": self.run(*squares),
            "bad": self.run(("square", {"number": 1}), ("bad", {"number": 3})),
            "crash": self.run(("crash", {"number": 3})),
            "die once": self.run(("die_once", {"flag": str(self.folder / "once")}), ("square", {"number": 3})),
            "die": self.run(("die", {}), retries=1),
        }

    def too_large(self) -> dict[str, Any]:
        """Ask for more than any node has, and stop waiting by Ctrl-C."""
        running = driver.start(self.profile(cpus=64, memory="4T"), "tasks", json.dumps([("square", {"number": 1})]))
        time.sleep(16)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)
        return {"out": out, "err": err}

    def lost_head(self) -> dict[str, Any]:
        """SIGKILL the head while a task runs; the last scene."""
        mark = self.folder / "head"
        call = ("wait_for", {"flag": str(self.folder / "never"), "mark": str(mark)})
        running = driver.start(self.profile(), "tasks", json.dumps([call] * 3))
        until(mark.exists)
        self.cluster.head_node.kill_gcs_server()
        return driver.finish(running)


def main(folder: str) -> None:
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        scenes = Scenes(Path(folder), stack)
        for play in (
            scenes.same_shards,
            scenes.killed_node,
            scenes.killed_driver,
            scenes.errors,
            scenes.node_dies_in_a_task,
            scenes.too_large,
            scenes.lost_head,
        ):
            begun = time.monotonic()
            found[play.__name__] = play()
            print(play.__name__, round(time.monotonic() - begun, 1), file=sys.stderr, flush=True)  # noqa: T201
            (Path(folder) / "scenes.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
