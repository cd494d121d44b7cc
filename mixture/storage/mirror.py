"""Objects as files of this machine: as much of each as was asked for.

Tokens are mapped into memory, tables are read by libraries that know files. So an object has a *mirror*: a sparse file
of its size in the scratch folder, of which only those stretches are there that somebody needed. What was fetched once
serves all processes of the machine, and the next task.

    s3://bucket/work/store/…/part-00003.arrow   1.1 GB, of which a window of the stream needs
        [0, 64 KB)   [312 MB, 313 MB)   [1.1 GB - 64 KB, 1.1 GB)        ─▶  1.1 MB fetched, the rest are holes

A place of this machine is its own mirror.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import filelock
import xxhash

from mixture.errors import StoreError
from mixture.storage.faults import Place, refusals
from mixture.storage.places import each, stamp
from mixture.storage.scratch import scratch
from mixture.storage.transfer import Range, fetch

if TYPE_CHECKING:
    from upath import UPath


#: Below this share of free space on the scratch folder's disk, mirrors that nobody touched for so long are removed.
_FREE = 0.2
_IDLE_SECONDS = 3600
#: Stretches nearer than this are fetched as one: a request costs more than these bytes.
NEAR_BYTES = 256 << 10
#: Mirrors that are locked at once.
_TOGETHER = 64

Stretches = Sequence[tuple[int, int]]


class Mirror:
    """A sparse file of this machine that stands for an object.

    Attributes:
        path: the object.
        file: its mirror; only stretches that were needed hold what the object does.
        size: bytes of both.
        have: the stretches that are known to be there.
    """

    def __init__(self, path: UPath, file: Path, size: int) -> None:
        self.path, self.file, self.size = path, file, size
        self.have: list[tuple[int, int]] = []
        self._inode = file.stat().st_ino

    def locked(self) -> filelock.BaseFileLock:
        """Return what keeps other processes from fetching the same."""
        return filelock.FileLock(self.file.with_name("lock"))

    def keep(self) -> bool:
        """Say that it is used still, so that it does not make room for others; False if it was removed."""
        try:
            os.utime(self.file.parent)
            return self.file.stat().st_ino == self._inode
        except FileNotFoundError:
            return False

    def look(self) -> None:
        """Read what is there by now.

        Raises:
            StoreError: the mirror was removed.
        """
        if not self.file.exists() or self.file.stat().st_ino != self._inode:
            raise StoreError(f"{self.file.parent}: this scratch folder was cleared while it was used; run again")
        # A list that is none is as good as none: what it spoke of is fetched again.
        with contextlib.suppress(FileNotFoundError, ValueError):
            listed = json.loads(self.file.with_name("have.json").read_text(encoding="ascii"))
            self.have = [(int(start), int(stop)) for start, stop in listed]

    def tell(self, stretches: Iterable[tuple[int, int]]) -> None:
        """Write down what is there now, too."""
        self.have = merged([*self.have, *stretches])
        target = self.file.with_name("have.json")
        os.utime(target.parent)
        aside = target.with_name(f"have.{os.getpid()}")
        aside.write_text(json.dumps(self.have), encoding="ascii")
        aside.replace(target)


def mirror(path: UPath) -> Mirror:
    """Open an object's mirror; nothing is fetched yet.

    Raises:
        StoreError: there is no such object, or it cannot be reached.
    """
    with refusals(path):
        facts = stamp(path)
    folder = scratch() / "mirrors" / xxhash.xxh3_128_hexdigest(json.dumps([str(path), *facts]).encode())
    file = folder / path.name
    with refusals(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / "lock"):
            if not file.exists():
                _make_room(folder.parent)
                with file.open("wb") as handle:
                    handle.truncate(facts[0])
        os.utime(folder)
    return Mirror(path, file, facts[0])


def need(wanted: Iterable[tuple[Mirror, Stretches]], near: int = NEAR_BYTES) -> int:
    """Fetch stretches of objects that their mirrors lack, many at once; return the bytes that came.

    Args:
        wanted: mirrors, each with stretches [start, stop) of bytes.
        near: stretches of a mirror that are nearer than so many bytes are fetched as one.

    Raises:
        StoreError: the store refuses, or the scratch folder's disk is full.
    """
    lacking = {}
    for one, stretches in wanted:
        whole = merged(((max(start, 0), min(stop, one.size)) for start, stop in stretches), near)
        if without(whole, one.have):
            lacking[str(one.path)] = one, whole
    # In one order everywhere, so that no two processes wait for each other.
    order = iter(sorted(lacking))
    return sum(
        _fetch([lacking[name] for name in some]) for some in iter(lambda: [*itertools.islice(order, _TOGETHER)], [])
    )


def _fetch(wanted: Sequence[tuple[Mirror, Stretches]]) -> int:
    with contextlib.ExitStack() as stack:
        left: list[Range] = []
        files = {}
        for one, whole in wanted:
            # Another process of this machine may be fetching the same: it is waited for.
            stack.enter_context(one.locked())
            one.look()
            files[str(one.path)] = stack.enter_context(one.file.open("r+b"))
            left += [Range(one.path, start, stop) for start, stop in without(whole, one.have)]
        came = 0
        for request, data in fetch(left):
            came += len(data)
            file = files[str(request.path)]
            with refusals(Path(file.name)):
                file.seek(request.start)
                file.write(data)
                file.flush()
        for one, whole in wanted:
            one.tell(whole)
        return came


def mirrors(paths: Sequence[UPath]) -> list[Mirror]:
    """Open the mirrors of objects of one store, many at once; see `mirror`."""
    return each(mirror, paths, paths[0]) if paths else []


def prefetch(paths: Sequence[Place]) -> None:
    """Fetch whole objects, many at once, before they are opened one by one.

    Raises:
        StoreError: see `local`.
    """
    need((one, [(0, one.size)]) for one in mirrors([path for path in paths if not isinstance(path, Path)]))


def local(path: Place) -> Path:
    """Return a file of this machine with all of a file's bytes; an object is fetched, once.

    Raises:
        StoreError: there is no such object, or it cannot be fetched.
    """
    if isinstance(path, Path):
        return path
    one = mirror(path)
    need([(one, [(0, one.size)])])
    return one.file


def merged(stretches: Iterable[tuple[int, int]], near: int = 0) -> list[tuple[int, int]]:
    """Return stretches in order, those that touch, or are nearer than `near` bytes, as one."""
    out: list[tuple[int, int]] = []
    for start, stop in sorted(pair for pair in stretches if pair[0] < pair[1]):
        if out and start <= out[-1][1] + near:
            out[-1] = out[-1][0], max(out[-1][1], stop)
        else:
            out.append((start, stop))
    return out


def without(stretches: Stretches, have: Stretches) -> list[tuple[int, int]]:
    """Return what of some stretches is not among others; both in order and apart."""
    out = []
    for start, stop in stretches:
        at = start
        for first, last in have:
            if last <= at or first >= stop:
                continue
            if first > at:
                out.append((at, first))
            at = max(at, last)
        if at < stop:
            out.append((at, stop))
    return out


def _make_room(folder: Path) -> None:
    disk = shutil.disk_usage(folder)
    if disk.free >= _FREE * disk.total:
        return
    long_ago = time.time() - _IDLE_SECONDS
    for idle in sorted(folder.iterdir(), key=lambda one: one.stat().st_mtime):
        if idle.stat().st_mtime < long_ago:
            shutil.rmtree(idle, ignore_errors=True)
