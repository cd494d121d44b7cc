"""From drawn documents to the stream: every copy's place, slice by slice, each slice a task and a file.

A slice knows where its rows stand among themselves; where it begins in the stream is the sum of those before it.
`plan.stretch` reads them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from mixture import schemas
from mixture.engine import Engine, Progress, Task
from mixture.engine.memory import keep_freed
from mixture.hashing import id_array, id_words, key
from mixture.index.rows import IndexReader
from mixture.plan.cells import Counts, Grid
from mixture.plan.context import as_rows, context_sums
from mixture.plan.draw import Drawn
from mixture.plan.laid import LaidReader, reader_of, take_words
from mixture.plan.order import id_ranges, place
from mixture.plan.pool import Candidates, Pool, Threshold, appearances
from mixture.plan.related import stream_order
from mixture.plan.stretch import sizes, slice_file
from mixture.storage import Place, as_place, read_record, write_json
from mixture.tokens.store import write_parquet

_COLUMNS = ("source", "part", "row")
#: Rows in a row group of a slice: who wants a short stretch of the stream reads one or two.
_GROUP_ROWS = 1 << 16
#: Documents that the report names of each domain, those with most tokens in the stream.
_TOP = 10


@dataclass(frozen=True)
class Slicing:
    """How the drawn documents of a phase are laid into slices.

    Attributes:
        count: number of slices.
        prefix: tokens before each document.
        suffix: tokens after it.
    """

    count: int
    prefix: int
    suffix: int


def write_slices(
    drawn: Drawn, layout: Slicing, folder: Place, engine: Engine, progress: Progress, weight: int
) -> list[dict[str, Any]]:
    """Write every slice; return their records in order: tokens, rows, digest, context, top documents.

    Args:
        drawn: what was drawn.
        layout: how it is laid out.
        folder: where the files go; `survey` described the pool there.
        engine: where tasks run.
        progress: told of `weight` in all.
        weight: how much work this is.
    """
    description = folder / "drawn.json"
    thresholds = [{**t.__dict__} for t in drawn.thresholds]
    write_json(
        description,
        {
            "thresholds": thresholds,
            "once": [str(path) for path in drawn.once],
            "often": [str(path) for path in drawn.often],
            "layout": layout.__dict__,
        },
    )
    tasks = [
        Task(
            "mixture.plan.slices:write_slice",
            {"pool": str(folder / "pool.json"), "drawn": str(description), "number": number, "folder": str(folder)},
            weight * (number + 1) // layout.count - weight * number // layout.count,
            f"slice {number}",
        )
        for number in range(layout.count)
    ]
    records: dict[int, dict[str, Any]] = {}
    for task, record in engine.run(tasks, "plan"):
        records[task.arguments["number"]] = record
        progress.advance(task.weight)
    return [records[number] for number in range(layout.count)]


def write_slice(pool: str, drawn: str, number: int, folder: str) -> dict[str, Any]:
    """Task: lay out one slice and publish it."""
    keep_freed()
    here = Pool.read(as_place(pool))
    value = read_record(as_place(drawn), "thresholds", "once", "often", "layout") or {}
    thresholds = tuple(Threshold.from_json(t) for t in value["thresholds"])
    layout = Slicing(**value["layout"])
    files = [[as_place(name) for name in value[which]] for which in ("once", "often")]
    table, top = slice_rows(here, thresholds, files, layout, number)
    return publish_slice(slice_file(as_place(folder), number), table, here.grid.domains) | {"top": top}


def publish_slice(path: Place, table: pa.Table, domains: Sequence[str]) -> dict[str, Any]:
    """Write a slice's rows, `schemas.PLAN`; return its record, yet without top documents."""
    written = write_parquet(path, table, group_rows=_GROUP_ROWS)
    codes, start, stop = own_tokens(table, domains)
    return {
        "tokens": int(sizes(table).sum()),
        "rows": len(table),
        "digest": digest(table, codes),
        "file": written,
        "context": as_rows(context_sums(codes, start, stop, len(domains)), domains),
        "top": [],
    }


def slice_rows(
    pool: Pool, thresholds: Sequence[Threshold], files: Sequence[Sequence[Place]], layout: Slicing, number: int
) -> tuple[pa.Table, list[dict[str, Any]]]:
    """Return one slice's rows in stream order, positions counted from its start, and its top documents.

    Columns as `schemas.PLAN`; `doc_start` and `doc_stop` count the document's own tokens, so the opening separator lies
    below 0 and the closing one from `doc_length` on.
    """
    once, often = (pool.of(paths) for paths in files)
    readers = [(p, reader_of(p, paths)) for p, paths in zip((once, often), files, strict=True) if p.index]
    copies = max([t.level + (t.at is not None) for t in thresholds], default=0)
    found: list[pa.Table] = []
    top: list[dict[str, Any]] = []
    for there, reader in readers:
        # No document of the first files is seen more than twice by the end.
        most = copies if there is often else min(copies, 2)
        for copy in range(most * reader.most_occurrences):
            for rows in _copy_rows(there, reader, thresholds, layout, number, copy):
                table, heavy = rows
                found.append(table)
                top += heavy
    joined = pa.concat_tables(
        [table for table in found if len(table)] or [_UNORDERED.empty_table()]
    ).unify_dictionaries()
    joined = joined.combine_chunks()
    # Files come by kind, then copy, then id and domain; equal places are put in order by what they are.
    places, path, copies_of = (schemas.numbers(joined[name]) for name in ("place", "path", "copy"))
    order = stream_order(places, path, *id_words(joined["doc_id"]), copies_of)
    laid = joined.take(schemas.column(order)).drop_columns(["place", "path"])
    size = sizes(laid)
    laid = laid.add_column(0, "position", schemas.column(np.cumsum(size) - size))
    return laid.select(schemas.PLAN.names).cast(schemas.PLAN), _heaviest(top)


#: A slice's rows before they are in order.
_UNORDERED = pa.schema(
    [*(f for f in schemas.PLAN if f.name != "position"), pa.field("place", pa.uint64()), pa.field("path", pa.int64())]
)


def _copy_rows(
    pool: Pool,
    reader: IndexReader | LaidReader,
    thresholds: Sequence[Threshold],
    layout: Slicing,
    number: int,
    copy: int,
) -> Iterator[tuple[pa.Table, list[dict[str, Any]]]]:
    for first, stop in id_ranges(number, layout.count, copy, pool.seed):
        for rows in reader.between(first, stop, _COLUMNS):
            found = pool.look(rows)
            times, last = appearances(found, thresholds)
            # Equal texts that the recipe keeps share the numbers: copy = epoch · occurrences + occurrence.
            epoch = copy // rows.occurrences - found.seen
            here = (copy % rows.occurrences == rows.occurrence) & (epoch >= 0) & (epoch < times)
            size = np.where(epoch == times - 1, last, found.written)
            total = (times - 1) * found.written + last
            newest = np.flatnonzero(here & (epoch == 0))
            yield _table(found, np.flatnonzero(here), size, copy, pool, layout), _top(found, newest, total, times, pool)


def _table(found: Candidates, chosen: Counts, size: Counts, copy: int, pool: Pool, layout: Slicing) -> pa.Table:
    rows, size = found.rows.take(chosen), size[chosen]
    count = len(rows)
    keys = np.array([key(0, f"domain {name}") for name in pool.grid.domains], np.uint64)
    copies = np.full(count, copy, np.int64)
    names = schemas.strings(list(pool.grid.domains))
    hi, lo, path = take_words(rows)
    columns: dict[str, Any] = {
        "doc_id": id_array(rows.hi, rows.lo),
        "source": rows.table["source"],
        "domain": pa.DictionaryArray.from_arrays(schemas.column(rows.domain, pa.int32()), names),
        "part": rows.table["part"],
        "row": rows.table["row"],
        "doc_start": schemas.column(np.full(count, -layout.prefix, np.int64)),
        "doc_stop": schemas.column(size - layout.prefix),
        "doc_length": schemas.column(rows.tokens),
        "copy": schemas.column(copies),
        "place": schemas.column(place(pool.seed, hi, lo, keys[rows.domain], copies)),
        "path": schemas.column(path),
    }
    return pa.table(columns).cast(_UNORDERED)


def _top(found: Candidates, newest: Counts, total: Counts, times: Counts, pool: Pool) -> list[dict[str, Any]]:
    """Return the documents of each domain that take most tokens of the stream."""
    rows, out = found.rows, []
    domain, totals = rows.domain[newest], total[newest]
    for number in np.unique(domain):
        mine = newest[domain == number]
        order = np.argsort(-totals[domain == number], kind="stable")[:_TOP]
        out += [
            {
                "domain": pool.grid.domains[int(number)],
                "doc_id": f"{int(rows.hi[at]):016x}{int(rows.lo[at]):016x}",
                "tokens": int(rows.tokens[at]),
                "written": int(total[at]),
                "times": int(times[at]),
            }
            for at in mine[order].tolist()
        ]
    return out


def _heaviest(top: list[dict[str, Any]]) -> list[dict[str, Any]]:
    ranked = sorted(top, key=lambda row: (row["domain"], -row["written"], row["doc_id"]))
    kept: list[dict[str, Any]] = []
    held: dict[str, int] = {}
    for row in ranked:
        held[row["domain"]] = held.get(row["domain"], 0) + 1
        if held[row["domain"]] <= _TOP:
            kept.append(row)
    return kept


def merge_top(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the top documents of the whole stream."""
    return _heaviest([row for record in records for row in record["top"]])


def own_tokens(table: pa.Table, domains: Sequence[str]) -> tuple[Counts, Counts, Counts]:
    """Return each row's domain number and where its own tokens begin and end in the document."""
    coded = table["domain"].unify_dictionaries().combine_chunks()
    names = schemas.numbers(pc.index_in(coded.dictionary, schemas.strings(list(domains)))).astype(np.int64)
    length = schemas.numbers(table["doc_length"])
    start = np.clip(schemas.numbers(table["doc_start"]), 0, length)
    stop = np.clip(schemas.numbers(table["doc_stop"]), 0, length)
    return names[schemas.numbers(coded.indices)], start, stop


def digest(table: pa.Table, codes: Counts) -> str:
    """Hash what rows say, without where the tokens lie in the store: equal for equal streams."""
    state = xxhash.xxh3_128()
    ids = table["doc_id"].combine_chunks()
    state.update(ids.buffers()[1][16 * ids.offset : 16 * (ids.offset + len(ids))])
    for name in ("position", "doc_start", "doc_stop", "doc_length", "copy"):
        state.update(schemas.numbers(table[name]).astype("<i8").tobytes())
    state.update(codes.astype("<i8").tobytes())
    return str(state.hexdigest())


def grid_tokens(table: pa.Table, grid: Grid) -> Counts:
    """Sum a slice's tokens by cell, shape (cells,)."""
    codes, _, _ = own_tokens(table, grid.domains)
    cell = grid.cell(codes, schemas.numbers(table["doc_length"]))
    return np.bincount(cell, sizes(table), grid.size).astype(np.int64)
