"""Bytes to and from object stores: ranges in, whole files out, each tried a few times.

A request may fail, hang or come back short. Ranges are asked for again until they are as long as they must be, with a
rising pause between; after the last try one sentence says what the store answered.

    [(part 3, 1,000 to 9,000), (part 7, 0 to 500)]   ─ many at once ─▶   8,000 bytes, 500 bytes
"""

from __future__ import annotations

import contextlib
import io
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash

from mixture.errors import StoreError
from mixture.storage.faults import Place, explain, is_refusal, refusals
from mixture.storage.tries import Turns, is_final, tried

if TYPE_CHECKING:
    from upath import UPath


#: The longest range of one request, and the most bytes that are asked for at once.
REQUEST_BYTES = 8 << 20
_AT_ONCE_BYTES = 128 << 20
_AT_ONCE = 64
#: Larger files go up in parts of this size.
_PART_BYTES = 32 << 20
_DIGEST_BYTES = 1 << 20


@dataclass(frozen=True)
class Range:
    """Some bytes of an object, [start, stop)."""

    path: UPath
    start: int
    stop: int


def cut(wanted: Range) -> Iterator[Range]:
    """Cut a range into requests."""
    for start in range(wanted.start, wanted.stop, REQUEST_BYTES):
        yield Range(wanted.path, start, min(start + REQUEST_BYTES, wanted.stop))


def fetch(wanted: Sequence[Range]) -> Iterator[tuple[Range, bytes]]:
    """Read ranges of objects of one store, many at once; yield each as it was cut, with its bytes, in order.

    Raises:
        StoreError: the store refuses, or did not give all bytes after some tries; see `tries`.
    """
    group: list[Range] = []
    held = 0
    for request in (piece for whole in wanted for piece in cut(whole)):
        group.append(request)
        held += request.stop - request.start
        if held >= _AT_ONCE_BYTES or len(group) == _AT_ONCE:
            yield from zip(group, _fetch_group(group), strict=True)
            group, held = [], 0
    if group:
        yield from zip(group, _fetch_group(group), strict=True)


def _fetch_group(group: Sequence[Range]) -> list[bytes]:
    found: dict[int, bytes] = {}
    turns = Turns()
    while True:
        left = [number for number in range(len(group)) if number not in found]
        failed: tuple[Range, BaseException] | None = None
        for number, answer in zip(left, _ask([group[number] for number in left]), strict=True):
            fault = _fault(group[number], answer)
            if fault is None:
                found[number] = answer
                continue
            if not is_refusal(fault):
                raise fault
            failed = group[number], fault
            if is_final(fault):
                break
        if failed is None:
            return [found[number] for number in range(len(group))]
        request, fault = failed
        if is_final(fault) or not turns.again():
            raise StoreError(explain(fault, request.path)) from fault


def _ask(group: Sequence[Range]) -> Sequence[Any]:
    fs = group[0].path.fs
    paths = [request.path.path for request in group]
    starts, stops = [request.start for request in group], [request.stop for request in group]
    try:
        answers: Sequence[Any] = fs.cat_ranges(paths, starts, stops, on_error="return")
    except Exception as error:
        if not is_refusal(error):
            raise
        return [error] * len(group)
    return answers


def _fault(request: Range, answer: Any) -> BaseException | None:
    if isinstance(answer, BaseException):
        return answer
    size = request.stop - request.start
    return None if len(answer) == size else OSError(f"{len(answer):,} of {size:,} bytes came")


def upload(file: Path, path: UPath) -> None:
    """Publish a file as an object: it appears whole, or not at all.

    Raises:
        StoreError: the store refuses after some tries; see `tries`.
    """
    with refusals(path):
        tried(lambda: path.fs.put_file(str(file), path.path, **_in_parts(path)))


def _in_parts(path: UPath) -> dict[str, int]:
    return {"chunksize": _PART_BYTES} if path.protocol in ("s3", "s3a") else {}


class Reader(io.RawIOBase):
    """An object as a binary file: read in order it asks ahead, one request at a time; read anywhere it asks for that.

    Args:
        path: the object.
        size: its bytes, if known.
        block: bytes of one request.
    """

    def __init__(self, path: UPath, size: int | None = None, block: int = REQUEST_BYTES) -> None:
        super().__init__()
        self._path = path
        self._size = _size(path) if size is None else size
        self._block = block
        self._at = 0
        self._last = -1
        self._held: dict[int, Future[bytes]] = {}
        self._order = threading.Lock()
        self._pool = ThreadPoolExecutor(1)

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that it can be read anywhere."""
        return True

    def tell(self) -> int:
        """Return where the next byte is read."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to another place."""
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with the bytes that come next, up to the end of their block; return how many."""
        if self._at >= self._size:
            return 0
        number, offset = divmod(self._at, self._block)
        data = self._get(number)[offset : offset + len(buffer)]
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        """Let go of what was read ahead."""
        if not self.closed:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._held.clear()
        super().close()

    def _get(self, number: int) -> bytes:
        with self._order:
            in_order = number in (self._last, self._last + 1)
            self._last = number
            if number not in self._held:
                self._held = {}
                self._held[number] = self._pool.submit(self._fetch, number)
            if in_order and number + 1 not in self._held and (number + 1) * self._block < self._size:
                self._held = {number: self._held[number]}
                self._held[number + 1] = self._pool.submit(self._fetch, number + 1)
            return self._held[number].result()

    def _fetch(self, number: int) -> bytes:
        start = number * self._block
        wanted = Range(self._path, start, min(start + self._block, self._size))
        return b"".join(data for _, data in fetch([wanted]))


def _size(path: UPath) -> int:
    try:
        return int(path.fs.info(path.path)["size"])
    except FileNotFoundError:
        raise
    except Exception as error:
        if not is_refusal(error):
            raise
        raise StoreError(explain(error, path)) from error


def open_raw(path: Place) -> io.RawIOBase:
    """Open a file or an object for reading without a buffer of ours; close it; see `open_read`."""
    return path.open("rb", buffering=0) if isinstance(path, Path) else Reader(path)


def open_read(path: Place) -> io.BufferedReader:
    """Open a file or an object for reading; close it.

    Raises:
        OSError: there is none, or it cannot be read.
        StoreError: the object store refuses.
    """
    if isinstance(path, Path):
        return path.open("rb")
    return io.BufferedReader(Reader(path), 1 << 20)


def read_ahead(path: Path, stretches: Iterable[tuple[int, int]]) -> None:
    """Tell the system which bytes of a local file will be read soon; where it takes no advice, do nothing."""
    if hasattr(os, "posix_fadvise"):
        # What cannot be read is told by whoever reads it.
        with contextlib.suppress(OSError), path.open("rb") as file:
            for start, stop in stretches:
                os.posix_fadvise(file.fileno(), start, stop - start, os.POSIX_FADV_WILLNEED)


def file_digest(path: Place) -> str:
    """Return the XXH3-128 of a file's bytes as 32 hex digits.

    Raises:
        OSError: it cannot be read.
        StoreError: the object store refuses.
    """
    state = xxhash.xxh3_128()
    with open_read(path) as handle:
        while block := handle.read(_DIGEST_BYTES):
            state.update(block)
    return str(state.hexdigest())


def remove(path: Place) -> None:
    """Remove a file or an object, if it is there.

    Raises:
        OSError: it cannot be removed.
        StoreError: the object store refuses.
    """
    if isinstance(path, Path):
        path.unlink(missing_ok=True)
        return
    with refusals(path), contextlib.suppress(FileNotFoundError):
        path.fs.rm_file(path.path)
