"""What was already trained on: how often each document of the index appeared in the first sequences of older plans.

An appearance that was begun counts, so that no cap is passed. Documents are known by their ids: a re-mix may have
other domains, buckets, filters or another tokenizer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mixture import schemas
from mixture.errors import StoreError
from mixture.index.aligned import write_aligned
from mixture.pack.layout import Rules
from mixture.plan.given import Seen
from mixture.plan.stretch import slice_file
from mixture.plan.window import read_window
from mixture.storage import Place, in_order, local, matches, read_record, spill
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


def _begun(folder: Place, record: dict[str, Any], within: dict[str, Any]) -> pa.Table:
    """Return the documents that begin in a window, and of which a piece stands in its first sequences."""
    rules = Rules.from_json(within["rules"])
    table, layout = read_window(folder, record["starts"], tuple(within["stretch"]), rules, within["window"])
    begins = schemas.numbers(table["doc_start"]) == -len(record["prefix"])
    rows = np.unique(layout.pieces.row[layout.pieces.sequence < within["sequences"]])
    rows = rows[begins[rows]]
    return table.take(schemas.column(rows)).select(["doc_id", "domain", "copy"])


def _add_appearances(db: duckdb.DuckDBPyConnection, entry: Seen, workspace: Workspace) -> None:
    """Insert into `appeared` how often each document appeared in a stretch that was trained on."""
    folder, record = find_plan(workspace, entry.digest, entry.lock)
    for number, start in enumerate(record["starts"][:-1]):
        if start >= entry.tokens:
            break
        db.execute(
            "INSERT INTO appeared SELECT doc_id, count(DISTINCT (domain, copy)) FROM read_parquet(?) "
            "WHERE position + ? < ? GROUP BY doc_id",
            [str(local(slice_file(folder, number))), start, entry.tokens],
        )
    if entry.within:
        db.register("begun", _begun(folder, record, entry.within))
        db.execute("INSERT INTO appeared SELECT doc_id, count(DISTINCT (domain, copy)) FROM begun GROUP BY doc_id")
        db.unregister("begun")


def write_seen(consumed: Sequence[Seen], index: Place, workspace: Workspace, target: Place) -> int:
    """Write the column of appearances so far, one row per row of the index; return the most of them.

    Raises:
        StoreError: an old plan is not in the work directory.
    """
    with duckdb.connect(config={"memory_limit": _MEMORY_LIMIT, "temp_directory": spill(target.parent)}) as db:
        db.execute("CREATE TABLE appeared (doc_id BLOB, times BIGINT)")
        for entry in consumed:
            _add_appearances(db, entry, workspace)
        # Copies of one document fall in different slices, so a slice counts each copy once for all.
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
