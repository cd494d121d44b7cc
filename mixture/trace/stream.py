"""One phase of a written stream: what stands where in each sequence, from the shards or from the plan.

    sequence 41   | doc a [310, 700) | sep | doc b [0, 121) | mark | padding |
                  spans cover documents and their separators; marks are listed; the rest is padding

A shard that is there is asked first: its sequence is found by sums over the lock, and mapped. Otherwise the plan is:
the sequence's window is laid out anew, or, where sequences lie in the stream end to end, its own tokens alone.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mixture import schemas
from mixture.errors import LockError, StoreError, TraceError
from mixture.hashing import id_words
from mixture.lockfile import Lock
from mixture.pack import Pieces
from mixture.pack.layout import Layout, lay
from mixture.plan.consumed import find_plan
from mixture.plan.given import label
from mixture.plan.stretch import read_stretch, sizes
from mixture.plan.window import read_window, windows
from mixture.shards.pack import shards_folder
from mixture.shards.read import REMEDY, Shards
from mixture.storage import Place, exists, read_record
from mixture.tokens.store import Tokens
from mixture.workspace import Workspace

Ints = npt.NDArray[np.int64]
Kind = Literal["document", "opening separator", "closing separator", "mark", "padding"]


@dataclass(frozen=True)
class Span:
    """One stretch of one document in a sequence.

    Attributes:
        start: first place in the sequence.
        stop: past the last.
        domain: the document's.
        doc_id: 16 bytes.
        offset: the document's own token that `start` holds; below 0 in an opening separator, from `length` on in a
            closing one.
        length: the document's own tokens.
        copy: which appearance of the document it is, from 0.
    """

    start: int
    stop: int
    domain: str
    doc_id: bytes
    offset: int
    length: int
    copy: int

    @staticmethod
    def of(written: dict[str, Any]) -> Span:
        """Take what a shard says, `schemas.SPAN`."""
        return Span(*(written[field.name] for field in schemas.SPAN))

    def kind(self, place: int) -> Kind:
        """Return what stands at a place of the span."""
        offset = self.offset + place - self.start
        if offset < 0:
            return "opening separator"
        return "document" if offset < self.length else "closing separator"

    def to_json(self) -> dict[str, Any]:
        """Return it with the id as 32 hex digits."""
        return vars(self) | {"doc_id": self.doc_id.hex()}


@dataclass(frozen=True)
class Row:
    """What stands in a sequence.

    Attributes:
        spans: stretches of documents, by their places.
        marks: places of tokens that a transform wrote, rising.
        source: who said so.
    """

    spans: tuple[Span, ...]
    marks: tuple[int, ...]
    source: Literal["shards", "plan"]

    def at(self, place: int) -> tuple[Kind, Span | None]:
        """Return what stands at a place, and the span that covers it."""
        for span in self.spans:
            if span.start <= place < span.stop:
                return span.kind(place), span
        return ("mark" if place in self.marks else "padding"), None

    def gaps(self, length: int) -> list[tuple[int, int]]:
        """Return the stretches of padding of a sequence of so many places."""
        covered = sorted(
            [(span.start, span.stop) for span in self.spans] + [(place, place + 1) for place in self.marks]
        )
        ends = [0, *(stop for _, stop in covered)]
        starts = [*(start for start, _ in covered), length]
        return [(end, start) for end, start in zip(ends, starts, strict=True) if end < start]


@dataclass(frozen=True)
class Planned:
    """A plan in a work directory.

    Attributes:
        folder: holds its slices.
        record: its record.
    """

    folder: Place
    record: dict[str, Any]

    @property
    def starts(self) -> list[int]:
        """Where each slice begins in the stream, and where the last one ends."""
        return list(self.record["starts"])


class Stream:
    """One phase of a lock.

    Args:
        lock: what was made.
        phase: its number.
        workspace: where plan and shards lie.
        shards: where the shards are, if not in the work directory; several phases each in a folder of its own there.
    """

    def __init__(self, lock: Lock, phase: int, workspace: Workspace, shards: Place | None = None) -> None:
        self.lock, self.phase, self.workspace = lock, phase, workspace
        self.name: str = lock.phases[phase]["name"]
        facts = lock.phases[phase]["stream"]
        self.length: int = facts["sequence_length"]
        self.around: tuple[int, int] = (len(facts["prefix"]), len(facts["suffix"]))
        self.windows = windows(lock, phase)
        folders = [shards_folder(workspace, lock, n) for n in range(len(lock.phases))]
        if shards is not None:
            folders[phase] = shards / folders[phase].name if len(folders) > 1 else shards
        self.shards = Shards(lock, folders, phase) if lock.phases[phase]["shards"] else None

    def __len__(self) -> int:
        return int(self.firsts[-1])

    @functools.cached_property
    def firsts(self) -> Ints:
        """The first sequence of each window, and the number of all, shape (windows + 1,).

        Raises:
            LockError: nothing is packed, and only packing tells.
        """
        if self.shards is not None:
            return self.shards.firsts
        if not self.windows.rules.tiles:
            raise LockError(
                f"the lock of {self.lock.name!r} lists no shards yet, and with packing "
                f"{self.windows.rules.packing.kind} only packing tells which sequences a document is in; run "
                "`mixture pack` first"
            )
        ends = [self.windows.stretch(number)[1] // self.length for number in range(self.windows.count)]
        return np.array([0, *ends], np.int64)

    @functools.cached_property
    def plan(self) -> Planned:
        """The plan.

        Raises:
            StoreError: it is not in the work directory.
        """
        digest = self.lock.phases[self.phase]["stream"]["digest"]
        named = self.lock.work.get("plans", ())[self.phase : self.phase + 1]
        for folder in (self.workspace.plans / name for name in named):
            record = read_record(folder / "plan.json", "digest", "slices", "starts")
            if record is not None and record["digest"] == digest:
                return Planned(folder, record)
        return Planned(*find_plan(self.workspace, digest, label(self.lock.name, self.name)))

    def check(self, sequence: int) -> None:
        """Refuse a sequence that is not there.

        Raises:
            TraceError: the phase has fewer.
        """
        if not 0 <= sequence < len(self):
            raise TraceError(f"sequence {sequence:,}: the stream has {len(self):,}, numbered from 0; give one of those")

    def row(self, sequence: int) -> Row:
        """Return what stands in a sequence.

        Raises:
            TraceError: there is no such sequence.
            StoreError: a shard is damaged, or neither shard nor plan is there.
        """
        self.check(sequence)
        return self.shard_row(sequence) if self.has_shard(self.window_of(sequence)) else self.plan_row(sequence)

    def window_of(self, sequence: int) -> int:
        """Return the window, and so the shard, that a sequence lies in."""
        return int(np.searchsorted(self.firsts, sequence, "right")) - 1

    def has_shard(self, number: int) -> bool:
        """Say whether a shard is there."""
        return self.shards is not None and exists(self.shards.path(number))

    def tokens(self, sequence: int) -> Tokens | None:
        """Return the tokens of a sequence, shape (length,); None if its shard is not there."""
        if self.shards is None or not self.has_shard(self.window_of(sequence)):
            return None
        return self.shards.row(sequence).tokens

    def shard_row(self, sequence: int) -> Row:
        """Return what a shard says of a sequence.

        Raises:
            LockError: nothing is packed.
            StoreError: the shard is damaged.
        """
        if self.shards is None:
            raise LockError(f"the lock of {self.lock.name!r} lists no shards yet; run `mixture pack` first")
        found = self.shards.row(sequence)
        spans = tuple(map(Span.of, found.spans.to_pylist()))
        borders = [0, *(place for span in spans for place in (span.start, span.stop)), self.length]
        if borders != sorted(borders):
            path = self.shards.path(self.window_of(sequence))
            raise StoreError(f"{path}: damaged, the spans of sequence {sequence:,} do not follow each other; {REMEDY}")
        return Row(spans, tuple(found.marks.tolist()), "shards")

    def plan_row(self, sequence: int) -> Row:
        """Return what the plan says of a sequence.

        Raises:
            StoreError: the plan is not there.
        """
        number = self.window_of(sequence)
        if self.windows.rules.tiles:
            table, layout = self._laid(sequence * self.length, (sequence + 1) * self.length)
            inside = 0
        else:
            table, layout = self.window(number)
            inside = sequence - int(self.firsts[number])
        spans = tuple(spans_of_pieces(table, layout.pieces.of_sequences(inside, inside + 1)))
        return Row(spans, tuple(layout.marks.of_sequences(inside, inside + 1).start.tolist()), "plan")

    @functools.lru_cache(maxsize=2)  # noqa: B019 - a stream lives as long as one question
    def window(self, number: int) -> tuple[pa.Table, Layout]:
        """Lay a window out."""
        return read_window(self.plan.folder, self.plan.starts, self.windows.stretch(number), self.windows.rules, number)

    def laid(self, position: int, size: int) -> Iterator[tuple[int, Span]]:
        """Yield the sequences, and the spans in them, of tokens [position, position + size) of a tiled stream."""
        first = position // self.length
        stop = -(-(position + size) // self.length)
        table, layout = self._laid(first * self.length, stop * self.length)
        sequences = layout.pieces.sequence.tolist()
        for sequence, span in zip(sequences, spans_of_pieces(table, layout.pieces), strict=True):
            yield first + sequence, span

    def _laid(self, first: int, stop: int) -> tuple[pa.Table, Layout]:
        table = read_stretch(self.plan.folder, self.plan.starts, first, min(stop, self.windows.tokens))
        # A stream that is tiled is laid out alike in any window.
        return table, lay(sizes(table), self.windows.rules, 0)


def spans_of_pieces(table: pa.Table, pieces: Pieces) -> Iterator[Span]:
    """Yield the spans of pieces, whose rows count those of a plan's table."""
    taken = table.take(schemas.column(pieces.row))
    domains = taken["domain"].cast(pa.string()).to_pylist()
    offsets = schemas.numbers(taken["doc_start"]) + pieces.offset
    numbers = (pieces.start, pieces.start + pieces.size, offsets, *(taken[n] for n in ("doc_length", "copy")))
    columns = [np.asarray(column if isinstance(column, np.ndarray) else schemas.numbers(column)) for column in numbers]
    starts, stops, begins, lengths, copies = (column.tolist() for column in columns)
    ids = taken["doc_id"].to_pylist()
    for fields in zip(starts, stops, domains, ids, begins, lengths, copies, strict=True):
        yield Span(*fields)


def rows_of(table: pa.Table | pa.RecordBatch | pa.StructArray, doc_id: bytes) -> Ints:
    """Return the rows that speak of a document, rising."""
    column = table.field("doc_id") if isinstance(table, pa.StructArray) else table["doc_id"]
    hi, lo = id_words(column)
    want = np.frombuffer(doc_id, ">u8")
    return np.flatnonzero((hi == want[0]) & (lo == want[1]))
