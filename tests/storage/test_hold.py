"""One run at a time in an object store's prefix, and no run that died stands in the way for long."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from mixture.errors import BusyError, StoreError
from mixture.storage import hold, only_run, read_record, write_json
from tests.storage.objects import Store
from tests.storage.proxy import Request, always


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold, "_RENEW_SECONDS", 0.2)
    monkeypatch.setattr(hold, "_DEAD_SECONDS", 4.0)


def elsewhere(store: Store, **more: Any) -> dict[str, Any]:
    """Leave the note of a run of another machine."""
    note = {"pid": 7, "command": "mixture run x.yaml", "host": "elsewhere", "run": "0123", "renewed": 3} | more
    write_json(store.place("work/.run.json"), note)
    return note


def test_a_second_run_is_told_who_is_at_work_and_a_later_one_goes_on(store: Store, soon: None) -> None:
    with only_run(store.place("work")):
        assert store.names() == ["work/.run.json"]
        with (
            pytest.raises(BusyError, match=rf"work is in use by process {os.getpid()} on \S+ \(mixture.*\); wait for"),
            only_run(store.place("work")),
        ):
            pass
        assert store.names() == ["work/.run.json"]
    assert store.names() == []
    with only_run(store.place("work")):
        pass
    assert store.names() == []


def test_an_error_in_a_run_frees_the_place(store: Store, soon: None) -> None:
    with pytest.raises(ZeroDivisionError), only_run(store.place("work")):
        _ = 1 / 0
    assert store.names() == []


_HOLD = """
import sys, time
from mixture.storage import as_place, only_run
with only_run(as_place(sys.argv[1])):
    print("held", flush=True)
    time.sleep(100)
"""


def test_a_killed_run_of_this_machine_is_followed_at_once(store: Store) -> None:
    line = [sys.executable, "-c", _HOLD, str(store.place("work"))]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        found = read_record(store.place("work/.run.json"), "run", "renewed")
        assert found is not None
        assert not hold._is_gone(found)
        process.send_signal(signal.SIGKILL)
        process.wait(60)
    assert store.names() == ["work/.run.json"]
    # With the usual times: nothing is waited for.
    asked = len(store.proxy.traffic.of("GET"))
    with only_run(store.place("work")):
        assert len(store.proxy.traffic.of("GET")) <= asked + 2


def test_a_note_that_stands_still_for_long_is_taken_over(store: Store, soon: None) -> None:
    elsewhere(store)
    with only_run(store.place("work")):
        found = read_record(store.place("work/.run.json"), "run")
        assert found is not None
        assert found["host"] == socket.gethostname()
    assert store.names() == []


def test_a_note_that_is_renewed_is_not(store: Store, soon: None) -> None:
    note = elsewhere(store)
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(0.3):
            note["renewed"] += 1
            write_json(store.place("work/.run.json"), note)

    renewing = threading.Thread(target=renew)
    renewing.start()
    try:
        with (
            pytest.raises(BusyError, match=r"in use by process 7 on elsewhere \(mixture run x.yaml\)"),
            only_run(store.place("work")),
        ):
            pass
    finally:
        ended.set()
        renewing.join()
    assert store.names() == ["work/.run.json"]


def test_a_note_that_is_taken_away_while_it_is_watched_frees_the_place(store: Store, soon: None) -> None:
    elsewhere(store)
    removing = threading.Timer(
        0.3, store.client.delete_object, (), {"Bucket": "bucket", "Key": store._key("work/.run.json")}
    )
    removing.start()
    with only_run(store.place("work")):
        removing.join()
        assert store.names() == ["work/.run.json"]


def test_a_run_renews_its_note_and_outlives_a_store_that_is_away(store: Store, soon: None, quick: None) -> None:
    def renewed() -> int:
        return int((read_record(store.place("work/.run.json"), "renewed") or {})["renewed"])

    with only_run(store.place("work")):
        until = time.monotonic() + 60
        while renewed() < 2 and time.monotonic() < until:
            time.sleep(0.05)
        assert renewed() >= 2
        store.proxy.spoil = always("500", ["PUT"])
        while not store.proxy.traffic.spoilt and time.monotonic() < until:
            time.sleep(0.05)
        store.proxy.reset()
        before = renewed()
        while renewed() <= before and time.monotonic() < until:
            time.sleep(0.05)
        assert renewed() > before


def test_of_runs_that_start_at_the_same_moment_one_goes_on(store: Store, soon: None) -> None:
    together = threading.Barrier(4)

    def spoil(request: Request) -> None:
        # All have looked for a note before any is left.
        if request.kind == "GET" and request.turn < 4:
            together.wait(30)

    store.proxy.spoil = spoil
    work = store.place("work")
    ended = threading.Event()

    def go(_: int) -> str:
        try:
            with only_run(work):
                ended.wait(30)
                return "ran"
        except BusyError:
            return "busy"

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(go, n) for n in range(4)]
        until = time.monotonic() + 60
        while sum(future.done() for future in futures) < 3 and time.monotonic() < until:
            time.sleep(0.05)
        ended.set()
        assert sorted(future.result() for future in futures) == ["busy", "busy", "busy", "ran"]


def test_a_store_without_conditions_still_has_its_note(store: Store, soon: None, quick: None) -> None:
    refused = iter([(501, "NotImplemented")] * 6)
    store.proxy.spoil = lambda request: next(refused, None) if request.kind == "PUT" else None
    with only_run(store.place("work")):
        assert store.names() == ["work/.run.json"]
    assert store.names() == []


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_done(store: Store, quick: None) -> None:
    store.proxy.spoil = always((403, "AccessDenied"), ["PUT"])
    with (
        pytest.raises(StoreError, match=r"\.run\.json: access is denied; give credentials"),
        only_run(store.place("work")),
    ):
        pass
