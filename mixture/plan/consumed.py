"""What was already trained on: how often each document of the index appeared in the first sequences of older plans.

An appearance that was begun counts, so that no cap is passed. Documents are known by their ids: a re-mix may have
other domains, buckets, filters or another tokenizer.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mixture import schemas
from mixture.errors import StoreError
from mixture.index.aligned import write_aligned
from mixture.pack import Ints
from mixture.pack.layout import Rules
from mixture.plan.given import Seen, taken_first
from mixture.plan.stretch import sizes, slice_file
from mixture.plan.window import Windows, read_window
from mixture.storage import Place, in_order, local, matches, read_record, spill
from mixture.tokens.store import read_between
from mixture.workspace import Workspace

_MEMORY_LIMIT = "2GB"
_ROWS_AT_ONCE = 1 << 17


def find_plan(workspace: Workspace, digest: str, name: str) -> tuple[Place, dict[str, Any]]:
    """Return the folder and the record of a plan.

    Raises:
        StoreError: it is not in the work directory.
    """
    for path in in_order(matches(workspace.plans, "*/plan.json")):
        record = read_record(path, "digest", "slices", "starts")
        if record is not None and record["digest"] == digest:
            return path.parent, record
    raise StoreError(
        f"the plan of {name} ({digest[:12]}) is not in {workspace.plans}; run `mixture plan` of its recipe again, "
        "with the state that its lock names"
    )


@dataclass(frozen=True)
class _Stream:
    """A plan that was trained on: where it lies, and what its record says."""

    folder: Place
    record: dict[str, Any]

    def begun(self, entry: Seen) -> Iterator[tuple[str, list[Any], pa.Table | None]]:
        """Yield queries for the documents (doc_id, domain, copy) that a stretch begins, each once.

        Yields:
            A query, its parameters, and the table that it calls `those`, if it does.
        """
        for number, start in enumerate(self.record["starts"][:-1]):
            if start >= entry.tokens:
                break
            query = "SELECT doc_id, domain, copy FROM read_parquet(?) WHERE position + ? < ?"
            yield query, [str(local(slice_file(self.folder, number))), start, entry.tokens], None
        tables: Iterable[pa.Table] = ()
        if entry.within:
            tables = [self._window(entry.within)]
        elif entry.order:
            tables = self._tiled(entry) if Rules.from_json(entry.order["rules"]).tiles else self._laid(entry)
        for table in tables:
            yield "SELECT doc_id, domain, copy FROM those", [], table

    def _window(self, within: dict[str, Any]) -> pa.Table:
        """Return the documents that begin in a window, and of which a piece stands in its first sequences."""
        rules, stretch = Rules.from_json(within["rules"]), tuple(within["stretch"])
        table, layout = read_window(self.folder, self.record["starts"], stretch, rules, within["window"])
        rows = np.unique(layout.pieces.row[layout.pieces.sequence < within["sequences"]])
        return _keys(table, rows[self._opens(table)[rows]])

    def _tiled(self, entry: Seen) -> Iterator[pa.Table]:
        """Yield the documents behind `entry.tokens` of which a token is in a sequence that was taken, slice by slice.

        Sequences lie in the stream end to end, so a document's place there says in which it stands.
        """
        length, taken = entry.order["rules"]["length"], _others(entry)
        starts = self.record["starts"]
        for number in range(max(0, bisect.bisect_right(starts, entry.tokens) - 1), len(starts) - 1):
            table = read_between(slice_file(self.folder, number), 0, starts[number + 1], _PLACE + _KEYS)
            position = schemas.numbers(table["position"]) + starts[number]
            first, last = position // length, (position + sizes(table) - 1) // length
            taken_there = np.searchsorted(taken, last, side="right") > np.searchsorted(taken, first)
            yield _keys(table, np.flatnonzero(taken_there & (position >= entry.tokens)))

    def _laid(self, entry: Seen) -> Iterator[pa.Table]:
        """Yield the same for a stream that is laid out window by window, where no piece's place is plain to see."""
        order, rules, taken = entry.order, Rules.from_json(entry.order["rules"]), _others(entry)
        cut = Windows(rules, order["size"], order["stream"])
        # A document that runs into the window from the one before, and whether that was counted there.
        first, counted = order["first"], True
        for number in range(order["number"], cut.count):
            if first > taken[-1]:
                break
            table, layout = read_window(self.folder, self.record["starts"], cut.stretch(number), rules, number)
            mine = taken[slice(*np.searchsorted(taken, [first, first + layout.sequences]))] - first
            seen = np.zeros(layout.sequences, np.bool_)
            seen[: max(0, order["prefix"] - first)] = True
            seen[mine] = True
            hit = np.zeros(len(table), np.bool_)
            hit[layout.pieces.row[seen[layout.pieces.sequence]]] = True
            first += layout.sequences
            if not len(table):
                continue
            goes_on = not self._opens(table)[0]
            hit[0] &= not (goes_on and counted)
            yield _keys(table, np.flatnonzero(hit))
            # A window of one row that goes on leaves the document open as it was.
            counted = bool(hit[-1]) or (counted and goes_on and len(table) == 1)

    def _opens(self, table: pa.Table) -> npt.NDArray[np.bool_]:
        """Return which rows begin their document, bool, shape (n,)."""
        return schemas.numbers(table["doc_start"]) == -len(self.record["prefix"])  # type: ignore[no-any-return]


_KEYS, _PLACE = ["doc_id", "domain", "copy"], ["position", "doc_start", "doc_stop"]


def _keys(table: pa.Table, rows: npt.NDArray[Any]) -> pa.Table:
    return table.select(_KEYS).take(schemas.column(rows))


def _others(entry: Seen) -> Ints:
    """Return the sequences that were taken beyond those that all were, rising."""
    return taken_first(entry.order | {"sequences": entry.sequences})[1]


def _add_appearances(db: duckdb.DuckDBPyConnection, entries: Sequence[Seen], workspace: Workspace) -> None:
    """Insert into `appeared` how often each document appeared in what was trained on of one stream.

    Copies of one document fall in different slices, so a slice counts each copy once for all. Only what a stream was
    seen of in several orders has to be brought together first.
    """
    stream = _Stream(*find_plan(workspace, entries[0].digest, entries[0].lock))
    counts = "INSERT INTO appeared SELECT doc_id, count(DISTINCT (domain, copy)) FROM ({}) GROUP BY doc_id"
    several = len(entries) > 1
    for entry in entries:
        for query, parameters, table in stream.begun(entry):
            if table is not None:
                db.register("those", table)
            db.execute("INSERT INTO begun " + query if several else counts.format(query), parameters)
            if table is not None:
                db.unregister("those")
    if several:
        db.execute(counts.format("SELECT * FROM begun"))
        db.execute("DELETE FROM begun")


def write_seen(consumed: Sequence[Seen], index: Place, workspace: Workspace, target: Place) -> int:
    """Write the column of appearances so far, one row per row of the index; return the most of them.

    Raises:
        StoreError: an old plan is not in the work directory.
    """
    with duckdb.connect(config={"memory_limit": _MEMORY_LIMIT, "temp_directory": spill(target.parent)}) as db:
        db.execute("CREATE TABLE appeared (doc_id BLOB, times BIGINT)")
        db.execute("CREATE TABLE begun (doc_id BLOB, domain VARCHAR, copy INTEGER)")
        streams: dict[tuple[str, str], list[Seen]] = {}
        for entry in consumed:
            streams.setdefault((entry.digest, entry.layout), []).append(entry)
        for entries in streams.values():
            _add_appearances(db, entries, workspace)
        query = """
            WITH total AS (SELECT doc_id, sum(times)::BIGINT AS times FROM appeared GROUP BY doc_id)
            SELECT coalesce(times, 0)::BIGINT AS times, occurrence, occurrences
            FROM read_parquet(?, file_row_number = true) AS i LEFT JOIN total USING (doc_id)
            ORDER BY file_row_number"""
        most = 0

        def columns() -> Iterator[npt.NDArray[np.int32]]:
            nonlocal most
            reader = db.sql(query, params=[str(local(index))]).to_arrow_reader(_ROWS_AT_ONCE)
            for batch in reader:
                times, number, equal = (
                    schemas.numbers(batch.column(n)) for n in ("times", "occurrence", "occurrences")
                )
                # Equal texts that a recipe keeps share what was seen of them, the first of them first.
                seen = np.maximum(times - number + equal - 1, 0) // equal
                most = max(most, int(seen.max(initial=0)))
                yield seen.astype(np.int32)

        write_aligned(target, "seen", pa.int32(), columns())
    return most
