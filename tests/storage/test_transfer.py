"""Ranges in, files out; an object reads like a file of the same bytes."""

from __future__ import annotations

import io
import random
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from mixture.errors import StoreError
from mixture.storage import file_digest, open_raw, open_read, publish, remove, transfer
from mixture.storage.transfer import Range, Reader, fetch
from tests.storage.objects import Store

WHOLE = random.Random(1).randbytes(1000)


class _Memory:
    """Stands for an object's path: all that `Reader` and `fetch` ask of one."""

    path = "memory"

    def __init__(self, whole: bytes) -> None:
        self.whole = whole
        self.fs = self
        self.asked: list[tuple[int, int]] = []

    def info(self, _path: str) -> dict[str, Any]:
        return {"size": len(self.whole)}

    def cat_ranges(self, _paths: list[str], starts: list[int], stops: list[int], **_how: Any) -> list[bytes]:
        self.asked += zip(starts, stops, strict=True)
        return [self.whole[start:stop] for start, stop in zip(starts, stops, strict=True)]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(0, 300)),
        st.tuples(st.just("seek"), st.integers(0, 1100)),
        st.tuples(st.just("end"), st.integers(-1000, 0)),
        st.tuples(st.just("on"), st.integers(0, 200)),
        st.tuples(st.just("line"), st.just(0)),
        st.tuples(st.just("rest"), st.just(0)),
    ),
    max_size=20,
)


@given(STEPS, st.integers(1, 400), st.integers(1, 200))
def test_a_reader_reads_what_a_file_of_the_same_bytes_does(
    steps: list[tuple[str, int]], block: int, buffer: int
) -> None:
    expected = io.BytesIO(WHOLE)
    with io.BufferedReader(Reader(_Memory(WHOLE), block=block), buffer) as found:  # type: ignore[arg-type]
        for step, number in steps:
            for file in (expected, found):
                if step == "seek":
                    file.seek(number)
                elif step == "end":
                    file.seek(number, io.SEEK_END)
                elif step == "on":
                    file.seek(number, io.SEEK_CUR)
            if step == "read":
                assert found.read(number) == expected.read(number)
            elif step == "line":
                assert found.readline() == expected.readline()
            elif step == "rest":
                assert found.read() == expected.read()
            assert found.tell() == expected.tell()


def test_who_reads_in_order_is_read_ahead_for_and_who_jumps_is_not() -> None:
    memory = _Memory(WHOLE)
    with Reader(memory, block=100) as raw:  # type: ignore[arg-type]
        raw.read(10)
        raw._pool.shutdown()
        assert memory.asked == [(0, 100), (100, 200)]
    memory = _Memory(WHOLE)
    with Reader(memory, block=100) as raw:  # type: ignore[arg-type]
        for place in (500, 200, 900, 0):
            raw.seek(place)
            assert raw.read(10) == WHOLE[place : place + 10]
        raw._pool.shutdown()
        assert memory.asked == [(500, 600), (200, 300), (900, 1000), (0, 100)]


def test_reading_in_order_asks_for_each_block_once() -> None:
    memory = _Memory(WHOLE)
    with io.BufferedReader(Reader(memory, block=64), 10) as found:  # type: ignore[arg-type]
        assert b"".join(iter(lambda: found.read(7), b"")) == WHOLE
    assert memory.asked == [(n, min(n + 64, 1000)) for n in range(0, 1000, 64)]


def test_ranges_come_in_the_order_in_which_they_were_asked_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "REQUEST_BYTES", 300)
    paths = [store.put(f"{n}", bytes([n]) + WHOLE) for n in range(5)]
    wanted = [Range(paths[n], start, stop) for n, start, stop in [(3, 0, 700), (0, 5, 6), (3, 999, 1001), (4, 0, 1)]]
    found = list(fetch(wanted))
    assert [(one.path, one.start, one.stop) for one, _ in found] == [
        (paths[3], 0, 300), (paths[3], 300, 600), (paths[3], 600, 700), (paths[0], 5, 6), (paths[3], 999, 1001),
        (paths[4], 0, 1),
    ]  # fmt: skip
    for one, data in found:
        assert data == (bytes([int(one.path.name)]) + WHOLE)[one.start : one.stop]
    assert list(fetch([])) == []


def test_a_range_past_the_end_is_said_after_some_tries(store: Store, quick: None) -> None:
    path = store.put("a", WHOLE)
    with pytest.raises(StoreError, match=r"/a: .*1,000 of 1,100 bytes came"):
        list(fetch([Range(path, 0, 1100)]))
    assert 1 < len(store.proxy.traffic.of("GET")) < 20


def test_an_object_is_opened_hashed_and_removed_like_a_file(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(WHOLE)
    path = store.put("a", WHOLE)
    for place in (file, path):
        with open_read(place) as handle:
            assert handle.read() == WHOLE
        with open_raw(place) as raw:
            assert raw.readall() == WHOLE
        assert file_digest(place) == xxhash.xxh3_128_hexdigest(WHOLE)
        remove(place)
        remove(place)
        assert not place.exists()
        with pytest.raises(FileNotFoundError):
            open_read(place)


def test_a_large_file_goes_up_in_parts_and_appears_whole(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "_PART_BYTES", 5 << 20)
    whole = WHOLE * 13_000
    with publish(store.place("deep/a")) as out:
        out.write(whole)
        assert store.names() == []
    assert store.get("deep/a") == whole
    assert store.proxy.traffic.kinds["PART"] == 3
    assert store.uploads() == 0


def test_a_failure_while_writing_leaves_the_object_that_was_there(store: Store, tmp_path: Path) -> None:
    store.put("a", b"old")
    with pytest.raises(TypeError), publish(store.place("a")) as out:
        out.write("not bytes")  # type: ignore[arg-type]
    assert store.get("a") == b"old"
    assert not list((tmp_path / "scratch").rglob("*.tmp"))


def test_a_reader_that_is_closed_in_mid_read_leaves_no_thread(store: Store) -> None:
    path = store.put("a", WHOLE * 100)
    before = threading.active_count()
    for _ in range(5):
        with Reader(path, block=1000) as raw:
            raw.read(10)
    until = time.monotonic() + 30
    while threading.active_count() > before and time.monotonic() < until:
        time.sleep(0.05)
    # The client's own thread stays.
    assert threading.active_count() <= before + 1
