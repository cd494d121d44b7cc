"""Runs of related documents in the stream: the pure order, and that the laws hold with it."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixture.plan.order import id_ranges
from mixture.plan.related import run_tokens, run_words, stream_order
from mixture.related import relate
from tests.conftest import Built, Kitchen, documents
from tests.related.topics import topic_of, topical

RELATED = "transforms: {related: {by: bm25, run: 2K}}"
PLAIN: dict[str, Any] = {"domains": "natural", "lengths": "natural", "holdout": 0, "max_epochs": 9}
TWO = "  - {name: all, format: jsonl, paths: [data/a.jsonl], domain: {field: meta.set}}"
THREE = TWO + "\n  - {name: more, format: jsonl, paths: [data/b.jsonl], domain: {field: meta.set}}"


def appearances(built: Built) -> list[tuple[str, bytes, int]]:
    """Documents in stream order, each copy once: domain, id, copy."""
    return list(dict.fromkeys((s["domain"], s["doc_id"], s["copy"]) for s in built.spans()))


# Pure


@given(st.integers(1, 1 << 20), st.integers(1, 1 << 40), st.integers(1, 1 << 40))
def test_about_a_run_of_a_path_is_drawn(run: int, supply: int, wanted: int) -> None:
    cut = run_tokens(run, supply, wanted)
    assert cut % run == 0
    assert (cut // run).bit_count() == 1
    drawn = cut * min(1, wanted / supply)
    assert run / 1.42 < drawn < run * 1.42 or (cut == run and wanted > supply)


def test_a_domain_of_which_nothing_is_drawn_has_runs_too() -> None:
    assert run_tokens(1000, 10**9, 0) == 1000


documents_ = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 99), st.integers(0, 5_000)), min_size=1, max_size=30)


@given(documents_, st.integers(1, 2000))
def test_documents_of_a_run_have_equal_words_and_others_have_not(given_: list[tuple[int, int, int]], cut: int) -> None:
    block, place, before = np.array(given_, np.int64).T
    hi, lo = run_words("wiki", (block << 32) + place, before, 4, cut)
    runs = list(zip(block.tolist(), (before // cut).tolist(), strict=True))
    words = list(zip(hi.tolist(), lo.tolist(), strict=True))
    assert len(set(words)) == len(set(runs)) == len(set(zip(runs, words, strict=True)))
    # A run lies in the range of ids of its block, so slices wider than blocks read what they read anyway.
    assert np.array_equal(hi >> np.uint64(62), block.astype(np.uint64))


def test_runs_lie_anywhere_in_a_block_and_apart_in_two_domains() -> None:
    related, before = np.zeros(4000, np.int64), np.arange(4000) * 10
    one, _ = run_words("wiki", related, before, 1, 10)
    other, _ = run_words("code", related, before, 1, 10)
    counts = np.bincount((one >> np.uint64(60)).astype(np.int64), minlength=16)
    assert counts.min() > 180
    assert (one != other).all()


@given(st.lists(st.tuples(*[st.integers(0, 3)] * 5), max_size=40))
def test_rows_stand_by_place_then_path_then_identity(rows: list[tuple[int, ...]]) -> None:
    columns = np.array(rows, np.int64).reshape(-1, 5).T
    places, path, hi, lo, copy = columns
    order = stream_order(places.astype(np.uint64), path, hi.astype(np.uint64), lo.astype(np.uint64), copy)
    assert [rows[number] for number in order] == sorted(rows)


# In a build


def test_related_documents_share_sequences(kitchen: Kitchen) -> None:
    docs = topical(600, topics=20)
    kitchen.corpus(docs)
    known = {}
    from mixture.hashing import document_ids

    for d in docs:
        known[document_ids([d.text.encode()])] = topic_of(d.text)

    def together(built: Built) -> float:
        found = [(s["sequence"], known[s["doc_id"]]) for s in built.spans()]
        same = [a[1] == b[1] for a, b in pairwise(found) if a[0] == b[0]]
        assert len(same) > 300
        return float(np.mean(same))

    common = PLAIN | {"budget": 150_000, "length": 2048}
    related = kitchen.build(more=RELATED, work="one", **common)
    plain = kitchen.build(work="two", **common)
    keyword = kitchen.build(more=RELATED.replace("bm25", "keywords"), work="three", **common)
    assert together(plain) < 0.1
    assert together(related) > 0.7
    assert together(keyword) > 0.4
    # The same documents, as many tokens of each cell.
    assert set(appearances(related)) == set(appearances(plain))
    assert related.lock.phases[0]["cells"] == plain.lock.phases[0]["cells"]
    for built in (related, keyword):
        built.job.verify()


def test_runs_are_longer_on_the_path_where_few_documents_are_drawn(kitchen: Kitchen) -> None:
    docs = topical(1200, topics=20)
    kitchen.corpus(docs)
    supply = sum(len(d.text.encode()) for d in docs)
    built = kitchen.build(more=RELATED, **PLAIN | {"budget": supply // 8, "length": 2048})
    place = {row["doc_id"]: row["before"] for row in relation_rows(built)}
    jumps = [abs(place[b] - place[a]) for (_, a, _), (_, b, _) in pairwise(appearances(built))]
    # An eighth is drawn, so neighbours are eight documents apart on the path, and runs 16K tokens long there.
    near = sum(jump < 16 * 1024 for jump in jumps)
    assert near > 0.75 * len(jumps)


def relation_rows(built: Built) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    (folder,) = (built.job.workspace.work / "related").iterdir()
    return [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_the_lock_holds_the_digest_of_the_paths(kitchen: Kitchen) -> None:
    kitchen.corpus(documents(60))
    built = kitchen.build(more=RELATED, budget=20_000)
    said = built.lock.documents["related"]
    assert said["by"] == "bm25"
    assert said["documents"] == 60
    assert len(said["digest"]) == 32


def test_law_3_the_bytes_are_those_of_the_documents_however_they_lie(
    kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relate, "BLOCK_DOCUMENTS", 64)
    docs = documents(400)
    kitchen.corpus(docs)
    first = kitchen.build(more=RELATED, work="one", budget=300_000)
    (kitchen.data / "a.jsonl").unlink()
    kitchen.corpus(docs[300:] + docs[:50], "z.jsonl")
    kitchen.corpus(docs[50:300][::-1], "b.jsonl")
    second = kitchen.build(more=RELATED, work="two", workers=2, budget=300_000)
    assert first.hashes == second.hashes
    assert first.lock.phases[0]["stream"]["digest"] == second.lock.phases[0]["stream"]["digest"]


def test_law_4_a_new_domain_and_relations_of_another_move_nothing(kitchen: Kitchen) -> None:
    kitchen.corpus(documents(400, domains=("books", "wiki")), "a.jsonl")
    kitchen.corpus(documents(200, seed=9, domains=("code",)), "b.jsonl")
    common: dict[str, Any] = {"length": 512, "shard_tokens": 102_400, "more": RELATED}
    before = kitchen.build(sources=TWO, budget=102_400, domains="{books: 0.75, wiki: 0.25}", work="one", **common)
    third = "{books: 0.5, wiki: 0.16666666666666666, code: 0.3333333333333333}"
    after = kitchen.build(sources=THREE, budget=153_600, domains=third, work="two", **common)
    only = {"more": "transforms: {related: {by: bm25, run: 2K, domains: [code]}}"}
    code = kitchen.build(sources=THREE, budget=153_600, domains=third, work="three", **common | only)
    none = kitchen.build(sources=THREE, budget=153_600, domains=third, work="four", **common | {"more": ""})

    def order(built: Built, *domains: str) -> list[tuple[str, bytes, int]]:
        return [row for row in appearances(built) if row[0] in domains]

    assert order(before, "books", "wiki") == order(after, "books", "wiki")
    assert order(code, "books", "wiki") == order(none, "books", "wiki") != order(after, "books", "wiki")
    assert order(code, "code") == order(after, "code") != order(none, "code")


def test_law_5_planning_again_reads_no_token(kitchen: Kitchen) -> None:
    kitchen.corpus(documents(300))
    job = kitchen.job(kitchen.recipe(more=RELATED))
    store = job.tokenize()
    index = job.bucket(store)
    first = job.plan(store, index).phases[0].digest
    for path in store.folder.rglob("part-*.arrow"):
        path.unlink()
    changed: dict[str, Any] = {"buckets": "256, 2K", "lengths": "{factors: [1, 2, 3]}", "seed": 99, "budget": 150_000}
    for number, more in enumerate((RELATED, RELATED.replace("run: 2K", "run: 4K"))):
        job = kitchen.job(kitchen.recipe(**changed, more=more), lock=f"{number}.lock.json")
        assert job.plan(store, index).phases[0].digest != first


def test_laws_6_and_7_copies_are_as_many_as_allowed_and_far_apart(kitchen: Kitchen) -> None:
    kitchen.corpus(topical(800, topics=20))
    for shard_tokens, slices in ((5_000_000, 1), (120_000, 4)):
        built = kitchen.build(
            more=RELATED, **PLAIN | {"budget": 1_000_000, "shard_tokens": shard_tokens}, work=f"w{slices}"
        )
        assert built.lock.phases[0]["stream"]["slices"] == slices
        found = appearances(built)
        copies = Counter(one for _, one, _ in found)
        most = built.lock.phases[0]["cells"][0]["epochs"]
        assert max(copies.values()) <= 9
        assert max(copies.values()) <= int(np.ceil(max(c["epochs"] for c in built.lock.phases[0]["cells"])))
        assert most > 3
        first: dict[bytes, dict[int, int]] = defaultdict(dict)
        for span in built.spans():
            first[span["doc_id"]].setdefault(span["copy"], span["position"])
        assert all(sorted(held) == list(range(len(held))) for held in first.values())
        gaps = [b - a for held in first.values() for a, b in pairwise(sorted(held.values()))]
        assert len(gaps) > 2000
        assert min(gaps) > 0.05 * 1_000_000 / slices


def test_law_7_every_twentieth_of_the_stream_has_the_planned_shares(kitchen: Kitchen) -> None:
    kitchen.corpus(documents(6000, domains=("wiki", "code")))
    built = kitchen.build(
        budget=2_000_000,
        domains="{wiki: 0.3, code: 0.7}",
        lengths="natural",
        shard_tokens=200_000,
        length=1000,
        more=RELATED,
    )
    assert built.lock.phases[0]["stream"]["slices"] == 4
    total, planned = built.lock.phases[0]["stream"]["tokens"], np.array([0.3, 0.7])
    tokens = np.zeros((20, 2))
    for span in built.spans():
        which = ("wiki", "code").index(span["domain"])
        tokens[span["position"] * 20 // total, which] += span["stop"] - span["start"]
    # Runs of 2K tokens and what a document adds stand in random order: a share varies as among so many of them.
    deviation = np.sqrt(planned * (1 - planned) * 4000 / (total / 20))
    z = (tokens / (total / 20) - planned) / deviation
    assert np.abs(z).max() < 5


def test_a_run_stands_whole_in_one_slice_wider_or_narrower_than_its_block(
    kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch
) -> None:
    for block, work in ((32_768, "one"), (40, "two")):
        monkeypatch.setattr(relate, "BLOCK_DOCUMENTS", block)
        kitchen.corpus(topical(800, topics=20))
        built = kitchen.build(more=RELATED, **PLAIN | {"budget": 160_000, "shard_tokens": 20_000}, work=work)
        stream = built.lock.phases[0]["stream"]
        assert stream["slices"] == 4
        place = {row["doc_id"]: (row["related"] >> 32, row["before"]) for row in relation_rows(built)}
        cells = built.lock.phases[0]["cells"]
        supply = sum(row["n_tokens"] for row in index_rows(built))
        cut = run_tokens(2048, supply, sum(cell["granted"] for cell in cells))
        positions: dict[tuple[int, int], list[int]] = defaultdict(list)
        for number, (_, one, copy) in enumerate(appearances(built)):
            if not copy:
                positions[place[one][0], place[one][1] // cut].append(number)
        assert len(positions) > 30
        assert all(held == list(range(held[0], held[0] + len(held))) for held in positions.values())
        # Runs of one block are spread over all slices that its range of ids meets.
        if block == 32_768:
            rows = len(appearances(built))
            assert {held[0] * 4 // rows for held in positions.values()} == {0, 1, 2, 3}


def index_rows(built: Built) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    (path,) = (built.job.workspace.work / "index").glob("*/index.parquet")
    return pq.read_table(path, columns=["doc_id", "n_tokens"]).to_pylist()


def test_equal_texts_that_are_kept_stand_apart(kitchen: Kitchen) -> None:
    docs = topical(300, topics=20)
    kitchen.corpus([*docs, *docs[:40]])
    built = kitchen.build(more=f"duplicates: keep\n{RELATED}", **PLAIN | {"budget": 100_000})
    built.job.verify()
    twice = [one for one, count in Counter(d for _, d, _ in appearances(built)).items() if count > 1]
    assert len(twice) > 10
    place = {(one, copy): number for number, (_, one, copy) in enumerate(appearances(built))}
    assert min(abs(place[one, 0] - place[one, 1]) for one in twice) > 10


def test_a_plan_that_follows_another_keeps_its_order_and_relates_nothing(kitchen: Kitchen) -> None:
    kitchen.corpus(topical(200, topics=20))
    first = kitchen.build(more=RELATED, **PLAIN | {"budget": 20_000})
    job = kitchen.job(kitchen.root / "small.yaml", lock="other.lock.json")
    store = job.tokenize()
    for path in (job.workspace.work / "related").rglob("*.parquet"):
        path.unlink()
    plan = job.plan(store, job.bucket(store), job.given(like=kitchen.root / "work.lock.json"))
    followed = plan.phases[0].read(0, plan.phases[0].starts[-1])
    assert followed["doc_id"].to_pylist() == [one for _, one, _ in appearances(first)]
    assert plan.lock.documents["related"] == first.lock.documents["related"]


def test_slices_of_a_circle_take_each_run_once() -> None:
    related, before = np.arange(500) << 32, np.zeros(500, np.int64)
    hi, _ = run_words("wiki", related, before, 512, 1000)
    homes = [
        sum(first <= int(at) < stop for number in range(8) for first, stop in id_ranges(number, 8, 2, 5)) for at in hi
    ]
    assert homes == [1] * 500
