"""Backwards: from a document to every sequence in which a copy of it stands.

    id ─ order ─► slices that may hold copy 0, 1, … ─ their column of ids ─► rows ─► positions in the stream
       ─ windows ─► sequences and places

Which slice a copy belongs to is arithmetic (`plan.order`) on its id, or on the point of its run where documents are
related; in a slice the id is looked for, since the order in it may follow from other documents. Where sequences lie in
the stream end to end, the rest is arithmetic too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from mixture import schemas
from mixture.errors import StoreError
from mixture.hashing import GOLDEN, key
from mixture.plan.consumed import find_plan
from mixture.plan.related import run_words
from mixture.plan.stretch import slice_file
from mixture.related.relate import block_file
from mixture.shards.read import OpenShard
from mixture.shards.spans import spans_of
from mixture.storage import Place, exists
from mixture.storage.tables import open_parquet
from mixture.tokens.store import damaged, read_between
from mixture.trace.documents import Document
from mixture.trace.stream import Span, Stream, rows_of, spans_of_pieces

_COLUMNS = ("position", "domain", "doc_start", "doc_stop", "doc_length", "copy")


@dataclass(frozen=True)
class Copy:
    """One appearance of a document in a phase's stream.

    Attributes:
        domain: under which it was drawn.
        copy: number of the appearance, from 0.
        position: where it begins in the stream, in tokens.
        size: tokens of it that are written, separators included.
        whole: whether none of it was cut off by a quota.
        places: sequences, and the spans in them.
    """

    domain: str
    copy: int
    position: int
    size: int
    whole: bool
    places: tuple[tuple[int, Span], ...]

    def to_json(self, batch: int | None = None) -> dict[str, Any]:
        """Return it, JSON-able; with the global step of each place where a batch of so many sequences is given."""
        spans = [
            {"sequence": sequence}
            | ({} if batch is None else {"step": sequence // batch})
            | {name: value for name, value in vars(span).items() if name in ("start", "stop", "offset")}
            for sequence, span in self.places
        ]
        return {name: value for name, value in vars(self).items() if name != "places"} | {"places": spans}


def slice_of(hi: int, count: int, copy: int, seed: int) -> int:
    """Return the slice that a copy belongs to: the inverse of `order.id_ranges`.

    Args:
        hi: leading word of the document's id.
        count: slices of the stream, a power of two.
        copy: number of the copy.
        seed: the recipe's.
    """
    turned = (hi + key(seed, "rotation") + copy * GOLDEN) % (1 << 64)
    return turned // ((1 << 64) // count)


def copies(stream: Stream, rows: Sequence[Document]) -> list[Copy]:
    """Return every copy of a document in a phase, by number.

    Args:
        stream: the phase.
        rows: all rows of the document in the index: one, or one for each equal text that is kept.

    Raises:
        StoreError: the plan is not in the work directory.
        LockError: it is not packed, and only packing tells which sequences a document is in.
    """
    planned, doc_id = stream.plan, rows[0].doc_id
    found: list[Copy] = []
    for number in _slices(stream, rows):
        for row in _rows(slice_file(planned.folder, number), doc_id):
            position, size = planned.starts[number] + row["position"], row["doc_stop"] - row["doc_start"]
            whole = row["doc_stop"] >= row["doc_length"] + stream.around[1]
            same = (doc_id, row["domain"], row["copy"])
            places = tuple(
                (sequence, span)
                for sequence, span in _places(stream, position, size, doc_id)
                if (span.doc_id, span.domain, span.copy) == same
            )
            found.append(Copy(row["domain"], row["copy"], position, size, whole, places))
    return sorted(found, key=lambda one: (one.domain, one.copy))


def _slices(stream: Stream, rows: Sequence[Document]) -> list[int]:
    """Return the slices that may hold a copy."""
    there = len(stream.plan.starts) - 1
    record = _ordered_by(stream)
    words = {_word(stream, record["runs"], row) for row in rows} if record else {None}
    if record is None or None in words:
        return list(range(there))
    count, seed = len(record["starts"]) - 1, stream.lock.recipe["content"]["seed"]
    levels = max(int(found["level"]) + (found["at"] is not None) for found in record["thresholds"])
    most = levels * max(row.occurrences for row in rows)
    found = {slice_of(word, count, copy, seed) for word in words if word is not None for copy in range(most)}
    return sorted(found & set(range(there)))


def _ordered_by(stream: Stream) -> dict[str, Any] | None:
    """Return the record of the plan that gave a phase its order: its own, or that it follows; None if not known."""
    own, like = stream.plan.record, stream.lock.given.get("like", ())
    if not like:
        return own
    try:
        found = find_plan(stream.workspace, like[stream.phase], "the plan that was followed")[1]
    except StoreError:
        return None
    # That plan may have followed another one itself, and then it does not say what its order came from.
    return found if found["thresholds"] else None


def _word(stream: Stream, runs: dict[str, Any] | None, row: Document) -> int | None:
    """Return what decides about a document's slices: the leading word of its id, or the point of its run.

    None if the relations that runs follow from are not there.
    """
    hi = int.from_bytes(row.doc_id[:8], "big")
    if runs is None or row.domain not in runs["cuts"]:
        return hi
    domains = sorted({cell["domain"] for cell in stream.lock.phases[stream.phase]["cells"]})
    blocks = runs["blocks"][row.domain]
    folder = stream.workspace.related(runs["folder"])
    path = block_file(folder, domains.index(row.domain), hi * blocks >> 64)
    if not exists(path):
        return None
    table = read_between(path, row.doc_id, row.doc_id, ["doc_id", "related", "before"])
    table = table.take(schemas.column(rows_of(table, row.doc_id)[:1]))
    related, before = (schemas.numbers(table[name]) for name in ("related", "before"))
    at, _ = run_words(row.domain, related, before, blocks, runs["cuts"][row.domain])
    return int(at[0]) if len(at) else None


def _rows(path: Place, doc_id: bytes) -> Iterator[dict[str, Any]]:
    """Yield the rows of a slice that are a document's."""
    try:
        with open_parquet(path) as file:
            rows = rows_of(file.read(["doc_id"]), doc_id)
            first = 0
            for group in range(file.num_row_groups if len(rows) else 0):
                size = file.metadata.row_group(group).num_rows
                mine = rows[(rows >= first) & (rows < first + size)] - first
                first += size
                if len(mine):
                    yield from file.read_row_group(group, list(_COLUMNS)).take(schemas.column(mine)).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise StoreError(damaged(path, error)) from error


def _places(stream: Stream, position: int, size: int, doc_id: bytes) -> Iterator[tuple[int, Span]]:
    """Yield the sequences in which a stretch of the stream stands, and spans, among them those of the document."""
    rules = stream.windows.rules
    if rules.tiles:
        yield from stream.laid(position, size)
        return
    first = stream.windows.of(position)
    last = first if rules.packer.whole else stream.windows.of(position + size - 1)
    for number in range(first, last + 1):
        if stream.shards is not None and stream.has_shard(number):
            yield from _in_shard(stream.shards.shard(number), int(stream.firsts[number]), doc_id)
        else:
            yield from _in_window(stream, number, doc_id)


def _in_shard(shard: OpenShard, first: int, doc_id: bytes) -> Iterator[tuple[int, Span]]:
    """Yield the spans of a document in a shard that begins with sequence `first`."""
    shard.check()
    for batch in shard.batches:
        spans = spans_of(batch)
        rows = rows_of(spans.columns, doc_id)
        for sequence, row in zip(spans.row[rows].tolist(), rows.tolist(), strict=True):
            yield first + sequence, Span.of(spans.columns[row].as_py())
        first += len(batch)


def _in_window(stream: Stream, number: int, doc_id: bytes) -> Iterator[tuple[int, Span]]:
    table, layout = stream.window(number)
    chosen = layout.pieces.take(np.isin(layout.pieces.row, rows_of(table, doc_id)))
    sequences = (chosen.sequence + int(stream.firsts[number])).tolist()
    yield from zip(sequences, spans_of_pieces(table, chosen), strict=True)
