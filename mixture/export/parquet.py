"""Parquet: the shard's own columns, sequences as lists, zstd.

    shard.parquet    input_ids: list<uint16 or uint32>, spans: list<struct>, marks: list<int32> if there are any

A row group holds about 4M tokens in whole sequences, so that a reader may fetch a few sequences without the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mixture import schemas
from mixture.export.format import File, Format, Options, written
from mixture.shards.read import OpenShard
from mixture.shards.spans import tokens_of
from mixture.storage import Place, publish

#: Tokens in a row group, about.
_GROUP_TOKENS = 1 << 22


def write(shard: OpenShard, stem: Place, options: Options) -> list[File]:  # noqa: ARG001
    """Write one shard as one Parquet file with its own columns."""
    field = schema_field("input_ids", pa.from_numpy_dtype(shard.token))
    schema = shard.schema.set(shard.schema.get_field_index("input_ids"), field)

    def convert(batch: pa.RecordBatch) -> pa.RecordBatch:
        others = [batch.column(name) for name in schema.names if name != "input_ids"]
        return pa.record_batch([as_lists(tokens_of(batch), field), *others], schema=schema)

    return [write_file(shard, stem.with_name(f"{stem.name}.parquet"), schema, convert)]


def schema_field(name: str, kind: pa.DataType) -> pa.Field:
    """Return a column of lists without nulls."""
    return pa.field(name, pa.list_(pa.field("item", kind, nullable=False)), nullable=False)


def as_lists(values: npt.NDArray[Any], field: pa.Field) -> pa.ListArray:
    """Return an array of shape (rows, length) as a column of lists, without a copy."""
    rows, length = values.shape
    borders = np.arange(rows + 1, dtype=np.int32) * np.int32(length)
    return pa.ListArray.from_arrays(schemas.column(borders), schemas.column(values.reshape(-1)), type=field.type)


def write_file(
    shard: OpenShard, path: Place, schema: pa.Schema, convert: Callable[[pa.RecordBatch], pa.RecordBatch]
) -> File:
    """Write a shard's batches as one Parquet file.

    Args:
        shard: what is written.
        path: the file.
        schema: its columns.
        convert: makes a batch of that schema of some of the shard's rows.
    """
    import pyarrow.parquet as pq

    names = [leaf for leaf in _leaves(schema) if leaf.endswith(("domain", "source.list.element.source"))]
    options = {
        "compression": "zstd",
        "compression_level": 1,
        # Ids of tokens fill a dictionary and then are written out after all; names repeat.
        "use_dictionary": names,
        "write_statistics": False,
        "write_page_checksum": True,
    }
    with publish(path) as out, pq.ParquetWriter(pa.PythonFile(out, "w"), schema, **options) as writer:
        for part in _groups(shard):
            writer.write_batch(convert(part))
    return written(path, out, len(shard), len(shard) * shard.length)


def _leaves(schema: pa.Schema) -> Iterator[str]:
    """Yield the names that Parquet gives to the columns of lists and of lists of structs."""
    for field in schema:
        item = field.type.value_type
        if pa.types.is_struct(item):
            yield from (f"{field.name}.list.element.{item.field(n).name}" for n in range(item.num_fields))
        else:
            yield f"{field.name}.list.element"


def _groups(shard: OpenShard) -> Iterator[pa.RecordBatch]:
    rows = max(1, _GROUP_TOKENS // shard.length)
    for batch in shard.batches:
        for at in range(0, len(batch), rows):
            yield batch.slice(at, rows)


FORMAT = Format("Parquet with the shards' own columns", write)
