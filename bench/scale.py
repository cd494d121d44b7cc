"""What a job of 600 or 60,000 shards asks of the process that drives it: `python -m bench --only scale`.

The program itself runs, over a work directory of real records and empty files (`bench.scale_work`), each step in a
fresh process, with an engine that stops at the first task: so what is measured is all that a driver does besides
waiting. What objects are fetched, and how often, is `bench.scale_bytes`.

    find    tokenize: find inputs and what of the store is missing        none whole · 1 % lost · all whole
    pack    make the tasks, find what is missing, complete the lock       none whole · 1 % lost · all whole
    sweep   look for what killed runs left half-written
    batch   write the missing tasks down for a cluster; list what came back
    tasks   the same for a million tasks: write, list, read as a new driver does, `mixture status`
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import measure, scale_work
from bench.measure import Contestant, Rounds
from bench.scale_work import Asked, Laid, Noting, Size, bytes_of, opened, recipe
from mixture import lockfile
from mixture.engine import Silence, Task
from mixture.engine.batch import open_batch
from mixture.engine.slurm_status import status
from mixture.lockfile import Lock
from mixture.shards import pack as stage
from mixture.storage import only_run
from mixture.verify.laws import copies_tasks

#: One of so many tasks is missing when a run is taken up again.
_LOST = 100
_PER_ELEMENT = 16


def bench(size: Size, rounds: Rounds, tasks: int) -> list[dict[str, Any]]:
    """Lay out a job of a size and measure every step, then a batch of so many tasks; return a row for each."""
    laid = Laid(rounds.temp / f"scale-{size.parts}-{size.shards}", size)
    laid.inputs()
    rows = [_row(laid, "find", "none whole", rounds)]
    laid.parts()
    rows += [_row(laid, "pack", "none whole", rounds), _row(laid, "batch", "none whole", rounds)]
    laid.shards(laid.store())
    count, size_of = scale_work.files(laid)
    for step in ("find", "pack"):
        scale_work.lose(laid, step, _LOST)
        rows.append(_row(laid, step, "1 % lost", rounds))
        scale_work.give_back(laid)
        rows.append(_row(laid, step, "all whole", rounds))
    rows.append(_row(laid, "sweep", "all whole", rounds))
    rows.append(_row(laid, "tasks", "all handed over", rounds, {"count": tasks}))
    for row in rows:
        row |= {"parts": size.parts, "shards": size.shards, "files": count, "record_bytes": size_of}
    return rows


def _row(laid: Laid, step: str, state: str, rounds: Rounds, more: Mapping[str, int] | None = None) -> dict[str, Any]:
    arguments = {"root": str(laid.root), "parts": laid.size.parts, "shards": laid.size.shards, **(more or {})}
    reports = measure.alternate([Contestant(step, f"bench.scale:{step}", arguments)], rounds)[step]
    facts = {name: value for name, value in reports[0].items() if name not in ("seconds", "wall")}
    peak = max(report["peak_self"] for report in reports)
    return {"step": step, "state": state, "peak": peak, **facts} | {
        "seconds": measure.spread([report["seconds"] for report in reports])
    }


def find(root: str, parts: int, shards: int) -> dict[str, Any]:
    """Contestant: the tokenize stage up to its first task."""
    laid = opened(root, parts, shards)
    start = time.perf_counter()
    try:
        laid.store()
        tasks: list[Task] = []
    except Asked as asked:
        tasks = list(asked.tasks)
    return {"seconds": time.perf_counter() - start, "tasks": len(tasks), "task_bytes": bytes_of(tasks)}


def pack(root: str, parts: int, shards: int) -> dict[str, Any]:
    """Contestant: the pack stage up to its first task, or to the end; the store is found before the clock starts."""
    laid = opened(root, parts, shards)
    store = laid.store()
    plan = laid.plan(store)
    facts: dict[str, Any] = {"tasks": 0, "task_bytes": 0}
    start = time.perf_counter()
    try:
        made = stage.pack(recipe(laid.size), store, plan, laid.workspace, Noting(), laid.lock_path, Silence())
        seconds = time.perf_counter() - start
        facts |= _of_lock(laid, made.lock)
    except Asked as asked:
        seconds = time.perf_counter() - start
        facts = {"tasks": len(asked.tasks), "task_bytes": bytes_of(asked.tasks)}
    laid.lock_path.unlink(missing_ok=True)
    return {"seconds": seconds, **facts}


def _of_lock(laid: Laid, lock: Lock) -> dict[str, Any]:
    """Return how large a lock is, how long it is to read, and what tasks that check all shards carry."""
    start = time.perf_counter()
    lockfile.read(laid.lock_path)
    seconds = time.perf_counter() - start
    folder = stage.shards_folder(laid.workspace, lock, 0)
    copies = list(copies_tasks(recipe(laid.size), lock, [folder / shard["shard"] for shard in lock.shards]))
    sizes = {"lock_bytes": laid.lock_path.stat().st_size, "copies_bytes": bytes_of(copies)}
    return {"lock_read_seconds": seconds, "copies_tasks": len(copies), **sizes}


def batch(root: str, parts: int, shards: int) -> dict[str, Any]:
    """Contestant: write the tasks of all shards down for a cluster, then list and read what all elements published."""
    laid = opened(root, parts, shards)
    store = laid.store()
    tasks = list(stage._tasks(recipe(laid.size), store, laid.plan(store), 0, laid.root / "none"))  # noqa: SLF001
    start = time.perf_counter()
    written = open_batch(laid.workspace.work, "pack", tasks, _PER_ELEMENT)
    seconds = time.perf_counter() - start
    for element, held in written.every_task():
        written.write_results(element, {number: {"tokens": 1} for number in held}, 0)
    at = time.perf_counter()
    counts = written.listed().counts
    listing = time.perf_counter() - at
    for element, ended in counts.items():
        written.results_of(element, max(ended))
    reading = time.perf_counter() - at - listing
    count = sum(path.is_file() for path in laid.workspace.work.glob(f"jobs/{written.name}/**/*"))
    written.remove()
    return {
        "seconds": seconds + listing + reading,
        "tasks": len(tasks),
        "task_bytes": bytes_of(tasks),
        "written_seconds": seconds,
        "listed_seconds": listing,
        "read_seconds": reading,
        "files_of_batch": count,
    }


def tasks(root: str, parts: int, shards: int, count: int) -> dict[str, Any]:
    """Contestant: a batch of very many small tasks, from its first file to what `mixture status` says of it."""
    work = opened(root, parts, shards).root / "many"
    many = [
        Task("bench.scale:tasks", {"target": f"{work}/part-{number:07}.arrow"}, 1, f"part {number}")
        for number in range(count)
    ]
    at = [time.perf_counter()]
    batch = open_batch(work, "tokenize", many, _PER_ELEMENT)
    at.append(time.perf_counter())
    results = Path(str(batch.folder)) / "results"
    results.mkdir()
    for element in range(batch.elements):
        (results / f"{element:05}-{_PER_ELEMENT:04}.json").touch()
    at.append(time.perf_counter())
    batch.listed()
    at.append(time.perf_counter())
    read = sum(len(mine) for _, mine in batch.every_task())
    at.append(time.perf_counter())
    status(work, lambda _: None, patience=0)
    at.append(time.perf_counter())
    batch.remove()
    written, _, listed, known, told = (after - before for before, after in pairwise(at))
    each = {"written_seconds": written, "listed_seconds": listed, "read_seconds": known, "status_seconds": told}
    return {"seconds": sum(each.values()), "tasks": read, "task_bytes": bytes_of(many), **each}


def sweep(root: str, parts: int, shards: int) -> dict[str, Any]:
    """Contestant: take the work directory for one run, which looks at every file."""
    laid = opened(root, parts, shards)
    start = time.perf_counter()
    with only_run(laid.workspace.work):
        return {"seconds": time.perf_counter() - start}


def show(result: dict[str, Any], console: Console) -> None:
    """Print what was measured: what the driver does, then what shards fetch from an object store."""
    steps = [row for row in result["rows"] if "step" in row]
    first = steps[0]
    about = f"{first['parts']:,} parts, {first['shards']:,} shards: {first['files']:,} files in the work directory"
    console.print(f"{about}, {first['record_bytes'] / 1e6:,.1f} MB of records")
    table = Table("step", "work directory", title="what a driver does besides waiting")
    for name in ("seconds", "peak memory", "tasks", "their JSON"):
        table.add_column(name, justify="right")
    for row in steps:
        cells = [f"{row['seconds']['median']:.2f}", f"{row['peak'] / 2**20:,.0f} MiB"]
        told = [f"{row['tasks']:,}", f"{row['task_bytes'] / 1e6:,.1f} MB"] if "tasks" in row else ["", ""]
        table.add_row(row["step"], row["state"], *cells, *told)
    console.print(table)
    table = Table("drawn", title="what shards fetch from an object store")
    for name in ("shards of a node", "requests, per shard and part", "bytes read per byte written"):
        table.add_column(name, justify="right")
    for row in (row for row in result["rows"] if "case" in row):
        table.add_row(row["case"], str(row["run"]), f"{row['requests']:.2f}", f"{row['read']:.2f}")
    console.print(table)
