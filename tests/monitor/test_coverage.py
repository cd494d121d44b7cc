"""Documents in which both names of a fact stand, in supply and plan, against a count by hand over texts and shards."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from mixture.engine import Silence, Task
from mixture.engine.local import Local
from mixture.errors import MonitorError, StoreError, TraceError
from mixture.lockfile import Lock
from mixture.monitor import coverage_scan
from mixture.monitor.coverage import Coverage, coverage
from mixture.monitor.coverage_match import Matching
from mixture.monitor.coverage_pairs import Pair
from mixture.recipe import Buckets, bucket_names
from mixture.workspace import Workspace
from tests.conftest import Document, Kitchen, documents
from tests.trace import conftest as trace
from tests.trace.conftest import Warehouse, doc_id

pytest.importorskip("ahocorasick_rs", reason="ahocorasick-rs is not installed")

house = trace.house

#: Names that stand in many documents, in one, in none, inside another word, and in another case.
PAIRS = [
    Pair("token", "stream"),
    Pair("ÜNÏCÖDÉ", "漢字"),
    Pair("books-1-12", "long"),
    Pair("wiki-1-1", "Wiki"),
    Pair("code-1-2", "context model"),
    Pair("tok", "stream"),
    Pair("nowhere", "token"),
]
#: What the naive count needs: where each document lies in the stream, as the shards say.
Spans = list[dict[str, Any]]


class Counting(Local):
    """An engine that remembers how many texts were searched for pairs."""

    def __init__(self, workers: int = 1) -> None:
        super().__init__(workers)
        self.searched = 0

    def run(self, tasks: Sequence[Task], stage: str = "") -> Any:
        self.searched += sum("coverage" in task.function for task in tasks)
        return super().run(tasks, stage)


def count(lock: Lock, workspace: Workspace, pairs: Sequence[Pair] = PAIRS, *, workers: int = 1, **how: Any) -> Coverage:
    with Local(workers) as engine:
        return coverage(lock, workspace, pairs, engine, Silence(), **how)


def stands(name: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name.lower())}(?!\w)", " ".join(text.lower().split())) is not None


def naive(index: pl.DataFrame, texts: dict[bytes, str], phases: Sequence[Spans], buckets: Buckets) -> Counter[Any]:
    """Count by hand: every document of the index, its text, and every span of it that was written."""
    counts: Counter[Any] = Counter()
    own: dict[Any, Counter[Any]] = defaultdict(Counter)
    for number, spans in enumerate(phases):
        for span in spans:
            begin, end = span["doc_offset"], span["doc_offset"] + span["stop"] - span["start"]
            inside = max(0, min(end, span["doc_length"]) - max(begin, 0))
            own[span["doc_id"], span["domain"]][number, span["copy"]] += inside
    for row in index.iter_rows(named=True):
        text, domain = texts[row["doc_id"]], row["domain"]
        bucket = bucket_names(buckets.of(domain))[buckets.number(domain, row["n_tokens"])]
        mine = {
            key: tokens
            for key, tokens in own[row["doc_id"], domain].items()
            if tokens and key[1] % row["occurrences"] == row["occurrence"]
        }
        for number, pair in enumerate(PAIRS):
            if stands(pair.subject, text) and stands(pair.object, text):
                at = (number, domain, bucket)
                counts[*at, "documents"] += 1
                counts[*at, "tokens"] += row["n_tokens"]
                counts[*at, "drawn"] += bool(mine)
                counts[*at, "copies"] += len(mine)
                counts[*at, "drawn_tokens"] += sum(mine.values())
    return +counts


def counted(found: Coverage) -> Counter[Any]:
    counts: Counter[Any] = Counter()
    for row in found.cells.iter_rows(named=True):
        for name in ("documents", "tokens", "drawn", "copies", "drawn_tokens"):
            counts[row["pair"], row["domain"], row["bucket"], name] += row[name]
    return +counts


def spans_of(folder: Path, lock: Lock, phase: int) -> Spans:
    files = [folder / shard["shard"] for shard in lock.phases[phase]["shards"]]
    tables = [pa.ipc.open_file(pa.memory_map(str(path))).read_all() for path in files]
    return [span for table in tables for spans in table["spans"].to_pylist() for span in spans]


def index_of(lock: Lock, workspace: Workspace) -> pl.DataFrame:
    return pl.read_parquet(workspace.index(lock.work["index"]) / "index.parquet")


@pytest.mark.parametrize("more", ["", "duplicates: keep\n"], ids=["keep-first", "keep"])
def test_every_format_join_and_equal_text_is_counted_as_by_hand(house: Warehouse, more: str) -> None:
    built = house.made("covered.yaml" if not more else "covered-keep.yaml", more=more, budget=400_000)
    workspace = built.job.workspace
    texts = {doc_id(origin.text): origin.text for origin in house.single}
    texts |= {doc_id(text): text for text in house.repositories.values()}
    expected = naive(
        index_of(built.lock, workspace), texts, [spans_of(built.folder, built.lock, 0)], built.job.recipe.buckets
    )
    found = count(built.lock, workspace)
    assert counted(found) == expected
    # The case is worth it: several domains, documents that are drawn twice, some that never are, a pair without any.
    assert len({key[1] for key in expected}) == 3
    assert sum(n for key, n in expected.items() if key[-1] == "copies") > sum(
        n for key, n in expected.items() if key[-1] == "drawn"
    )
    assert found.pairs["documents"].to_list()[-2:] == [0, 0]
    assert 0 < found.pairs["drawn"].sum() < found.pairs["documents"].sum()


PHASES = """
phases:
  - {name: first, budget: 120K}
  - {name: second, budget: 60K, mix: {domains: {wiki: 0.3, code: 0.7}, max_epochs: 3}}
"""


def _with_phases(kitchen: Kitchen, docs: list[Document]) -> tuple[Lock, Workspace, list[Spans], Buckets]:
    kitchen.corpus(docs)
    path = kitchen.recipe(more=PHASES, buckets="512, 1K", domains="{books: 0.6, wiki: 0.15, code: 0.25}")
    text = path.read_text().replace("budget: 200000\n", "", 1)
    path.write_text(text.replace("buckets: [512, 1K]", "buckets: {default: [512, 1K], domains: {books: [1K, 4K]}}"))
    job = kitchen.job(path)
    store = job.tokenize()
    packed = job.pack(store, job.plan(store, job.bucket(store)))
    spans = [spans_of(folder, packed.lock, n) for n, folder in enumerate(packed.folders)]
    return packed.lock, job.workspace, spans, job.recipe.buckets


def test_phases_are_counted_one_by_one_and_together(kitchen: Kitchen) -> None:
    # Two of them are exactly as long as an edge.
    docs = [*documents(120, seed=1), *(Document("token stream".ljust(size, "."), "wiki") for size in (512, 1024))]
    lock, workspace, spans, buckets = _with_phases(kitchen, docs)
    texts = {doc_id(doc.text): doc.text for doc in docs}
    index = index_of(lock, workspace)
    assert counted(count(lock, workspace)) == naive(index, texts, spans, buckets)
    assert counted(count(lock, workspace, phase="second")) == naive(index, texts, spans[1:], buckets)
    with pytest.raises(TraceError, match="no such phase; did you mean 'second'"):
        count(lock, workspace, phase="secnd")


def test_small_pieces_and_two_workers_make_the_same_table(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    kitchen.corpus(documents(60, seed=1), "a.jsonl")
    kitchen.corpus(documents(60, seed=2), "b.jsonl")
    built = kitchen.build(budget=60_000, domains="natural", lengths="natural")
    alone = count(built.lock, built.job.workspace)
    monkeypatch.setattr(coverage_scan, "UNIT_BYTES", 1)
    monkeypatch.setattr(coverage_scan, "_VERSION", 99)
    both = count(built.lock, built.job.workspace, workers=2)
    assert both.cells.equals(alone.cells)
    assert both.pairs.equals(alone.pairs)


def test_another_plan_reads_no_text(kitchen: Kitchen) -> None:
    kitchen.corpus(documents(60, seed=1))
    changes: dict[str, Any] = {"domains": "natural", "lengths": "natural"}
    one = kitchen.build(budget=60_000, **changes)
    two = kitchen.build(kitchen.recipe("two.yaml", budget=30_000, seed=8, **changes))
    with Counting() as engine:
        first = coverage(one.lock, one.job.workspace, PAIRS, engine, Silence())
        assert engine.searched == 1
        second = coverage(two.lock, two.job.workspace, PAIRS, engine, Silence())
        assert engine.searched == 1
        # Other pairs, or another way of matching, are searched for anew.
        coverage(two.lock, two.job.workspace, PAIRS[:1], engine, Silence())
        coverage(two.lock, two.job.workspace, PAIRS, engine, Silence(), matching=Matching(words=False))
        assert engine.searched == 3
    assert first.pairs["documents"].equals(second.pairs["documents"])
    assert first.pairs["copies"].sum() > second.pairs["copies"].sum() > 0


def test_a_pair_file_s_order_numbers_the_rows_and_both_tables_are_written(kitchen: Kitchen, tmp_path: Path) -> None:
    kitchen.corpus(documents(60, seed=1))
    built = kitchen.build(budget=60_000, domains="natural", lengths="natural")
    found = count(built.lock, built.job.workspace)
    assert found.pairs["pair"].to_list() == list(range(len(PAIRS)))
    assert found.pairs["subject"].to_list() == [pair.subject for pair in PAIRS]
    found.write(tmp_path / "out")
    assert pl.read_parquet(tmp_path / "out" / "coverage.parquet").equals(found.cells)
    assert pl.read_parquet(tmp_path / "out" / "coverage-pairs.parquet").equals(found.pairs)


def test_a_changed_input_file_is_refused(kitchen: Kitchen) -> None:
    path = kitchen.corpus(documents(60, seed=1))
    built = kitchen.build(budget=60_000, domains="natural", lengths="natural")
    path.write_bytes(path.read_bytes().replace(b"token", b"nekot"))
    with pytest.raises(MonitorError, match=r"data/a\.jsonl: its content is .*restore the file, or plan again"):
        count(built.lock, built.job.workspace)


def test_joined_documents_that_are_gone_are_named(house: Warehouse) -> None:
    built = house.made("gone.yaml")
    joined = built.job.workspace.work / "joined"
    joined.rename(joined.with_name("elsewhere"))
    try:
        with pytest.raises(StoreError, match="joined documents are gone; run `mixture tokenize`"):
            count(built.lock, built.job.workspace, [Pair("never", "asked")])
    finally:
        joined.with_name("elsewhere").rename(joined)


def test_no_pairs_is_refused(kitchen: Kitchen) -> None:
    kitchen.corpus(documents(60, seed=1))
    built = kitchen.build(budget=60_000, domains="natural", lengths="natural")
    with pytest.raises(MonitorError, match="no pairs to count"):
        count(built.lock, built.job.workspace, [])
