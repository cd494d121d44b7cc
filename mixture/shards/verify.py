"""Does the lock tell the truth? Re-hash the shards, and check the laws from the shards alone.

Per shard: the file's hash, its rows (each against the hash in its record, so damage is named by row), spans that tile
every sequence, token ids inside the vocabulary, tokens by cell. Over all shards: nothing lost (law 1), every quota
exact (law 2), no document more often than its cap (law 6), and no token of a copy written twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from mixture.engine import Engine, Progress, Task
from mixture.errors import StoreError, VerifyError
from mixture.hashing import file_digest
from mixture.lockfile import Lock
from mixture.plan.cells import Grid
from mixture.recipe import Recipe, bucket_names
from mixture.shards.pack import geometry
from mixture.shards.write import Geometry, hash_rows, record_path, sum_cells
from mixture.storage import explain, read_record


@dataclass(frozen=True)
class Verified:
    """What was checked.

    Attributes:
        shards: shards read.
        tokens: tokens counted.
        cells: cells whose quota is exact.
        documents: distinct documents found.
        most_copies: the most appearances of one document.
    """

    shards: int
    tokens: int
    cells: int
    documents: int
    most_copies: int


def verify(recipe: Recipe, lock: Lock, folders: Sequence[Path], engine: Engine, progress: Progress) -> Verified:
    """Check every shard against its lock, and the laws over all of them.

    Args:
        recipe: as it was packed.
        lock: what came out.
        folders: where the shards of each phase lie.
        engine: where tasks run.
        progress: told of tokens.

    Raises:
        VerifyError: names the shard, the row and the cell that fail.
    """
    if not lock.packed:
        raise VerifyError(f"the lock of {lock.name!r} lists no shards yet; run `mixture pack` first")
    tasks = [
        Task(
            "mixture.shards.verify:check_shard",
            {"path": str(folder / s["shard"]), "facts": s, "geometry": geometry(recipe, lock, number).to_json()},
            s["tokens"],
            f"{number} {s['shard']}",
        )
        for number, (phase, folder) in enumerate(zip(lock.phases, folders, strict=True))
        for s in phase["shards"]
    ]
    progress.start("verify", f"{len(tasks)} shards against their lock", "tokens", sum(task.weight for task in tasks), 0)
    reports: dict[str, dict[str, Any]] = {}
    for task, report in engine.run(tasks):
        reports[task.label] = report
        progress.advance(task.weight)
    progress.finish()
    for number, phase in enumerate(lock.phases):
        _check_cells(recipe, phase, [r for label, r in reports.items() if label.startswith(f"{number} ")])
    documents, most = _check_copies(recipe, folders, lock)
    cells = sum(len(phase["cells"]) for phase in lock.phases)
    return Verified(len(tasks), sum(task.weight for task in tasks), cells, documents, most)


def check_shard(path: str, facts: dict[str, Any], geometry: dict[str, Any]) -> dict[str, Any]:
    """Task: check one shard; return its tokens by cell."""
    shard, how = Path(path), Geometry.from_json(geometry)
    try:
        sound = file_digest(shard) == facts["hash"]
    except FileNotFoundError as error:
        raise VerifyError(f"{shard}: this shard is missing; run `mixture pack` to write it again") from error
    except OSError as error:
        raise VerifyError(explain(error, shard)) from error
    cells: dict[str, np.ndarray[Any, Any]] = {}
    expected = _row_hashes(shard)
    first = 0
    try:
        with pa.ipc.open_file(pa.memory_map(path)) as reader:
            if reader.schema != how.schema:
                raise VerifyError(
                    f"{shard}: its schema is not the one of the recipe; run `mixture pack` to write it again"
                )
            for number in range(reader.num_record_batches):
                batch = reader.get_batch(number)
                batch.validate(full=True)
                _check_rows(shard, batch, first, expected if not sound else [], how)
                _check_spans(shard, batch, first, how)
                for domain, tokens in _batch_cells(batch, how).items():
                    cells[domain] = cells.get(domain, 0) + np.array(tokens)
                first += len(batch)
    except (pa.ArrowInvalid, pa.ArrowSerializationError, OSError, ValueError, UnicodeDecodeError) as error:
        raise VerifyError(f"{shard}: damaged near row {first}: {error}; {_REMEDY}") from error
    if first != facts["sequences"]:
        raise VerifyError(f"{shard}: {first:,} rows, the lock says {facts['sequences']:,}; {_REMEDY}")
    if not sound:
        where = "no row differs, so the damage lies between the rows" if expected else "its record is gone too"
        raise VerifyError(f"{shard}: its bytes do not have the hash in the lock, {facts['hash']} ({where}); {_REMEDY}")
    return {"cells": {domain: tokens.tolist() for domain, tokens in cells.items()}}


def _row_hashes(shard: Path) -> Sequence[str]:
    """Return the hash of each row; none if the record is gone or damaged: the lock alone is believed."""
    try:
        record = read_record(record_path(shard), "rows")
    except StoreError:
        return ()
    return record["rows"] if record else ()


_REMEDY = "remove it and run `mixture pack` to write it again"


def _check_rows(shard: Path, batch: pa.RecordBatch, first: int, expected: Sequence[str], how: Geometry) -> None:
    ids = batch.column("input_ids").flatten().to_numpy()
    beyond = np.flatnonzero(ids >= how.n_vocab)
    if len(beyond):
        row, column = divmod(int(beyond[0]), how.length)
        raise VerifyError(
            f"{shard}, row {first + row}, token {column}: id {ids[beyond[0]]} is outside the vocabulary of "
            f"{how.n_vocab:,}{_cell_at(batch, row, column, how)}; {_REMEDY}"
        )
    for row, found in enumerate(hash_rows(batch) if len(expected) else ()):
        if first + row < len(expected) and expected[first + row] != found:
            raise VerifyError(
                f"{shard}, row {first + row}: its tokens or spans do not have the hash in the shard's record"
                f"{_cell_at(batch, row, 0, how)}; {_REMEDY}"
            )


def _cell_at(batch: pa.RecordBatch, row: int, column: int, how: Geometry) -> str:
    """Name the cell of the document that stands at a place, if the spans still tell."""
    for span in batch.column("spans")[row].as_py() or ():
        if span["start"] <= column < span["stop"]:
            edges = how.buckets.of(span["domain"])
            bucket = bucket_names(edges)[int(np.searchsorted(np.array(edges), span["doc_length"], side="right"))]
            return f" (domain {span['domain']}, bucket {bucket}, document {span['doc_id'].hex()})"
    return ""


def _check_spans(shard: Path, batch: pa.RecordBatch, first: int, how: Geometry) -> None:
    """Check that the spans of each row tile it: from 0 to its length, no gap, no overlap, each inside its document."""
    lists = batch.column("spans")
    spans, borders = lists.flatten(), lists.offsets.to_numpy() - lists.offsets[0].as_py()
    start, stop = spans.field("start").to_numpy(), spans.field("stop").to_numpy()
    opens, closes = borders[:-1], borders[1:] - 1
    empty = closes < opens
    if empty.any():
        raise VerifyError(f"{shard}, row {first + int(np.argmax(empty))}: it has no spans; {_REMEDY}")
    is_first = np.zeros(len(start), bool)
    is_first[opens] = True
    before = np.where(is_first, 0, np.roll(stop, 1))
    offset, length = spans.field("doc_offset").to_numpy(), spans.field("doc_length").to_numpy()
    low, high = -len(how.prefix), length + len(how.suffix)
    wrong = (start != before) | (stop <= start) | (offset < low) | (offset + (stop - start) > high)
    is_last = np.zeros(len(start), bool)
    is_last[closes] = True
    wrong |= is_last & (stop != how.length)
    if wrong.any():
        at = int(np.argmax(wrong))
        row = int(np.searchsorted(borders, at, side="right")) - 1
        raise VerifyError(
            f"{shard}, row {first + row}: span {at - int(borders[row])} [{start[at]}, {stop[at]}) of document "
            f"{spans[at].as_py()['doc_id'].hex()} does not join its neighbours or leaves its document; {_REMEDY}"
        )


def _batch_cells(batch: pa.RecordBatch, how: Geometry) -> dict[str, list[int]]:
    spans = batch.column("spans").flatten()
    coded = spans.field("domain").dictionary_encode()
    size = (spans.field("stop").to_numpy() - spans.field("start").to_numpy()).astype(np.int64)
    domain = coded.indices.to_numpy().astype(np.int64)
    return sum_cells(domain, coded.dictionary.to_pylist(), spans.field("doc_length").to_numpy(), size, how.buckets)


def _check_cells(recipe: Recipe, phase: dict[str, Any], reports: Sequence[dict[str, Any]]) -> None:
    written: dict[tuple[str, str], int] = {}
    for report in reports:
        for domain, tokens in report["cells"].items():
            for bucket, count in zip(bucket_names(recipe.buckets.of(domain)), tokens, strict=True):
                written[domain, bucket] = written.get((domain, bucket), 0) + count
    quota = {(cell["domain"], cell["bucket"]): cell["granted"] for cell in phase["cells"]}
    for cell in sorted(quota.keys() | {name for name, count in written.items() if count}):
        if written.get(cell, 0) != quota.get(cell, 0):
            raise VerifyError(
                f"cell {cell[0]} {cell[1]}: the shards hold {written.get(cell, 0):,} tokens, the lock granted "
                f"{quota.get(cell, 0):,} (law 2: every quota exact)"
            )
    total = sum(written.values())
    if total != phase["stream"]["tokens"]:
        raise VerifyError(f"the shards hold {total:,} tokens, the budget is {phase['stream']['tokens']:,} (law 2)")


def _check_copies(recipe: Recipe, folders: Sequence[Path], lock: Lock) -> tuple[int, int]:
    """Check that no document appears above its cap, and that no token of a copy was written twice, over all phases."""
    frames = [
        _spans(folder / shard["shard"])
        for phase, folder in zip(lock.phases, folders, strict=True)
        for shard in phase["shards"]
    ]
    spans = pl.concat(frames)
    key = ["domain", "doc_id", "copy"]
    ordered = spans.sort([*key, "doc_offset"])
    overlap = ordered.with_columns(before=(pl.col("doc_offset") + pl.col("size")).shift(1).over(key)).filter(
        pl.col("doc_offset") < pl.col("before")
    )
    if len(overlap):
        row = overlap.row(0, named=True)
        raise VerifyError(
            f"document {row['doc_id'].hex()} of {row['domain']}: token {row['doc_offset']} of copy {row['copy']} is "
            f"written twice, again in {row['shard']}, row {row['row']}"
        )
    copies = spans.group_by(["domain", "doc_id"]).agg(
        pl.col("copy").n_unique(),
        pl.col("copy").max().alias("last"),
        pl.col("doc_length").first(),
        pl.col("shard").first(),
        pl.col("row").first(),
    )
    if recipe.duplicates == "keep-first":
        _check_caps(recipe, lock, copies)
    return len(copies), int(str(copies["copy"].max() or 0))


def _check_caps(recipe: Recipe, lock: Lock, copies: pl.DataFrame) -> None:
    domains = sorted(copies["domain"].unique())
    grid = Grid.of(domains, recipe.buckets)
    caps = dict.fromkeys(grid.names, 0)
    for phase in lock.phases:
        for cell in phase["cells"]:
            caps[cell["domain"], cell["bucket"]] = max(caps.get((cell["domain"], cell["bucket"]), 0), cell["cap"])
    # Copies are numbered from the first appearance on, in earlier runs too.
    codes = np.searchsorted(np.array(domains), copies["domain"].to_numpy())
    cell = grid.cell(codes, copies["doc_length"].to_numpy())
    most = np.array([caps[name] for name in grid.names])[cell]
    over = np.flatnonzero(copies["last"].to_numpy() + 1 > most)
    if len(over):
        row = copies.row(int(over[0]), named=True)
        raise VerifyError(
            f"document {row['doc_id'].hex()} of {row['domain']} appears {row['last'] + 1} times, its cap is "
            f"{most[over[0]]} (law 6), first in {row['shard']}, row {row['row']}"
        )


def _spans(shard: Path) -> pl.DataFrame:
    """Return the spans of one shard, one a row, with the row that each stands in; no tokens are read."""
    tables = []
    with pa.ipc.open_file(pa.memory_map(str(shard))) as reader:
        row = 0
        for number in range(reader.num_record_batches):
            lists = reader.get_batch(number).column("spans")
            spans = lists.flatten()
            rows = np.repeat(np.arange(row, row + len(lists)), np.diff(lists.offsets.to_numpy()))
            size = spans.field("stop").to_numpy() - spans.field("start").to_numpy()
            columns = {name: spans.field(name) for name in ("domain", "doc_id", "doc_offset", "doc_length", "copy")}
            tables.append(pa.table(columns | {"size": size.astype(np.int64), "row": rows}))
            row += len(lists)
    frame = pl.from_arrow(pa.concat_tables(tables))
    return pl.DataFrame(frame).with_columns(shard=pl.lit(shard.name))
