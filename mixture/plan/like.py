"""The same plan for another tokenizer: the documents and their order stay, lengths are counted anew.

A document that was whole stays whole; one that was cut is cut at the same share of its tokens. The stream then has
another length: it ends with the last whole sequence. How far the mixture drifts is in the cell table.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mixture import lockfile, schemas
from mixture.errors import PlanError, some
from mixture.plan.cells import Counts, Grid
from mixture.plan.consumed import find_plan
from mixture.plan.draw import survey
from mixture.plan.records import assemble, cell_rows, write_record
from mixture.plan.slices import grid_tokens, publish_slice
from mixture.plan.solve import Limits, Solution, limits
from mixture.plan.stretch import sizes, slice_file
from mixture.storage import Place, local, spill

if TYPE_CHECKING:
    from mixture.plan.make import Planner
    from mixture.recipe import Phase, Recipe

_MEMORY_LIMIT = "2GB"
#: What a recipe may change and still follow the plan of another.
_FREE = ("tokenizer.", "name", "description")

_JOIN = """
    SELECT s.number, p.position, p.doc_id, p.domain, p.copy, p.doc_start, p.doc_stop, p.doc_length AS was,
           i.source, i.part, i.row, i.n_tokens AS doc_length
    FROM read_parquet(?, filename = true) AS p
    JOIN slices AS s ON s.filename = p.filename
    LEFT JOIN read_parquet(?) AS i
      ON i.doc_id = p.doc_id AND i.domain = p.domain AND i.occurrence = p.copy % i.occurrences
    ORDER BY s.number, p.position"""


def check_alike(old: dict[str, Any], recipe: Recipe, name: str) -> None:
    """Refuse to follow the plan of a recipe that differs in more than the tokenizer.

    Raises:
        PlanError: names what differs.
    """
    differs = [c for c in lockfile.changes(old, recipe.what()) if not c.startswith(_FREE)]
    if differs:
        raise PlanError(
            f"--like {name}: that lock's recipe differs in more than the tokenizer ({some(differs)}); a plan can only "
            "be followed with the same sources, rules and budget"
        )


def follow(planner: Planner, phase: Phase, folder: Place) -> dict[str, Any]:
    """Plan a phase by the plan of another lock; return its record."""
    number = [p.name for p in planner.recipe.all_phases()].index(phase.name)
    old_folder, old = find_plan(planner.workspace, planner.given.like[number], "the lock that --like names")
    pool = planner.pool(phase, (), folder)
    found = survey(pool, folder, planner.engine, planner.progress)
    around = planner.around(phase)
    records = []
    granted = np.zeros(pool.grid.size, np.int64)
    tables = _slices(
        old_folder, len(old["slices"]), planner.index.table, folder, len(around.prefix), len(around.suffix)
    )
    for at, table in enumerate(_trimmed(tables, phase.sequence.length)):
        records.append(publish_slice(slice_file(folder, at), table, pool.grid.domains))
        granted += grid_tokens(table, pool.grid)
    planner.progress.advance(2 * planner.index.documents)
    if not granted.any():
        raise PlanError(
            f"--like: the documents of the old plan do not fill a sequence of {phase.sequence.length:,} with this "
            "tokenizer; shorten sequence.length in both recipes, or raise their budget"
        )
    before = {(cell["domain"], cell["bucket"]): cell["granted"] for cell in old["cells"]}
    facts, times = _unique(folder, len(records), pool.grid, len(around.suffix))
    asked = limits(phase.mix, found.supply())
    # The old plan may have repeated beyond its caps, and documents of another length have another cell's.
    most = Limits(
        asked.documents if planner.recipe.duplicates == "keep" else np.maximum(asked.documents, times),
        np.maximum(asked.cells, granted),
        np.maximum(asked.domains, pool.grid.sums(granted)),
    )
    solution = Solution(granted, granted, most, asked)
    cells = [
        row | facts[n] | {"like": before.get((row["domain"], row["bucket"]), 0)}
        for n, row in enumerate(cell_rows(found, solution))
    ]
    said = {
        "index": planner.index.folder.name,
        "runs": None,
        "thresholds": [],
        "cells": cells,
        "documents": old["documents"] | found.fates,
    }
    return write_record(folder, assemble(records, phase, around, found) | said)


def _slices(old: Place, count: int, index: Place, folder: Place, prefix: int, suffix: int) -> Iterator[pa.Table]:
    """Yield the old slices in their order, with the new lengths."""
    files = [str(local(slice_file(old, number))) for number in range(count)]
    with duckdb.connect(config={"memory_limit": _MEMORY_LIMIT, "temp_directory": spill(folder)}) as db:
        db.execute("CREATE TABLE slices (number INTEGER, filename VARCHAR)")
        db.executemany("INSERT INTO slices VALUES (?, ?)", [[n, f] for n, f in enumerate(files)])
        reader = db.sql(_JOIN, params=[files, str(local(index))]).to_arrow_reader(1 << 17)
        held: list[pa.Table] = []
        number = 0
        for batch in reader:
            table = pa.Table.from_batches([batch])
            lost = table["part"].null_count
            if lost:
                raise PlanError(
                    f"--like: {lost:,} documents or more of the old plan are not in this corpus; give the same sources"
                )
            while len(table):
                mine = pc.equal(table["number"], number)
                here = table.filter(mine)
                table = table.filter(pc.invert(mine))
                held.append(here)
                if len(table):
                    yield _measured(pa.concat_tables(held), prefix, suffix)
                    held, number = [], number + 1
        yield _measured(pa.concat_tables(held), prefix, suffix)


def _measured(table: pa.Table, prefix: int, suffix: int) -> pa.Table:
    """Give each row its new length; separators are those of the new vocabulary."""
    table = table.combine_chunks()
    was, now, stop = (schemas.numbers(table[n]).astype(np.int64) for n in ("was", "doc_length", "doc_stop"))
    whole = stop >= was
    cut = np.minimum(np.maximum(1, (np.minimum(stop, was) / np.maximum(was, 1) * now).astype(np.int64)), now)
    ends = np.where(whole, now + suffix, cut)
    size = ends + prefix
    made = {
        "position": schemas.column(np.cumsum(size) - size),
        "doc_start": schemas.column(np.full(len(table), -prefix, np.int64)),
        "doc_stop": schemas.column(ends),
    }
    return pa.table({name: made[name] if name in made else table[name] for name in schemas.PLAN.names}).cast(
        schemas.PLAN
    )


def _trimmed(tables: Iterator[pa.Table], length: int) -> Iterator[pa.Table]:
    """End the stream with its last whole sequence.

    A slice is held back until those behind it hold a sequence: before, the stream may end in it.
    """
    before, behind = 0, 0
    held: deque[pa.Table] = deque()
    for table in tables:
        behind += int(sizes(table).sum()) if held else 0
        held.append(table)
        while behind >= length:
            whole = held.popleft()
            before += int(sizes(whole).sum())
            behind -= int(sizes(held[0]).sum())
            yield whole
    total = before + sum(int(sizes(table).sum()) for table in held)
    left = total // length * length - before
    for table in held:
        position, start = schemas.numbers(table["position"]), schemas.numbers(table["doc_start"])
        inside = np.flatnonzero(position < left)
        some = table.take(schemas.column(inside))
        stop = np.minimum(schemas.numbers(some["doc_stop"]), start[inside] + left - position[inside])
        left -= int(sizes(table).sum())
        yield some.set_column(some.schema.get_field_index("doc_stop"), "doc_stop", schemas.column(stop))


def _unique(folder: Place, slices: int, grid: Grid, suffix: int) -> tuple[Sequence[dict[str, Any]], Counts]:
    """Count the distinct documents of each cell and their tokens, and how often one appears at most."""
    files = [str(local(slice_file(folder, number))) for number in range(slices)]
    query = """
        SELECT domain, doc_length, count(*), sum(most)::BIGINT, sum(cut)::BIGINT, max(times)::BIGINT
        FROM (SELECT domain, doc_id, doc_length, max(doc_stop - doc_start) AS most,
                     max((doc_stop < doc_length + ?)::INTEGER) AS cut, max(copy) + 1 AS times
              FROM read_parquet(?) GROUP BY ALL) GROUP BY ALL"""
    with duckdb.connect(config={"memory_limit": _MEMORY_LIMIT, "temp_directory": spill(folder)}) as db:
        rows = db.execute(query, [suffix, files]).fetchall()
    sums: Counts = np.zeros((3, grid.size), np.int64)
    times: Counts = np.zeros(grid.size, np.int64)
    for domain, length, documents, tokens, cut, most in rows:
        cell = grid.cell(np.array([grid.domains.index(domain)]), np.array([length]))[0]
        sums[:, cell] += [documents, tokens, cut]
        times[cell] = max(times[cell], most)
    facts = [
        {"documents": int(d), "unique_tokens": int(t), "cut": bool(c)} for d, t, c in zip(*sums.tolist(), strict=True)
    ]
    return facts, times
