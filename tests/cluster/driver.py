"""A driver in a process of its own: what a cluster's library leaves behind (threads, warnings) ends with it.

    python -m tests.cluster.driver PROFILE tasks '[["square", {"number": 3}]]'
    python -m tests.cluster.driver PROFILE build ROOT WORK

PROFILE is JSON. The last line of stdout is JSON: {"records": …} or {"hashes": …} or {"error": …}, and {"said": …}.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from mixture.engine import Engine, Silence, Task
from mixture.engine.choose import engine_for
from mixture.errors import MixtureError
from mixture.flow import open_job
from mixture.profile import Profile
from mixture.workspace import Workspace
from tests.conftest import Kitchen, documents

REPOSITORY = Path(__file__).parents[2]


def corpus(kitchen: Kitchen) -> None:
    """Write what `build` builds: 12 files, so that every stage has several tasks."""
    docs = documents(240)
    for number in range(12):
        kitchen.corpus(docs[number::12], f"{number}.jsonl")
    kitchen.recipe(budget=120_000, shard_tokens=10_000)


def build(engine: Engine, root: Path, work: str) -> list[str]:
    """Build the recipe under `root`; return the shards' hashes."""
    job = open_job(root / "small.yaml", Workspace(root / work, root), engine, Silence(), root / f"{work}.lock.json")
    store = job.tokenize()
    plan = job.plan(store, job.bucket(store))
    return [shard["hash"] for shard in job.pack(store, plan).lock.shards]


def start(profile: dict[str, Any], *what: str) -> subprocess.Popen[str]:
    """Start a driver."""
    line = [sys.executable, "-m", "tests.cluster.driver", json.dumps(profile), *what]
    return subprocess.Popen(
        line, cwd=REPOSITORY, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(driver: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for a driver's last word."""
    out, err = driver.communicate(timeout=300)
    if driver.returncode != 0 or not out.strip():
        raise RuntimeError(f"driver ended with {driver.returncode}\n{out[-2000:]}\n{err[-4000:]}")
    if len(out.splitlines()) != 1:
        raise RuntimeError(f"a library wrote to stdout:\n{out[-2000:]}")
    return dict(json.loads(out))


def environment() -> dict[str, str]:
    """Workers import these tests, and never report home."""
    return os.environ | {"PYTHONPATH": str(REPOSITORY), "RAY_USAGE_STATS_ENABLED": "0", "PYTHONWARNINGS": "default"}


def tasks(calls: list[tuple[str, dict[str, Any]]]) -> list[Task]:
    """Return the tasks of some calls of `tests.cluster.tasks`; the earlier the heavier."""
    return [
        Task(f"tests.cluster.tasks:{name}", arguments, len(calls) - number, f"{name} {number}")
        for number, (name, arguments) in enumerate(calls)
    ]


def main(profile: str, what: str, *rest: str) -> None:
    said: list[str] = []
    answer: dict[str, Any] = {"said": said}
    try:
        with engine_for(Profile(**json.loads(profile)), Path(), lambda text: _say(text, said)) as engine:
            if what == "build":
                answer["hashes"] = build(engine, Path(rest[0]), rest[1])
            else:
                todo = tasks(json.loads(rest[0]))
                found = {task.label: record for task, record in engine.run(todo, "pack")}
                answer["records"] = [found[task.label] for task in todo]
    except MixtureError as error:
        answer["error"] = [type(error).__name__, str(error)]
    print(json.dumps(answer), flush=True)  # noqa: T201


def _say(text: str, said: list[str]) -> None:
    said.append(text)
    print(text, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
