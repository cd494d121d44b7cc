"""Shards read back: sequences by number, memory-mapped, held to their lock.

Sequences are numbered over a whole phase. Which shard holds one follows from the lock alone:

    shards hold 3, 2, 3 sequences     0 1 2 | 3 4 | 5 6 7     locate(4) is (1, 1): shard 1, row 1

Nothing is read until it is touched. A *real* token is one that a span covers; the other places of a sequence hold
padding (id 0), or marks that a transform wrote and the column `marks` lists.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mixture import schemas
from mixture.errors import LockError, StoreError
from mixture.hashing import file_digest
from mixture.lockfile import Lock
from mixture.storage import explain

Ints = npt.NDArray[np.int64]
Tokens = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]
Flags = npt.NDArray[np.bool_]

_REMEDY = "remove it and run `mixture pack` to write it again"


@dataclass(frozen=True)
class Row:
    """One sequence.

    Attributes:
        tokens: uint16 or uint32, shape (length,).
        spans: `schemas.SPAN`, one a stretch of a document, in the order of their places, shape (m,).
        marks: places of marks in the sequence, int64, shape (k,); none where the shard has no such column.
    """

    tokens: Tokens
    spans: pa.StructArray
    marks: Ints


@dataclass(frozen=True)
class OpenShard:
    """A shard mapped into memory.

    Attributes:
        path: its file.
        schema: as in `schemas.shard`.
        batches: its record batches.
        firsts: rows before each batch, and all of them, int64, shape (batches + 1,).
    """

    path: Path
    schema: pa.Schema
    batches: tuple[pa.RecordBatch, ...]
    firsts: Ints

    def __len__(self) -> int:
        return int(self.firsts[-1])

    @property
    def length(self) -> int:
        """Places in a sequence."""
        return int(self.schema.field("input_ids").type.list_size)

    @property
    def token(self) -> np.dtype[Any]:
        """Type of the tokens: uint16 or uint32."""
        kind: np.dtype[Any] = np.dtype(self.schema.field("input_ids").type.value_type.to_pandas_dtype())
        return kind

    @property
    def marked(self) -> bool:
        """Whether its sequences may hold marks."""
        return "marks" in self.schema.names

    def row(self, number: int) -> Row:
        """Return one sequence.

        Args:
            number: counted from 0 in this shard.
        """
        which = int(np.searchsorted(self.firsts, number, side="right")) - 1
        batch = self.batches[which].slice(number - int(self.firsts[which]), 1)
        marks = schemas.numbers(batch.column("marks").flatten()) if self.marked else np.empty(0)
        return Row(tokens_of(batch)[0], batch.column("spans").flatten(), marks.astype(np.int64))


@dataclass(frozen=True)
class Spans:
    """The spans of a record batch, end to end.

    Attributes:
        borders: where the spans of each row begin, and their number, int64, shape (rows + 1,).
        start: first place in the sequence, int64, shape (m,).
        stop: past the last place, int64, shape (m,).
        columns: all that is known of each, `schemas.SPAN`, shape (m,).
    """

    borders: Ints
    start: Ints
    stop: Ints
    columns: pa.StructArray

    def per_row(self) -> Ints:
        """Return how many each row has, shape (rows,)."""
        return np.diff(self.borders)

    def position(self, length: int) -> Ints:
        """Return where each starts among the tokens of all rows, end to end, shape (m,)."""
        return np.repeat(np.arange(len(self.borders) - 1) * length, self.per_row()) + self.start

    def numbers(self, name: str) -> Ints:
        """Return one of the columns of integers, shape (m,)."""
        return schemas.numbers(self.columns.field(name)).astype(np.int64)

    def ids(self) -> list[str]:
        """Return the documents' ids as 32 hex digits each."""
        column = self.columns.field("doc_id")
        text = column.buffers()[1].slice(16 * column.offset, 16 * len(column)).to_pybytes().hex()
        return [text[at : at + 32] for at in range(0, len(text), 32)]

    def domains(self) -> list[str]:
        """Return the documents' domains."""
        coded = self.columns.field("domain").dictionary_encode()
        names = coded.dictionary.to_pylist()
        return [names[code] for code in schemas.numbers(coded.indices).tolist()]


def tokens_of(batch: pa.RecordBatch) -> Tokens:
    """Return a batch's tokens without a copy, shape (rows, length)."""
    lists = batch.column("input_ids")
    return schemas.numbers(lists.flatten()).reshape(len(batch), lists.type.list_size)


def spans_of(batch: pa.RecordBatch) -> Spans:
    """Return a batch's spans."""
    lists = batch.column("spans")
    columns = lists.flatten()
    offsets = schemas.numbers(lists.offsets).astype(np.int64)
    start, stop = (schemas.numbers(columns.field(name)).astype(np.int64) for name in ("start", "stop"))
    return Spans(offsets - offsets[0], start, stop, columns)


def real_of(batch: pa.RecordBatch) -> Flags:
    """Return which places hold real tokens, shape (rows, length)."""
    length, spans = batch.column("input_ids").type.list_size, spans_of(batch)
    size = spans.stop - spans.start
    if int(size.sum()) == len(batch) * length:
        return np.ones((len(batch), length), np.bool_)
    begin = spans.position(length)
    steps = np.zeros(len(batch) * length + 1, np.int8)
    # No two spans begin, or end, at one place.
    steps[begin] += 1
    steps[begin + size] -= 1
    return np.cumsum(steps[:-1], dtype=np.int8).astype(np.bool_).reshape(len(batch), length)


def open_shard(path: Path, facts: dict[str, Any]) -> OpenShard:
    """Map a shard.

    Args:
        path: its file.
        facts: what the lock says of it: size in bytes, sequences.

    Raises:
        StoreError: missing, cut short, no shard, or other than the lock says.
    """
    _check_size(path, facts)
    try:
        # The file is closed at the end of the block, so hundreds of shards are no hundreds of open files; what the
        # batches point into stays mapped as long as they live.
        with pa.memory_map(str(path)) as mapped, pa.ipc.open_file(mapped) as reader:
            schema = reader.schema
            batches = tuple(reader.get_batch(number) for number in range(reader.num_record_batches))
    except (pa.ArrowException, OSError) as error:
        cause = " ".join(str(error).split()).rstrip(". ")
        raise StoreError(f"{path}: damaged, no Arrow file ({cause}); {_REMEDY}") from error
    if "input_ids" not in schema.names or "spans" not in schema.names:
        raise StoreError(f"{path}: no shard, its columns are {', '.join(schema.names)}; {_REMEDY}")
    firsts = np.concatenate([[0], np.cumsum([len(batch) for batch in batches], dtype=np.int64)]).astype(np.int64)
    if firsts[-1] != facts["sequences"]:
        raise StoreError(f"{path}: {firsts[-1]:,} sequences, the lock says {facts['sequences']:,}; {_REMEDY}")
    return OpenShard(path, schema, batches, firsts)


def check_shard(path: Path, facts: dict[str, Any]) -> None:
    """Hold a shard's bytes to the hash in its lock.

    Raises:
        StoreError: missing, or its bytes are others.
    """
    _check_size(path, facts)
    try:
        found = file_digest(path)
    except OSError as error:
        raise StoreError(explain(error, path)) from error
    if found != facts["hash"]:
        raise StoreError(f"{path}: damaged, its hash is {found}, the lock says {facts['hash']}; {_REMEDY}")


def _check_size(path: Path, facts: dict[str, Any]) -> None:
    try:
        size = path.stat().st_size
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreError(f"{path}: this shard is missing; run `mixture pack` to write it again") from error
    except OSError as error:
        raise StoreError(explain(error, path)) from error
    if size != facts["size"]:
        raise StoreError(f"{path}: {size:,} bytes, the lock says {facts['size']:,}; {_REMEDY}")


class Shards:
    """The written stream of one phase.

    Args:
        lock: what was packed.
        folders: where the shards of each phase lie.
        phase: which phase.

    Raises:
        LockError: nothing was packed yet.
    """

    def __init__(self, lock: Lock, folders: Sequence[Path], phase: int = 0) -> None:
        found = lock.phases[phase]
        if not found["shards"]:
            raise LockError(f"the lock of {lock.name!r} lists no shards yet; run `mixture pack` first")
        self.length = int(found["stream"]["sequence_length"])
        self.facts: list[dict[str, Any]] = found["shards"]
        #: The first sequence of each shard, and the number of all, int64, shape (shards + 1,).
        self.firsts: Ints = np.cumsum([0] + [facts["sequences"] for facts in self.facts], dtype=np.int64)
        self._folder = folders[phase]
        self._mapped: dict[int, OpenShard] = {}

    def __len__(self) -> int:
        return int(self.firsts[-1])

    def locate(self, sequence: int) -> tuple[int, int]:
        """Return the shard that holds a sequence of the phase, and the row in it.

        Raises:
            StoreError: the phase has no such sequence.
        """
        if not 0 <= sequence < len(self):
            raise StoreError(f"sequence {sequence:,}: the phase has {len(self):,}, numbered from 0; give one of those")
        shard = int(np.searchsorted(self.firsts, sequence, side="right")) - 1
        return shard, sequence - int(self.firsts[shard])

    def path(self, shard: int) -> Path:
        """Return a shard's file."""
        return self._folder / str(self.facts[shard]["shard"])

    def shard(self, number: int) -> OpenShard:
        """Map a shard, or find it mapped; see `open_shard`."""
        if number not in self._mapped:
            self._mapped[number] = open_shard(self.path(number), self.facts[number])
        return self._mapped[number]

    def row(self, sequence: int) -> Row:
        """Return one sequence of the phase; see `locate` and `open_shard`."""
        shard, row = self.locate(sequence)
        return self.shard(shard).row(row)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield all sequences in order, in record batches of a shard each; see `open_shard`."""
        for number in range(len(self.facts)):
            yield from self.shard(number).batches
