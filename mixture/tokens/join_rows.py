"""The first task of a join: rows are dealt out to buckets; `join_bucket` makes documents of a bucket's rows.

A staged file has one record batch for each bucket, so that a bucket is one read from each file. Which bucket a key
goes to is a hash of the key alone.

    joined:key   joined:order   joined:id   joined:input   joined:input_row   joined:text   column 0 …   staged
                                            joined:input   joined:input_row   joined:text   meta.stars …   joined
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mixture import schemas
from mixture.corpus import fields
from mixture.corpus.documents import Chunk, InputFile
from mixture.hashing import document_ids, draw, id_column, id_words
from mixture.storage import Place, as_place, publish, write_json
from mixture.tokens import rejects
from mixture.tokens.shares import merged, places, read_reading, texts_of, unit_chunks

KEY, ORDER, ID = "joined:key", "joined:order", "joined:id"
TEXT = "joined:text"
#: Where a document's first row lies: a file, by number, and a row of it.
PLACE = ("joined:input", "joined:input_row")


def mark(folder: Place, unit: int, start: int, step: int) -> Place:
    """Return the record of one task of the first pass."""
    return folder / f"{unit:05d}.done-{start}-of-{step}.json"


def bucket_file(folder: Place, bucket: int) -> Place:
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
    inputs = [InputFile(name, as_place(path), size, digest) for name, path, size, digest in files]
    record: dict[str, Any] = {"unit": unit, "rejected": {}, "samples": [], "kinds": {"by": [], "order": []}}
    record["staged"] = []
    for index, chunks in unit_chunks(format, inputs, read_reading(reading), start, step):
        rows = sum(chunk.rows for _, chunk in chunks)
        name = f"{unit:05d}-{index:05d}.arrow" if any(chunk.texts for _, chunk in chunks) else ""
        if name:
            table = _rows(chunks, inputs, first, rule, columns)
            _write_staged(as_place(folder) / name, table, buckets)
            for what, column in (("by", KEY), ("order", ORDER)):
                kind = _kind(table.schema.field(column).type)
                record["kinds"][what] = sorted({*record["kinds"][what], kind} - {""})
        record["staged"].append({"name": name, "chunk": index, "rows": rows})
        record["rejected"] = rejects.total([record["rejected"], rejects.count(chunks)])
        numbers = {file.name: number for number, file in enumerate(inputs, first)}
        found = [{"input": numbers[s["file"]], "chunk": index} | s for s in rejects.samples(chunks, inputs)]
        record["samples"] = (record["samples"] + found)[: rejects.SAMPLES]
    write_json(mark(as_place(folder), unit, start, step), record)
    return record


def _rows(
    chunks: Sequence[tuple[int, Chunk]],
    inputs: Sequence[InputFile],
    first: int,
    rule: dict[str, Any],
    columns: Sequence[str],
) -> pa.Table:
    number, row = places(chunks)
    texts = texts_of(chunks)
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
        order = pa.nulls(len(texts)) if rule["by"]["path"] is None else names.take(schemas.column(number))
    made = {
        KEY: key,
        ORDER: order,
        ID: id_column(document_ids(texts)),
        PLACE[0]: schemas.column(number + np.int32(first)),
        PLACE[1]: schemas.column(row),
    }
    made |= {kept_name(n): found[name] for n, name in enumerate(columns)}
    return pa.table(made | {TEXT: fields.from_bytes(texts)})


def kept_name(number: int) -> str:
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


def as_text(key: pa.Array) -> pa.Array:
    """Spell keys as text: a whole number reads the same, be its column of integers or of floats."""
    if not pa.types.is_floating(key.type):
        return key.cast(pa.large_string())
    spelled = [None if v is None else str(int(v)) if v.is_integer() else repr(v) for v in key.to_pylist()]
    return pa.array(spelled, pa.large_string())


def _write_staged(path: Place, table: pa.Table, buckets: int) -> None:
    key = as_text(table[KEY].combine_chunks())
    table = table.set_column(0, KEY, key)
    if buckets > 1:
        coded = key.dictionary_encode()
        ids = id_column(document_ids(fields.to_bytes(coded.dictionary.view(pa.large_binary()))))
        # The leading word also orders the stream; another hash keeps buckets free of it.
        of_key = draw(0, "join", *id_words(ids)) % np.uint64(buckets)
        bucket = of_key[schemas.numbers(coded.indices)].astype(np.int64)
        order = np.argsort(bucket, kind="stable")
        table = table.take(schemas.column(order))
        edges = np.searchsorted(bucket[order], np.arange(buckets + 1))
    else:
        edges = np.array([0, len(table)])
    batch = pa.RecordBatch.from_arrays([one_chunk(column) for column in table.columns], names=table.schema.names)
    with publish(path) as out, pa.ipc.new_file(pa.PythonFile(out, "w"), batch.schema, options=options()) as writer:
        for begin, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            writer.write_batch(batch.slice(begin, end - begin))


def one_chunk(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as one array, copied only where it has several chunks."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def options() -> pa.ipc.IpcWriteOptions:
    """Return how staged rows and joined documents are written."""
    return pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", 1), use_threads=False)
