"""Shards read back: sequences by number, memory-mapped, held to their lock.

Sequences are numbered over a whole phase. Which shard holds one follows from the lock alone:

    shards hold 3, 2, 3 sequences     0 1 2 | 3 4 | 5 6 7     locate(4) is (1, 1): shard 1, row 1

Nothing is read until it is touched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from mixture import schemas
from mixture.errors import LockError, StoreError
from mixture.lockfile import Lock
from mixture.pack import Ints
from mixture.shards.spans import tokens_of
from mixture.storage import Place, explain, file_digest, size_of
from mixture.storage.tables import mapped
from mixture.tokens.store import Tokens

#: What to do about a damaged shard.
REMEDY = "remove it and run `mixture pack` to write it again"


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

    path: Place
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

    def check(self) -> None:
        """Look whether all spans can be read: Arrow ends the process where an offset leads out of the file.

        Raises:
            StoreError: the shard is damaged.
        """
        try:
            for batch in self.batches:
                batch.column("spans").validate(full=True)
        except pa.ArrowException as error:
            raise StoreError(_damaged(self.path, error)) from error

    def row(self, number: int) -> Row:
        """Return one sequence.

        Args:
            number: counted from 0 in this shard.

        Raises:
            StoreError: the shard is damaged.
        """
        which = int(np.searchsorted(self.firsts, number, side="right")) - 1
        batch = self.batches[which].slice(number - int(self.firsts[which]), 1)
        try:
            # As `check`, of one row.
            batch.validate()
            batch.column("spans").flatten().field("domain").validate(full=True)
        except pa.ArrowException as error:
            raise StoreError(_damaged(self.path, error)) from error
        marks = schemas.numbers(batch.column("marks").flatten()) if self.marked else np.empty(0)
        return Row(tokens_of(batch)[0], batch.column("spans").flatten(), marks.astype(np.int64))


def open_shard(path: Place, facts: dict[str, Any]) -> OpenShard:
    """Map a shard.

    Args:
        path: its file.
        facts: what the lock says of it: size in bytes, sequences.

    Raises:
        StoreError: missing, cut short, no shard, or other than the lock says.
    """
    _check_size(path, facts)
    shard = map_shard(path)
    if len(shard) != facts["sequences"]:
        raise StoreError(f"{path}: {len(shard):,} sequences, the lock says {facts['sequences']:,}; {REMEDY}")
    return shard


def map_shard(path: Place) -> OpenShard:
    """Map a shard as it lies there, whatever its lock says.

    Raises:
        StoreError: not an Arrow file, or no shard.
    """
    try:
        # The file is closed at the end of the block, so hundreds of shards are no hundreds of open files; what the
        # batches point into stays mapped as long as they live.
        with mapped(path) as source, pa.ipc.open_file(source) as reader:
            schema = reader.schema
            batches = tuple(reader.get_batch(number) for number in range(reader.num_record_batches))
        for batch in batches:
            batch.validate()
    except (pa.ArrowException, OSError) as error:
        raise StoreError(_damaged(path, error)) from error
    if not is_shard(schema):
        columns = ", ".join(f"{field.name} {field.type}" for field in schema)
        raise StoreError(f"{path}: no shard, its columns are {' '.join(columns.split())}; {REMEDY}")
    firsts = np.concatenate([[0], np.cumsum([len(batch) for batch in batches], dtype=np.int64)]).astype(np.int64)
    return OpenShard(path, schema, batches, firsts)


def _damaged(path: Place, error: Exception) -> str:
    return f"{path}: damaged, no Arrow file ({' '.join(str(error).split()).rstrip('. ')}); {REMEDY}"


def is_shard(schema: pa.Schema) -> bool:
    """Say whether columns are those of `schemas.shard`."""
    ids = schema.field("input_ids").type if "input_ids" in schema.names else None
    if ids is None or not pa.types.is_fixed_size_list(ids):
        return False
    marks = "marks" in schema.names
    return bool(schema.equals(schemas.shard(ids.value_type, ids.list_size, prefix=0, suffix=0, marks=marks)))


def check_shard(path: Place, facts: dict[str, Any]) -> None:
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
        raise StoreError(f"{path}: damaged, its hash is {found}, the lock says {facts['hash']}; {REMEDY}")


def _check_size(path: Place, facts: dict[str, Any]) -> None:
    size = size_of(path)
    if size is None:
        raise StoreError(f"{path}: this shard is missing; run `mixture pack` to write it again")
    if size != facts["size"]:
        raise StoreError(f"{path}: {size:,} bytes, the lock says {facts['size']:,}; {REMEDY}")


class Shards:
    """The written stream of one phase.

    Args:
        lock: what was packed.
        folders: where the shards of each phase lie.
        phase: which phase.

    Raises:
        LockError: nothing was packed yet.
    """

    def __init__(self, lock: Lock, folders: Sequence[Place], phase: int = 0) -> None:
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

    def path(self, shard: int) -> Place:
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
