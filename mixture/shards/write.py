"""The one place that copies tokens: a shard's plan and the store's parts in, an Arrow file out.

A shard holds one window of the stream, laid out. It is written in batches of sequences of a fixed size, so memory does
not grow with it. Parts are mapped, not read: the rows of a shard that lie in one part are one or a few contiguous
ranges of it.

Beside each shard lie a hash of every row, so that damage is found by row and not only by file, and a JSON record,
written last: counts, what it holds of each cell, size and hash of both files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mixture import schemas
from mixture.hashing import id_array, id_words
from mixture.pack import Ints, Marks, Pieces
from mixture.pack.layout import Layout, Rules
from mixture.plan.context import as_rows, context_sums
from mixture.plan.window import piece_facts, read_window
from mixture.recipe import Buckets
from mixture.shards.gather import Sources, gather
from mixture.shards.record import hash_rows, record_path, rows_path, sum_cells
from mixture.storage import as_place, publish, write_json
from mixture.tokens.parts import OpenPart, fetch_rows, open_parts
from mixture.tokens.store import Tokens, part_names, part_path

#: Tokens in a record batch, about: 16 to 32 MB.
_BATCH_TOKENS = 8 << 20


@dataclass(frozen=True)
class Geometry:
    """What a shard's file needs to be known besides its plan.

    Attributes:
        rules: how a window is laid out.
        prefix: ids before each document.
        suffix: ids after it.
        n_vocab: 1 + the largest id that may stand in it, marks included.
        buckets: edges between length buckets.
    """

    rules: Rules
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    n_vocab: int
    buckets: Buckets

    @property
    def length(self) -> int:
        """Places in a sequence."""
        return self.rules.length

    @property
    def marks(self) -> bool:
        """Whether a transform writes marks."""
        return self.rules.knots is not None

    @property
    def token(self) -> pa.DataType:
        """Type of the tokens."""
        return schemas.token_type(self.n_vocab)

    @property
    def schema(self) -> pa.Schema:
        """Schema of the shard."""
        around = {"prefix": len(self.prefix), "suffix": len(self.suffix)}
        return schemas.shard(self.token, self.length, **around, marks=self.marks)

    def to_json(self) -> dict[str, Any]:
        """Return what a task carries."""
        fields = {name: list(v) if isinstance(v, tuple) else v for name, v in vars(self).items()}
        buckets = {"default": list(self.buckets.default), "domains": dict(self.buckets.domains)}
        return fields | {"rules": self.rules.to_json(), "buckets": buckets}

    @staticmethod
    def from_json(fields: dict[str, Any]) -> Geometry:
        """Read what a task carries."""
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}
        parts = {"rules": Rules.from_json(fields["rules"]), "buckets": Buckets.model_validate(fields["buckets"])}
        return Geometry(**values | parts)


@dataclass(frozen=True)
class ShardRows:
    """One shard's plan as arrays of shape (n,)."""

    doc_start: Ints
    doc_stop: Ints
    doc_length: Ints
    copy: Ints
    row: Ints
    part: Ints
    parts: list[int]
    domain: Ints
    domains: pa.Array
    hi: npt.NDArray[np.uint64]
    lo: npt.NDArray[np.uint64]

    @staticmethod
    def of(table: pa.Table) -> ShardRows:
        """Take the columns of a plan's table."""
        table = table.combine_chunks()
        domain, domains = schemas.coded(table["domain"])
        parts, part = np.unique(schemas.numbers(table["part"]), return_inverse=True)
        hi, lo = id_words(table["doc_id"])
        numbers: dict[str, Ints] = {
            name: schemas.numbers(table[name]).astype(np.int64)
            for name in ("doc_start", "doc_stop", "doc_length", "copy", "row")
        }
        return ShardRows(
            part=part.astype(np.int64), parts=parts.tolist(), domain=domain, domains=domains, hi=hi, lo=lo, **numbers
        )

    def by_part(self) -> list[Ints]:
        """Return the rows that lie in each of `parts`."""
        order = np.argsort(self.part, kind="stable")
        edges = np.searchsorted(self.part[order], np.arange(len(self.parts) + 1))
        return [order[first:stop] for first, stop in pairwise(edges)]


def write_shard(
    plan: str,
    parts: str,
    slices: tuple[int, list[int]],
    window: tuple[int, int, int],
    store: str,
    target: str,
    geometry: dict[str, Any],
    stream: str,
) -> dict[str, Any]:
    """Task: write one shard and its record.

    Args:
        plan: folder of the plan.
        parts: names of the parts that its rows number.
        slices: number of the first slice that the window crosses; where that and the next ones begin in the stream.
        window: its number, and the positions in the stream of its first token and past its last.
        store: folder of the token store.
        target: the shard's file.
        geometry: `Geometry` as a mapping.
        stream: names the plan and its layout in the record.
    """
    how = Geometry.from_json(geometry)
    number, first, stop = window
    skipped, starts = slices
    table, layout = read_window(as_place(plan), starts, (first, stop), how.rules, number, skipped=skipped)
    rows, around = ShardRows.of(table), (len(how.prefix), len(how.suffix))
    names = part_names(as_place(parts))
    opened = open_parts([part_path(as_place(store), names[number]) for number in rows.parts])
    by_part = list(zip(opened, rows.by_part(), strict=True))
    fetch_rows([(part, rows.row[mine]) for part, mine in by_part])
    row_hashes: list[str] = []
    path = as_place(target)
    with publish(path) as out, pa.ipc.new_file(pa.PythonFile(out, "w"), how.schema) as writer:
        for batch in _batches(rows, by_part, layout, how):
            writer.write_batch(batch)
            row_hashes += hash_rows(batch)
            # The next one finds room where this one was.
            del batch
    record = {
        "shard": path.name,
        "stream": stream,
        "sequences": layout.sequences,
        "tokens": int(layout.packed.size.sum()),
        "size": out.size,
        "hash": out.digest,
        "cells": _cells(rows, layout.packed, how),
        "context": _context(rows, layout.packed),
        "packing": piece_facts(table, layout.packed, around, how.length).to_json() | {"marks": len(layout.marks.start)},
        "rows": write_json(rows_path(path), row_hashes),
    }
    write_json(record_path(path), record)
    return record


def _batches(
    rows: ShardRows, by_part: list[tuple[OpenPart, Ints]], layout: Layout, how: Geometry
) -> Iterator[pa.RecordBatch]:
    """Yield a shard's sequences, some at once; holds none of them."""
    sources, starts = Sources.of([part.tokens for part, _ in by_part]), _document_starts(rows, by_part)
    per_batch = max(1, _BATCH_TOKENS // how.length)
    for low in range(0, layout.sequences, per_batch):
        high = min(low + per_batch, layout.sequences)
        laid = layout.pieces.of_sequences(low, high), layout.marks.of_sequences(low, high)
        yield _batch(rows, *laid, _copy(rows, sources, starts, laid, high - low, how), high - low, how)


def _copy(
    rows: ShardRows, sources: Sources, starts: Ints, laid: tuple[Pieces, Marks], sequences: int, how: Geometry
) -> Tokens:
    """Return sequences end to end: own tokens from the store, separators from the frame, marks, zeros elsewhere."""
    pieces, marks = laid
    place = pieces.sequence * how.length + pieces.start
    # Offsets in the document's own tokens; the part of a piece below 0 or past the end is separator.
    begin = rows.doc_start[pieces.row] + pieces.offset
    end = begin + pieces.size
    length = rows.doc_length[pieces.row]
    own_begin, own_end = np.clip(begin, 0, length), np.clip(end, 0, length)
    source, size, to = starts[pieces.row] + own_begin, own_end - own_begin, place + np.clip(-begin, 0, pieces.size)
    out = gather(sources, rows.part[pieces.row], source, size, to, sequences * how.length)
    # With marks, ids may need a wider type than the store's.
    out = out.astype(how.token.to_pandas_dtype(), copy=False)
    for ids, at in ((how.prefix, -len(how.prefix)), (how.suffix, None)):
        for number, token in enumerate(ids):
            offset = at + number if at is not None else length + number
            inside = (begin <= offset) & (offset < end)
            out[(place + offset - begin)[inside]] = token
    out[marks.sequence * how.length + marks.start] = marks.token
    return out


def _document_starts(rows: ShardRows, by_part: list[tuple[OpenPart, Ints]]) -> Ints:
    """Return where each row's document starts among its part's tokens, shape (n,)."""
    starts = np.zeros(len(rows.row), np.int64)
    for opened, mine in by_part:
        starts[mine] = opened.offsets[rows.row[mine]]
    return starts


def _batch(
    rows: ShardRows, pieces: Pieces, marks: Marks, tokens: Tokens, sequences: int, how: Geometry
) -> pa.RecordBatch:
    schema = how.schema
    spans = pa.StructArray.from_arrays(
        [
            schemas.column(pieces.start, pa.int32()),
            schemas.column(pieces.start + pieces.size, pa.int32()),
            rows.domains.take(schemas.column(rows.domain[pieces.row])).cast(pa.string()),
            id_array(rows.hi[pieces.row], rows.lo[pieces.row]),
            schemas.column(rows.doc_start[pieces.row] + pieces.offset),
            schemas.column(rows.doc_length[pieces.row]),
            schemas.column(rows.copy[pieces.row], pa.int32()),
        ],
        fields=list(schemas.SPAN),
    )
    lists = {"spans": (pieces.sequence, spans)}
    if how.marks:
        lists["marks"] = (marks.sequence, schemas.column(marks.start, pa.int32()))
    columns = [pa.FixedSizeListArray.from_arrays(schemas.column(tokens), type=schema.field("input_ids").type)]
    for name, (sequence, values) in lists.items():
        borders = np.searchsorted(sequence, np.arange(sequences + 1)).astype(np.int32)
        columns.append(pa.ListArray.from_arrays(schemas.column(borders), values, type=schema.field(name).type))
    return pa.record_batch(columns, schema=schema)


def _cells(rows: ShardRows, pieces: Pieces, how: Geometry) -> dict[str, list[int]]:
    """Return the tokens written of each domain, by bucket."""
    domain, length = rows.domain[pieces.row], rows.doc_length[pieces.row]
    return sum_cells(domain, rows.domains.to_pylist(), length, pieces.size, how.buckets)


def _context(rows: ShardRows, pieces: Pieces) -> dict[str, list[int]]:
    """Count the tokens of each domain by what stands before them of their document in the same sequence."""
    begin = rows.doc_start[pieces.row] + pieces.offset
    length = rows.doc_length[pieces.row]
    start, stop = np.clip(begin, 0, length), np.clip(begin + pieces.size, 0, length)
    domains = rows.domains.to_pylist()
    return as_rows(context_sums(rows.domain[pieces.row], start, stop, len(domains)), domains)
