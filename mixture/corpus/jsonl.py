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

_HEAD_BYTES = 1 << 12
_SEARCH_BYTES = 1 << 16
_BLOCK_BYTES = 1 << 20
_ARRAY = re.compile(rb"\s*\[\s*(\{|\n|$)")


class _Piece(NamedTuple):
    """Some bytes of a chunk, cut anywhere.

    Attributes:
        chunk: number of the chunk.
        begin: where the chunk begins in the (decompressed) file.
        data: the bytes.
        last: whether the chunk ends with them.
    """

    chunk: int
    begin: int
    data: bytes
    last: bool


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
    pieces = _streamed if bytestream.compressed(file.path) else _sought
    gatherer = None
    for piece in pieces(file, start, step):
        gatherer = gatherer or json_rows.Gatherer(reading, marked=not piece.begin)
        gatherer.feed(piece.data)
        if not piece.last:
            continue
        rows = gatherer.rows()
        if rows.rejects and not reading.skip_bad:
            raise InputError(_sentence(file, piece.begin, rows, reading))
        yield Chunk(piece.chunk, rows.rows, rows.row, rows.texts, rows.columns, rows.rejects)
        gatherer = None


def _sought(file: InputFile, start: int, step: int) -> Iterator[_Piece]:
    size = documents.CHUNK_BYTES
    with bytestream.guard(file, "JSON lines"), open_raw(file.path) as handle:
        _check_head(file, handle.read(_HEAD_BYTES))
        borders = _Borders(handle)
        for index in range(start, -(-borders.end // size), step):
            begin, end = borders.line_start(index * size), borders.line_start((index + 1) * size)
            for block in borders.blocks_between(begin, end):
                yield _Piece(index, begin, block, last=False)
            yield _Piece(index, begin, b"", last=True)


class _Borders:
    """Where lines begin in an open file."""

    def __init__(self, handle: RawIOBase) -> None:
        self._handle = handle
        self.end = handle.seek(0, 2)
        # No line begins between these two: keeps one line over many chunks from being searched once for each.
        self._gap = (0, 0)

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

    def blocks_between(self, begin: int, end: int) -> Iterator[bytes]:
        """Yield the bytes begin … end-1, in blocks that stay in the cache."""
        self._handle.seek(begin)
        while begin < end and (block := self._handle.read(min(_BLOCK_BYTES, end - begin))):
            yield block
            begin += len(block)


def _streamed(file: InputFile, start: int, step: int) -> Iterator[_Piece]:
    size = documents.CHUNK_BYTES
    index, begin, here = 0, 0, 0  # The chunk at hand, where it begins, where the block begins.

    def wanted() -> bool:
        return index >= start and (index - start) % step == 0

    for block in _checked(file):
        at = 0
        while (place := block.find(b"\n", max((index + 1) * size - 1 - here, at))) >= 0:
            if wanted():
                yield _Piece(index, begin, block[at : place + 1], last=True)
            at = place + 1
            begin, index = here + at, index + 1
            while begin >= (index + 1) * size:
                if wanted():
                    yield _Piece(index, begin, b"", last=True)
                index += 1
        if wanted() and at < len(block):
            yield _Piece(index, begin, block[at:], last=False)
        here += len(block)
    while index * size < here:
        if wanted():
            yield _Piece(index, begin, b"", last=True)
        begin, index = here, index + 1


def _checked(file: InputFile) -> Iterator[bytes]:
    blocks = bytestream.blocks(file)
    head: list[bytes] = []
    while sum(map(len, head)) < _HEAD_BYTES and (block := next(blocks, None)) is not None:
        head.append(block)
    _check_head(file, b"".join(head)[:_HEAD_BYTES])
    return itertools.chain(head, blocks)


def _check_head(file: InputFile, head: bytes) -> None:
    bytestream.check_signature(file, head, "JSON lines")
    if _ARRAY.match(head.removeprefix(json_rows.BOM)):
        raise InputError(f"{file.name}: one JSON array, not JSON lines; write one object a line (`jq -c '.[]'` does)")


def _sentence(file: InputFile, offset: int, rows: json_rows.Rows, reading: Reading) -> str:
    first = rows.rejects[0]
    line = _newlines_before(file, offset) + first.row + 1
    return verdict.bad_row(file, f"line {line:,} (row {line - 1:,})", first, reading, rows.detail)


def _newlines_before(file: InputFile, offset: int) -> int:
    """Count, for an error's sentence alone, the lines before a chunk by reading the file again."""
    count, here = 0, 0
    for block in bytestream.blocks(file):
        count += block[: offset - here].count(b"\n")
        here += len(block)
        if here >= offset:
            break
    return count
