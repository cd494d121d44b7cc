"""A plan and a store → shards, against moving the same bytes: memcpy, and `cp` of the finished shards.

Writes go to the page cache of whatever disk the folder is on; to that disk, synced, where the disk is the limit; and to
memory (/dev/shm) where that has room, which takes the disk out of the figure.
"""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import floors, measure
from bench.corpora import Corpus
from bench.job import warm_job, write_recipe
from bench.measure import Contestant, Rounds
from bench.setting import Row, Setting
from bench.vocabularies import Vocabulary
from mixture.workspace import Workspace

#: Tokens in the stream, at most; documents are drawn up to four times to get there.
MOST_TOKENS = 160_000_000
_SPARE_BYTES = 1 << 30
_SHM = Path("/dev/shm")


def rows(setting: Setting) -> list[Row]:
    """Measure the longest and the shortest documents."""
    found = []
    for corpus in setting.ends:
        with setting.doing(f"pack {corpus.name}"):
            found += bench(corpus, setting.vocabularies[0], setting.counts, setting.rounds)
    return found


def bench(corpus: Corpus, vocabulary: Vocabulary, workers: tuple[int, ...], rounds: Rounds) -> list[dict[str, Any]]:
    """Measure one corpus with each number of workers, on disk and in memory; return a row for each."""
    place = rounds.temp / f"pack-{corpus.name}"
    place.mkdir()
    recipe = prepare(place, corpus, vocabulary, max(workers))
    rows = []
    for where in ("disk", "disk, synced", "memory"):
        with room(place, where) as folder:
            if folder is not None:
                rows += [_measure(recipe, corpus, count, folder, where, rounds) for count in workers]
    return rows


@contextmanager
def room(place: Path, where: str) -> Iterator[Path | None]:
    """Lend a folder on the bench's disk or in memory; none where memory has not the room for shards and copies."""
    root = _SHM if where == "memory" else place
    if not root.is_dir() or shutil.disk_usage(root).free < 2 * (4 * MOST_TOKENS) + _SPARE_BYTES:
        yield None
    else:
        with tempfile.TemporaryDirectory(prefix="mixture-bench-", dir=root) as folder:
            yield Path(folder)


def prepare(place: Path, corpus: Corpus, vocabulary: Vocabulary, workers: int) -> Path:
    """Bring the corpus into a store and an index; return a recipe that uses nearly all of it."""
    recipe = write_recipe(place, corpus, vocabulary)
    with warm_job(recipe, place / "work", workers) as job:
        index = job.bucket(job.tokenize())
    most = min(MOST_TOKENS, int(3.9 * (index.tokens + index.documents)))
    budget = most // 4096 * 4096
    return write_recipe(place, corpus, vocabulary, budget=budget, shard_tokens=max(4096, budget // (4 * workers)))


def _measure(recipe: Path, corpus: Corpus, workers: int, folder: Path, where: str, rounds: Rounds) -> dict[str, Any]:
    shards, copies = str(folder / "shards"), str(folder / "copies")
    synced = where.endswith("synced")
    own = {"recipe": str(recipe), "target": shards, "workers": workers, "synced": synced}
    contestants = [
        Contestant("ours", "bench.pack:ours", own),
        Contestant("memcpy", "bench.floors:memcpy", {"source": shards, "threads": workers}),
        Contestant("cp", "bench.floors:cp", {"source": shards, "target": copies, "threads": workers, "synced": synced}),
    ]
    reports = measure.alternate(contestants, rounds)
    rates = {name: [r["bytes"] / r["seconds"] / 1e9 / workers for r in found] for name, found in reports.items()}
    return {
        "bench": "pack",
        "corpus": f"{corpus.name} → {where}",
        "megabytes": reports["ours"][0]["bytes"] / 1e6,
        "documents": reports["ours"][0]["spans"],
        "workers": workers,
        "unit": "GB/s per worker",
        "sequences_of": 4096,
        "ours": measure.spread(rates["ours"]),
        "ours_cpu": measure.spread([r["cpu"] for r in reports["ours"]]) if workers == 1 else None,
        "ours_wall": measure.spread([r["wall"] for r in reports["ours"]]),
        "other": "cp",
        "floor": measure.spread(rates["cp"]),
        "ratio": measure.ratios(rates["ours"], rates["cp"]),
        "more": [
            {
                "name": "memcpy",
                "rate": measure.spread(rates["memcpy"]),
                "ratio": measure.ratios(rates["ours"], rates["memcpy"]),
            }
        ],
        "peak": max(r["peak_child"] if workers > 1 else r["peak_self"] for r in reports["ours"]),
        "skipped": "",
    }


def ours(recipe: str, target: str, workers: int, synced: bool) -> dict[str, Any]:
    """Contestant: `mixture pack` into a folder that is not there yet; store, index and plan are whole."""
    shutil.rmtree(target, ignore_errors=True)
    path = Path(recipe)
    with warm_job(path, path.parent / "work", workers) as job:
        store = job.tokenize()
        plan = job.plan(store, job.bucket(store))
        there = dataclasses.replace(job, workspace=Workspace(Path(target), job.workspace.data))
        start, cpu = time.perf_counter(), time.process_time()
        packed = there.pack(store, plan)
        if synced:
            floors.sync(Path(target))
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    size = sum(shard["size"] for shard in packed.lock.shards)
    spans = sum(c["documents"] for c in packed.lock.phases[0]["cells"])
    return {"seconds": seconds, "cpu": cpu, "bytes": size, "spans": spans}
