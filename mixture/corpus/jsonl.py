"""JSON lines: chunk j is the lines whose first byte lies in bytes [j·CHUNK_BYTES, (j+1)·CHUNK_BYTES) of the file.

    bytes    0        64M       128M      192M
    lines    |-a-|--b---|---------c---------|-d-|
    chunks   0: a, b      1: c      2: none   3: d       (c begins in chunk 1; none begins in chunk 2)

So any number of readers may share one file, each seeking to its own chunks, and none has to know of the others. Of a
compressed file the bytes meant are the decompressed ones; each reader decompresses all of it, and of the chunks that
it does not want looks only for the one newline that ends them.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from io import RawIOBase
from typing import NamedTuple

from mixture.corpus import bytestream, documents, json_rows, verdict
from mixture.corpus.documents import Chunk, InputFile, Reading
from mixture.errors import InputError
from mixture.storage import open_raw, open_read

_BOM = b"\xef\xbb\xbf"
_HEAD_BYTES = 1 << 12
_SEARCH_BYTES = 1 << 16
_ARRAY = re.compile(rb"\s*\[\s*(\{|\n|$)")


class _Stretch(NamedTuple):
    """The bytes of one chunk, lent until the next is asked for, and where they begin in the (decompressed) file."""

    number: int
    offset: int
    data: memoryview


def chunks(file: InputFile, reading: Reading) -> int | None:  # noqa: ARG001 (every format has this signature)
    """Return the number of chunks, from the file's size; None if it is compressed.

    Raises:
        InputError: the file cannot be opened.
    """
    if bytestream.compressed(file.path):
        return None
    with bytestream.guard(file, "JSON lines"), open_read(file.path) as handle:
        return -(-handle.seek(0, 2) // documents.CHUNK_BYTES)


def read(file: InputFile, reading: Reading, start: int = 0, step: int = 1) -> Iterator[Chunk]:
    """Yield chunks start, start+step, … to the end of the file; one in which no line begins has no rows.

    Raises:
        InputError: the file is damaged or something else, or (unless `reading.skip_bad`) a row holds no document.
    """
    stretches = _streamed if bytestream.compressed(file.path) else _sought
    for stretch in stretches(file, start, step):
        marked = stretch.offset == 0 and stretch.data[: len(_BOM)] == _BOM
        data = stretch.data[len(_BOM) :] if marked else stretch.data
        rows = json_rows.parse(data, reading)
        if rows.rejects and not reading.skip_bad:
            raise InputError(_sentence(file, stretch.offset, data, rows, reading))
        yield Chunk(stretch.number, rows.rows, rows.row, rows.text, rows.columns, rows.rejects)


def _sought(file: InputFile, start: int, step: int) -> Iterator[_Stretch]:
    size = documents.CHUNK_BYTES
    with bytestream.guard(file, "JSON lines"), open_raw(file.path) as handle:
        _check_head(file, handle.read(_HEAD_BYTES))
        borders = _Borders(handle)
        for index in range(start, -(-borders.end // size), step):
            begin, end = borders.line_start(index * size), borders.line_start((index + 1) * size)
            yield _Stretch(index, begin, borders.bytes_between(begin, end))


class _Borders:
    """Where lines begin in an open file."""

    def __init__(self, handle: RawIOBase) -> None:
        self._handle = handle
        self.end = handle.seek(0, 2)
        # No line begins between these two: keeps one line over many chunks from being searched once for each.
        self._gap = (0, 0)
        self._room = bytearray()

    def line_start(self, border: int) -> int:
        """Return the first byte at or after `border` that begins a line, or the end of the file."""
        if self._gap[0] <= border <= self._gap[1]:
            return self._gap[1]
        at = border - 1  # A newline just before the border lets a line begin right on it.
        self._handle.seek(at)
        found = self.end
        while block := self._handle.read(_SEARCH_BYTES):
            place = block.find(b"\n")
            if place >= 0:
                found = at + place + 1
                break
            at += len(block)
        self._gap = (border, found)
        return found

    def bytes_between(self, begin: int, end: int) -> memoryview:
        """Return the bytes begin … end-1, lent: the next call uses the memory again, for fresh pages are slow."""
        if len(self._room) < end - begin:
            self._room = bytearray(end - begin)
        data = memoryview(self._room)[: end - begin]
        self._handle.seek(begin)
        filled = 0
        while filled < len(data) and (got := self._handle.readinto(data[filled:])):  # One call reads at most 2 GB.
            filled += got
        return data[:filled]


def _streamed(file: InputFile, start: int, step: int) -> Iterator[_Stretch]:
    size = documents.CHUNK_BYTES
    index, begin, here = 0, 0, 0  # The chunk being gathered, where it begins, where the block begins.
    parts: list[bytes] = []

    def wanted() -> bool:
        return index >= start and (index - start) % step == 0

    for block in _checked(file):
        at = 0
        while (place := block.find(b"\n", max((index + 1) * size - 1 - here, at))) >= 0:
            if wanted():
                yield _Stretch(index, begin, memoryview(b"".join([*parts, block[at : place + 1]])))
            parts, at = [], place + 1
            begin, index = here + at, index + 1
            while begin >= (index + 1) * size:
                if wanted():
                    yield _Stretch(index, begin, memoryview(b""))
                index += 1
        if wanted():
            parts.append(block[at:])
        here += len(block)
    while index * size < here:
        if wanted():
            yield _Stretch(index, begin, memoryview(b"".join(parts)))
        parts, begin, index = [], here, index + 1


def _checked(file: InputFile) -> Iterator[bytes]:
    blocks = bytestream.blocks(file)
    head: list[bytes] = []
    while sum(map(len, head)) < _HEAD_BYTES and (block := next(blocks, None)) is not None:
        head.append(block)
    _check_head(file, b"".join(head)[:_HEAD_BYTES])
    return itertools.chain(head, blocks)


def _check_head(file: InputFile, head: bytes) -> None:
    bytestream.check_signature(file, head, "JSON lines")
    if _ARRAY.match(head.removeprefix(_BOM)):
        raise InputError(f"{file.name}: one JSON array, not JSON lines; write one object a line (`jq -c '.[]'` does)")


def _sentence(file: InputFile, offset: int, data: memoryview, rows: json_rows.Rows, reading: Reading) -> str:
    first = rows.rejects[0]
    line = _newlines_before(file, offset) + first.row + 1
    detail = json_rows.explain(json_rows.line_at(data, first.row), first, reading)
    return verdict.bad_row(file, f"line {line:,} (row {line - 1:,})", first, reading, detail)


def _newlines_before(file: InputFile, offset: int) -> int:
    """Count, for an error's sentence alone, the lines before a chunk by reading the file again."""
    count, here = 0, 0
    for block in bytestream.blocks(file):
        count += block[: offset - here].count(b"\n")
        here += len(block)
        if here >= offset:
            break
    return count
