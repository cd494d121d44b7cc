"""The plan stage: quotas, thresholds, stream, lock. Reads the index; reads no token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mixture import lockfile
from mixture.engine import Progress
from mixture.errors import some
from mixture.hashing import fingerprint
from mixture.index.build import Index
from mixture.index.rows import IndexReader
from mixture.lockfile import Lock
from mixture.plan.draw import CellMap, Threshold, survey, thresholds
from mixture.plan.order import slice_count
from mixture.plan.quota import Counts, Supply, solve
from mixture.plan.stream import Drawn, digest, stream
from mixture.recipe import Recipe
from mixture.storage import read_record, write_json
from mixture.tokens.ingest import Store
from mixture.tokens.separators import Frame, frame
from mixture.tokens.store import read_parquet, write_parquet
from mixture.workspace import Workspace

_FORMAT_VERSION = 1


@dataclass(frozen=True)
class Plan:
    """A recipe's stream, planned.

    Attributes:
        folder: holds one Parquet file per shard, and the record.
        digest: hash of what stands where; equal digests make equal shards.
        lock: the lock, as written; its shards are empty until they are packed.
        made: whether this run made it.
    """

    folder: Path
    digest: str
    lock: Lock
    made: bool


def plan_file(folder: Path, shard: int) -> Path:
    """Return the Parquet file of one shard's rows."""
    return folder / f"shard-{shard:05d}.parquet"


def plan(recipe: Recipe, store: Store, index: Index, workspace: Workspace, lock_path: Path, progress: Progress) -> Plan:
    """Plan a recipe's stream and write its lock.

    Raises:
        ShortageError: the corpus does not hold what the recipe wants.
        PlanError: the recipe names a domain that the corpus does not have.
        LockError: the lock file there belongs to another recipe, or is damaged.
    """
    old = lockfile.read(lock_path)
    if old is not None:
        lockfile.check_owner(old, lock_path, recipe.name)
    around = frame(store.tokenizer, recipe.sequence.separator)
    key = fingerprint([_FORMAT_VERSION, recipe.fingerprint, store.tokenizer.fingerprint, index.folder.name])
    folder = workspace.plan(recipe.name, key)
    record = read_record(folder / "plan.json", "digest", "slices", "cells", "held_out", "empty")
    if not all(plan_file(folder, shard).exists() for shard in range(recipe.shard_count)):
        record = None
    made = record is None
    budget = recipe.exact_budget
    progress.start("plan", _what_changed(old, recipe, index), "tokens", budget, 0 if made else budget)
    if record is None:
        record = _make(recipe, index, around, folder, progress)
        write_json(folder / "plan.json", record)
    progress.finish()
    lock = _lock(recipe, store, index, around, record)
    if old is not None and old.stream == lock.stream and old.packed:
        # The stream is the one that was packed: what it came out as stays, and `pack` will hold its shards to it.
        lock = lock.completed(old.shards, old.cells)
    if old != lock:
        lock.write(lock_path)
    return Plan(folder, record["digest"], lock, made)


def _what_changed(old: Lock | None, recipe: Recipe, index: Index) -> str:
    if old is None:
        return "no lock yet"
    changed = lockfile.changes(old.recipe["content"], recipe.what())
    if changed:
        return f"the recipe changed: {some(changed)}"
    if old.documents["digest"] != index.digest:
        return "the documents changed"
    return "the plan was not in the work directory"


def _make(recipe: Recipe, index: Index, around: Frame, folder: Path, progress: Progress) -> dict[str, Any]:
    domains = index.census.domains
    reader = IndexReader(index.table, domains)
    cells = CellMap(len(domains), np.array(recipe.buckets, np.int64), around.size, recipe.holdout)
    histogram = survey(reader.all(), cells, recipe.seed)
    supply = histogram.supply(domains, recipe.bucket_names, recipe.buckets)
    wanted = solve(recipe.mix, supply, recipe.exact_budget, recipe.sequence.length)
    found = thresholds(reader.all, cells, recipe.seed, histogram, wanted.reshape(-1))
    shard_tokens = recipe.shard_sequences * recipe.sequence.length
    slices = slice_count(recipe.exact_budget, shard_tokens)
    drawn = Drawn(cells, found, domains, recipe.seed, slices, len(around.prefix))
    digests: list[str] = []
    for number, table in enumerate(stream(reader, drawn, shard_tokens)):
        write_parquet(plan_file(folder, number), table)
        digests.append(digest(table, domains))
        progress.advance(int(table["doc_stop"].to_numpy().sum() - table["doc_start"].to_numpy().sum()))
    held_out = {
        name: {"documents": int(d), "tokens": int(t)}
        for name, (d, t) in zip(domains, histogram.held_out, strict=True)
        if d
    }
    return {
        "digest": fingerprint([digests, recipe.sequence.length, list(around.prefix), list(around.suffix)]),
        "slices": slices,
        "cells": _cell_rows(supply, wanted, found),
        "held_out": held_out,
        "empty": histogram.empty,
    }


def _cell_rows(supply: Supply, wanted: Counts, found: Sequence[Threshold]) -> list[dict[str, Any]]:
    rows = []
    for d, domain in enumerate(supply.domains):
        for k, bucket in enumerate(supply.buckets):
            at = found[d * len(supply.buckets) + k]
            held, granted = int(supply.tokens[d, k]), int(wanted[d, k])
            rows.append(
                {
                    "domain": domain,
                    "bucket": bucket,
                    "supply_documents": int(supply.documents[d, k]),
                    "supply_tokens": held,
                    "wanted": granted,
                    "granted": granted,
                    "epochs": round(granted / held, 4) if held else 0,
                    "documents": at.documents,
                    "unique_tokens": at.unique,
                    "cut": at.cut,
                }
            )
    return rows


def _lock(recipe: Recipe, store: Store, index: Index, around: Frame, record: dict[str, Any]) -> Lock:
    tokenizer = store.tokenizer
    return Lock(
        name=recipe.name,
        recipe={"fingerprint": recipe.fingerprint, "content": recipe.what()},
        inputs=[
            {"source": unit.source.name, "name": file.name, "bytes": file.size, "hash": file.digest}
            for unit in store.units
            for file in unit.files
        ],
        tokenizer={
            "fingerprint": tokenizer.fingerprint,
            "vocabulary": tokenizer.n_vocab,
            "prefix": list(around.prefix),
            "suffix": list(around.suffix),
        },
        documents={
            "read": store.documents + sum(store.rejected.values()),
            "rejected": store.rejected | ({"no domain": index.no_domain} if index.no_domain else {}),
            "duplicates": index.duplicates,
            "indexed": index.documents,
            "tokens": index.tokens,
            "without_tokens": record["empty"],
            "held_out": record["held_out"],
            "digest": index.digest,
        },
        cells=record["cells"],
        stream={
            "budget": recipe.budget,
            "tokens": recipe.exact_budget,
            "rounded_off": recipe.budget - recipe.exact_budget,
            "sequences": recipe.sequences,
            "sequence_length": recipe.sequence.length,
            "shards": recipe.shard_count,
            "shard_sequences": recipe.shard_sequences,
            "slices": record["slices"],
            "digest": record["digest"],
        },
        shards=[],
    )


def read_rows(folder: Path, shard: int) -> pa.Table:
    """Read one shard's rows of a plan.

    Raises:
        StoreError: the plan is gone or damaged.
    """
    return read_parquet(plan_file(folder, shard))
