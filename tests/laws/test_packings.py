"""The laws hold over every packing and transform, not only where documents stand end to end."""

from __future__ import annotations

import json
from collections import defaultdict

import datasets
import pytest

from mixture.errors import PlanError
from tests.conftest import Document, Kitchen, documents

#: Recipe lines and sequence options of each layout.
LAYOUTS = {
    "concat": ("", ""),
    "concat, aligned": ("", ", align: 8"),
    "best-fit": ("packing: best-fit", ""),
    "best-fit, aligned": ("packing: best-fit", ", align: 16"),
    "intact": ("packing: intact", ""),
    "split-by-length": ("packing: {kind: split-by-length, long: 0.5, short: 100}", ""),
    "vsl": ("packing: {kind: vsl, batch: 4, smallest: 16, cycles: 2}", ""),
    "interleave": ("transforms: {interleave: {parts: 3}}", ""),
    "best-fit, interleave": ("packing: best-fit\ntransforms: {interleave: {parts: 3}}", ""),
    "utk": ("transforms: {utk: {probability: 0.5, room: 32, trace: 8}}", ""),
    "intact, utk": ("packing: intact\ntransforms: {utk: {probability: 1, room: 16}}", ""),
}
EVERY = pytest.mark.parametrize("layout", LAYOUTS)


def recipe(layout: str) -> dict[str, str]:
    more, sequence = LAYOUTS[layout]
    return {"more": more, "separator": f"eos{sequence}"}


@EVERY
def test_every_granted_token_is_written_once(kitchen: Kitchen, layout: str) -> None:
    kitchen.corpus(documents(200))
    built = kitchen.build(**recipe(layout))
    phase = built.lock.phases[0]
    assert all(cell["written"] == cell["granted"] for cell in phase["cells"])
    seen: set[tuple[bytes, str, int, int]] = set()
    for span in built.spans():
        for offset in range(span["doc_offset"], span["doc_offset"] + span["stop"] - span["start"]):
            token = (span["doc_id"], span["domain"], span["copy"], offset)
            assert token not in seen
            seen.add(token)
    assert len(seen) == phase["stream"]["tokens"] == phase["packing"]["tokens"]
    assert phase["packing"]["sequences"] == sum(shard["sequences"] for shard in phase["shards"])


@EVERY
def test_what_no_span_covers_is_padding_or_a_mark(kitchen: Kitchen, layout: str) -> None:
    kitchen.corpus(documents(200))
    built = kitchen.build(**recipe(layout))
    table, spans = built.table(), defaultdict(list)
    for span in built.spans():
        spans[span["sequence"]].append(span)
    knots = built.lock.tokenizer.get("knots")
    marked = 0
    for number, row in enumerate(table.to_pylist()):
        marks = set(row.get("marks", ()))
        covered = {place for span in spans[number] for place in range(span["start"], span["stop"])}
        assert not covered & marks
        for place in set(range(len(row["input_ids"]))) - covered - marks:
            assert row["input_ids"][place] == 0
        for place in marks:
            first, count = knots["trace"] or (0, 0)
            assert row["input_ids"][place] in {knots["head"], knots["tail"], *range(first, first + count)}
        marked += len(marks)
    assert marked == built.lock.phases[0]["packing"]["marks"]
    assert (marked > 0) == ("utk" in layout)


@EVERY
def test_workers_and_a_lost_shard_change_no_byte(kitchen: Kitchen, layout: str) -> None:
    kitchen.corpus(documents(200))
    first = kitchen.build(**recipe(layout))
    again = kitchen.build(work="other", workers=2, **recipe(layout))
    assert again.hashes == first.hashes
    first.shards[1].unlink()
    mended = kitchen.build(**recipe(layout))
    assert mended.hashes == first.hashes
    assert mended.made["pack"] == (first.shards[1].name,)


@EVERY
def test_documents_start_where_they_are_aligned(kitchen: Kitchen, layout: str) -> None:
    align = {"concat, aligned": 8, "best-fit, aligned": 16}.get(layout, 1)
    kitchen.corpus(documents(100))
    built = kitchen.build(**recipe(layout))
    assert all(span["start"] % align == 0 for span in built.spans())


def test_another_packing_plans_nothing_anew(kitchen: Kitchen) -> None:
    kitchen.corpus(documents(200))
    kitchen.build()
    job = kitchen.job(kitchen.recipe(more="packing: best-fit"), lock="other.lock.json")
    plans = set((job.workspace.work / "plans").iterdir())
    assert plans
    store = job.tokenize()
    assert not job.plan(store, job.bucket(store)).made
    assert set((job.workspace.work / "plans").iterdir()) == plans


@pytest.mark.parametrize("layout", ["best-fit", "vsl", "utk"])
def test_what_was_consumed_is_known_to_the_document(kitchen: Kitchen, layout: str) -> None:
    kitchen.corpus(documents(200))
    built = kitchen.build(**recipe(layout))
    total = built.lock.phases[0]["packing"]["sequences"]
    begun = {(s["doc_id"], s["domain"], s["copy"]) for s in built.spans() if s["sequence"] < total // 2}
    lock = kitchen.root / "work.lock.json"
    job = kitchen.job(kitchen.recipe(seed=8, **recipe(layout)), lock="next.lock.json")
    store = job.tokenize()
    index = job.bucket(store)
    given = job.given([f"{lock}@{total // 2}"])
    job.plan(store, index, given)
    cells = json.loads((kitchen.root / "next.lock.json").read_text())["made"]["phases"][0]["cells"]
    used = sum(cell["used"] for cell in cells)
    lengths = {s["doc_id"]: s["doc_length"] for s in built.spans()}
    assert used == sum(lengths[doc] + 1 for doc, _, _ in begun)


def test_where_a_sequence_lies_is_not_known_before_it_is_packed(kitchen: Kitchen) -> None:
    kitchen.corpus(documents(200))
    job = kitchen.job(kitchen.recipe(more="packing: best-fit"))
    store = job.tokenize()
    job.plan(store, job.bucket(store))
    with pytest.raises(PlanError, match="it is not packed"):
        kitchen.job(kitchen.recipe(seed=8), lock="next.lock.json").given([f"{kitchen.root / 'work.lock.json'}@3"])


def test_a_document_longer_than_a_window_leaves_the_next_windows_empty_but_whole(kitchen: Kitchen) -> None:
    giant = Document("giant " * 30_000, "books")
    kitchen.corpus([*documents(60), giant])
    more = {"more": "packing: best-fit", "domains": "natural", "lengths": "natural", "max_epochs": 1}
    built = kitchen.build(budget=250_000, holdout=0, shard_tokens=20_000, **more)
    counts = [shard["sequences"] for shard in built.lock.shards]
    assert 0 in counts
    assert max(counts) * 512 > 5 * 20_000
    assert built.job.verify().tokens == built.lock.phases[0]["stream"]["tokens"]
    found = datasets.load_dataset(
        "arrow", data_files=[str(path) for path in built.shards], cache_dir=str(kitchen.root / "cache")
    )
    assert len(found["train"]) == sum(counts)
