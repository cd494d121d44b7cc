"""The laws that only all shards together can break.

every quota exact (2)      the shards' tokens of each cell = what the lock granted it
caps hold (6)              no document appears more often than its cell allows, over all phases
nothing is written twice   no token of a copy stands in two places
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from mixture import schemas
from mixture.engine import Task
from mixture.hashing import id_words
from mixture.lockfile import Lock
from mixture.plan.cells import Grid
from mixture.recipe import Buckets, Recipe
from mixture.shards.read import map_shard
from mixture.shards.record import cells_of, shard_name, shard_number
from mixture.shards.spans import spans_of
from mixture.storage import Place, as_place
from mixture.verify.findings import Finding

#: Spans that a task holds in memory, about: a few hundred MB.
_SPANS_AT_ONCE = 4 << 20
_MOST_PARTS = 1024
#: Of a span, and types of them.
_COLUMNS = {
    "domain": pa.string(),
    "doc_id": schemas.DOC_ID,
    "doc_offset": pa.int64(),
    "doc_length": pa.int64(),
    "copy": pa.int32(),
    "size": pa.int64(),
    "row": pa.int64(),
}


def check_cells(recipe: Recipe, phase: dict[str, Any], sums: Sequence[dict[str, list[int]]]) -> Iterator[Finding]:
    """Hold the tokens of each cell of a phase to the lock.

    Args:
        recipe: as it was packed.
        phase: of the lock.
        sums: of each shard, tokens of each domain by bucket.
    """
    written = cells_of(sums, recipe.buckets)
    quota = {(cell["domain"], cell["bucket"]): cell["granted"] for cell in phase["cells"]}
    for cell in sorted(quota.keys() | {name for name, count in written.items() if count}):
        if written.get(cell, 0) != quota.get(cell, 0):
            yield Finding(
                "law",
                f"cell {cell[0]} {cell[1]}: the shards hold {written.get(cell, 0):,} tokens, the lock granted "
                f"{quota.get(cell, 0):,} (law 2: every quota exact)",
                cells=({"domain": cell[0], "bucket": cell[1], "tokens": written.get(cell, 0)},),
            )
    total = sum(written.values())
    if total != phase["stream"]["tokens"]:
        budget = phase["stream"]["tokens"]
        yield Finding("law", f"the shards hold {total:,} tokens, the budget is {budget:,} (law 2)")


def copies_tasks(recipe: Recipe, lock: Lock, shards: Sequence[Place]) -> Iterator[Task]:
    """Yield the tasks that check caps and double tokens over all shards of all phases, each for a range of ids."""
    pieces = sum(phase["packing"]["pieces"] for phase in lock.phases)
    parts = min(_MOST_PARTS, 1 << max(0, (pieces // _SPANS_AT_ONCE).bit_length()))
    caps: dict[tuple[str, str], int] = {}
    for phase in lock.phases:
        for cell in phase["cells"]:
            name = (cell["domain"], cell["bucket"])
            caps[name] = max(caps.get(name, 0), cell["cap"])
    # A name for each shard in each task would be most of what tasks carry.
    runs = list(_runs(shards))
    for part in range(parts):
        arguments = {
            "shards": runs,
            "part": [part, parts],
            "buckets": {"default": list(recipe.buckets.default), "domains": dict(recipe.buckets.domains)},
            # Equal texts that a recipe keeps share the numbers of their copies: caps do not speak of those.
            "caps": [[*name, cap] for name, cap in caps.items()] if recipe.duplicates == "keep-first" else [],
        }
        yield Task("mixture.verify.laws:check_copies", arguments, 1, f"copies {part + 1} of {parts}")


def _runs(shards: Sequence[Place]) -> Iterator[tuple[str, int, int, int]]:
    """Yield shards as runs of numbers: folder, how many it has, number of the first, past the last."""
    run: tuple[str, int, int, int] | None = None
    for path in shards:
        folder, (number, count) = str(path.parent), shard_number(path.name)
        if run and run[:2] == (folder, count) and run[3] == number:
            run = (*run[:3], number + 1)
        else:
            yield from [run] if run else []
            run = (folder, count, number, number + 1)
    yield from [run] if run else []


def check_copies(
    shards: Sequence[tuple[str, int, int, int]],
    part: tuple[int, int],
    buckets: dict[str, Any],
    caps: Sequence[tuple[str, str, int]],
) -> dict[str, Any]:
    """Task: check the caps and double tokens of the documents of one range of ids.

    Args:
        shards: files, as runs: folder, how many shards it has, number of the first, past the last.
        part: which of how many equal ranges.
        buckets: edges, as in a recipe.
        caps: domain, bucket, most copies; empty where none holds.

    Returns:
        `documents`: how many there are; `most`: appearances of one; `findings`.
    """
    paths = [as_place(folder) / shard_name(n, count) for folder, count, *run in shards for n in range(*run)]
    spans = pl.concat([_spans(path, *part) for path in paths])
    if not len(spans):
        return {"documents": 0, "most": 0, "findings": []}
    findings = list(_twice(spans))
    copies = spans.group_by(["domain", "doc_id"]).agg(
        pl.col("copy").n_unique(),
        pl.col("copy").max().alias("last"),
        pl.col("doc_length").first(),
        pl.col("shard").first(),
        pl.col("row").first(),
    )
    if caps:
        held = {(domain, bucket): cap for domain, bucket, cap in caps}
        findings += _caps(Buckets.model_validate(buckets), held, copies)
    most = int(str(copies["copy"].max() or 0))
    return {"documents": len(copies), "most": most, "findings": [finding.to_json() for finding in findings]}


def _twice(spans: pl.DataFrame) -> Iterator[Finding]:
    key = ["domain", "doc_id", "copy"]
    before = (pl.col("doc_offset") + pl.col("size")).shift(1).over(key)
    ordered = spans.sort([*key, "doc_offset"]).with_columns(before=before)
    overlap = ordered.filter(pl.col("doc_offset") < pl.col("before"))
    if len(overlap):
        row = overlap.row(0, named=True)
        yield Finding(
            "law",
            f"document {row['doc_id'].hex()} of {row['domain']}: token {row['doc_offset']} of copy {row['copy']} is "
            f"written twice, again in {row['shard']}, row {row['row']}",
            row["shard"],
            row["row"],
        )


def _caps(buckets: Buckets, caps: dict[tuple[str, str], int], copies: pl.DataFrame) -> Iterator[Finding]:
    domains = sorted(copies["domain"].unique())
    grid = Grid.of(domains, buckets)
    # Copies are numbered from the first appearance on, in earlier runs too.
    codes = np.searchsorted(np.array(domains), copies["domain"].to_numpy())
    cell = grid.cell(codes, copies["doc_length"].to_numpy())
    most = np.array([caps.get(name, 0) for name in grid.names], np.int64)[cell]
    over = np.flatnonzero(copies["last"].to_numpy() + 1 > most)
    if len(over):
        row = copies.row(int(over[0]), named=True)
        yield Finding(
            "law",
            f"document {row['doc_id'].hex()} of {row['domain']} appears {row['last'] + 1} times, its cap is "
            f"{most[over[0]]} (law 6), first in {row['shard']}, row {row['row']}",
            row["shard"],
            row["row"],
        )


def _spans(shard: Place, part: int, parts: int) -> pl.DataFrame:
    """Return the spans of one shard in a range of ids, with the row that each stands in; no tokens are read."""
    tables = []
    opened = map_shard(shard)
    for first, batch in zip(opened.firsts.tolist(), opened.batches, strict=False):
        spans = spans_of(batch)
        columns = {name: spans.columns.field(name) for name in _COLUMNS if name not in ("size", "row")}
        columns |= {"size": schemas.column(spans.stop - spans.start), "row": schemas.column(first + spans.row)}
        table = pa.table(columns)
        if parts > 1:
            words, _ = id_words(spans.columns.field("doc_id"))
            mine = (words >> np.uint64(48)) * np.uint64(parts) >> np.uint64(16) == part
            table = table.take(schemas.column(np.flatnonzero(mine)))
        tables.append(table)
    empty = pa.table({name: pa.nulls(0, kind) for name, kind in _COLUMNS.items()})
    frame = pl.from_arrow(pa.concat_tables(tables or [empty]))
    return pl.DataFrame(frame).with_columns(shard=pl.lit(shard.name))
