"""Laws 4, 5, 6 and 7: domains do not disturb each other, planning reads no token, caps hold, copies lie apart."""

from __future__ import annotations

import shutil
from collections import defaultdict
from itertools import pairwise
from typing import Any

import numpy as np

from tests.conftest import Built, Document, Kitchen, documents

TWO = "  - {name: all, format: jsonl, paths: [data/a.jsonl], domain: {field: meta.set}}"
THREE = TWO + "\n  - {name: more, format: jsonl, paths: [data/b.jsonl], domain: {field: meta.set}}"


def _drawn(built: Built, domains: tuple[str, ...]) -> list[tuple[Any, ...]]:
    """Documents of some domains in stream order: id, copy, and how much of it is written."""
    sizes: dict[tuple[Any, ...], int] = defaultdict(int)
    for span in built.spans():
        if span["domain"] in domains:
            sizes[span["domain"], span["doc_id"], span["copy"]] += span["stop"] - span["start"]
    return [(*key, size) for key, size in sizes.items()]


def test_a_new_domain_changes_neither_the_documents_of_the_others_nor_their_order(kitchen: Kitchen) -> None:
    kitchen.corpus(documents(400, domains=("books", "wiki")), "a.jsonl")
    kitchen.corpus(documents(200, seed=9, domains=("code",)), "b.jsonl")
    # Quotas of the two are the same: 0.75 of 102400 and 0.5 of 153600; both streams are one slice.
    common: dict[str, Any] = {"length": 512, "shard_tokens": 102_400}
    before = kitchen.build(sources=TWO, budget=102_400, domains="{books: 0.75, wiki: 0.25}", work="one", **common)
    after = kitchen.build(
        sources=THREE,
        budget=153_600,
        domains="{books: 0.5, wiki: 0.16666666666666666, code: 0.3333333333333333}",
        work="two",
        **common,
    )
    assert before.lock.phases[0]["stream"]["slices"] == after.lock.phases[0]["stream"]["slices"] == 1
    assert _drawn(before, ("books", "wiki")) == _drawn(after, ("books", "wiki"))
    assert len(_drawn(before, ("books", "wiki"))) > 50


def test_a_larger_quota_keeps_every_document_of_a_smaller_one(kitchen: Kitchen) -> None:
    kitchen.corpus(documents(400))
    small = kitchen.build(budget=60_000, work="one")
    large = kitchen.build(budget=120_000, work="two")
    ids = {(key[0], key[1]) for key in _drawn(small, ("books", "wiki", "code"))}
    assert ids < {(key[0], key[1]) for key in _drawn(large, ("books", "wiki", "code"))}


def test_the_holdout_is_the_same_for_every_seed_and_never_drawn(kitchen: Kitchen) -> None:
    kitchen.corpus(documents(400))
    common: dict[str, Any] = {"budget": 1_000_000, "holdout": 0.2, "max_epochs": 9, "domains": "natural"}
    seen = []
    for seed in (1, 2, 3):
        built = kitchen.build(seed=seed, lengths="natural", work=f"w{seed}", **common)
        seen.append({key[1] for key in _drawn(built, ("books", "wiki", "code"))})
    # At more than one epoch every document that is not held out is drawn.
    assert seen[0] == seen[1] == seen[2]
    held = built.lock.documents["held_out"]
    assert sum(entry["documents"] for entry in held.values()) == 400 - len(seen[0])
    assert 40 < 400 - len(seen[0]) < 120


def test_planning_again_reads_no_token(kitchen: Kitchen) -> None:
    kitchen.corpus(documents(300))
    job = kitchen.job(kitchen.recipe())
    store = job.tokenize()
    index = job.bucket(store)
    first = job.plan(store, index).phases[0].digest
    # Without the tokens on disk, new edges, weights and a new seed still plan.
    for path in store.folder.rglob("part-*.arrow"):
        path.unlink()
    job = kitchen.job(kitchen.recipe(buckets="256, 2K", lengths="{factors: [1, 2, 3]}", seed=99))
    store = job.tokenize()
    index = job.bucket(store)
    assert job.plan(store, index).phases[0].digest != first


def test_no_document_appears_more_often_than_its_cap_and_whole_epochs_are_whole(kitchen: Kitchen) -> None:
    kitchen.corpus(documents(90))
    built = kitchen.build(budget=700_000, domains="natural", lengths="natural", max_epochs=5, holdout=0)
    copies: dict[Any, set[int]] = defaultdict(set)
    for domain, doc, copy, _ in _drawn(built, ("books", "wiki", "code")):
        copies[domain, doc].add(copy)
    epochs = [cell["epochs"] for cell in built.lock.phases[0]["cells"] if cell["granted"]]
    assert min(epochs) > 2
    assert max(epochs) <= 5
    assert len(copies) == 90
    assert all(numbers == set(range(len(numbers))) and len(numbers) <= 5 for numbers in copies.values())


def test_copies_of_one_document_lie_far_apart(kitchen: Kitchen) -> None:
    kitchen.corpus(documents(500, domains=("wiki",)))
    for shard_tokens, slices in ((5_000_000, 1), (120_000, 4)):
        built = kitchen.build(
            budget=1_000_000,
            domains="natural",
            lengths="natural",
            max_epochs=9,
            shard_tokens=shard_tokens,
            work=f"w{slices}",
        )
        assert built.lock.phases[0]["stream"]["slices"] == slices
        first: dict[Any, dict[int, int]] = defaultdict(dict)
        for span in built.spans():
            first[span["doc_id"]].setdefault(span["copy"], span["position"])
        gaps = []
        for places in first.values():
            ordered = sorted(places.values())
            gaps += [b - a for a, b in pairwise(ordered)]
        # Multiples of the golden ratio below the fifth are 0.146 apart at least, of a slice at worst, less what the
        # documents' lengths add. By chance some 30 of 1500 gaps would be shorter than this.
        assert len(gaps) > 1000
        assert min(gaps) > 0.05 * 1_000_000 / slices


def test_every_twentieth_of_the_stream_has_the_planned_shares(kitchen: Kitchen) -> None:
    kitchen.corpus(documents(6000, domains=("wiki", "code")))
    built = kitchen.build(
        budget=2_000_000, domains="{wiki: 0.3, code: 0.7}", lengths="natural", shard_tokens=200_000, length=1000
    )
    assert built.lock.phases[0]["stream"]["slices"] == 4
    total, planned = built.lock.phases[0]["stream"]["tokens"], np.array([0.3, 0.7])
    tokens = np.zeros((20, 2))
    for span in built.spans():
        which = ("wiki", "code").index(span["domain"])
        tokens[span["position"] * 20 // total, which] += span["stop"] - span["start"]
    window = total / 20
    # Documents in random order: a domain's share of a window varies by √(share · mean length · e / window), since their
    # lengths are log-normal of spread 1 in the logarithm; medians are 300 and 800, means √e times that.
    deviation = np.sqrt(planned * np.array([300, 800]) * np.e**0.5 * np.e / window)
    z = (tokens / window - planned) / deviation
    assert np.abs(z).max() < 5
    assert (z**2).mean() < 2


def test_equal_texts_are_kept_and_numbered_on_request(kitchen: Kitchen) -> None:
    docs = documents(60)
    twin = Document(docs[0].text, "wiki")
    kitchen.corpus([*docs, docs[0], docs[0], twin])
    built = kitchen.build(
        budget=300_000, domains="natural", lengths="natural", max_epochs=9, holdout=0, more="duplicates: keep"
    )
    assert built.lock.documents["indexed"] == 63
    same: dict[str, set[int]] = defaultdict(set)
    mine = next(span["doc_id"] for span in built.spans() if span["doc_length"] == len(docs[0].text.encode()))
    for span in built.spans():
        if span["doc_id"] == mine:
            same[span["domain"]].add(span["copy"])
    # Three in its domain, one in the other, times the epochs.
    assert set(same) == {"books", "wiki"}
    assert len(same["books"]) >= 3
    assert same["books"] == set(range(len(same["books"])))
    built.job.verify()


def test_equal_texts_keep_the_first_by_the_order_of_the_sources(kitchen: Kitchen) -> None:
    docs = documents(50, domains=("books",))
    kitchen.corpus(docs, "a.jsonl")
    kitchen.corpus([Document(d.text, "wiki") for d in docs[:20]] + documents(30, seed=5, domains=("wiki",)), "b.jsonl")
    for order, wiki in ((("a", "b"), 30), (("b", "a"), 50)):
        sources = "\n".join(
            f"  - {{name: {n}, format: jsonl, paths: [data/{n}.jsonl], domain: {{field: meta.set}}}}" for n in order
        )
        job = kitchen.job(kitchen.recipe(sources=sources, domains="natural", lengths="natural", budget=1000))
        census = job.bucket(job.tokenize()).census
        assert sum(row.documents for row in census.cells if row.domain == "wiki") == wiki
    shutil.rmtree(kitchen.root / "work")
