"""One shard as a trainer reads it: rows by number, opened as far as they are touched, each held to its hash.

A shard is a file of record batches (*pieces*) of equally many rows, the last of fewer. Opening it reads its footer; a
piece's spans are looked at when a row of it is asked for, a row's tokens when they are copied:

    footer ─► piece 3 of 31 ─► row 70 of 256 ─► tokens (65,536), spans [1,204, 1,221)

In an object store the same bytes are fetched, and no others: the file here is a sparse mirror (`storage.mirror`).
Beside each shard lie the 64-bit hashes of its rows, and a record that ties them to the hash that the lock knows.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mixture import schemas
from mixture.errors import StoreError
from mixture.hashing import U64
from mixture.shards.read import REMEDY, is_shard
from mixture.shards.record import record_path, rows_path
from mixture.shards.spans import tokens_of
from mixture.storage import Mirror, Place, mirror, need, read_json, read_record, refusals, size_of
from mixture.storage.tables import mapped

if TYPE_CHECKING:
    from upath import UPath

#: What is fetched of an object's end first; most footers fit.
_FOOTER_BYTES = 64 << 10
#: An Arrow file ends in the footer's length, int32, and these bytes.
_MAGIC = b"ARROW1"
#: The number of `recordBatches` among the fields of the footer's table (Arrow's File.fbs), and the bytes of a block.
_BATCHES_FIELD, _BLOCK_BYTES = 3, 24


@dataclass(frozen=True)
class Piece:
    """A record batch as arrays that point into the file.

    Attributes:
        tokens: uint16 or uint32, shape (rows, length).
        borders: spans of row r are [borders[r], borders[r+1]), int32, shape (rows + 1,).
        numbers: start, stop, doc_offset, doc_length and copy of each span, as the shard has them, shape (m,) each.
        ids: the documents' ids as two words, big-endian, shape (m, 2).
        domain: number of each span's domain, -1 for one that the lock does not know, int16, shape (m,).
        mark_borders: as `borders`, of marks, shape (rows + 1,).
        marks: their places in the row, int32, shape (k,).
        token_bytes: where the tokens of row 0 begin in the file; 0 where nothing has to be fetched.
    """

    tokens: npt.NDArray[Any]
    borders: npt.NDArray[Any]
    numbers: tuple[npt.NDArray[Any], ...]
    ids: npt.NDArray[Any]
    domain: npt.NDArray[np.int16]
    mark_borders: npt.NDArray[Any]
    marks: npt.NDArray[Any]
    token_bytes: int = 0

    @staticmethod
    def of(batch: pa.RecordBatch, domains: Mapping[bytes, int], begin: int | None = None) -> Piece:
        """Look into a record batch whose file begins at an address; None for a file that is all here."""
        tokens, lists = tokens_of(batch), batch.column("spans")
        spans = lists.values
        ids = spans.field("doc_id")
        marks = batch.column("marks") if "marks" in batch.schema.names else None
        count = len(spans)
        return Piece(
            tokens=tokens,
            borders=schemas.numbers(lists.offsets),
            numbers=tuple(schemas.numbers(spans.field(name)) for name in _NUMBERS),
            ids=np.frombuffer(ids.buffers()[1], ">i8", 2 * count, 16 * ids.offset).reshape(-1, 2),
            domain=_coded(spans.field("domain"), domains),
            mark_borders=np.zeros(len(batch) + 1, np.int32) if marks is None else schemas.numbers(marks.offsets),
            marks=np.empty(0, np.int32) if marks is None else schemas.numbers(marks.values),
            token_bytes=0 if begin is None else tokens.__array_interface__["data"][0] - begin,
        )


_NUMBERS = ("start", "stop", "doc_offset", "doc_length", "copy")


def _coded(names: pa.StringArray, domains: Mapping[bytes, int]) -> npt.NDArray[np.int16]:
    """Return the number of each name, -1 for one that is not known, int16, shape (m,)."""
    offsets, data = names.buffers()[1:]
    at = np.frombuffer(offsets, np.int32, len(names) + 1, 4 * names.offset) if len(names) else np.zeros(1, np.int32)
    size = 0 if data is None else data.size
    if at[0] < 0 or at[-1] > size or (np.diff(at) < 0).any():
        # Arrow would read outside the file. Which rows are damaged, their hashes say.
        text = b"" if data is None else data.to_pybytes()
        spans = zip(at[:-1].tolist(), at[1:].tolist(), strict=True)
        return np.array([domains.get(text[max(low, 0) : max(high, 0)], -1) for low, high in spans], np.int16)
    coded = pa.BinaryArray.from_buffers(pa.binary(), len(names), [None, offsets, data], offset=names.offset)
    coded = coded.dictionary_encode()
    codes = np.array([domains.get(name, -1) for name in coded.dictionary.to_pylist()], np.int16)
    found: npt.NDArray[np.int16] = codes[np.from_dlpack(coded.indices)]
    return found


class Shard:
    """A shard, opened lazily.

    Attributes:
        path: its file or object.
        per_piece: rows of each piece but the last.
        pieces: those that are open, by number; whoever needs the room may take some out.
        hashes: of its rows, uint64, shape (sequences,), where they will be held to them.

    Args:
        path: its file or object.
        facts: what the lock says of it: size, sequences, hash.
        length: places in a sequence.
        domains: number of each domain, by its name's bytes.
        check: whether rows will be held to their hashes.

    Raises:
        StoreError: missing, cut short, no shard, or other than the lock says; without its hashes, if they are needed.
    """

    def __init__(
        self, path: Place, facts: dict[str, Any], length: int, domains: Mapping[bytes, int], *, check: bool
    ) -> None:
        self.path = path
        self._facts, self._length, self._domains = facts, length, domains
        self.pieces: dict[int, Piece] = {}
        self._blocks: list[tuple[int, int]] = []
        self._mirror: Mirror | None = None
        self.hashes: U64 | None = _hashes(path, facts) if check else None
        try:
            self._open()
        except (pa.ArrowException, OSError, ValueError, struct.error, IndexError) as error:
            raise self._damaged(error) from error

    def _open(self) -> None:
        file = self.path if isinstance(self.path, Path) else self._fetch_footer(self.path)
        with refusals(self.path):
            size = size_of(file)
        if size != self._facts["size"]:
            found = "missing" if size is None else f"{size:,} bytes, the lock says {self._facts['size']:,}"
            raise StoreError(f"{self.path}: {found}; {REMEDY}")
        with mapped(file) as source:
            self._bytes = source.read_buffer()
        # The file is closed again: thousands of shards are no thousands of open files.
        self._reader = pa.ipc.open_file(pa.BufferReader(self._bytes))
        schema = self._reader.schema
        if not is_shard(schema) or schema.field("input_ids").type.list_size != self._length:
            raise ValueError(f"its columns are not those of a shard with sequences of {self._length:,}")
        self._first: pa.RecordBatch | None = self._batch(0)
        self.per_piece = len(self._first)
        count = self._reader.num_record_batches
        if not self.per_piece or count != -(-self._facts["sequences"] // self.per_piece):
            raise ValueError(
                f"{count} record batches of {self.per_piece:,} rows, the lock says "
                f"{self._facts['sequences']:,} sequences"
            )

    def _fetch_footer(self, path: UPath) -> Path:
        self._mirror = one = mirror(path)
        need([(one, [(one.size - _FOOTER_BYTES, one.size)])])
        with one.file.open("rb") as handle:
            handle.seek(max(0, one.size - 10))
            end = handle.read(10)
            if end[4:] != _MAGIC:
                raise ValueError("it does not end as an Arrow file")
            size = struct.unpack("<i", end[:4])[0]
            need([(one, [(one.size - 10 - size, one.size)])])
            handle.seek(one.size - 10 - size)
            self._blocks = _blocks(handle.read(size))
        return one.file

    def _batch(self, number: int) -> pa.RecordBatch:
        if self._mirror is not None:
            need([(self._mirror, [self._blocks[number]])])
        batch = self._reader.get_batch(number)
        batch.validate()
        return batch

    def piece(self, number: int) -> Piece:
        """Return a piece; its spans are fetched, its tokens are not.

        Raises:
            StoreError: the shard is damaged, or the object store refuses.
        """
        if number not in self.pieces:
            try:
                batch = self._batch(number) if number or self._first is None else self._first
                self._first = self._first if number else None
                rows = min(self.per_piece, self._facts["sequences"] - number * self.per_piece)
                if len(batch) != rows:
                    raise ValueError(f"record batch {number} has {len(batch):,} rows, not {rows:,}")
                begin = None
                if self._mirror is not None:
                    begin = self._bytes.address
                    need([(self._mirror, _stretches(batch, begin))])
                self.pieces[number] = Piece.of(batch, self._domains, begin)
            except (pa.ArrowException, OSError, ValueError) as error:
                raise self._damaged(error) from error
        return self.pieces[number]

    def wanted(self, rows: Iterable[tuple[Piece, int, int]]) -> Iterator[tuple[Mirror, list[tuple[int, int]]]]:
        """Yield the mirror, and which of its bytes hold the tokens of some rows; nothing for a file here.

        Args:
            rows: pieces, each with the first of its rows that are wanted, and past the last.
        """
        if self._mirror is None:
            return
        if not self._mirror.keep():
            self._mirror.look()
        size = self._length * self._reader.schema.field("input_ids").type.value_type.bit_width // 8
        begins = [(piece.token_bytes, first, stop) for piece, first, stop in rows]
        yield self._mirror, [(begin + first * size, begin + stop * size) for begin, first, stop in begins]

    def _damaged(self, error: Exception) -> StoreError:
        return StoreError(f"{self.path}: damaged ({' '.join(str(error).split()).rstrip('. ')}); {REMEDY}")


def _stretches(batch: pa.RecordBatch, begin: int) -> list[tuple[int, int]]:
    """Return where everything but the tokens of a record batch lies in a file that begins at an address."""
    columns = [batch.column(name) for name in batch.schema.names if name != "input_ids"]
    buffers = [buffer for column in columns for buffer in column.buffers() if buffer is not None]
    return [(buffer.address - begin, buffer.address - begin + buffer.size) for buffer in buffers]


def _blocks(footer: bytes) -> list[tuple[int, int]]:
    """Return where the headers of an Arrow file's record batches lie, as its footer says (a FlatBuffers table)."""
    table = struct.unpack_from("<I", footer)[0]
    fields = table - struct.unpack_from("<i", footer, table)[0]
    size = struct.unpack_from("<H", footer, fields)[0]
    if size <= 4 + 2 * _BATCHES_FIELD:
        return []
    at = table + struct.unpack_from("<H", footer, fields + 4 + 2 * _BATCHES_FIELD)[0]
    vector = at + struct.unpack_from("<I", footer, at)[0]
    count = struct.unpack_from("<I", footer, vector)[0]
    blocks = [struct.unpack_from("<qi", footer, vector + 4 + _BLOCK_BYTES * number) for number in range(count)]
    return [(offset, offset + header) for offset, header in blocks]


def _hashes(path: Place, facts: dict[str, Any]) -> U64:
    """Return the hashes of a shard's rows, uint64, shape (sequences,), after looking whether they are this lock's."""
    copy = "copy it there with its shard, or load without `check`"
    record = read_record(record_path(path), "hash", "rows")
    if record is None:
        raise StoreError(f"{record_path(path)}: missing, and with it what rows are held to; {copy}")
    if record["hash"] != facts["hash"]:
        raise StoreError(
            f"{path}: the shard of another lock, its record says hash {record['hash']}, "
            f"the lock {facts['hash']}; {REMEDY}"
        )
    rows = read_json(rows_path(path))
    if rows is None:
        raise StoreError(f"{rows_path(path)}: missing, and with it what rows are held to; {copy}")
    try:
        found: U64 = np.frombuffer(bytes.fromhex("".join(rows)), ">u8").astype(np.uint64)
    except (TypeError, ValueError) as error:
        raise StoreError(f"{rows_path(path)}: damaged, not the hashes of rows; {REMEDY}") from error
    if len(found) != facts["sequences"]:
        raise StoreError(f"{rows_path(path)}: {len(found):,} hashes, the lock says {facts['sequences']:,}; {REMEDY}")
    return found


def check_there(folder: Place, facts: Sequence[dict[str, Any]], listed: dict[str, int]) -> None:
    """Hold the sizes of shards to what the lock says.

    Args:
        folder: where they lie.
        facts: what the lock says of each: name and size.
        listed: names and sizes of the files that are there.

    Raises:
        StoreError: some are missing or cut short.
    """
    missing = [str(one["shard"]) for one in facts if one["shard"] not in listed]
    if missing:
        named = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        many = "is" if len(missing) == 1 else "are"
        raise StoreError(
            f"{folder}: {len(missing):,} of {len(facts):,} shards {many} missing ({named}); "
            "name the folder where they lie, or run `mixture pack` to write them again"
        )
    for one in facts:
        if listed[one["shard"]] != one["size"]:
            raise StoreError(
                f"{folder / one['shard']}: {listed[one['shard']]:,} bytes, the lock says {one['size']:,}; {REMEDY}"
            )
