"""Every Arrow schema: the wire format on one page.

Lengths and offsets count tokens of the document itself. Separators lie outside: an opening separator of P tokens
takes the offsets -P … -1, a closing one of S tokens the offsets n … n+S-1 of a document of n tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

#: 128-bit XXH3 of the document's UTF-8 text, big-endian, so that byte order is number order.
DOC_ID = pa.binary(16)


def token_type(n_vocab: int) -> pa.DataType:
    """Return the narrowest token type that holds ids 0 … n_vocab-1: uint16 up to 65,536 of them, else uint32."""
    return pa.uint16() if n_vocab <= 1 << 16 else pa.uint32()


def store_part(token: pa.DataType) -> pa.Schema:
    """Token store, Arrow IPC file of one record batch: documents of one chunk of input, sorted by id.

    64-bit list offsets: 32-bit ones overflow at 2.1G tokens.
    """
    return pa.schema([("doc_id", DOC_ID), ("tokens", pa.large_list(pa.field("item", token, nullable=False)))])


#: Beside each part, Parquet, the same rows without their tokens.
#: `input` numbers the part's input files; `input_row` counts from the start of the part's chunk of that file.
PART_DOCUMENTS = pa.schema(
    [
        ("doc_id", DOC_ID),
        ("n_tokens", pa.int64()),
        ("n_bytes", pa.int64()),
        ("input", pa.int32()),
        ("input_row", pa.int64()),
    ]
)

#: Document index, Parquet, one row per document, sorted by (doc_id, domain, occurrence); carried columns follow,
#: one of a name above as `carry.NAME`.
#: `occurrence` numbers exact duplicates that the recipe keeps, `occurrences` counts them, per domain.
#: `part` numbers the names in `parts.json` beside the index: there are too many of them for text in every row.
INDEX = pa.schema(
    [
        ("doc_id", DOC_ID),
        ("source", pa.string()),
        ("domain", pa.string()),
        ("n_tokens", pa.int64()),
        ("n_bytes", pa.int64()),
        ("part", pa.int32()),
        ("row", pa.int64()),
        ("token_offset", pa.int64()),
        ("input_file", pa.string()),
        ("input_row", pa.int64()),
        ("occurrence", pa.int32()),
        ("occurrences", pa.int32()),
    ]
)

#: Beside the index, Parquet, sorted by file and row: which rows of an input file lie in which part of the store.
STRETCHES = pa.schema(
    [
        ("input_file", pa.string()),
        ("source", pa.string()),
        ("part", pa.int32()),
        ("input", pa.int32()),
        ("first_row", pa.int64()),
        ("rows", pa.int64()),
    ]
)

#: Beside each file of joined documents, Parquet, sorted by id and place in the text: the rows that they are made of.
#: `input` numbers the source's files.
MEMBERS = pa.schema([("doc_id", DOC_ID), ("byte_start", pa.int64()), ("input", pa.int32()), ("input_row", pa.int64())])

#: Beside the joined documents of a source, Parquet, sorted: which document each row went into; `place` is file · 2^40
#: + row.
ROWS = pa.schema([("place", pa.int64()), ("doc_id", DOC_ID)])

#: Plan, Parquet, one file per shard: which stretch of which document stands where in the stream. A document that
#: crosses a shard's end has a row in both.
PLAN = pa.schema(
    [
        ("position", pa.int64()),
        ("doc_id", DOC_ID),
        ("source", pa.dictionary(pa.int32(), pa.string())),
        ("domain", pa.dictionary(pa.int32(), pa.string())),
        ("part", pa.int32()),
        ("row", pa.int64()),
        ("doc_start", pa.int64()),
        ("doc_stop", pa.int64()),
        ("doc_length", pa.int64()),
        ("copy", pa.int32()),
    ]
)

#: Measures of the monitor, Parquet, one row each; `monitor.measures.Measure` says what the columns mean.
METRICS = pa.schema(
    [
        pa.field("model", pa.string(), nullable=False),
        ("step", pa.int64()),
        ("tokens", pa.int64()),
        pa.field("level", pa.string(), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("domain", pa.string(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),
        ("length", pa.int64()),
        ("depth", pa.float64()),
        pa.field("cell", pa.string(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
        pa.field("low", pa.float64(), nullable=False),
        pa.field("high", pa.float64(), nullable=False),
        pa.field("n", pa.int64(), nullable=False),
    ]
)

#: One stretch of one document inside a sequence, in stream order; [start, stop) are places in the sequence.
SPAN = pa.struct(
    [
        ("start", pa.int32()),
        ("stop", pa.int32()),
        ("domain", pa.string()),
        ("doc_id", DOC_ID),
        ("doc_offset", pa.int64()),
        ("doc_length", pa.int64()),
        ("copy", pa.int32()),
    ]
)


def shard(token: pa.DataType, length: int, *, prefix: int, suffix: int, marks: bool = False) -> pa.Schema:
    """Shard, Arrow IPC file: one row per sequence of `length` places.

    Places that no span covers hold padding, id 0, or a mark: a token that a transform wrote.

    Args:
        token: uint16 or uint32.
        length: places in a sequence.
        prefix: tokens of the opening separator of each document.
        suffix: tokens of the closing one.
        marks: whether a third column lists the places of marks.
    """
    fields = [
        pa.field("input_ids", pa.list_(pa.field("item", token, nullable=False), length), nullable=False),
        pa.field("spans", pa.list_(pa.field("item", SPAN, nullable=False)), nullable=False),
    ]
    if marks:
        fields.append(pa.field("marks", pa.list_(pa.field("item", pa.int32(), nullable=False)), nullable=False))
    return pa.schema(fields, metadata={"mixture.prefix": str(prefix), "mixture.suffix": str(suffix)})


def column(values: npt.NDArray[Any], kind: pa.DataType | None = None) -> pa.Array:
    """Wrap integers or floats (not booleans, which Arrow packs) as an Arrow array, without a copy; cast where asked.

    `pa.array` does the same, but first imports pandas where that is installed: a second in every worker process.
    """
    values = np.ascontiguousarray(values)
    array = pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(values)])
    return array if kind is None else array.cast(kind)


def strings(values: Sequence[str]) -> pa.StringArray:
    """Make an Arrow array of a few strings; `pa.array` would import pandas (see `column`)."""
    encoded = [value.encode() for value in values]
    offsets = np.zeros(len(encoded) + 1, np.int32)
    np.cumsum([len(value) for value in encoded], out=offsets[1:])
    return pa.StringArray.from_buffers(len(encoded), pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded)))


def repeated(value: str, count: int) -> pa.StringArray:
    """Make an Arrow array of one string, many times; see `strings`."""
    return strings([value]).take(column(np.zeros(count, np.int64)))


def numbers(values: pa.Array | pa.ChunkedArray) -> npt.NDArray[Any]:
    """Return integers or floats as numpy, read-only; `to_numpy` imports pandas (see `column`).

    Raises:
        ValueError: there are nulls among them.
    """
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if array.null_count:
        raise ValueError(f"{array.null_count} nulls where numbers are expected")
    return np.from_dlpack(array)


def lists(column: pa.ListArray | pa.ChunkedArray) -> tuple[npt.NDArray[np.int64], pa.Array]:
    """Return the borders of lists in what they hold, int64, shape (rows + 1,), from 0 on, and what they hold."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    offsets = numbers(array.offsets).astype(np.int64)
    return offsets - offsets[0], array.flatten()


def coded(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.int64], pa.StringArray]:
    """Return the codes of a dictionary-encoded text column, int64, shape (n,), and the texts that they stand for."""
    array = column.unify_dictionaries().combine_chunks() if column.num_chunks > 1 else column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks else pa.array([], column.type)
    return numbers(array.indices).astype(np.int64), array.dictionary
