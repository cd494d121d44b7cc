"""The two tasks of a join: rows are dealt out to buckets, and a bucket's rows become documents.

A staged file has one record batch for each bucket, so that a bucket is one read from each file. Which bucket a key
goes to is a hash of the key alone.

    joined:key   joined:order   joined:id   joined:input   joined:input_row   joined:text   column 0 …   staged
                                            joined:input   joined:input_row   joined:text   meta.stars …   joined
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mixture import schemas
from mixture.corpus import documents, fields, verdict
from mixture.corpus.documents import Chunk, InputFile
from mixture.errors import InputError, StoreError
from mixture.hashing import document_ids, draw, id_words
from mixture.storage import publish, read_json, read_record, write_json
from mixture.tokens import rejects
from mixture.tokens.dependencies import dependency_order
from mixture.tokens.members import members_file, write_members
from mixture.tokens.shares import merged, pieces, places, read_reading, texts_of, unit_chunks
from mixture.tokens.store import damaged

_KEY, _ORDER, _ID = "joined:key", "joined:order", "joined:id"
TEXT = "joined:text"
#: Where a document's first row lies: a file, by number, and a row of it.
PLACE = ("joined:input", "joined:input_row")


def mark(folder: Path, unit: int, start: int, step: int) -> Path:
    """Return the record of one task of the first pass."""
    return folder / f"{unit:05d}.done-{start}-of-{step}.json"


def bucket_file(folder: Path, bucket: int) -> Path:
    """Return the file of one bucket's documents; its report lies beside it, as JSON."""
    return folder / f"joined-{bucket:05d}.arrow"


def deal_rows(  # noqa: PLR0913, PLR0917 - a task's whole world travels in its arguments
    format: str,  # noqa: A002
    files: list[tuple[str, str, int, str]],
    first: int,
    reading: str,
    rule: dict[str, Any],
    columns: list[str],
    buckets: int,
    folder: str,
    unit: int,
    start: int,
    step: int,
) -> dict[str, Any]:
    """Task: deal out the rows of chunks start, start+step, … of a unit that begins with the source's file `first`."""
    inputs = [InputFile(name, Path(path), size, digest) for name, path, size, digest in files]
    record: dict[str, Any] = {"unit": unit, "rejected": {}, "samples": [], "kinds": {"by": [], "order": []}}
    record["staged"] = []
    for index, chunks in unit_chunks(format, inputs, read_reading(reading), start, step):
        rows = sum(chunk.rows for _, chunk in chunks)
        name = f"{unit:05d}-{index:05d}.arrow" if any(len(chunk.text) for _, chunk in chunks) else ""
        if name:
            table = _rows(chunks, inputs, first, rule, columns)
            _write_staged(Path(folder) / name, table, buckets)
            for what, column in (("by", _KEY), ("order", _ORDER)):
                kind = _kind(table.schema.field(column).type)
                record["kinds"][what] = sorted({*record["kinds"][what], kind} - {""})
        record["staged"].append({"name": name, "chunk": index, "rows": rows})
        record["rejected"] = rejects.total([record["rejected"], rejects.count(chunks)])
        numbers = {file.name: number for number, file in enumerate(inputs, first)}
        found = [{"input": numbers[s["file"]], "chunk": index} | s for s in rejects.samples(chunks, inputs)]
        record["samples"] = (record["samples"] + found)[: rejects.SAMPLES]
    write_json(mark(Path(folder), unit, start, step), record)
    return record


def _rows(
    chunks: Sequence[tuple[int, Chunk]],
    inputs: Sequence[InputFile],
    first: int,
    rule: dict[str, Any],
    columns: Sequence[str],
) -> pa.Table:
    number, row = places(chunks)
    text = texts_of(chunks)
    found = merged([chunk.columns for _, chunk in chunks])
    names = schemas.strings([file.name for file in inputs]).cast(pa.large_string())
    if rule["by"]["field"] is not None:
        key = _sortable(found[rule["by"]["field"]])
    else:
        matches = [re.search(rule["by"]["path"], file.name) for file in inputs]
        key = schemas.strings([match[1] if match else "" for match in matches]).cast(pa.large_string())
        key = key.take(schemas.column(number))
    if rule["order"] is not None:
        given = rule["order"]
        order = _sortable(found[given if isinstance(given, str) else given["dependency"]])
    else:
        # Files that are named by their keys have names to follow; rows that are not have only their ids.
        order = pa.nulls(len(text)) if rule["by"]["path"] is None else names.take(schemas.column(number))
    ids = _ids(text)
    made = {
        _KEY: key,
        _ORDER: order,
        _ID: pa.FixedSizeBinaryArray.from_buffers(schemas.DOC_ID, len(text), [None, pa.py_buffer(ids)]),
        PLACE[0]: schemas.column(number + np.int32(first)),
        PLACE[1]: schemas.column(row),
    }
    return pa.table(made | {_column(n): found[name] for n, name in enumerate(columns)} | {TEXT: text})


def _ids(text: pa.LargeBinaryArray) -> bytes:
    offsets, whole = pieces(text)
    return document_ids(whole[a:b] for a, b in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True))


def _column(number: int) -> str:
    """Name a kept field while it is staged: the corpus's own names may be anything."""
    return f"joined:column {number}"


def _sortable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column as something to compare: 64-bit integers, floats, text, or nulls alone."""
    kind = column.type
    if pa.types.is_integer(kind) and kind != pa.uint64():
        return column.cast(pa.int64())
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        numbers = column.cast(pa.float64(), safe=False)
        return pc.if_else(pc.is_nan(numbers), pa.scalar(None, pa.float64()), numbers)
    return column if pa.types.is_null(kind) else column.cast(pa.large_string())


def _kind(kind: pa.DataType) -> str:
    return "" if pa.types.is_null(kind) else "text" if pa.types.is_large_string(kind) else "number"


def _as_text(key: pa.Array) -> pa.Array:
    """Spell keys as text: a whole number reads the same, be its column of integers or of floats."""
    if not pa.types.is_floating(key.type):
        return key.cast(pa.large_string())
    spelled = [None if v is None else str(int(v)) if v.is_integer() else repr(v) for v in key.to_pylist()]
    return pa.array(spelled, pa.large_string())


def _write_staged(path: Path, table: pa.Table, buckets: int) -> None:
    key = _as_text(table[_KEY].combine_chunks())
    table = table.set_column(0, _KEY, key)
    if buckets > 1:
        coded = key.dictionary_encode()
        offsets, whole = pieces(coded.dictionary.view(pa.large_binary()))
        ids = document_ids(whole[a:b] for a, b in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True))
        words = pa.FixedSizeBinaryArray.from_buffers(schemas.DOC_ID, len(coded.dictionary), [None, pa.py_buffer(ids)])
        # The leading word also orders the stream; another hash keeps buckets free of it.
        of_key = draw(0, "join", *id_words(words)) % np.uint64(buckets)
        bucket = of_key[schemas.numbers(coded.indices)].astype(np.int64)
        order = np.argsort(bucket, kind="stable")
        table = table.take(schemas.column(order))
        edges = np.searchsorted(bucket[order], np.arange(buckets + 1))
    else:
        edges = np.array([0, len(table)])
    batch = pa.RecordBatch.from_arrays([_whole(column) for column in table.columns], names=table.schema.names)
    with publish(path) as out, pa.ipc.new_file(pa.PythonFile(out, "w"), batch.schema, options=_options()) as writer:
        for begin, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            writer.write_batch(batch.slice(begin, end - begin))


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _options() -> pa.ipc.IpcWriteOptions:
    return pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", 1), use_threads=False)


@dataclass(frozen=True)
class _Bucket:
    """The rows of one bucket.

    Attributes:
        rows: all but their texts, in the order in which they are joined.
        edges: first row of each document, and behind the last one; shape (documents + 1,).
        texts: of each staged file, where its texts begin, and their bytes.
        source: of each row, its staged file; and its number there, shape (rows, 2).
        sizes: bytes of each joined document, shape (documents,).
    """

    rows: pa.Table
    edges: npt.NDArray[np.int64]
    texts: list[tuple[npt.NDArray[np.int64], memoryview]]
    source: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]

    def text(self, document: int, separator: bytes) -> bytes:
        """Return a joined document."""
        return separator.join(self.parts(document))

    def parts(self, document: int) -> list[memoryview]:
        """Return the texts of a document's rows."""
        found = []
        for file, row in self.source[self.edges[document] : self.edges[document + 1]].tolist():
            offsets, whole = self.texts[file]
            found.append(whole[offsets[row] : offsets[row + 1]])
        return found

    def by_dependency(self) -> _Bucket:
        """Return the bucket with the rows of each document by what they import; their orders are paths."""
        if not len(self.rows):
            return self
        paths = _as_text(self.rows[_ORDER].combine_chunks()).to_pylist()
        order: npt.NDArray[np.int64] = np.arange(len(paths))
        for document, (first, stop) in enumerate(pairwise(self.edges.tolist())):
            # A row without a path imports nothing, and stays behind those that have one.
            named = first + sum(path is not None for path in paths[first:stop])
            texts = [str(part, "utf-8") for part in self.parts(document)[: named - first]]
            order[first:named] = first + np.array(dependency_order(paths[first:named], texts), np.int64)
        return replace(self, rows=self.rows.take(schemas.column(order)), source=self.source[order])


def join_bucket(
    folder: str,
    bucket: int,
    columns: list[str],
    by: str,
    separator: str,
    most: int,
    skip_bad: bool,
    dependency: bool,
) -> dict[str, Any]:
    """Task: join the rows of one bucket and publish the documents.

    Raises:
        InputError: a joined document is too large, and bad rows stop.
    """
    path = bucket_file(Path(folder), bucket)
    aside = path.with_suffix(".json")
    record = read_record(aside, "name", "rows", "documents", "rejected", "samples", "files", "size", "hash", "members")
    listed = record is not None and (not record["members"] or members_file(path).exists())
    if record is not None and listed and (path.stat().st_size if path.exists() else 0) == record["size"]:
        return record
    held = _load(Path(folder) / "staged", bucket, len(separator.encode()), len(columns))
    held = held.by_dependency() if dependency else held
    kept = np.flatnonzero(held.sizes <= most)
    large = np.flatnonzero(held.sizes > most)
    samples = [_too_large(held, int(document), by, most, skip_bad=skip_bad) for document in large[: rejects.SAMPLES]]
    firsts = held.edges[kept]
    inputs = schemas.numbers(held.rows[PLACE[0]])[firsts] if len(held.rows) else np.zeros(0, np.int32)
    files, number = np.unique(inputs, return_inverse=True)
    record = {"name": path.name, "rows": len(held.rows), "documents": len(kept)}
    record |= {"rejected": {"over the size limit": len(large)} if len(large) else {}, "samples": samples}
    record |= {"files": files.tolist(), "size": 0, "hash": "", "members": []}
    if len(kept):
        rows = held.rows.take(schemas.column(firsts))
        kinds = [(TEXT, pa.large_string()), (PLACE[0], pa.int32()), (PLACE[1], pa.int64())]
        facts = {PLACE[0]: schemas.column(number.astype(np.int32)), PLACE[1]: rows[PLACE[1]]}
        facts |= {name: rows[_column(n)] for n, name in enumerate(columns)}
        kinds += [(name, rows.schema.field(_column(n)).type) for n, name in enumerate(columns)]
        ids = _write_joined(path, held, kept, pa.table(facts), pa.schema(kinds), separator.encode(), record)
        record["members"] = _write_members(path, held, kept, ids, len(separator.encode()))
    write_json(aside, record)
    return record


def _load(folder: Path, bucket: int, between: int, columns: int) -> _Bucket:
    tables: list[pa.Table] = []
    texts: list[tuple[npt.NDArray[np.int64], memoryview]] = []
    source = [np.zeros((0, 2), np.int64)]
    for name, first in read_json(folder / "staged.json"):
        try:
            with pa.memory_map(str(folder / name)) as mapped:
                batch = pa.ipc.open_file(mapped, options=pa.ipc.IpcReadOptions(use_threads=False)).get_batch(bucket)
        except (pa.ArrowException, OSError) as error:
            raise StoreError(damaged(folder / name, error)) from error
        if not batch.num_rows:
            continue
        row = schemas.column(schemas.numbers(batch[PLACE[1]]) + np.int64(first))
        facts = pa.Table.from_batches([batch]).drop_columns([TEXT, PLACE[1]]).append_column(PLACE[1], row)
        here = np.full(batch.num_rows, len(texts), np.int64)
        source.append(np.stack([here, np.arange(batch.num_rows)], axis=1))
        tables.append(facts)
        texts.append(pieces(batch[TEXT]))
    if not tables:
        return _Bucket(pa.table({}), np.zeros(1, np.int64), [], source[0], np.zeros(0, np.int64))
    rows, places_of = merged(tables), np.concatenate(source)
    lengths = np.concatenate([np.diff(offsets) for offsets, _ in texts])
    # Rows of the same text and order are told apart by what a document keeps of its first row, not by their files.
    by = [_KEY, _ORDER, _ID, *(_column(n) for n in range(columns))]
    order = schemas.numbers(pc.sort_indices(rows, sort_keys=[(name, "ascending") for name in by]))
    rows = rows.take(schemas.column(order.astype(np.int64)))
    codes = schemas.numbers(rows[_KEY].combine_chunks().dictionary_encode().indices)
    edges = np.concatenate([[0], np.flatnonzero(np.diff(codes)) + 1, [len(codes)]]).astype(np.int64)
    sizes = np.add.reduceat(lengths[order], edges[:-1]) + between * (np.diff(edges) - 1)
    return _Bucket(rows, edges, texts, places_of[order], sizes)


def _too_large(held: _Bucket, document: int, by: str, most: int, *, skip_bad: bool) -> dict[str, Any]:
    at = int(held.edges[document])
    row = held.rows.slice(at, 1).to_pylist()[0]
    count, size = int(held.edges[document + 1]) - at, int(held.sizes[document])
    shown = verdict.shown(row[_KEY].encode())
    if not skip_bad:
        raise InputError(
            f"the {count:,} rows of {by} {shown!r} make a document of {size:,} bytes, over the size limit of {most:,}; "
            "raise max_document_bytes, or let such documents be counted and left out with `on_bad_row: skip`"
        )
    sample = f"{by}: {shown}, {count:,} rows, {size:,} bytes"
    return {"input": row[PLACE[0]], "row": row[PLACE[1]], "reason": "over the size limit", "sample": sample}


def _write_joined(
    path: Path,
    held: _Bucket,
    kept: npt.NDArray[np.int64],
    facts: pa.Table,
    schema: pa.Schema,
    separator: bytes,
    record: dict[str, Any],
) -> bytes:
    """Write documents in batches of a chunk each, the file's size and hash into a record; return the documents' ids."""
    ids = []
    with publish(path) as out, pa.ipc.new_file(pa.PythonFile(out, "w"), schema, options=_options()) as writer:
        begin = 0
        while begin < len(kept):
            filled = np.cumsum(held.sizes[kept[begin:]])
            end = begin + max(1, int(np.searchsorted(filled, documents.CHUNK_BYTES, side="right")))
            text = fields.from_bytes([held.text(document, separator) for document in kept[begin:end].tolist()])
            ids.append(_ids(text))
            columns = [_whole(column) for column in facts.slice(begin, end - begin).columns]
            writer.write_batch(pa.RecordBatch.from_arrays([text.view(pa.large_string()), *columns], schema=schema))
            begin = end
    record |= {"size": out.size, "hash": out.digest}
    return b"".join(ids)


def _write_members(path: Path, held: _Bucket, kept: npt.NDArray[np.int64], ids: bytes, between: int) -> list[Any]:
    """List the rows of the documents that were written; see `members.write_members`."""
    begin, count = held.edges[kept], np.diff(held.edges)[kept]
    row = np.arange(count.sum()) + np.repeat(begin - (np.cumsum(count) - count), count)
    before = np.cumsum([0] + [len(offsets) - 1 for offsets, _ in held.texts])
    size = np.concatenate([np.diff(offsets) for offsets, _ in held.texts])
    sizes = size[before[held.source[row, 0]] + held.source[row, 1]] + between
    origins = [schemas.numbers(held.rows[name])[row] for name in PLACE]
    return write_members(path, ids, count, sizes, (origins[0], origins[1]))
