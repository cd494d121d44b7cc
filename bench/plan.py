"""An index → a plan, against reading the same columns: DuckDB's sum over the index, and its sort by a hash.

The index has the shape of SlimPajama (`bench.slimpajama`) and is made for the run, never shipped. What is measured is
the whole stage: survey, quotas, draws, order, files, lock; start-up is not. Peak memory is that of the largest process.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import duckdb

from bench import measure
from bench.measure import Contestant, Rounds
from bench.setting import Row, Setting
from bench.slimpajama import make_index
from mixture.engine import Silence
from mixture.engine.local import Local
from mixture.index.build import Index
from mixture.index.census import Census
from mixture.plan.given import Given
from mixture.plan.make import Planner
from mixture.recipe import Recipe
from mixture.recipe.quantities import tokens
from mixture.recipe.sources import TokenizerSpec
from mixture.storage import read_json
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
    nothing: dict[str, Any] = {"units": (), "texts": (), "parts": (), "rejected": {}, "folder": Path("none")}
    store = cast("Store", SimpleNamespace(tokenizer=tokenizer, documents=index.documents, **nothing))
    return Planner(of, store, index, None, {}, Given(), Workspace(work, Path()), engine, Silence())


def rows(setting: Setting) -> list[Row]:
    """Measure an index of as many documents as asked for."""
    return bench(tokens(setting.options.documents), setting.budget, setting.counts, setting.rounds)


def bench(documents: int, budget: int | None, workers: tuple[int, ...], rounds: Rounds) -> list[dict[str, Any]]:
    """Measure one index with each number of workers; return a row for each."""
    place = rounds.temp / "plan"
    index = make_index(place / "index", documents, workers=max(workers))
    budget = budget or index.tokens // 5
    return [_measure(place, index, budget, count, rounds) for count in workers]


def _measure(place: Path, index: Index, budget: int, workers: int, rounds: Rounds) -> dict[str, Any]:
    folder = str(index.folder)
    job = {"folder": folder, "budget": budget, "workers": workers, "work": str(place / "work")}
    contestants = [
        Contestant("ours", "bench.plan:ours", job),
        Contestant("scan", "bench.plan:scan", {"folder": folder, "workers": workers}),
        Contestant("sort", "bench.plan:sort", {"folder": folder, "workers": workers}),
    ]
    reports = measure.alternate(contestants, rounds)
    rates = {name: [index.documents / r["seconds"] / 1e6 for r in found] for name, found in reports.items()}
    peak = {name: max(max(r["peak_child"], r["peak_self"]) for r in found) for name, found in reports.items()}
    return {
        "bench": "plan",
        "corpus": f"{index.documents:,} documents → {budget / 1e9:,.1f}B tokens, {reports['ours'][0]['drawn']:,} drawn",
        "megabytes": index.table.stat().st_size / 1e6,
        "documents": index.documents,
        "workers": workers,
        "unit": "M documents/s",
        "ours": measure.spread(rates["ours"]),
        "ours_seconds": measure.spread([r["seconds"] for r in reports["ours"]]),
        "other": "DuckDB, sum of the columns",
        "floor": measure.spread(rates["scan"]),
        "ratio": measure.ratios(rates["ours"], rates["scan"]),
        "floor_peak": peak["scan"],
        "more": [
            {
                "name": "DuckDB, sorted draw",
                "rate": measure.spread(rates["sort"]),
                "ratio": measure.ratios(rates["ours"], rates["sort"]),
                "peak": peak["sort"],
            }
        ],
        "peak": peak["ours"],
        "skipped": "",
    }


def open_index(folder: Path) -> Index:
    """Open an index that `make_index` wrote."""
    census = Census.from_rows(read_json(folder / "census.json"))
    record = {name: value for name, value in read_json(folder / "index.json").items() if name != "census"}
    return Index(folder=folder, census=census, made=False, **record)


def ours(folder: str, budget: int, workers: int, work: str) -> dict[str, Any]:
    """Contestant: the plan stage over an index, into a work directory that is not there yet."""
    shutil.rmtree(work, ignore_errors=True)
    index = open_index(Path(folder))
    with Local(workers) as engine:
        start = time.perf_counter()
        made = planner(recipe(budget, on_shortage="redistribute"), index, Path(work), engine).plan(Path(work) / "lock")
        seconds = time.perf_counter() - start
    drawn = sum(cell["documents"] for cell in made.lock.phases[0]["cells"])
    return {"seconds": seconds, "drawn": drawn, "digest": made.phases[0].digest}


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
