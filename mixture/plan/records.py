"""What a plan says of itself: its record beside the slices, the cell table, and the lock for git."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from mixture.hashing import fingerprint
from mixture.index.build import Index
from mixture.lockfile import Lock
from mixture.plan.cells import Counts
from mixture.plan.context import add, as_rows
from mixture.plan.draw import Survey
from mixture.plan.given import Given
from mixture.plan.pool import Threshold
from mixture.plan.slices import merge_top
from mixture.plan.solve import Solution
from mixture.plan.stretch import read_stretch, slice_file
from mixture.recipe import Phase, Recipe
from mixture.storage import Place, exists, file_digest, read_record, size_of, write_json
from mixture.tokens.ingest import Store
from mixture.tokens.separators import Frame, knots

_FIELDS = (
    "digest",
    "slices",
    "starts",
    "prefix",
    "suffix",
    "thresholds",
    "cells",
    "context",
    "top",
    "documents",
    "key",
    "files",
)
#: Beside the slices: what tasks were told, and what was consumed.
_BESIDE = ("pool.json", "drawn.json", "seen.arrow")


@dataclass(frozen=True)
class PlannedPhase:
    """One phase's stream, planned.

    Attributes:
        phase: what the recipe says.
        folder: holds one Parquet file per slice, and the record.
        parts: names of the parts that its rows number.
        starts: where each slice begins in the stream, and behind the last one where that ends.
        digest: hash of what stands where; equal digests make equal shards.
    """

    phase: Phase
    folder: Place
    parts: Place
    starts: tuple[int, ...]
    digest: str

    def read(self, first: int, stop: int) -> pa.Table:
        """Read the rows of tokens [first, stop) of the stream; see `stretch.read_stretch`."""
        return read_stretch(self.folder, self.starts, first, stop)


@dataclass(frozen=True)
class Plan:
    """A recipe's stream, planned.

    Attributes:
        phases: one after the other.
        lock: the lock, as written; its shards are empty until they are packed.
        made: whether this run made any of it.
    """

    phases: tuple[PlannedPhase, ...]
    lock: Lock
    made: bool


def whole_record(folder: Place) -> dict[str, Any] | None:
    """Return the record of a plan, or None if the plan is not whole."""
    record = read_record(folder / "plan.json", *_FIELDS)
    return record if record and all(exists(folder / name) for name in record["files"]) else None


def write_record(folder: Place, record: dict[str, Any]) -> dict[str, Any]:
    """Publish a plan's record with the size and hash of every file of the plan; return it."""
    files = {slice_file(folder, n).name: found["file"] for n, found in enumerate(record["slices"])}
    beside = [folder / name for name in _BESIDE]
    files |= {path.name: [size, file_digest(path)] for path in beside if (size := size_of(path)) is not None}
    whole = record | {"key": folder.name, "files": files}
    write_json(folder / "plan.json", whole)
    return whole


def held_out(found: Survey) -> dict[str, dict[str, int]]:
    """Return the documents and tokens held out, by domain."""
    pairs = zip(found.grid.domains, found.held_out.tolist(), strict=True)
    return {name: {"documents": d, "tokens": t} for name, (d, t) in pairs if d}


def assemble(records: Sequence[dict[str, Any]], phase: Phase, around: Frame, found: Survey) -> dict[str, Any]:
    """Join what the slices report: where each begins, the digest of all, top documents, context beside the supply's."""
    starts = [0, *itertools.accumulate(record["tokens"] for record in records)]
    context: dict[str, list[int]] = {}
    for record in records:
        context = add(context, record["context"])
    digests = [record["digest"] for record in records]
    return {
        "digest": fingerprint([digests, phase.sequence.length, list(around.prefix), list(around.suffix)]),
        "slices": [{name: record[name] for name in ("tokens", "rows", "digest", "file")} for record in records],
        "starts": starts,
        "prefix": list(around.prefix),
        "suffix": list(around.suffix),
        "context": {"supply": as_rows(found.context, found.grid.domains), "plan": dict(sorted(context.items()))},
        "top": merge_top(records),
    }


def cell_rows(found: Survey, solution: Solution, thresholds: Sequence[Threshold] | None = None) -> list[dict[str, Any]]:
    """Return the cell table, JSON-able: supply, wanted, granted, epochs, slack, what binds, and what was drawn."""
    supply = found.supply()
    used: Counts = supply.used
    binding = solution.binding(found.grid)
    rows = []
    for c, (domain, bucket) in enumerate(found.grid.names):
        held, granted, before = int(supply.tokens[c]), int(solution.granted[c]), int(used[c])
        row: dict[str, Any] = {
            "domain": domain,
            "bucket": bucket,
            "supply_documents": int(supply.documents[c]),
            "supply_tokens": held,
            "used": before,
            "wanted": int(solution.wanted[c]),
            "granted": granted,
            "epochs": round((granted + before) / held, 4) if held else 0,
            "slack": int(solution.slack[c]),
            "cap": int(solution.limits.documents[c]),
            "binding": binding[c],
        }
        if solution.limits.documents[c] > solution.asked.documents[c]:
            row["raised"] = int(solution.asked.documents[c])
        if thresholds is not None:
            at = thresholds[c]
            row |= {"documents": at.documents, "unique_tokens": at.unique, "cut": at.cut}
        rows.append(row)
    return rows


def inputs_of(store: Store) -> list[dict[str, Any]]:
    """Return what a lock says of every input file."""
    return [
        {"source": unit.source.name, "name": file.name, "bytes": file.size, "hash": file.digest}
        for unit in store.units
        for file in unit.files
    ]


def lock_of(
    recipe: Recipe,
    store: Store,
    index: Index,
    given: Given,
    scored: dict[str, Any],
    phases: Sequence[Phase],
    records: Sequence[dict[str, Any]],
) -> Lock:
    """Return the lock of planned phases, before anything is packed.

    Args:
        recipe: what is made.
        store: the tokenizer and what became of the documents.
        index: the documents.
        given: what the plan was told besides the recipe.
        scored: what the scores behind the weights hold.
        phases: one after the other, scaled.
        records: of each phase, what is written beside its slices.
    """
    utk = recipe.transforms.utk
    marks = {"knots": knots(store.tokenizer, utk).to_json()} if utk else {}
    return Lock(
        name=recipe.name,
        recipe={"fingerprint": recipe.fingerprint, "content": recipe.what()},
        given=given.to_json(),
        inputs=inputs_of(store),
        tokenizer={"fingerprint": store.tokenizer.fingerprint, "vocabulary": store.tokenizer.n_vocab} | marks,
        documents={
            "read": store.documents + sum(store.rejected.values()),
            "rejected": store.rejected | ({"no domain": index.no_domain} if index.no_domain else {}),
            "duplicates": index.duplicates,
            "indexed": index.documents,
            "tokens": index.tokens,
            **records[0]["documents"],
            **({"scores": scored} if scored else {}),
            "digest": index.digest,
        },
        phases=[_phase(phase, record) for phase, record in zip(phases, records, strict=True)],
        work={
            "store": store.folder.name,
            "joined": sorted({file.path.parent.name for unit in store.texts if unit.origins for file in unit.files}),
            "index": index.folder.name,
            "plans": [record["key"] for record in records],
            **({"related": records[0]["runs"]["folder"]} if records[0].get("runs") else {}),
        },
    )


def _phase(phase: Phase, record: dict[str, Any]) -> dict[str, Any]:
    tokens = record["starts"][-1]
    sequences = tokens // phase.sequence.length
    stream = {
        "budget": phase.budget,
        "tokens": tokens,
        "rounded_off": max(0, phase.budget - tokens),
        "sequences": sequences,
        "sequence_length": phase.sequence.length,
        "align": phase.sequence.align,
        "prefix": record["prefix"],
        "suffix": record["suffix"],
        "shards": -(-sequences // phase.shard_sequences),
        "shard_sequences": phase.shard_sequences,
        "slices": len(record["slices"]),
        "digest": record["digest"],
    }
    said = {name: record[name] for name in ("cells", "context", "top")}
    return {"name": phase.name, "stream": stream, **said, "packing": {}, "shards": []}
