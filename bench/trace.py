"""Lookups in a plan of billions of tokens over an index of millions of documents: how long, and how many bytes.

The index has the shape of SlimPajama (`bench.slimpajama`), the plan is one over it (`bench.plan`); there are no tokens,
so no shards, and sequences are asked of the plan. Each kind of question is asked many times:

    warm      of a lock that is open, in this process
    opened    the lock is read and opened first, in this process
    cold      the same after the kernel was told to forget the files
    command   the whole command, interpreter and imports included
"""

from __future__ import annotations

import os
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bench import measure, plan, slimpajama
from bench.measure import Rounds
from bench.setting import Row, Setting
from mixture import lockfile, schemas
from mixture.engine.local import Local
from mixture.hashing import document_ids
from mixture.index.build import Index
from mixture.plan.window import Windows, read_window
from mixture.recipe.packing import Packing
from mixture.recipe.quantities import tokens
from mixture.storage import read_json, write_json
from mixture.tokens.store import part_path, write_parquet
from mixture.trace import Trace
from mixture.workspace import Workspace

_QUESTIONS = 40
_COMMANDS = 5
_STORE = "bench"


@dataclass(frozen=True)
class Place:
    """A work directory with an index and a plan, and questions about them.

    Attributes:
        workspace: the directory.
        lock: the lock file.
        sequences: numbers of some sequences.
        ids: of some documents that are drawn, 32 hex digits.
        rows: input files and rows of some documents.
    """

    workspace: Workspace
    lock: Path
    sequences: list[int]
    ids: list[str]
    rows: list[tuple[str, int]]

    def trace(self) -> Trace:
        """Read the lock and open it."""
        lock = lockfile.read(self.lock)
        if lock is None:
            raise FileNotFoundError(self.lock)
        return Trace(lock, self.workspace)

    def forget(self) -> None:
        """Ask the kernel to drop what it holds of the files."""
        for path in self.workspace.work.rglob("*"):
            if path.is_file():
                with path.open("rb") as handle:
                    os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def rows(setting: Setting) -> list[Row]:
    """Measure questions to a plan over as many documents as asked for."""
    options = setting.options
    return bench(tokens(options.documents), setting.budget, options.workers, setting.rounds)


def bench(documents: int, budget: int | None, workers: int, rounds: Rounds) -> list[dict[str, Any]]:
    """Make index and plan, ask, and return a row for each kind of question."""
    work = rounds.temp / "trace"
    index = slimpajama.make_index(work / "index" / "bench", documents, workers=workers)
    budget = budget or index.tokens // 5
    place = _prepare(index, budget, work, workers)
    corpus = f"{index.documents:,} documents, {budget / 1e9:,.1f}B tokens"
    size = sum(path.stat().st_size for path in work.rglob("*") if path.is_file()) / 1e6
    steps = [number // 8 for number in place.sequences]
    kinds: dict[str, tuple[list[Any], Callable[[Trace, Any], Any], Callable[[Any], list[str]]]] = {
        "sequence": (place.sequences, lambda t, n: t.sequence(n), lambda n: ["--sequence", str(n)]),
        "step of 8": (steps, lambda t, n: t.step(n, 8), lambda n: ["--step", str(n), "--batch", "8"]),
        "doc": (place.ids, lambda t, one: t.document(one), lambda one: ["--doc", one]),
        "12 digits": (place.ids, lambda t, one: t.document(one[:12]), lambda one: ["--doc", one[:12]]),
        "file, row": (place.rows, lambda t, at: t.file_row(*at), lambda at: ["--file", at[0], "--row", str(at[1])]),
    }
    rows = []
    for name, (questions, ask, arguments) in kinds.items():
        for temperature, found in _asked(place, questions, ask, arguments):
            rows.append(_row(f"trace {name}, {temperature}", corpus, size, found))
    rows.append(_row("trace window laid out, best-fit", corpus, size, _window(place)))
    return rows


def _prepare(index: Index, budget: int, work: Path, workers: int) -> Place:
    with Local(workers) as engine:
        of = plan.recipe(budget, on_shortage="redistribute")
        made = plan.planner(of, index, work, engine).plan(work / "bench.lock.json")
    per_file, per_part = slimpajama.PARTS_PER_FILE, slimpajama.DOCUMENTS_PER_PART
    parts = max(1, index.documents // per_part)
    names = [f"train/{file:04x}.jsonl.zst" for file in range(-(-parts // per_file))]
    inputs = [{"source": "all", "name": name, "bytes": 0, "hash": ""} for name in names]
    lock = replace(made.lock, inputs=inputs, work=made.lock.work | {"index": index.folder.name})
    lock.write(work / "bench.lock.json")
    files = [f"{part // per_file:032x}/{part % per_file:05d}" for part in range(parts)]
    write_json(index.folder / "parts.json", files)
    number = np.arange(parts)
    stretches = {
        "input_file": schemas.strings(names).take(schemas.column(number // per_file)),
        "source": schemas.repeated("all", parts),
        "part": schemas.column(number, pa.int32()),
        "input": schemas.column(np.zeros(parts, np.int32)),
        "first_row": schemas.column(number % per_file * per_part),
        "rows": schemas.column(np.full(parts, per_part)),
    }
    written = write_parquet(index.folder / "stretches.parquet", pa.table(stretches, schema=schemas.STRETCHES))
    how = {"store": _STORE, "tokenizer": {"kind": "bytes"}, "joined": {}}
    how["sources"] = {"all": {"format": "jsonl", "reading": {"options": []}, "join": None}}
    write_json(index.folder / "index.json", read_json(index.folder / "index.json") | {"how": how, "stretches": written})
    return _questions(Place(Workspace(work, work), work / "bench.lock.json", [], [], []))


def _questions(place: Place) -> Place:
    """Choose what is asked: sequences anywhere, and a document out of each of some."""
    draw, trace = random.Random(0), place.trace()
    sequences = [draw.randrange(len(trace.stream)) for _ in range(_QUESTIONS)]
    ids, rows = [], []
    for number in sequences:
        span = draw.choice(trace.stream.row(number).spans)
        (row,) = trace.documents.with_ids([span.doc_id])[span.doc_id]
        ids.append(span.doc_id.hex())
        # The index's parts have no files; one is written as the store would have it, around this document.
        size = slimpajama.DOCUMENTS_PER_PART
        doc_ids = bytearray(document_ids([b"%d" % n for n in range(size)]))
        at = row.row % size
        doc_ids[16 * at : 16 * at + 16] = span.doc_id
        table = {
            "doc_id": pa.FixedSizeBinaryArray.from_buffers(schemas.DOC_ID, size, [None, pa.py_buffer(bytes(doc_ids))]),
            "input": schemas.column(np.zeros(size, np.int32)),
            "input_row": schemas.column(np.arange(size)),
        }
        path = part_path(place.workspace.store(_STORE), trace.documents.parts[row.part])
        write_parquet(path.with_suffix(".documents.parquet"), pa.table(table))
        stretch = next(s for s in trace.documents.stretches(row.input_file) if s["part"] == row.part)
        rows.append((row.input_file, stretch["first_row"] + at))
    return replace(place, sequences=sequences, ids=ids, rows=rows)


def _asked(
    place: Place, questions: list[Any], ask: Callable[[Trace, Any], Any], arguments: Callable[[Any], list[str]]
) -> Iterator[tuple[str, list[dict[str, float]]]]:
    trace = place.trace()
    for question in questions[:3]:
        ask(trace, question)
    yield "warm", [_timed(lambda q=question: ask(trace, q)) for question in questions]
    yield "opened", [_timed(lambda q=question: ask(place.trace(), q)) for question in questions]
    found = []
    for question in questions[:10]:
        place.forget()
        found.append(_timed(lambda q=question: ask(place.trace(), q)))
    yield "cold", found
    yield "command", [_timed(lambda q=question: _command(place, arguments(q))) for question in questions[:_COMMANDS]]


def _timed(what: Callable[[], Any]) -> dict[str, float]:
    """Return milliseconds, and bytes that this process asked the kernel for."""
    before, start = _read(), time.perf_counter()
    what()
    return {"ms": 1000 * (time.perf_counter() - start), "bytes": _read() - before}


def _read() -> int:
    counts = Path("/proc/self/io")
    return int(counts.read_text().split()[1]) if counts.exists() else 0


def _command(place: Place, arguments: list[str]) -> None:
    work = str(place.workspace.work)
    command = [sys.executable, "-m", "mixture", "trace", str(place.lock), *arguments, "--work", work, "--data", work]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _window(place: Place) -> list[dict[str, float]]:
    """Time what a question costs where documents stay whole and the shard is not there: a window, packed anew."""
    stream = place.trace().stream
    rules = replace(stream.windows.rules, packing=Packing.of("best-fit"))
    windows = Windows(rules, stream.windows.size, stream.windows.tokens)
    draw = random.Random(1)
    chosen = [draw.randrange(windows.count) for _ in range(5)]
    return [
        _timed(lambda n=n: read_window(stream.plan.folder, stream.plan.starts, windows.stretch(n), rules, n))
        for n in chosen
    ]


def _row(name: str, corpus: str, size: float, found: list[dict[str, float]]) -> dict[str, Any]:
    read = statistics.median(one["bytes"] for one in found)
    return {
        "bench": name,
        "corpus": f"{corpus}; {read / 1e6:,.1f} MB read",
        "megabytes": size,
        "workers": 1,
        "unit": "ms, less is better",
        "ours": measure.spread([one["ms"] for one in found]),
        "other": "",
        "bytes_read": read,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "skipped": "",
    }
