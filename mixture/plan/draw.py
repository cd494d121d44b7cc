"""Which documents meet a quota: whole levels, then those of smallest key, the last of them cut, to the token.

Two passes over the index, in tasks over stretches of it. The first sums tokens per cell, level and bin of keys: then
quotas can be solved, and the bin where each quota ends is known. The second writes down the documents that are drawn,
and those of that one bin, which alone are put in order to find the document that is cut.

    cell of 3 documents of 40, 50, 60 tokens as written, quota 220: level 0 whole (150), then 70 of level 1
    keys .2 (50 tokens), .5 (40), .9 (60): 50 + 20 of the second document, which is cut
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from mixture import schemas
from mixture.engine import Engine, Progress, Task
from mixture.engine.memory import keep_freed
from mixture.hashing import id_array
from mixture.plan.cells import Counts, Grid
from mixture.plan.context import CONTEXTS, context_sums
from mixture.plan.pool import ASIDE, BINS, EMPTY, FILTERED, HELD_OUT, Candidates, Pool, Threshold
from mixture.plan.quota import BINS_PER_OCTAVE, Supply
from mixture.storage import Place, as_place, remove
from mixture.tokens.store import read_parquet, write_parquet

#: Documents of one task, about.
_TASK_DOCUMENTS = 16 << 20
_GROUP_ROWS = 1 << 15
_LENGTH_BINS = 40 * BINS_PER_OCTAVE
_COLUMNS = ("source", "part", "row")


@dataclass(frozen=True)
class Survey:
    """What the first pass over the index learns.

    Attributes:
        grid: the cells.
        documents: per cell, level and bin of keys, shape (cells, levels, BINS).
        tokens: as written, likewise.
        held_out: documents and tokens held out, per domain, shape (D, 2).
        fates: documents without tokens, filtered, and outside a pilot.
        context: tokens by how many of their own document stand before them, per domain, shape (D, thresholds + 1).
        lengths: tokens by cell and eighth of an octave; None if not asked for.
    """

    grid: Grid
    documents: Counts
    tokens: Counts
    held_out: Counts
    fates: dict[str, int]
    context: Counts
    lengths: Counts | None

    def supply(self) -> Supply:
        """Sum the bins."""
        levels = self.tokens.sum(axis=2)
        return Supply(self.grid, self.documents.sum(axis=(1, 2)), levels.sum(axis=1), levels, self.lengths)


def stretches(groups: Sequence[int]) -> list[tuple[int, int, int]]:
    """Cut row groups into stretches of about a task's documents: (first, stop, documents)."""
    found, first, held = [], 0, 0
    for number, rows in enumerate(groups):
        held += rows
        if held >= _TASK_DOCUMENTS or number == len(groups) - 1:
            found.append((first, number + 1, held))
            first, held = number + 1, 0
    return found


def survey(pool: Pool, folder: Place, engine: Engine, progress: Progress) -> Survey:
    """Sum the index by cell, level and bin of keys.

    Args:
        pool: what is drawn from.
        folder: where tasks leave their sums; they are removed.
        engine: where tasks run.
        progress: told of documents.
    """
    description = folder / "pool.json"
    pool.write(description)
    tasks = [
        Task(
            "mixture.plan.draw:survey_stretch",
            {
                "pool": str(description),
                "first": first,
                "stop": stop,
                "target": str(folder / f"survey-{first:06d}.parquet"),
            },
            documents,
            f"row groups {first} to {stop}",
        )
        for first, stop, documents in stretches(pool.reader().groups)
    ]
    total: list[Counts] = []
    for task, record in engine.run(tasks, "plan"):
        target = as_place(task.arguments["target"])
        table = read_parquet(target)
        shape = (pool.grid.size, pool.most_seen + 1, BINS)
        parts = [
            np.stack([schemas.numbers(table[name]).reshape(shape) for name in ("documents", "tokens")]),
            *(np.array(record[name], np.int64) for name in ("held_out", "fates", "context", "lengths")),
        ]
        total = [a + b for a, b in zip(total, parts, strict=True)] if total else parts
        progress.advance(task.weight)
    # Only now: a run that dies in the loop finds the records of its tasks again, and must find their files.
    for task in tasks:
        remove(as_place(task.arguments["target"]))
    (documents, tokens), held_out, fates, context, lengths = total
    named = dict(zip(("without_tokens", "filtered", "aside"), fates.tolist(), strict=True))
    return Survey(pool.grid, documents, tokens, held_out, named, context, lengths if pool.lengths else None)


def survey_stretch(pool: str, first: int, stop: int, target: str) -> dict[str, Any]:
    """Task: sum some row groups; the large sums go to a file, flat: (cells, levels, BINS)."""
    keep_freed()
    here = Pool.read(as_place(pool))
    grid, levels = here.grid, here.most_seen + 1
    # One more cell than there are takes what has none.
    size = (grid.size + 1) * levels * BINS
    sums = np.zeros((2, size), np.int64)
    held_out, fates = np.zeros((len(grid.domains), 2), np.int64), np.zeros(3, np.int64)
    context: Counts = np.zeros((len(grid.domains), len(CONTEXTS) + 1), np.int64)
    lengths = np.zeros((grid.size + 1, _LENGTH_BINS) if here.lengths else (0, 0), np.int64)
    for found in here.candidates(here.reader(), first, stop):
        rows = found.rows
        fates += [int((found.cell == why).sum()) for why in (EMPTY, FILTERED, ASIDE)]
        out = np.flatnonzero(found.cell == HELD_OUT)
        held_out[:, 0] += np.bincount(rows.domain[out], minlength=len(grid.domains))
        held_out[:, 1] += _sums(rows.domain[out], rows.tokens[out], len(grid.domains))
        cell = np.where(found.cell < 0, grid.size, found.cell)
        place = (cell * levels + found.seen) * BINS + here.bins(found.key)
        # In place: a row group may hold fewer documents than there are bins.
        np.add.at(sums[0], place, 1)
        np.add.at(sums[1], place, found.written)
        long = np.flatnonzero((rows.tokens > CONTEXTS[0]) & (found.cell >= 0))
        tokens = rows.tokens[long]
        context += context_sums(rows.domain[long], np.zeros_like(tokens), tokens, len(grid.domains))
        if here.lengths:
            fine = np.floor(np.log2(np.maximum(rows.tokens, 1)) * BINS_PER_OCTAVE).astype(np.int64)
            lengths += _sums(cell * _LENGTH_BINS + fine, found.written, lengths.size).reshape(lengths.shape)
    inside = sums.reshape(2, grid.size + 1, -1)[:, :-1]
    own = inside[1].sum(axis=1) - here.separators * inside[0].sum(axis=1)
    context[:, 0] = grid.sums(own)
    sums = inside.reshape(2, -1)
    names = ("documents", "tokens")
    write_parquet(as_place(target), pa.table({n: schemas.column(v) for n, v in zip(names, sums, strict=True)}))
    small = {"held_out": held_out, "fates": fates, "context": context, "lengths": lengths[:-1]}
    return {name: values.tolist() for name, values in small.items()}


def _sums(place: Counts, values: Counts, size: int) -> Counts:
    # Sums in floating point are exact below 2^53, and a batch is far below that.
    return np.bincount(place, values, size).astype(np.int64)


@dataclass(frozen=True)
class _End:
    """Where each cell's quota ends, to the bin; arrays of shape (cells,).

    Attributes:
        level: levels that are taken whole.
        rest: tokens of the next level that are taken.
        last: the bin in which the rest is reached; -1 where there is none.
        before: tokens of that level in earlier bins.
    """

    level: Counts
    rest: Counts
    last: Counts
    before: Counts


def _ends(found: Survey, quota: Counts) -> _End:
    cells, levels = found.tokens.shape[:2]
    ends = np.zeros((4, cells), np.int64)
    supplied = np.cumsum(found.tokens.sum(axis=2), axis=1)  # level l supplies the documents seen l times or less
    for c in range(cells):
        level, rest = 0, int(quota[c])
        while level < levels - 1 and rest >= supplied[c, level]:
            rest -= int(supplied[c, level])
            level += 1
        if level == levels - 1 and supplied[c, level]:
            more, rest = divmod(rest, int(supplied[c, level]))
            level += more
        last, before = -1, 0
        if rest:
            running = np.cumsum(found.tokens[c, : level + 1].sum(axis=0))
            last = int(np.searchsorted(running, rest, "left"))
            before = int(running[last - 1]) if last else 0
        ends[:, c] = level, rest, last, before
    return _End(*ends)


@dataclass(frozen=True)
class Drawn:
    """The documents that a phase draws.

    Attributes:
        thresholds: of each cell.
        once: files of documents that are not seen more than twice, in the order of their ids; a few of them
            are beyond their cell's threshold.
        often: files of the others.
    """

    thresholds: tuple[Threshold, ...]
    once: tuple[Place, ...]
    often: tuple[Place, ...]


def draw_documents(
    pool: Pool, found: Survey, quota: Counts, folder: Place, engine: Engine, progress: Progress
) -> Drawn:
    """Find where each cell's quota ends, to the token, and write down the documents drawn.

    Args:
        pool: what is drawn from; described in the folder by `survey`.
        found: its survey.
        quota: tokens wanted of each cell, shape (cells,); caps allow them.
        folder: where the files go.
        engine: where tasks run.
        progress: told of documents.
    """
    ends = _ends(found, quota)
    tasks = [
        Task(
            "mixture.plan.draw:draw_stretch",
            {
                "pool": str(folder / "pool.json"),
                "first": first,
                "stop": stop,
                "level": ends.level.tolist(),
                "last": ends.last.tolist(),
                "targets": [str(folder / f"{name}-{first:06d}.parquet") for name in ("once", "often", "edge")],
            },
            documents,
            f"row groups {first} to {stop}",
        )
        for first, stop, documents in stretches(pool.reader().groups)
    ]
    files: list[list[Place]] = [[], [], []]
    for task, counts in engine.run(tasks, "plan"):
        for held, name, count in zip(files, task.arguments["targets"], counts, strict=True):
            if count:
                held.append(as_place(name))
        progress.advance(task.weight)
    once, often, edge = (tuple(sorted(held)) for held in files)
    thresholds = _thresholds(found, ends, [read_parquet(path) for path in edge])
    for path in edge:
        remove(path)
    return Drawn(thresholds, once, often)


def draw_stretch(pool: str, first: int, stop: int, level: list[int], last: list[int], targets: list[str]) -> list[int]:
    """Task: write down the documents of some row groups that are drawn, or may be; return how many, by file.

    Args:
        pool: description of the pool.
        first: first row group.
        stop: past the last.
        level: levels taken whole, per cell.
        last: bin where the quota ends, per cell; -1 for none.
        targets: files for documents seen at most twice by the end, for those seen more often, and for those of the
            last bin, with what puts them in order.
    """
    keep_freed()
    here = Pool.read(as_place(pool))
    levels, bins_ = np.array(level, np.int64), np.array(last, np.int64)
    held: list[list[pa.Table]] = [[], [], []]
    for found in here.candidates(here.reader(), first, stop, _COLUMNS):
        safe = np.maximum(found.cell, 0)
        bins, at = here.bins(found.key), bins_[safe]
        waits = (found.cell >= 0) & (found.seen <= levels[safe])
        whole = waits & (found.seen < levels[safe])
        edge = waits & (bins == at)
        chosen = np.flatnonzero(whole | (waits & (bins <= at)))
        if not len(chosen):
            continue
        is_often = (levels[safe] + 1 > 2)[chosen]
        table = _document_table(found, chosen, here)
        for where, mask in zip(held, (~is_often, is_often), strict=False):
            if mask.any():
                where.append(table.take(schemas.column(np.flatnonzero(mask))) if not mask.all() else table)
        if edge.any():
            held[2].append(_edge_table(found, np.flatnonzero(edge)))
    return [_write(as_place(target), tables) for target, tables in zip(targets, held, strict=True)]


def _write(path: Place, tables: list[pa.Table]) -> int:
    if not tables:
        return 0
    table = pa.concat_tables(tables).unify_dictionaries()
    write_parquet(path, table, group_rows=_GROUP_ROWS)
    return len(table)


def _document_table(found: Candidates, chosen: Counts, pool: Pool) -> pa.Table:
    rows = found.rows.take(chosen)
    names = schemas.strings(list(pool.grid.domains))
    columns: dict[str, Any] = {
        "doc_id": id_array(rows.hi, rows.lo),
        "domain": pa.DictionaryArray.from_arrays(schemas.column(rows.domain, pa.int32()), names),
        "n_tokens": schemas.column(rows.tokens),
        "occurrence": schemas.column(rows.occurrence, pa.int32()),
        "occurrences": schemas.column(rows.occurrences, pa.int32()),
    }
    if rows.weight is not None:
        columns["weight"] = schemas.column(rows.weight)
    if rows.seen is not None:
        columns["seen"] = schemas.column(rows.seen)
    return pa.table(columns | {name: rows.table[name] for name in _COLUMNS})


def _edge_table(found: Candidates, chosen: Counts) -> pa.Table:
    rows = found.rows
    arrays = (found.cell, found.key, rows.hi, rows.lo, rows.occurrence, found.written, found.seen)
    names = ("cell", "key", "hi", "lo", "occurrence", "written", "seen")
    return pa.table({name: schemas.column(values[chosen]) for name, values in zip(names, arrays, strict=True)})


def _thresholds(found: Survey, ends: _End, edges: list[pa.Table]) -> tuple[Threshold, ...]:
    joined = pa.concat_tables(edges) if edges else None
    columns = {name: schemas.numbers(joined[name]) for name in joined.column_names} if joined is not None else {}
    thresholds = []
    for c in range(found.grid.size):
        level, rest, last = int(ends.level[c]), int(ends.rest[c]), int(ends.last[c])
        fresh = found.documents[c, :level].sum(), found.tokens[c, :level].sum()
        documents, unique = int(fresh[0]), int(fresh[1])
        if not rest:
            thresholds.append(Threshold(level, None, 0, False, documents, unique))
            continue
        mine = {name: values[columns["cell"] == c] for name, values in columns.items()}
        order = np.lexsort([mine[name] for name in ("occurrence", "lo", "hi", "key")])
        sums = int(ends.before[c]) + np.cumsum(mine["written"][order])
        end = int(np.searchsorted(sums, rest, "left"))
        if end == len(order):
            raise ArithmeticError(f"cell {c}: its last bin reaches {sums[-1:]} tokens, its survey says at least {rest}")
        at = order[end]
        tokens = int(mine["written"][at])
        kept = tokens - (int(sums[end]) - rest)
        # Documents of this very level are drawn for the first time in this phase; those of lower ones were counted.
        if level < found.tokens.shape[1]:
            new = mine["seen"][order[: end + 1]] == level
            documents += int(found.documents[c, level, :last].sum() + new.sum())
            unique += int(found.tokens[c, level, :last].sum() + mine["written"][order[: end + 1]][new].sum())
            unique -= (tokens - kept) if new[-1] else 0
        key, hi, lo, occurrence = (int(mine[name][at]) for name in ("key", "hi", "lo", "occurrence"))
        thresholds.append(Threshold(level, (key, hi, lo, occurrence), kept, kept < tokens, documents, unique))
    return tuple(thresholds)
