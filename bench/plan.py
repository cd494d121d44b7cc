"""An index → a plan, against reading the same columns: DuckDB's sum over the index, and its sort by a hash.

The index has the shape of SlimPajama (`bench.slimpajama`) and is made for the run, never shipped. What is measured is
the whole stage: survey, quotas, draws, order, files, lock; start-up is not. Peak memory is that of the largest process.
"""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import duckdb

from bench import measure
from bench.measure import Contestant, Rounds
from mixture.engine import Silence
from mixture.engine.local import Local
from mixture.index.build import Index
from mixture.plan.given import Given
from mixture.plan.make import Planner
from mixture.recipe import Recipe
from mixture.recipe.sources import TokenizerSpec
from mixture.tokens.ingest import Store
from mixture.tokens.tokenizer import load
from mixture.workspace import Workspace

_K = 1024


def recipe(budget: int, **mix: Any) -> Recipe:
    """Return a per-source recipe over the domains of the shape: long share .7 at 8K in every domain."""
    return Recipe.model_validate(
        {
            "name": "slimpajama",
            "tokenizer": {"kind": "bytes"},
            "sources": [{"name": "all", "format": "jsonl", "paths": ["none"], "domain": {"field": "set"}}],
            "budget": budget,
            "sequence": {"length": 128 * _K},
            "buckets": [1 * _K, 2 * _K, 4 * _K, 8 * _K, 16 * _K, 32 * _K, 64 * _K, 128 * _K],
            "mix": {"lengths": {"threshold": 8 * _K, "long": 0.7}, "max_epochs": 4} | mix,
            "holdout": 0.001,
        }
    )


def planner(of: Recipe, index: Index, work: Path, engine: Local) -> Planner:
    """Return a planner over an index that no store lies behind: a plan reads no token."""
    tokenizer = load(TokenizerSpec(kind="bytes"), Path())
    store = cast("Store", SimpleNamespace(tokenizer=tokenizer, units=(), documents=index.documents, rejected={}))
    return Planner(of, store, index, None, {}, Given(), Workspace(work, Path()), engine, Silence())


def ours(folder: str, budget: int, workers: int, work: str, on_shortage: str) -> dict[str, Any]:
    """Contestant: the plan stage over an index."""
    from bench.slimpajama import open_index

    index = open_index(Path(folder))
    with Local(workers) as engine:
        start, cpu = time.perf_counter(), time.process_time()
        made = planner(recipe(budget, on_shortage=on_shortage), index, Path(work), engine).plan(Path(work) / "lock.json")
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    cells = made.lock.phases[0]["cells"]
    rows = sum(cell["documents"] for cell in cells)
    return {"seconds": seconds, "cpu": cpu, "drawn": rows, "digest": made.phases[0].digest}


def scan(folder: str, workers: int) -> dict[str, Any]:
    """Contestant, the floor: DuckDB sums the same columns once."""
    query = "SELECT domain, sum(n_tokens), bit_xor(hash(doc_id)) FROM read_parquet(?) GROUP BY 1"
    return _query(query, folder, workers)


def sort(folder: str, workers: int) -> dict[str, Any]:
    """Contestant: a plain DuckDB query that draws by a sorted hash, without order, slices or files."""
    query = """
        SELECT count(*), sum(before) FROM (
            SELECT sum(n_tokens) OVER (PARTITION BY domain, n_tokens >= 8192 ORDER BY hash(doc_id)) AS before
            FROM read_parquet(?)) WHERE before < 3000000000"""
    return _query(query, folder, workers)


def _query(query: str, folder: str, workers: int) -> dict[str, Any]:
    config = {"memory_limit": "4GB", "threads": workers, "temp_directory": str(Path(folder) / "spill")}
    with duckdb.connect(config=config) as db:
        start = time.perf_counter()
        db.execute(query, [str(Path(folder) / "index.parquet")]).fetchall()
        return {"seconds": time.perf_counter() - start}
