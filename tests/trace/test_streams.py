"""Shards and plan tell the same; streams that follow others, scaled ones and phases are traced like any other."""

from __future__ import annotations

import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from mixture import lockfile
from mixture.errors import LockError, StoreError, TraceError
from mixture.plan.given import Given
from mixture.tokens.training import train_sentencepiece
from mixture.trace import Trace
from mixture.trace.copies import copies
from mixture.trace.stream import Stream
from tests.conftest import Built, Kitchen, documents

DOCS = documents(90)
EASY: dict[str, Any] = {"domains": "natural", "lengths": "natural", "budget": 120_000, "max_epochs": 9}


def agree(trace: Trace) -> None:
    """Claim that forward and backward agree for every document of a stream."""
    stream = trace.stream
    forward = defaultdict(set)
    for number in range(len(stream)):
        for span in stream.row(number).spans:
            forward[span.doc_id].add((number, span))
    for doc_id, places in forward.items():
        found = copies(stream, trace.documents.with_ids([doc_id])[doc_id])
        assert {place for copy in found for place in copy.places} == places


def test_a_stream_that_follows_another_is_traced(kitchen: Kitchen) -> None:
    kitchen.corpus(DOCS)
    path = kitchen.recipe(**EASY)
    first = kitchen.build(path)
    train_sentencepiece(iter([d.text for d in DOCS]), kitchen.root / "own.model", vocab_size=400, sample_bytes=10**6)
    path.write_text(path.read_text().replace("{kind: bytes}", "{kind: sentencepiece, path: own.model}"))
    job = kitchen.job(path, lock="like.lock.json")
    store = job.tokenize()
    given = Given(like=(first.lock.phases[0]["stream"]["digest"],))
    built = job.pack(store, job.plan(store, job.bucket(store), given))
    trace = Trace(built.lock, job.workspace)
    agree(trace)
    shutil.rmtree(Trace(first.lock, job.workspace).stream.plan.folder)
    agree(Trace(built.lock, job.workspace))
    assert "followed" not in trace.stream.plan.record


def test_a_pilot_says_which_documents_are_not_in_it(kitchen: Kitchen) -> None:
    kitchen.corpus(DOCS)
    job = kitchen.job(kitchen.recipe(**EASY | {"holdout": 0}), lock="pilot.lock.json")
    store = job.tokenize()
    built = job.pack(store, job.plan(store, job.bucket(store), Given(scale="1/3", match_repetition=True)))
    trace = Trace(built.lock, job.workspace)
    agree(trace)
    reasons = [
        trace.file_row("data/a.jsonl", row)["documents"][0]["phases"][0]["not_drawn"] for row in range(len(DOCS))
    ]
    told = [found[0]["why"] for found in reasons if found]
    assert sum("not in the pilot's 1/3" in why for why in told) > 30


def test_a_remix_is_traced(kitchen: Kitchen) -> None:
    kitchen.corpus(DOCS)
    first = kitchen.build(kitchen.recipe(**EASY))
    path = kitchen.recipe("new.yaml", **EASY)
    path.write_text(path.read_text().replace("name: small", "name: new"))
    job = kitchen.job(path, lock="new.lock.json")
    given = job.given([f"{kitchen.root / 'work.lock.json'}@100"])
    store = job.tokenize()
    built = job.pack(store, job.plan(store, job.bucket(store), given))
    assert built.lock.given["consumed"]
    agree(Trace(built.lock, job.workspace))
    agree(Trace(first.lock, job.workspace))


@pytest.fixture
def built(kitchen: Kitchen) -> Built:
    kitchen.corpus(DOCS)
    return kitchen.build(kitchen.recipe(**EASY, more="packing: best-fit\n"))


def test_each_shard_that_is_gone_is_answered_by_the_plan(built: Built) -> None:
    trace = Trace(built.lock, built.job.workspace)
    whole = [trace.stream.row(number) for number in range(len(trace.stream))]
    gone = built.shards[1]
    gone.unlink()
    again = Trace(built.lock, built.job.workspace).stream
    firsts = again.firsts.tolist()
    for number, before in enumerate(whole):
        now = again.row(number)
        assert (now.spans, now.marks) == (before.spans, before.marks)
        assert now.source == ("plan" if firsts[1] <= number < firsts[2] else "shards")
        assert (again.tokens(number) is None) == (now.source == "plan")
    agree(Trace(built.lock, built.job.workspace))


def test_shards_alone_tell_what_stands_in_them(built: Built) -> None:
    shutil.rmtree(built.job.workspace.plans)
    trace = Trace(built.lock, built.job.workspace)
    answer = trace.sequence(3)
    assert answer["from"] == "shards"
    assert all(span["file"] == "data/a.jsonl" for span in answer["documents"])
    with pytest.raises(StoreError, match=r"the plan of small .* is not in"):
        trace.document(answer["documents"][0]["doc_id"])


def test_a_plan_alone_tells_what_will_stand_there(kitchen: Kitchen) -> None:
    kitchen.corpus(DOCS)
    job = kitchen.job(kitchen.recipe(**EASY, more="transforms: {interleave: {parts: 2}}\n"))
    store = job.tokenize()
    planned = job.plan(store, job.bucket(store))
    before = Trace(planned.lock, job.workspace)
    told = [before.stream.row(number) for number in range(len(before.stream))]
    agree(before)
    after = Stream(job.pack(store, planned).lock, 0, job.workspace)
    assert [(row.spans, row.marks) for row in told] == [
        (row.spans, row.marks) for row in (after.row(number) for number in range(len(after)))
    ]


def test_a_packing_that_keeps_documents_whole_is_numbered_by_packing_alone(kitchen: Kitchen) -> None:
    kitchen.corpus(DOCS)
    job = kitchen.job(kitchen.recipe(**EASY, more="packing: intact\n"))
    store = job.tokenize()
    trace = Trace(job.plan(store, job.bucket(store)).lock, job.workspace)
    with pytest.raises(LockError, match="with packing intact only packing tells"):
        trace.sequence(0)


def test_the_index_of_renamed_files_is_the_one_that_the_lock_names(kitchen: Kitchen) -> None:
    path = kitchen.corpus(DOCS)
    first = kitchen.build(kitchen.recipe(**EASY))
    path.rename(path.with_name("b.jsonl"))
    second = kitchen.build(kitchen.recipe(**EASY))
    assert first.lock.phases[0]["stream"]["digest"] == second.lock.phases[0]["stream"]["digest"]
    for built, name in ((first, "data/a.jsonl"), (second, "data/b.jsonl")):
        assert Trace(built.lock, built.job.workspace).sequence(0)["documents"][0]["file"] == name


def test_a_damaged_shard_is_refused(built: Built) -> None:
    shard: Path = built.shards[0]
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(StoreError, match="the lock says"):
        Trace(built.lock, built.job.workspace).sequence(0)


def test_steps_tile_the_sequences(built: Built) -> None:
    trace = Trace(built.lock, built.job.workspace)
    steps = [trace.step(number, 7) for number in range(-(-len(trace.stream) // 7))]
    assert [tuple(step["sequences"]) for step in steps] == [
        (first, min(first + 7, len(trace.stream))) for first in range(0, len(trace.stream), 7)
    ]
    assert sum(step["tokens"] for step in steps) == built.lock.phases[0]["stream"]["tokens"]
    for step in steps:
        assert sum(domain["tokens"] for domain in step["domains"]) == step["tokens"]
        size = (step["sequences"][1] - step["sequences"][0]) * trace.stream.length
        assert step["tokens"] + step["padding"] + step["marks"] == size
    written = {cell["domain"]: 0 for cell in built.lock.phases[0]["cells"]}
    for step in steps:
        for domain in step["domains"]:
            written[domain["domain"]] += domain["tokens"]
    for name, tokens in written.items():
        cells = built.lock.phases[0]["cells"]
        assert tokens == sum(cell["written"] for cell in cells if cell["domain"] == name)
    with pytest.raises(TraceError, match="numbered from 0"):
        trace.step(len(steps), 7)


def test_a_lock_of_several_phases_wants_one_named(kitchen: Kitchen) -> None:
    kitchen.corpus(DOCS)
    path = kitchen.recipe(**EASY)
    text = (
        path.read_text().replace("budget: 120000\n", "") + "phases: [{name: a, budget: 40K}, {name: b, budget: 60K}]\n"
    )
    path.write_text(text)
    built = kitchen.build(path)
    both = Trace(built.lock, built.job.workspace)
    with pytest.raises(TraceError, match="has the phases a, b"):
        both.sequence(0)
    with pytest.raises(TraceError, match="no such phase"):
        Trace(built.lock, built.job.workspace, "aa")
    for name in ("a", "b"):
        agree(Trace(built.lock, built.job.workspace, name))
    answer = both.document(Trace(built.lock, built.job.workspace, "b").stream.row(0).spans[0].doc_id.hex(), batch=4)
    assert [phase["phase"] for phase in answer["phases"]] == ["a", "b"]
    for phase in answer["phases"]:
        for copy in phase["copies"]:
            assert all(place["step"] == place["sequence"] // 4 for place in copy["places"])


def test_a_lock_written_and_read_is_traced_alike(built: Built) -> None:
    lock = lockfile.read(built.job.lock_path)
    assert lock is not None
    assert Trace(lock, built.job.workspace).sequence(5) == Trace(built.lock, built.job.workspace).sequence(5)
