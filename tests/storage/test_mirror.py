"""Mirrors hold what was needed, fetch it once for all processes, and never mix two states of an object."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixture.errors import StoreError
from mixture.storage import local, mirror, need, prefetch
from mixture.storage.mirror import NEAR_BYTES, merged, without
from tests.storage.objects import Store

SIZE = 5 << 20
WHOLE = bytes(range(256)) * (SIZE // 256)
STRETCHES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=8)


def covered(stretches: list[tuple[int, int]]) -> set[int]:
    return {place for start, stop in stretches for place in range(start, stop)}


@given(STRETCHES)
def test_merged_stretches_cover_the_same_apart_and_in_order(stretches: list[tuple[int, int]]) -> None:
    found = merged(stretches)
    assert covered(found) == covered(stretches)
    assert all(a[1] < b[0] for a, b in itertools.pairwise(found))
    assert all(start < stop for start, stop in found)


@given(STRETCHES, st.integers(0, 9))
def test_near_stretches_become_one_and_far_ones_stay_apart(stretches: list[tuple[int, int]], near: int) -> None:
    found = merged(stretches, near)
    assert covered(stretches) <= covered(found)
    assert all(b[0] - a[1] > near for a, b in itertools.pairwise(found))
    gaps = without(found, merged(stretches))
    assert all(stop - start <= near for start, stop in gaps)


@given(STRETCHES, STRETCHES)
def test_without_takes_away_what_is_there(wanted: list[tuple[int, int]], have: list[tuple[int, int]]) -> None:
    found = without(merged(wanted), merged(have))
    assert covered(found) == covered(wanted) - covered(have)
    assert found == merged(found)


def holds(one: Any, start: int, stop: int, whole: bytes = WHOLE) -> bool:
    with one.file.open("rb") as handle:
        handle.seek(start)
        return bool(handle.read(stop - start) == whole[start:stop])


def test_only_what_is_needed_is_fetched_and_only_once(store: Store) -> None:
    one = mirror(store.put("a", WHOLE))
    assert need([(one, [(100, 200), (300, 400), (2 << 20, (2 << 20) + 9)])]) == 300 + 9
    assert [request.range for request in store.proxy.traffic.of("GET")] == ["bytes=100-399", "bytes=2097152-2097160"]
    assert holds(one, 100, 400)
    assert one.file.stat().st_size == SIZE
    assert one.file.stat().st_blocks * 512 < 1 << 20
    store.proxy.reset()
    assert need([(one, [(150, 350)])]) == 0
    assert need([(mirror(store.place("a")), [(150, 350), (-5, 0), (SIZE, SIZE + 7)])]) == 0
    assert store.proxy.traffic.of("GET") == []


def test_near_stretches_are_one_request_and_far_ones_two(store: Store) -> None:
    one = mirror(store.put("a", WHOLE))
    need([(one, [(0, 1), (NEAR_BYTES + 1, NEAR_BYTES + 2)])])
    assert len(store.proxy.traffic.of("GET")) == 1
    need([(one, [(2 << 20, (2 << 20) + 1), ((2 << 20) + NEAR_BYTES + 2, (2 << 20) + NEAR_BYTES + 3)])])
    assert len(store.proxy.traffic.of("GET")) == 3


def test_a_place_of_this_machine_is_its_own_mirror(tmp_path: Path) -> None:
    assert local(tmp_path / "x") == tmp_path / "x"


def test_an_empty_object_has_an_empty_mirror(store: Store) -> None:
    assert local(store.put("empty", b"")).read_bytes() == b""
    assert store.proxy.traffic.of("GET") == []


def test_a_replaced_object_has_another_mirror(store: Store) -> None:
    before = local(store.put("a", b"old old"))
    after = local(store.put("a", b"new new"))
    assert (before.read_bytes(), after.read_bytes()) == (b"old old", b"new new")
    assert before.name == after.name == "a"


def test_a_missing_object_and_a_prefix_are_named(store: Store) -> None:
    store.put("folder/a", b"x")
    with pytest.raises(StoreError, match=r"s3://.*/none: there is no such object; check the name$"):
        mirror(store.place("none"))
    with pytest.raises(StoreError, match=r"s3://.*/folder: a prefix, where an object is wanted"):
        mirror(store.place("folder"))


def test_many_objects_come_at_once(store: Store) -> None:
    paths = [store.put(f"part-{n}", bytes([n]) * 1000) for n in range(100)]
    prefetch([*paths, Path("here")])
    store.proxy.reset()
    assert [local(path).read_bytes() for path in paths] == [bytes([n]) * 1000 for n in range(100)]
    assert store.proxy.traffic.kinds == {"HEAD": 100}


_FETCH = """
import sys
from mixture.storage import as_place, mirror, need
one = mirror(as_place(sys.argv[1]))
for start in map(int, sys.argv[2:]):
    need([(one, [(start, start + 1_000_000)])])
    with one.file.open("rb") as handle:
        handle.seek(start)
        whole = handle.read(1_000_000)
    assert whole == bytes((start + n) % 256 for n in range(1_000_000)), start
"""


def test_processes_that_need_the_same_fetch_it_once(store: Store) -> None:
    path = store.put("a", WHOLE)
    starts = [[0, 1_500_000, 3_000_000], [500_000, 2_000_000], [3_000_000, 0], [1_000_000, 2_500_000, 4_000_000]]
    line = [sys.executable, "-c", _FETCH, str(path)]
    started = [subprocess.Popen([*line, *map(str, some)], stderr=subprocess.PIPE) for some in starts]
    ended = [(process.communicate(timeout=120)[1], process.returncode) for process in started]
    assert ended == [(b"", 0)] * 4
    assert store.proxy.traffic.down == 5_000_000


def test_a_scratch_folder_that_is_cleared_is_said(store: Store) -> None:
    one = mirror(store.put("a", WHOLE))
    need([(one, [(0, 10)])])
    shutil.rmtree(one.file.parent)
    with pytest.raises(StoreError, match="scratch"):
        need([(one, [(3 << 20, (3 << 20) + 10)])])
    assert need([(mirror(store.place("a")), [(0, 10)])]) == 10


def test_on_a_full_disk_idle_mirrors_make_room_and_others_stay(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def disk(free: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=100, free=free))

    disk(90)
    idle, used = local(store.put("idle", b"x")), local(store.put("used", b"x"))
    long_ago = time.time() - 2 * 3600
    os.utime(idle.parent, (long_ago, long_ago))
    local(store.put("a", b"x"))
    assert idle.exists()
    disk(10)
    local(store.put("b", b"x"))
    assert not idle.exists()
    assert used.exists()
    assert local(store.place("idle")).read_bytes() == b"x"


def test_a_killed_fetch_is_fetched_again(store: Store) -> None:
    one = mirror(store.put("a", WHOLE))
    with one.file.open("r+b") as handle:
        # Bytes that no record speaks of are none.
        handle.write(b"\xff" * 500)
    assert local(store.place("a")).read_bytes() == WHOLE


def test_a_damaged_list_of_what_is_there_is_none(store: Store) -> None:
    one = mirror(store.put("a", WHOLE))
    need([(one, [(0, 10)])])
    one.file.with_name("have.json").write_text("[[0,")
    assert local(store.place("a")).read_bytes() == WHOLE
