"""One shard against its lock: the file's hash, then what its rows say of themselves.

    shard, lock  ──►  findings, by row                      a flipped bit, a gap that is no padding, a wrong id
                      tokens by cell, if there are none     summed over all shards by `laws`

The file's hash decides. Rows are looked at in any case: their own hashes name the row that was damaged, and the laws of
a row must hold in a file that was written wrong, too. A row of 8 places, `eos` 9, padding 0, a mark 7 at place 5:

    input_ids  4 4 9 3 9 7 0 0     spans [0, 3) [3, 5)     marks 5
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mixture import schemas
from mixture.errors import StoreError
from mixture.recipe import bucket_names
from mixture.shards.read import REMEDY
from mixture.shards.record import hash_rows, record_path, rows_path, sum_cells
from mixture.shards.spans import Spans, spans_of
from mixture.shards.write import Geometry
from mixture.storage import Place, as_place, explain, file_digest, read_json, read_record
from mixture.storage.tables import mapped
from mixture.verify.findings import Finding, missing

Ints = npt.NDArray[Any]
#: What reading a damaged file may raise.
UNREADABLE = (pa.ArrowException, OSError, ValueError, IndexError, TypeError, AttributeError, OverflowError, MemoryError)
#: Rows of one shard that are named; the others are counted.
_MOST_ROWS = 20


def check_shard(
    path: str, facts: dict[str, Any], geometry: dict[str, Any], stream: str, needs_record: bool
) -> dict[str, Any]:
    """Task: check one shard; return its findings, and where there are none its tokens by cell.

    Args:
        path: the shard.
        facts: what the lock says of it.
        geometry: `Geometry` as a mapping.
        stream: names the plan and its layout in the shard's record.
        needs_record: whether the record beside it must be there.
    """
    shard, how = as_place(path), Geometry.from_json(geometry)
    findings, expected = _record(shard, facts, stream, needs_record=needs_record)
    try:
        actual = file_digest(shard)
    except FileNotFoundError:
        return {"findings": [missing("shard", shard).to_json(), *(f.to_json() for f in findings)], "cells": {}}
    except OSError as error:
        return {"findings": [Finding("shard", explain(error, shard), path).to_json()], "cells": {}}
    sound = actual == facts["hash"]
    rows = _Rows(shard, how, () if sound else expected)
    found = rows.look(facts)
    if not sound and not found:
        where = "no row differs, so the damage lies between the rows" if expected else "its record does not help"
        why = f"its bytes do not have the hash in the lock, {facts['hash']} ({where})"
        found = [Finding("shard", f"{shard}: {why}; {REMEDY}", path)]
    findings = found + findings
    cells = {} if findings else {domain: tokens.tolist() for domain, tokens in rows.cells.items()}
    return {"findings": [finding.to_json() for finding in findings], "cells": cells}


def _record(
    shard: Place, facts: dict[str, Any], stream: str, *, needs_record: bool
) -> tuple[list[Finding], Sequence[str]]:
    """Hold a shard's record to the lock; return findings, and the hash of each row, none if it cannot be believed."""
    path = record_path(shard)
    try:
        record = read_record(path, "rows", "stream", *facts)
    except StoreError as error:
        return [Finding("shard", str(error), str(path))], ()
    if record is None:
        return ([missing("shard", path)] if needs_record else []), ()
    for name, wanted in (facts | {"stream": stream}).items():
        if record[name] != wanted:
            why = f"its {name} is {record[name]!r}, the lock says {wanted!r}"
            return [Finding("shard", f"{path}: {why}; {REMEDY}", str(path))], ()
    return _hashes(rows_path(shard), record["rows"])


def _hashes(path: Place, written: Sequence[Any]) -> tuple[list[Finding], Sequence[str]]:
    """Read the hash of each row, if the file of them is the one that the record speaks of."""
    try:
        found = read_json(path)
        if found is not None and file_digest(path) != written[1]:
            raise StoreError(f"{path}: it is not the one that the record beside it names; {REMEDY}")
    except StoreError as error:
        return [Finding("shard", str(error), str(path))], ()
    return ([missing("shard", path)], ()) if found is None else ([], found)


class _Rows:
    """Looks at the rows of a shard, batch by batch.

    Args:
        shard: the file.
        how: its geometry.
        expected: hash of each row, to find those that differ; empty where nothing differs or nothing is known.
    """

    def __init__(self, shard: Place, how: Geometry, expected: Sequence[str]) -> None:
        self._shard, self._how, self._expected = shard, how, expected
        self.cells: dict[str, Ints] = {}
        self._tokens = 0

    def look(self, facts: dict[str, Any]) -> list[Finding]:
        """Return what is wrong, at most one finding a row; sum the cells."""
        found: dict[int, str] = {}
        first = 0
        try:
            with pa.ipc.open_file(mapped(self._shard)) as reader:
                if reader.schema != self._how.schema:
                    return [self._whole(f"its schema is not the one of the recipe; {REMEDY}")]
                for number in range(reader.num_record_batches):
                    batch = reader.get_batch(number)
                    batch.validate(full=True)
                    for row, why in self._batch(batch, first):
                        found.setdefault(first + row, why)
                    first += len(batch)
        except UNREADABLE as error:
            cause = " ".join(str(error).split())
            return [*self._named(found), self._whole(f"damaged near row {first}: {cause}; {REMEDY}")]
        if first != facts["sequences"]:
            return [
                *self._named(found),
                self._whole(f"{first:,} rows, the lock says {facts['sequences']:,}; {REMEDY}"),
            ]
        if not found and self._tokens != facts["tokens"]:
            return [self._whole(f"{self._tokens:,} tokens in spans, the lock says {facts['tokens']:,}; {REMEDY}")]
        return list(self._named(found))

    def _whole(self, why: str) -> Finding:
        return Finding("shard", f"{self._shard}: {why}", str(self._shard))

    def _named(self, found: dict[int, str]) -> Iterator[Finding]:
        rows = sorted(found)
        for row in rows[:_MOST_ROWS]:
            yield Finding("shard", f"{self._shard}, row {row}{found[row]}; {REMEDY}", str(self._shard), row)
        if len(rows) > _MOST_ROWS:
            yield self._whole(f"{len(rows) - _MOST_ROWS:,} more rows are damaged, the last is row {rows[-1]}; {REMEDY}")

    def _batch(self, batch: pa.RecordBatch, first: int) -> Iterator[tuple[int, str]]:
        ids = schemas.numbers(batch.column("input_ids").flatten())
        yield from self._vocabulary(batch, ids)
        expected = self._expected[first : first + len(batch)]
        pairs = zip(expected, hash_rows(batch) if expected else (), strict=False)
        differ = [row for row, (wanted, actual) in enumerate(pairs) if wanted != actual]
        for number, row in enumerate(differ):
            where = self._cell_at(batch, row, 0) if number < _MOST_ROWS else ""
            yield row, f": its tokens or spans do not have the hash in the shard's record{where}"
        spans = spans_of(batch)
        wrong = list(self._spans(spans))
        yield from wrong
        if not wrong:
            yield from self._gaps(batch, spans, ids)
        for domain, tokens in self._sums(spans).items():
            self.cells[domain] = self.cells.get(domain, 0) + np.array(tokens)

    def _vocabulary(self, batch: pa.RecordBatch, ids: Ints) -> Iterator[tuple[int, str]]:
        for number, place in enumerate(self._first_of_rows(ids >= self._how.n_vocab)):
            row, column = divmod(place, self._how.length)
            where = self._cell_at(batch, row, column) if number < _MOST_ROWS else ""
            yield row, f", token {column}: id {ids[place]} is outside the vocabulary of {self._how.n_vocab:,}{where}"

    def _first_of_rows(self, wrong: npt.NDArray[np.bool_]) -> list[int]:
        """Return the first wrong place of each row that has any."""
        places = np.flatnonzero(wrong)
        _, first = np.unique(places // self._how.length, return_index=True)
        return places[first].tolist()  # type: ignore[no-any-return]

    def _cell_at(self, batch: pa.RecordBatch, row: int, column: int) -> str:
        """Name the cell of the document that stands at a place, if the spans still tell."""
        for span in batch.column("spans")[row].as_py() or ():
            if span["start"] <= column < span["stop"]:
                domain, buckets = span["domain"], self._how.buckets
                bucket = bucket_names(buckets.of(domain))[buckets.number(domain, span["doc_length"])]
                return f" (domain {domain}, bucket {bucket}, document {span['doc_id'].hex()})"
        return ""

    def _spans(self, spans: Spans) -> Iterator[tuple[int, str]]:
        """Check that the spans of each row rise, do not overlap, and lie inside it and inside their documents."""
        opens = spans.borders[:-1]
        for row in np.flatnonzero(spans.borders[1:] == opens).tolist():
            yield row, ": it has no spans"
        is_first = np.zeros(len(spans.start) + 1, bool)
        is_first[opens] = True
        before = np.where(is_first[:-1], 0, np.roll(spans.stop, 1))
        offset = spans.numbers("doc_offset")
        low, high = -len(self._how.prefix), spans.numbers("doc_length") + len(self._how.suffix)
        wrong = (spans.start < before) | (spans.stop <= spans.start) | (spans.stop > self._how.length)
        wrong |= (offset < low) | (offset + (spans.stop - spans.start) > high)
        places = np.flatnonzero(wrong)
        for at, row in zip(places.tolist(), spans.row[places].tolist(), strict=True):
            document = (spans.columns[at].as_py()["doc_id"] or b"").hex()
            which = f"span {at - int(spans.borders[row])} [{spans.start[at]}, {spans.stop[at]}) of document {document}"
            yield row, f": {which} overlaps another, or leaves its row or its document"

    def _gaps(self, batch: pa.RecordBatch, spans: Spans, ids: Ints) -> Iterator[tuple[int, str]]:
        """Check what no span covers: marks stand there, or padding, id 0."""
        length, tokens = self._how.length, int((spans.stop - spans.start).sum())
        self._tokens += tokens
        marks = np.empty(0, np.int64)
        if self._how.marks:
            borders, held = schemas.lists(batch.column("marks"))
            places = schemas.numbers(held).astype(np.int64)
            row = np.repeat(np.arange(len(batch)), np.diff(borders))
            for at in np.flatnonzero((places < 0) | (places >= length)).tolist():
                yield int(row[at]), f": a mark at place {places[at]} lies outside its {length:,} places"
                return
            marks = row * length + places
        if tokens == len(ids) and not len(marks):
            return
        covered = spans.real(length).reshape(-1)
        for at in marks[covered[marks]].tolist():
            yield at // length, f": the mark at place {at % length} stands inside a span"
        covered[marks] = True
        for at in self._first_of_rows((ids != 0) & ~covered):
            yield at // length, f", place {at % length}: id {ids[at]} stands outside every span, where padding is 0"

    def _sums(self, spans: Spans) -> dict[str, list[int]]:
        size = spans.stop - spans.start
        return sum_cells(*spans.coded_domains(), spans.numbers("doc_length"), size, self._how.buckets)
