"""Parquet in the schema of Fu et al.'s published mixture (`yaofu/slimpajama-per-source-length-upsample`).

    input_ids: list<int32>
    labels:    list<int32>                                       the same ids; -100 at padding and marks
    source:    list<struct<source: string, start: int64, end: int64>>    one of each span: its domain, its places

A model that shifts labels itself (as those of `transformers` do) takes `input_ids` and `labels` as they are.

Source: Fu et al. 2024 (arXiv 2402.10171), `data_engineering/slimpajama_packing.py`; that script writes one number as
`labels`, the token after the chunk, which no trainer uses.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from mixture import schemas
from mixture.export.format import File, Format, Options, signed
from mixture.export.parquet import as_lists, schema_field, write_file
from mixture.shards.read import OpenShard
from mixture.shards.spans import real_of, spans_of, tokens_of
from mixture.storage import Place

#: The label that losses skip.
IGNORED = -100

_SOURCE = pa.struct([("source", pa.string()), ("start", pa.int64()), ("end", pa.int64())])
SCHEMA = pa.schema(
    [schema_field("input_ids", pa.int32()), schema_field("labels", pa.int32()), schema_field("source", _SOURCE)]
)


def write(shard: OpenShard, stem: Place, options: Options) -> list[File]:  # noqa: ARG001
    """Write one shard as one Parquet file in Fu et al.'s schema.

    Raises:
        StoreError: an id needs more than 31 bits.
    """

    def convert(batch: pa.RecordBatch) -> pa.RecordBatch:
        ids, real, spans = signed(tokens_of(batch), shard.path), real_of(batch), spans_of(batch)
        labels = ids if real.all() else np.where(real, ids, np.int32(IGNORED))
        columns = [spans.columns.field("domain"), schemas.column(spans.start), schemas.column(spans.stop)]
        source = pa.StructArray.from_arrays(columns, fields=list(_SOURCE))
        borders = schemas.column(spans.borders.astype(np.int32))
        return pa.record_batch(
            [
                as_lists(ids, SCHEMA.field("input_ids")),
                as_lists(labels, SCHEMA.field("labels")),
                pa.ListArray.from_arrays(borders, source, type=SCHEMA.field("source").type),
            ],
            schema=SCHEMA,
        )

    return [write_file(shard, stem.with_name(f"{stem.name}.parquet"), SCHEMA, convert)]


FORMAT = Format("Parquet in the schema of Fu et al. 2024: input_ids, labels, source", write)
