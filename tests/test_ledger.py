"""The consumption ledger: written, read, refused; and what a plan makes of it."""

from __future__ import annotations

import functools
import json
import random
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given as each
from hypothesis import settings
from hypothesis import strategies as st

from mixture import ledger, schemas
from mixture.errors import LockError, PlanError, StoreError
from mixture.ledger import Ledger
from mixture.lockfile import Lock
from mixture.pack.shuffle import Shuffle, taken
from mixture.plan.consumed import write_seen
from mixture.plan.given import Given, Seen, merged, parse_consumed, taken_first
from tests.conftest import Built, Document, Kitchen, documents

#: Every way in which a stream may be laid out: end to end, packed whole or in parts, and with its documents moved.
LAYOUTS = {
    "concat": "packing: concat",
    "aligned": "packing: concat",
    "best-fit": "packing: best-fit",
    "intact": "packing: intact",
    "split-by-length": "packing: {kind: split-by-length, long: 0.5}",
    "vsl": "packing: {kind: vsl, batch: 8}",
    "utk": "transforms: {utk: {probability: 0.7, parts: 3, room: 24}}",
}


@functools.cache
def _documents() -> list[Document]:
    return documents(90)


def _build(kitchen: Kitchen, layout: str = "concat", **changes: Any) -> Built:
    kitchen.corpus(_documents())
    recipe = kitchen.recipe(more=LAYOUTS[layout], **changes)
    if layout == "aligned":
        recipe.write_text(recipe.read_text().replace("sequence: {length: 512,", "sequence: {length: 512, align: 16,"))
    return kitchen.build(recipe)


def _write(kitchen: Kitchen, lock: Lock, counts: list[int], shuffles: list[Shuffle], name: str = "ledger.json") -> str:
    path = kitchen.root / name
    Ledger.of(lock, str(kitchen.root / "work.lock.json"), counts, shuffles).write(path)
    return str(path)


def _counted(built: Built, consumed: tuple[Seen, ...]) -> dict[bytes, int]:
    """How often each document of the index appeared, as a plan counts it; without those that did not."""
    job = built.job
    index = job.bucket(job.tokenize())
    target = job.workspace.work / "seen.arrow"
    write_seen(consumed, index.table, job.workspace, target)
    ids = pq.read_table(index.table, columns=["doc_id"])["doc_id"].to_pylist()
    seen = schemas.numbers(pa.ipc.open_file(str(target)).read_all()["seen"]).tolist()
    return {doc: times for doc, times in zip(ids, seen, strict=True) if times}


def _by_hand(built: Built, sequences: Mapping[int, Any] | set[int]) -> dict[bytes, int]:
    """The same, counted over every span of the shards."""
    copies: dict[bytes, set[tuple[str, int]]] = defaultdict(set)
    for span in built.spans():
        if span["sequence"] in sequences:
            copies[span["doc_id"]].add((span["domain"], span["copy"]))
    return {doc: len(found) for doc, found in copies.items()}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_in_any_order_a_ledger_counts_what_the_shards_spans_show(kitchen: Kitchen, layout: str) -> None:
    built = _build(kitchen, layout)
    total, group = sum(shard["sequences"] for shard in built.lock.shards), 8 if layout == "vsl" else 1
    draw = random.Random(0)
    orders = [(0, 0), (1, 1), (total, 3), (total + 50, 4), (16, 5), (100, 6)]
    assert max(_by_hand(built, set(range(total))).values()) > 1, "copies, or the count is too easy"
    for window, seed in orders:
        for count in (1, draw.randrange(2, total), total - 1):
            sequences = set(taken(total, window, seed, 0, count, group).tolist())
            consumed = parse_consumed(_write(kitchen, built.lock, [count], [Shuffle(window, seed)]))
            assert len(sequences) == consumed[0].sequences == count
            assert _counted(built, consumed) == _by_hand(built, sequences), (window, count)


@pytest.mark.parametrize("layout", ["concat", "aligned", "best-fit", "utk"])
def test_a_document_longer_than_a_window_counts_once(kitchen: Kitchen, layout: str) -> None:
    built = _build(kitchen, layout, shard_tokens=2_048)
    total = sum(shard["sequences"] for shard in built.lock.shards)
    assert len(built.lock.shards) > 50
    for seed in range(4):
        sequences = set(taken(total, total, seed, 0, total // 2).tolist())
        consumed = parse_consumed(_write(kitchen, built.lock, [total // 2], [Shuffle(total, seed)]))
        assert _counted(built, consumed) == _by_hand(built, sequences)


@pytest.mark.parametrize("layout", ["concat", "best-fit", "aligned"])
@pytest.mark.parametrize("count", [1, 137, 300])
def test_in_the_stream_s_order_a_ledger_is_the_lock_at_that_sequence(kitchen: Kitchen, layout: str, count: int) -> None:
    built = _build(kitchen, layout)
    by_lock = parse_consumed(f"{kitchen.root / 'work.lock.json'}@{count}")
    assert parse_consumed(_write(kitchen, built.lock, [count], [Shuffle()])) == by_lock
    # Whole windows of a shuffle are the stream's first sequences, too.
    whole = parse_consumed(_write(kitchen, built.lock, [count], [Shuffle(window=count, seed=9)]))
    assert whole == by_lock
    assert "order" not in Given(consumed=by_lock).to_json()["consumed"][0]


def test_phases_have_orders_of_their_own(kitchen: Kitchen) -> None:
    kitchen.corpus(_documents())
    recipe = kitchen.recipe(more="phases:\n  - {name: a, budget: 100K}\n  - {name: b, budget: 100K}")
    recipe.write_text(recipe.read_text().replace("budget: 200000\n", ""))
    built = kitchen.build(recipe)
    total = [phase["stream"]["sequences"] for phase in built.lock.phases]
    both = parse_consumed(_write(kitchen, built.lock, [total[0], 50], [Shuffle(8, 1), Shuffle(total[1], 2)]))
    assert [(entry.lock, entry.sequences) for entry in both] == [("small-a", total[0]), ("small-b", 50)]
    assert [bool(entry.order) for entry in both] == [False, True]
    only = parse_consumed(_write(kitchen, built.lock, [30, 0], [Shuffle(8, 1), Shuffle(total[1], 2)]))
    assert [(entry.lock, entry.sequences) for entry in only] == [("small-a", 30)]
    in_stream_order = parse_consumed(_write(kitchen, built.lock, [total[0], 50], [Shuffle(), Shuffle()]))
    assert in_stream_order == parse_consumed(f"{kitchen.root / 'work.lock.json'}@b:50")


def test_one_stream_in_two_orders_counts_what_was_seen_once(kitchen: Kitchen) -> None:
    built = _build(kitchen)
    total = sum(shard["sequences"] for shard in built.lock.shards)
    orders = [(Shuffle(total, 1), 60), (Shuffle(total, 1), 90), (Shuffle(), 40), (Shuffle(64, 2), 30)]
    entries = [
        entry
        for number, (shuffle, count) in enumerate(orders)
        for entry in parse_consumed(_write(kitchen, built.lock, [count], [shuffle], f"{number}.json"))
    ]
    kept = merged(entries)
    assert [entry.sequences for entry in kept] == [90, 40, 30], "of one order, the longer holds the other"
    union = set(range(40)) | set(taken(total, total, 1, 0, 90).tolist()) | set(taken(total, 64, 2, 0, 30).tolist())
    assert _counted(built, kept) == _by_hand(built, union)


def test_a_remix_after_a_shuffled_run_keeps_its_caps_and_the_lock_knows_how(kitchen: Kitchen) -> None:
    built = _build(kitchen, max_epochs=3)
    total = sum(shard["sequences"] for shard in built.lock.shards)
    path = _write(kitchen, built.lock, [150], [Shuffle(total, 11)])
    recipe = kitchen.recipe("new.yaml", max_epochs=3, budget=150_000)
    job = kitchen.job(recipe, lock="new.lock.json")
    store = job.tokenize()
    given = job.given([path])
    plan = job.plan(store, job.bucket(store), given)
    assert plan.lock.given["consumed"][0]["order"]["seed"] == 11
    assert Given.from_json(json.loads(json.dumps(plan.lock.given))) == given
    # Without being told again, the same plan.
    assert job.plan(store, job.bucket(store)).lock.fingerprint == plan.lock.fingerprint
    packed = job.pack(store, plan)
    before = _by_hand(built, set(taken(total, total, 11, 0, 150).tolist()))
    now = _by_hand(Built(job, packed.lock, packed.folders[0]), set(range(10**6)))
    assert max(before.get(doc, 0) + times for doc, times in now.items()) == 3
    copies = {s["copy"] for s in Built(job, packed.lock, packed.folders[0]).spans() if s["doc_id"] in before}
    assert 0 not in copies, "copies are numbered on"


@settings(max_examples=400)
@each(
    st.integers(1, 60),
    st.integers(0, 70),
    st.integers(0, 5),
    st.sampled_from([1, 2, 8]),
    st.floats(0, 1),
)
def test_a_gapless_beginning_and_the_others_are_what_was_taken(
    total: int, window: int, seed: int, group: int, share: float
) -> None:
    count = int(share * total)
    order = {"sequences": count, "total": total, "window": window, "seed": seed, "group": group}
    prefix, others = taken_first(order)
    assert [*range(prefix), *others.tolist()] == sorted(taken(total, window, seed, 0, count, group).tolist())
    assert prefix not in others
    assert np.all(np.diff(others) > 0)


def test_a_ledger_is_read_as_it_was_written_under_any_name(kitchen: Kitchen) -> None:
    built = _build(kitchen)
    written = Ledger.of(built.lock, "x.lock.json", [7], [Shuffle(64, 3)])
    written.write(kitchen.root / "ledger.json")
    (kitchen.root / "ledger.json").rename(kitchen.root / "of-monday.json")
    assert ledger.read(kitchen.root / "of-monday.json") == written
    assert written.phases[0].numbers.tolist() == taken(written.phases[0].total, 64, 3, 0, 7).tolist()


def test_a_lock_that_moved_is_found_beside_the_ledger_and_another_is_not_taken_for_it(kitchen: Kitchen) -> None:
    built = _build(kitchen)
    path = _write(kitchen, built.lock, [7], [Shuffle()])
    lock = kitchen.root / "work.lock.json"
    run = kitchen.root / "run"
    run.mkdir()
    (run / "ledger.json").write_bytes(Path(path).read_bytes())
    (run / lock.name).write_bytes(lock.read_bytes())
    lock.rename(kitchen.root / "kept.json")
    assert parse_consumed(str(run / "ledger.json"))[0].sequences == 7
    (run / lock.name).unlink()
    with pytest.raises(LockError, match=r"its lock .*work\.lock\.json is not there; .* beside the ledger"):
        parse_consumed(str(run / "ledger.json"))
    # Planned again with another budget, under the same name.
    kitchen.build(budget=100_000)
    with pytest.raises(LockError, match=rf"has changed since \({built.lock.fingerprint} then"):
        parse_consumed(path)
    (run / lock.name).write_bytes((kitchen.root / "kept.json").read_bytes())
    assert parse_consumed(str(run / "ledger.json"))[0].sequences == 7


def test_what_is_no_ledger_is_refused_in_a_sentence(kitchen: Kitchen) -> None:
    built = _build(kitchen)
    path = Path(_write(kitchen, built.lock, [7], [Shuffle()]))
    with pytest.raises(LockError, match=r"gone\.json: no such ledger; a trainer writes ledger\.json"):
        parse_consumed(str(kitchen.root / "gone.json"))
    for text in ("work.lock.json", "small.yaml", "run"):
        with pytest.raises(PlanError, match=r"write OLD\.lock\.json@SEQUENCE, .* or name the ledger\.json"):
            parse_consumed(text)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"sequences": 7', b'"sequences": 8'))
    with pytest.raises(StoreError, match="its seal does not fit"):
        parse_consumed(str(path))
    path.write_bytes(whole)
    from mixture.storage import write_json

    write_json(path, {"format": 9}, name="ledger")
    with pytest.raises(LockError, match="ledger format 9, this version reads 1"):
        parse_consumed(str(path))
    write_json(path, {"format": 1, "lock": "x"}, name="ledger")
    with pytest.raises(LockError, match="not a ledger"):
        parse_consumed(str(path))
