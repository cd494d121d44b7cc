"""Small builds of every packing, made once, and what stands in them, read without the loader."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mixture.loader.stream import Stream
from mixture.lockfile import Lock
from mixture.pack.shuffle import Shuffle
from mixture.shards.record import hash_rows, record_path, rows_path
from mixture.storage import file_digest, write_json
from tests.conftest import Kitchen, documents

LAYOUTS = {
    "concat": "",
    "best-fit": "packing: best-fit",
    "intact": "packing: intact",
    "split-by-length": "packing: {kind: split-by-length, long: 0.5, short: 100}",
    "vsl": "packing: {kind: vsl, batch: 4, smallest: 16}",
    "interleave": "transforms: {interleave: {parts: 3}}",
    "utk": "transforms: {utk: {probability: 1, room: 32}}",
    "utk, traced": "transforms: {utk: {probability: 1, room: 32, trace: 8}}",
}
LENGTH = 256
#: Rows in a record batch of the shards, so that each shard has several.
PIECE = 9


@dataclass
class Shelf:
    """A packed lock and its shards."""

    root: Path
    lock: Lock
    folders: list[Path]

    def stream(self, phase: int = 0, *, shuffle: Shuffle | None = None, check: bool = True) -> Stream:
        return Stream(self.lock, self.folders, phase, shuffle=shuffle or Shuffle(), check=check)

    def paths(self, phase: int = 0) -> list[Path]:
        return [self.folders[phase] / str(shard["shard"]) for shard in self.lock.phases[phase]["shards"]]

    def table(self, phase: int = 0) -> pa.Table:
        return pa.concat_tables([pa.ipc.open_file(pa.memory_map(str(p))).read_all() for p in self.paths(phase)])

    def tokens(self, phase: int = 0) -> Any:
        column = self.table(phase)["input_ids"]
        return np.concatenate([chunk.flatten().to_numpy() for chunk in column.chunks]).reshape(len(column), -1)

    def copy(self, root: Path) -> Shelf:
        """The same in a folder of its own, to be damaged."""
        shutil.copytree(self.root, root, dirs_exist_ok=True)
        return Shelf(root, self.lock, [root / folder.relative_to(self.root) for folder in self.folders])


def recut(lock: Lock, folders: list[Path], rows: int) -> Lock:
    """Write shards anew with so many rows in a record batch; return the lock that says so."""
    phases = []
    for phase, folder in zip(lock.phases, folders, strict=True):
        shards = []
        for facts in phase["shards"]:
            path = folder / facts["shard"]
            table = pa.ipc.open_file(pa.BufferReader(path.read_bytes())).read_all()
            with pa.ipc.new_file(str(path), table.schema) as writer:
                writer.write_table(table.combine_chunks(), max_chunksize=rows)
            hashes = [one for batch in table.to_batches() for one in hash_rows(batch)]
            made = facts | {"size": path.stat().st_size, "hash": file_digest(path)}
            record = json.loads(record_path(path).read_text()) | made | {"rows": write_json(rows_path(path), hashes)}
            record.pop("seal")
            write_json(record_path(path), record)
            shards.append(made)
        phases.append(phase | {"shards": shards})
    return replace(lock, phases=phases)


@pytest.fixture(scope="session")
def shelves(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Shelf]]:
    """A shelf of each layout of `LAYOUTS`, or of `phases`."""
    with ExitStack() as stack:

        @functools.cache
        def shelf(layout: str) -> Shelf:
            root = tmp_path_factory.mktemp("shelf")
            kitchen = Kitchen(root, stack)
            kitchen.corpus(documents(120))
            changes: dict[str, Any] = {"budget": 40_000, "length": LENGTH, "shard_tokens": 10_000}
            if layout == "phases":
                phases = "phases: [{name: short, budget: 30K}, {name: long, budget: 20K, sequence: {length: 512}}]"
                changes |= {"more": phases, "max_epochs": 20}
                recipe = kitchen.recipe(**changes)
                recipe.write_text(recipe.read_text().replace("budget: 40000\n", ""))
            else:
                recipe = kitchen.recipe(**changes, more=LAYOUTS[layout])
            job = kitchen.job(recipe)
            store = job.tokenize()
            packed = job.pack(store, job.plan(store, job.bucket(store)))
            folders = [Path(str(folder)) for folder in packed.folders]
            return Shelf(root, recut(packed.lock, folders, PIECE), folders)

        yield shelf


@pytest.fixture
def shelf(shelves: Callable[[str], Shelf]) -> Shelf:
    """Documents end to end."""
    return shelves("concat")


@pytest.fixture
def mine(shelf: Shelf, tmp_path: Path) -> Shelf:
    """Documents end to end, in a folder that may be damaged."""
    return shelf.copy(tmp_path / "mine")
