"""Two mixtures side by side: cells from their locks, documents from their plans."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import duckdb

from mixture.lockfile import Lock
from mixture.plan.consumed import find_plan
from mixture.plan.given import label
from mixture.plan.stretch import slice_file
from mixture.storage import local, spill
from mixture.workspace import Workspace

_MEMORY_LIMIT = "2GB"
_SUMMED = ("granted", "unique_tokens", "documents")


def compare_cells(a: Lock, b: Lock) -> list[dict[str, Any]]:
    """Return a row per (domain, bucket) of either: share of the stream, epochs, unique tokens, documents; `a` and `b`.

    Phases are summed; unique tokens and documents are those of single phases, added.
    """
    sides = [_cells(lock) for lock in (a, b)]
    totals = [sum(cell["granted"] for cell in side.values()) for side in sides]
    names = dict.fromkeys([*sides[0], *sides[1]])
    rows = []
    for domain, bucket in sorted(names, key=lambda name: (name[0], *_order(name, sides))):
        row: dict[str, Any] = {"domain": domain, "bucket": bucket}
        for side, cells, total in zip(("a", "b"), sides, totals, strict=True):
            cell = cells.get((domain, bucket))
            row[side] = None if cell is None else {"share": cell["granted"] / total, **cell}
        rows.append(row)
    return rows


def _order(name: tuple[str, str], sides: list[dict[tuple[str, str], Any]]) -> tuple[int, int]:
    """Keep the buckets' order of the first side that has them."""
    for number, side in enumerate(sides):
        if name in side:
            return number, list(side).index(name)
    return len(sides), 0


def _cells(lock: Lock) -> dict[tuple[str, str], dict[str, Any]]:
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for phase in lock.phases:
        for cell in phase["cells"]:
            at = found.setdefault((cell["domain"], cell["bucket"]), dict.fromkeys((*_SUMMED, "epochs"), 0))
            for name in _SUMMED:
                at[name] += cell[name]
            at["epochs"] = max(at["epochs"], cell["epochs"])
    return found


def compare_documents(a: Lock, b: Lock, workspace: Workspace) -> list[dict[str, Any]]:
    """Return a row per domain: documents that both draw, that only b draws (gained), that only a draws (lost).

    Raises:
        StoreError: a plan is not in the work directory.
    """
    files = [_slices(lock, workspace) for lock in (a, b)]
    query = """
        WITH a AS (SELECT DISTINCT doc_id, domain FROM read_parquet(?)),
             b AS (SELECT DISTINCT doc_id, domain FROM read_parquet(?))
        SELECT coalesce(a.domain, b.domain) AS domain,
               count(*) FILTER (a.doc_id IS NOT NULL AND b.doc_id IS NOT NULL) AS kept,
               count(*) FILTER (a.doc_id IS NULL) AS gained,
               count(*) FILTER (b.doc_id IS NULL) AS lost
        FROM a FULL JOIN b ON a.doc_id = b.doc_id AND a.domain = b.domain GROUP BY 1 ORDER BY 1"""
    with duckdb.connect(config={"memory_limit": _MEMORY_LIMIT, "temp_directory": spill(workspace.work)}) as db:
        rows = db.execute(query, files).fetchall()
    return [dict(zip(("domain", "kept", "gained", "lost"), row, strict=True)) for row in rows]


def _slices(lock: Lock, workspace: Workspace) -> list[str]:
    files = []
    for phase in lock.phases:
        folder, record = find_plan(workspace, phase["stream"]["digest"], label(lock.name, phase["name"]))
        files += [str(local(slice_file(folder, number))) for number in range(len(record["slices"]))]
    return files


def by_domain(cells: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """Sum the rows of `compare_cells` over buckets: domain → side → sums."""
    found: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
    for row in cells:
        for side in ("a", "b"):
            at = found[row["domain"]].setdefault(side, dict.fromkeys((*_SUMMED, "share", "epochs"), 0))
            cell = row[side]
            if cell is not None:
                for name in (*_SUMMED, "share"):
                    at[name] += cell[name]
                at["epochs"] = max(at["epochs"], cell["epochs"])
    return found
