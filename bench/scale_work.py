"""A work directory as a job of trillions of tokens leaves it, without a token in it: records are real, files are holes.

    Size(parts=2_000, shards=600)  ─▶  data/0000.jsonl           a hole of 64 chunks
                                       work/store/…/part-00000.* a record, a mark, two holes of the size that it says
                                       work/shards/…/shard-*     likewise

What reads it is the program itself: stages find their records, compare sizes, list what is missing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixture.corpus.documents import CHUNK_BYTES
from mixture.engine import Silence, Task
from mixture.hashing import fingerprint
from mixture.lockfile import Lock
from mixture.pack.facts import Facts
from mixture.plan.records import Plan, PlannedPhase, inputs_of
from mixture.recipe import Recipe, bucket_names
from mixture.shards import pack as stage
from mixture.shards.record import record_path, rows_path
from mixture.storage import Place, stamp, write_json
from mixture.tokens.chunks import done_mark
from mixture.tokens.ingest import Store, tokenize
from mixture.tokens.inputs import remember
from mixture.tokens.store import PartFiles
from mixture.workspace import Workspace

#: Chunks in a file of the corpus, at most: files of 4 GB.
CHUNKS_PER_FILE = 64
#: Of a chunk of 64 MB of text, about.
TOKENS, DOCUMENTS = 16_000_000, 16_000
SHARD_TOKENS = 256_000_000
_LENGTH = 128 * 1024
_SEQUENCES = SHARD_TOKENS // _LENGTH
#: A slice of the stream holds two to four shards; see `plan.order`.
_SHARDS_PER_SLICE = 2


@dataclass(frozen=True)
class Size:
    """How large a job is.

    Attributes:
        parts: of the token store: chunks of 64 MB of text.
        shards: of 256M tokens.
    """

    parts: int
    shards: int


class Asked(Exception):  # noqa: N818 - a stage asked for work: that is what was wanted
    """What a stage would have handed to its engine.

    Attributes:
        tasks: all of it.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        super().__init__(f"{len(tasks)} tasks")
        self.tasks = tasks


class Noting:
    """An engine that runs nothing: it stops the stage with what it is asked for."""

    def run(self, tasks: Sequence[Task], stage: str) -> Iterator[tuple[Task, Any]]:  # noqa: ARG002
        """See `Engine.run`."""
        if tasks:
            raise Asked(tasks)
        return iter(())


def recipe(size: Size) -> Recipe:
    """Return a recipe of a job: sequences of 128K, a shard's worth of tokens for each shard."""
    return Recipe.model_validate(
        {
            "name": "scale",
            "tokenizer": {"kind": "bytes"},
            "sources": [{"name": "all", "format": "jsonl", "paths": ["*.jsonl"], "domain": "text"}],
            "budget": size.shards * _SEQUENCES * _LENGTH,
            "sequence": {"length": _LENGTH},
            "buckets": [4096, 32768],
            "shard_tokens": SHARD_TOKENS,
        }
    )


@dataclass(frozen=True)
class Laid:
    """A work directory that was laid out, or will be.

    Attributes:
        root: holds data and work.
        size: of the job.
    """

    root: Path
    size: Size

    @property
    def workspace(self) -> Workspace:
        """Where things lie."""
        return Workspace(self.root / "work", self.root / "data")

    @property
    def lock_path(self) -> Path:
        """The lock file."""
        return self.root / "scale.lock.json"

    @property
    def plan_folder(self) -> Path:
        """Where a plan would lie."""
        return self.root / "work/plans/scale-000000000000"

    def inputs(self) -> None:
        """Make the files of the corpus, and say that they were hashed before."""
        data, left, seen = self.root / "data", self.size.parts, {}
        data.mkdir(parents=True)
        for number in range(-(-self.size.parts // CHUNKS_PER_FILE)):
            path = data / f"{number:06d}.jsonl"
            _hole(path, min(left, CHUNKS_PER_FILE) * CHUNK_BYTES)
            left -= CHUNKS_PER_FILE
            seen[str(path)] = [*stamp(path), fingerprint(number)]
        write_json(self.workspace.seen_inputs, seen)

    def parts(self) -> None:
        """Make every part of the store, and the mark of each task."""
        # What `tokenize` would hand over says where everything goes.
        held: dict[Place, str] = {}
        try:
            tokenize(recipe(self.size), self.workspace, Noting(), Silence())
        except Asked as asked:
            for task in asked.tasks:
                given = task.arguments
                folder = Path(given["folder"])
                folder.mkdir(parents=True, exist_ok=True)
                files = PartFiles(folder, given["start"])
                held[files.tokens] = _part(files)
                mark = {"unit": folder.name, "chunks": [given["start"]], "files": {}}
                write_json(done_mark(folder, given["start"], given["step"], ""), mark)
        remember(self.workspace, held)

    def store(self) -> Store:
        """Find the store, whole."""
        return tokenize(recipe(self.size), self.workspace, Noting(), Silence())

    def plan(self, store: Store) -> Plan:
        """Return a plan as `plan` returns one: a lock, and where the slices begin."""
        shards, tokens = self.size.shards, recipe(self.size).budget or 0
        slices = 1 << max(0, (shards // _SHARDS_PER_SLICE).bit_length() - 1)
        starts = tuple(tokens * number // slices for number in range(slices + 1))
        lock = _lock(recipe(self.size), store, tokens, shards, slices)
        (phase,) = recipe(self.size).all_phases()
        planned = PlannedPhase(phase, self.plan_folder, self.root / "work/index/parts.json", starts, "0" * 32)
        return Plan((planned,), lock, made=False)

    def shards(self, store: Store) -> None:
        """Make every shard of the plan."""
        plan = self.plan(store)
        folder = stage.shards_folder(self.workspace, plan.lock, 0)
        folder.mkdir(parents=True)
        for task in stage._tasks(recipe(self.size), store, plan, 0, folder):  # noqa: SLF001
            _shard(task)


def _hole(path: Path, size: int) -> None:
    with path.open("wb") as handle:
        handle.truncate(size)


def _part(files: PartFiles) -> str:
    documents = DOCUMENTS * 40
    sizes = {files.tokens: 2 * TOKENS + 24 * DOCUMENTS, files.documents: documents}
    for path, size in sizes.items():
        _hole(Path(str(path)), size)
    digest = fingerprint(files.name)
    record = {
        "part": files.name,
        "documents": DOCUMENTS,
        "tokens": TOKENS,
        "bytes": CHUNK_BYTES,
        "hash": digest,
        "size": sizes[files.tokens],
        "documents_file": [documents, digest],
        "rows": [DOCUMENTS],
        "rejected": {},
        "samples": [],
        "engine": "gigatoken",
        "checked": 8,
    }
    write_json(files.record, record)
    return digest


def _shard(task: Task) -> None:
    path = Path(task.arguments["target"])
    size = 4 * task.weight
    _hole(path, size)
    rows = write_json(rows_path(path), [fingerprint([task.label, row])[:16] for row in range(_SEQUENCES)])
    counts = dict.fromkeys(("single", "cuts", "context", "cost"), 0)
    counts |= {"sequences": _SEQUENCES, "places": task.weight, "tokens": task.weight, "pieces": 200_000}
    facts = Facts(**counts, begun=(200_000,), truncated=(0,), domains=("text",)).to_json()
    record = {
        "shard": path.name,
        "stream": task.arguments["stream"],
        "sequences": _SEQUENCES,
        "tokens": task.weight,
        "size": size,
        "hash": fingerprint(task.label),
        "cells": {"text": [0, 0, task.weight]},
        "context": {"text": [task.weight, 0, 0, 0, 0, 0]},
        "packing": facts | {"marks": 0},
        "rows": rows,
    }
    write_json(record_path(path), record)


def _lock(of: Recipe, store: Store, tokens: int, shards: int, slices: int) -> Lock:
    names = bucket_names(of.buckets.of("text"))
    cell = dict.fromkeys(("supply_documents", "supply_tokens", "used", "wanted", "granted", "slack"), 0)
    cells = [cell | {"domain": "text", "bucket": name, "epochs": 0, "cap": 1, "binding": ""} for name in names]
    cells[-1] |= {"wanted": tokens, "granted": tokens}
    stream = {
        "budget": tokens,
        "tokens": tokens,
        "rounded_off": 0,
        "sequences": tokens // _LENGTH,
        "sequence_length": _LENGTH,
        "align": 1,
        "prefix": [],
        "suffix": [256],
        "shards": shards,
        "shard_sequences": _SEQUENCES,
        "slices": slices,
        "digest": "0" * 32,
    }
    phase = {"name": "", "stream": stream, "cells": cells, "context": {"supply": {}, "plan": {}}, "top": []}
    return Lock(
        name=of.name,
        recipe={"fingerprint": of.fingerprint, "content": of.what()},
        given={},
        inputs=inputs_of(store),
        tokenizer={"fingerprint": store.tokenizer.fingerprint, "vocabulary": store.tokenizer.n_vocab},
        documents={"indexed": store.documents, "tokens": store.tokens, "digest": "0" * 32},
        phases=[phase | {"packing": {}, "shards": []}],
        work={"store": store.folder.name},
    )


def opened(root: str, parts: int, shards: int) -> Laid:
    """Return what was laid out."""
    return Laid(Path(root), Size(parts, shards))


def lose(laid: Laid, step: str, every: int) -> None:
    """Take one of so many marks of the store, or records of shards, away: a run that was killed there."""
    pattern = "store/*/*/done-*.json" if step == "find" else "shards/*/shard-*[0-9].json"
    for path in sorted(laid.workspace.work.glob(pattern))[::every]:
        path.rename(path.with_suffix(".lost"))


def give_back(laid: Laid) -> None:
    """Undo `lose`."""
    for path in laid.workspace.work.rglob("*.lost"):
        path.rename(path.with_suffix(".json"))


def files(laid: Laid) -> tuple[int, int]:
    """Return how many files the work directory has, and the bytes of the small ones, which are JSON."""
    count = size = 0
    for folder, _, names in os.walk(laid.workspace.work):
        count += len(names)
        size += sum(os.stat(f"{folder}/{name}").st_size for name in names if name.endswith(".json"))  # noqa: PTH116
    return count, size


def bytes_of(tasks: Sequence[Task]) -> int:
    """Return the bytes that tasks are as JSON."""
    return sum(len(json.dumps(task.arguments)) for task in tasks)
