"""A store that fails now and then changes no byte; one that fails for good is one sentence, soon."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mixture.engine import Silence
from mixture.engine.local import Local
from mixture.errors import StoreError
from mixture.flow import open_job
from mixture.storage import (
    file_digest,
    files_in,
    is_folder,
    local,
    matches,
    only_run,
    publish,
    read_json,
    remove,
    remove_folder,
    size_of,
    transfer,
    tries,
    write_json,
)
from mixture.workspace import Workspace
from tests.conftest import Kitchen, documents
from tests.storage.objects import Store
from tests.storage.proxy import FAULTS, always, sometimes

RECIPE: dict[str, Any] = {"budget": 30_000, "domains": "natural", "lengths": "natural", "shard_tokens": 10_000}
QUICK_FAULTS = [fault for fault in FAULTS if fault != "hang"]
OPERATIONS = {
    "read_json": lambda store: read_json(store.place("a.json")),
    "write_json": lambda store: write_json(store.place("b.json"), {}),
    "size_of": lambda store: size_of(store.place("a.json")),
    "local": lambda store: local(store.place("a.json")),
    "file_digest": lambda store: file_digest(store.place("a.json")),
    "matches": lambda store: matches(store.place(), "*.json"),
    "files_in": lambda store: files_in(store.place()),
    "is_folder": lambda store: is_folder(store.place("none")),
    "remove": lambda store: remove(store.place("a.json")),
    "remove_folder": lambda store: remove_folder(store.place("none")),
    "only_run": lambda store: only_run(store.place()).__enter__(),
}


def build(kitchen: Kitchen, store: Store, work: str = "work") -> list[str]:
    """Build the kitchen's recipe with data and work in the store; return the shards' hashes."""
    job = open_job(
        kitchen.root / "small.yaml",
        Workspace(store.place(work), store.place("in")),
        Local(1),
        Silence(),
        kitchen.root / "s3.lock.json",
    )
    with only_run(store.place(work)):
        tokens = job.tokenize()
        packed = job.pack(tokens, job.plan(tokens, job.bucket(tokens)))
        job.verify()
    return [shard["hash"] for shard in packed.lock.shards]


def stock(kitchen: Kitchen, store: Store) -> list[str]:
    """Write a corpus here and there, build it here; return the shards' hashes."""
    docs = documents(60)
    for n in range(3):
        store.put(f"in/data/{n}.jsonl", kitchen.corpus(docs[n::3], f"{n}.jsonl").read_bytes())
    return kitchen.build(**RECIPE).hashes


@pytest.mark.parametrize(
    ("rate", "faults", "seed"),
    [(0.2, [fault], n) for n, fault in enumerate(QUICK_FAULTS)] + [(0.05, QUICK_FAULTS, 10), (0.2, QUICK_FAULTS, 11)],
)
def test_a_build_on_a_store_that_fails_now_and_then_gives_the_same_shards(
    kitchen: Kitchen, store: Store, quick: None, rate: float, faults: list[str], seed: int
) -> None:
    expected = stock(kitchen, store)
    store.proxy.spoil = sometimes(rate, seed, faults)
    assert build(kitchen, store) == expected
    assert store.proxy.traffic.spoilt.total() > 4
    store.proxy.reset()
    assert build(kitchen, store) == expected
    assert all("/shards/" not in request.path for request in store.proxy.traffic.of("PUT"))


def test_requests_that_hang_are_given_up_and_made_again(kitchen: Kitchen, store: Store, quick: None) -> None:
    expected = stock(kitchen, store)
    store.proxy.spoil = sometimes(0.03, 1, ["hang"])
    assert build(kitchen, store) == expected
    assert store.proxy.traffic.spoilt.total() > 0


@pytest.mark.parametrize("fault", QUICK_FAULTS)
def test_a_file_in_parts_goes_up_whole_whatever_request_of_it_fails(
    store: Store, quick: None, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(transfer, "_PART_BYTES", 5 << 20)
    whole = os.urandom(12 << 20)
    for kind in ("BEGIN", "PART", "COMPLETE"):
        store.proxy.reset()
        spoilt = iter([fault])
        store.proxy.spoil = lambda request, kind=kind, spoilt=spoilt: (
            next(spoilt, None) if request.kind == kind else None
        )
        with publish(store.place(kind)) as out:
            out.write(whole)
        assert store.get(kind) == whole
        assert store.proxy.traffic.spoilt == {(kind, fault): 1}


@pytest.mark.parametrize("kind", ["BEGIN", "PART", "COMPLETE", "PUT"])
def test_an_upload_that_fails_for_good_leaves_nothing_and_says_so(
    store: Store, quick: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    monkeypatch.setattr(transfer, "_PART_BYTES", 5 << 20)
    store.proxy.spoil = always("500", [kind])
    with pytest.raises(StoreError, match="the store did not do it"), publish(store.place("a")) as out:
        out.write(bytes(11 << 20 if kind != "PUT" else 100))
    assert store.names() == []
    assert store.uploads() == 0
    assert not list((tmp_path / "scratch").rglob("*.tmp"))
    assert store.proxy.traffic.spoilt.total() <= 3 * tries.TRIES * tries.CLIENT_TRIES


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("fault", ["500", "503", "reset", "lost"])
def test_a_store_that_never_does_it_is_one_sentence_after_some_tries(
    store: Store, quick: None, name: str, fault: str
) -> None:
    write_json(store.place("a.json"), {"a": 1})
    store.proxy.reset()
    store.proxy.spoil = always(fault)
    with pytest.raises(StoreError, match=r"^s3://bucket/test-\S+: (the store [^\n]*); [^\n]*run [^\n]*again$"):
        OPERATIONS[name](store)
    # A client may send what was on a broken connection once more before it counts a try.
    assert len(store.proxy.traffic.requests) <= 2 * tries.TRIES * tries.CLIENT_TRIES


def test_a_store_that_hangs_is_asked_for_a_bounded_time(
    store: Store, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_json(store.place("a.json"), {"a": 1})
    store.proxy.reset()
    monkeypatch.setattr(tries, "PATIENCE", 2.0)
    store.proxy.spoil = always("hang")
    with pytest.raises(StoreError, match="the store"):
        local(store.place("a.json"))
    assert len(store.proxy.traffic.requests) <= tries.CLIENT_TRIES
    with pytest.raises(StoreError, match="the store"):
        read_json(store.place("a.json"))
    # The client's tries took longer than our patience: it is not asked again.
    assert len(store.proxy.traffic.requests) <= 2 * tries.CLIENT_TRIES


def test_with_the_usual_time_outs_a_store_that_hangs_is_given_up_within_minutes() -> None:
    longest = tries.CLIENT_TRIES * (tries.CONNECT_SECONDS + tries.READ_SECONDS) + 2**tries.CLIENT_TRIES
    # One more ask may begin just before our patience ends.
    assert tries.PATIENCE + longest < 5 * 60


_PUBLISH = """
import sys
from mixture.storage import as_place, publish, transfer
transfer._PART_BYTES = 5 << 20
with publish(as_place(sys.argv[1])) as out:
    out.write(bytes(range(256)) * (48 << 12))
print("done")
"""


@pytest.mark.parametrize("kind", ["PART", "COMPLETE"])
def test_a_process_that_is_killed_in_mid_upload_leaves_no_object_and_the_next_makes_it(store: Store, kind: str) -> None:
    line = [sys.executable, "-c", _PUBLISH, str(store.place("a"))]
    asked = iter(range(100))
    store.proxy.spoil = lambda request: "hang" if request.kind == kind and next(asked) >= (kind == "PART") else None
    with subprocess.Popen(line, stdout=subprocess.PIPE) as process:
        until = time.monotonic() + 60
        while not store.proxy.traffic.spoilt and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL
    assert store.proxy.traffic.of("PART")
    assert store.names() == []
    assert read_json(store.place("a")) is None
    store.proxy.reset()
    done = subprocess.run(line, stdout=subprocess.PIPE, timeout=120, check=True)
    assert done.stdout == b"done\n"
    assert store.get("a") == bytes(range(256)) * (48 << 12)


def test_words_in_the_names_of_objects_are_no_causes(store: Store, quick: None) -> None:
    for name in ("quota/signature", "AccessDenied/403", "NoSuchBucket/a"):
        with pytest.raises(StoreError, match="there is no such object; check the name"):
            local(store.place(name))
