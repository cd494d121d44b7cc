"""Flat arrays with a table of documents, as Dolma's `tokens` command writes them and OLMo-core reads them.

    shard.npy       ids of 2 or 4 bytes, nothing else in spite of its name: no header; sequence after sequence
    shard.csv.gz    start, end, id, src, loc of each span: places in the array, document, domain, offset in the document

Padding and marks stay where they are, outside all documents: cut at our sequence length, chunk n is row n. Where a
phase holds any, `label-masks/shard.npy` says of each place, in one byte, whether it is real: OLMo-core's label masks.

Layout: `MemmapMetadata` of dolma, `iter_document_indices` of OLMo-core.
"""

from __future__ import annotations

import gzip
from dataclasses import replace
from typing import BinaryIO, cast

import polars as pl
import pyarrow as pa

from mixture.export.format import File, Format, Options, put, written
from mixture.shards.read import OpenShard
from mixture.shards.spans import real_of, spans_of, tokens_of
from mixture.storage import Place, publish

#: Folder of the masks: apart, so that `*.npy` names token files only.
MASKS = "label-masks"
_LEVEL = 1  # half of it are hashes: level 4 takes twice as long for a twentieth less


def write(shard: OpenShard, stem: Place, options: Options) -> list[File]:
    """Write one shard as an array, its table, and a mask where the phase holds padding or marks."""
    data, table = stem.with_name(f"{stem.name}.npy"), stem.with_name(f"{stem.name}.csv.gz")
    with publish(data) as out:
        for batch in shard.batches:
            put(out, tokens_of(batch))
    files = [written(data, out, len(shard), len(shard) * shard.length)]
    # No name and no time in the header of the gzip file: the same bytes every time.
    with publish(table) as out, gzip.GzipFile("", "wb", _LEVEL, cast("BinaryIO", out), mtime=0) as packed:
        for number, batch in enumerate(shard.batches):
            lines = _table(batch, int(shard.firsts[number]) * shard.length).write_csv(include_header=False)
            packed.write(lines.encode())
    files.append(written(table, out, len(shard)))
    if options.padded:
        mask = stem.parent / MASKS / data.name
        with publish(mask) as out:
            for batch in shard.batches:
                put(out, real_of(batch))
        files.append(replace(written(mask, out, len(shard)), file=f"{MASKS}/{mask.name}"))
    return files


def _table(batch: pa.RecordBatch, first: int) -> pl.DataFrame:
    """Return the spans of a batch, one a row.

    Args:
        batch: of a shard.
        first: where it begins in the array.
    """
    spans = spans_of(batch)
    start = first + spans.position(batch.column("input_ids").type.list_size)
    return pl.DataFrame(
        {
            "start": start,
            "end": start + (spans.stop - spans.start),
            "id": spans.ids(),
            "src": pl.Series(pl.from_arrow(spans.columns.field("domain"))),
            "loc": spans.numbers("doc_offset"),
        }
    )


FORMAT = Format("OLMo-core and Dolma: flat .npy arrays, .csv.gz of documents", write)
