"""Knowledge coverage: in how many documents of a mixture do both names of a fact stand, and how often are they drawn?

What a model can answer about a fact follows from how often its training text holds subject and object together (SMI,
arXiv 2502.04066; Kandpal et al., arXiv 2211.08411). A mixture draws some documents twice and others never, so the count
that matters is over the plan:

    pairs ─ one pass over the texts ─► (doc_id, pair) ─┬─ index ─► documents, tokens        by pair, domain, bucket
                                                       └─ plan ──► drawn, copies, their tokens

    pair   subject       object   domain   bucket     documents   tokens   drawn   copies   drawn_tokens
       0   Marie Curie   Warsaw   books    16K-64K            3    81022       2        5         134980
       0   Marie Curie   Warsaw   wiki     <4K                7     9120       0        0              0

Texts are read once for a set of pairs (`coverage_scan`); another plan over the same corpus reads none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import polars as pl

from mixture.engine import Engine, Progress
from mixture.errors import MonitorError
from mixture.lockfile import Lock
from mixture.monitor.coverage_match import Matching
from mixture.monitor.coverage_pairs import Pair
from mixture.monitor.coverage_scan import scan
from mixture.plan.stretch import slice_file
from mixture.recipe import Buckets, bucket_names
from mixture.storage import Place, local, spill
from mixture.tokens.store import write_parquet
from mixture.trace import Trace
from mixture.workspace import Workspace

_MEMORY_LIMIT = "2GB"
_COUNTS = ("documents", "tokens", "drawn", "copies", "drawn_tokens")

#: `found` has a row for each text and domain, `equal` of them in the index; `grid` the edges of each domain.
_CELLS = """
    WITH placed AS (
        SELECT found.*, len(list_filter(edges, lambda edge: edge <= n_tokens)) AS place, buckets
        FROM found JOIN grid USING (domain))
    SELECT pair, domain, buckets[1 + place] AS bucket, place,
        sum(equal)::BIGINT AS documents, sum(equal * n_tokens)::BIGINT AS tokens,
        sum(coalesce(drawn, 0))::BIGINT AS drawn, sum(coalesce(copies, 0))::BIGINT AS copies,
        sum(coalesce(drawn_tokens, 0))::BIGINT AS drawn_tokens
    FROM hits JOIN placed USING (doc_id) LEFT JOIN drawn USING (doc_id, domain)
    GROUP BY ALL ORDER BY pair, domain, place"""
#: Equal texts that the index numbers take turns: copy c is of the one numbered c % equal.
_DRAWN = """
    CREATE TABLE drawn AS
    SELECT doc_id, domain, count(DISTINCT copy % equal) AS drawn, count(*) AS copies, sum(own) AS drawn_tokens
    FROM (SELECT phase, doc_id, domain, copy, sum(own) AS own FROM begun GROUP BY ALL)
    JOIN found USING (doc_id, domain) WHERE own > 0 GROUP BY doc_id, domain"""
#: Separators lie outside a document: offsets below 0, and from its length on.
_BEGUN = """
    INSERT INTO begun
    SELECT ?, doc_id, domain, copy, greatest(0, least(doc_stop, doc_length) - greatest(doc_start, 0))
    FROM read_parquet(?) SEMI JOIN found USING (doc_id)"""


@dataclass(frozen=True)
class Coverage:
    """How a mixture covers fact pairs.

    Attributes:
        cells: of each pair, domain and length bucket in which it stands at all: `pair` (its number, from 0), `subject`,
            `object`, `domain`, `bucket`,
            `documents`: documents of the index that hold both names, held-out ones among them,
            `tokens`: their own tokens,
            `drawn`: how many of those documents the plan draws,
            `copies`: how often, all together (a copy that a quota cut counts),
            `drawn_tokens`: own tokens of those copies, as far as they are written.
        pairs: the same summed, one row for every pair, zeros too.
    """

    cells: pl.DataFrame
    pairs: pl.DataFrame

    def write(self, folder: Place) -> None:
        """Publish both tables, `coverage.parquet` and `coverage-pairs.parquet`."""
        write_parquet(folder / "coverage.parquet", self.cells.to_arrow())
        write_parquet(folder / "coverage-pairs.parquet", self.pairs.to_arrow())


def coverage(
    lock: Lock,
    workspace: Workspace,
    pairs: Sequence[Pair],
    engine: Engine,
    progress: Progress,
    *,
    phase: str = "",
    matching: Matching | None = None,
) -> Coverage:
    """Count the documents in which both names of each pair stand, in a mixture's supply and in its plan.

    Args:
        lock: the mixture, planned.
        workspace: where its index and its plan lie, and its corpora.
        pairs: the facts.
        engine: where texts are searched.
        progress: who is told.
        phase: name of the phase whose plan is counted; empty for all of them together.
        matching: when a name stands in a text.

    Raises:
        MonitorError: no pairs, or an input file has changed since.
        TraceError: the lock has no such phase.
        StoreError: index, plan or joined documents are not in the work directory.
        InputError: an input file is gone or cannot be read.
    """
    if not pairs:
        raise MonitorError("no pairs to count; give at least one subject and object")
    trace = Trace(lock, workspace, phase)
    documents, plans = trace.documents, [stream.plan for stream in trace.streams]
    hits = scan(lock, documents.how, workspace, pairs, matching or Matching(), engine, progress)
    buckets = _buckets(lock.recipe["content"]["buckets"])
    with duckdb.connect(config={"memory_limit": _MEMORY_LIMIT, "temp_directory": spill(hits[0].parent)}) as db:
        _gather(db, hits, documents.folder / "index.parquet", buckets)
        for number, plan in enumerate(plans):
            for n in range(len(plan.record["slices"])):
                db.execute(_BEGUN, [number, str(local(slice_file(plan.folder, n)))])
        db.execute(_DRAWN)
        cells = db.sql(_CELLS).pl()
    return _named(cells, pairs)


def _buckets(content: Any) -> Buckets:
    """Read what a lock says of its recipe's buckets: edges alone, or with those of single domains."""
    return Buckets.model_validate(content if isinstance(content, dict) else {"default": content})


def _gather(db: duckdb.DuckDBPyConnection, hits: Sequence[Place], index: Place, buckets: Buckets) -> None:
    """Make the tables `hits` (doc_id, pair), `found` (what the index says of those documents), `grid`, and `begun`."""
    files = [str(local(path)) for path in hits]
    # A text that stands in several files, or twice in one, is one document, unless the index numbers its equals.
    db.execute("CREATE TABLE hits AS SELECT DISTINCT doc_id, pair FROM read_parquet(?)", [files])
    db.execute(
        "CREATE TABLE found AS SELECT doc_id, domain, any_value(n_tokens) AS n_tokens, count(*) AS equal "
        "FROM read_parquet(?) SEMI JOIN hits USING (doc_id) GROUP BY doc_id, domain",
        [str(local(index))],
    )
    db.execute("CREATE TABLE grid (domain VARCHAR, edges BIGINT[], buckets VARCHAR[])")
    for (domain,) in db.execute("SELECT DISTINCT domain FROM found").fetchall():
        edges = buckets.of(domain)
        db.execute("INSERT INTO grid VALUES (?, ?, ?)", [domain, list(edges), list(bucket_names(edges))])
    db.execute("CREATE TABLE begun (phase INTEGER, doc_id BLOB, domain VARCHAR, copy INTEGER, own BIGINT)")


def _named(cells: pl.DataFrame, pairs: Sequence[Pair]) -> Coverage:
    """Lay the names beside the numbers, and sum up."""
    names = pl.DataFrame(
        {
            "pair": pl.Series(range(len(pairs)), dtype=pl.Int32),
            "subject": [pair.subject for pair in pairs],
            "object": [pair.object for pair in pairs],
        }
    )
    sums = cells.group_by("pair").agg(pl.col(*_COUNTS).sum())
    totals = names.join(sums, on="pair", how="left", maintain_order="left").with_columns(pl.col(*_COUNTS).fill_null(0))
    whole = cells.join(names, on="pair", how="left", maintain_order="left")
    return Coverage(whole.select("pair", "subject", "object", "domain", "bucket", *_COUNTS), totals)
