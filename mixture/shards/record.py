"""What a shard's record says of it: a hash of every row, and tokens by cell. Written by `write`, held to by `verify`.

    shard-00000-of-00002.rows.json   ["6b1f…", "03ae…"]
    shard-00000-of-00002.json        {…, "cells": {"books": [0, 512, 128]}, "rows": [70, "a5c0…"], "seal": "…"}

Rows have hashes of their own, so that damage is found by row and not only by file. They lie in a file apart, whose size
and hash the record says: a driver reads the records of all shards again and again, and nobody reads those hashes but
who found damage.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import xxhash

from mixture import schemas
from mixture.hashing import id_words
from mixture.pack import Ints
from mixture.plan.cells import Grid
from mixture.recipe import Buckets, bucket_names
from mixture.shards.spans import spans_of, tokens_of
from mixture.storage import Place


def shard_name(number: int, count: int) -> str:
    """Return a shard's file name."""
    return f"shard-{number:05d}-of-{count:05d}.arrow"


def shard_number(name: str) -> tuple[int, int]:
    """Return the number of a shard, and how many there are, by its file name."""
    _, number, _, count = name.partition(".")[0].split("-")
    return int(number), int(count)


def record_path(shard: Place) -> Place:
    """Return where a shard's record lies."""
    return shard.with_suffix(".json")


def rows_path(shard: Place) -> Place:
    """Return where the hashes of a shard's rows lie."""
    return shard.with_suffix(".rows.json")


def hash_rows(batch: pa.RecordBatch) -> list[str]:
    """Return a 64-bit XXH3 of each row's tokens, spans and marks, 16 hex digits each."""
    tokens, spans = tokens_of(batch), spans_of(batch)
    numbers = [spans.numbers(name).astype("<i8") for name in ("start", "stop", "doc_offset", "doc_length", "copy")]
    # A domain enters by the hash of its name.
    codes, names = spans.coded_domains()
    hashed = np.array([xxhash.xxh3_64_intdigest(name.encode()) for name in names], np.uint64)
    words = (*id_words(spans.columns.field("doc_id")), hashed[codes])
    packed = np.stack([*numbers, *(word.view("<i8") for word in words)], axis=1)
    marks_at, marks = np.zeros(len(batch) + 1, np.int64), np.empty(0, "<i8")
    if "marks" in batch.schema.names:
        marks_at, held = schemas.lists(batch.column("marks"))
        marks = schemas.numbers(held).astype("<i8")
    hashes = []
    for row in range(len(batch)):
        state = xxhash.xxh3_64(tokens[row])
        state.update(packed[spans.borders[row] : spans.borders[row + 1]].tobytes())
        state.update(marks[marks_at[row] : marks_at[row + 1]].tobytes())
        hashes.append(state.hexdigest())
    return hashes


def sum_cells(domain: Ints, domains: list[str], doc_length: Ints, size: Ints, buckets: Buckets) -> dict[str, list[int]]:
    """Sum spans by cell: tokens of each domain, one number per bucket, shortest first."""
    grid = Grid.of(domains, buckets)
    sums = np.bincount(grid.cell(domain, doc_length), size, grid.size).astype(np.int64)
    parts = {name: sums[grid.span(number)] for number, name in enumerate(domains)}
    return {name: part.tolist() for name, part in parts.items() if part.any()}


def cells_of(sums: Iterable[Mapping[str, Sequence[int]]], buckets: Buckets) -> dict[tuple[str, str], int]:
    """Add what `sum_cells` returned of each shard; return tokens by (domain, bucket)."""
    written: dict[tuple[str, str], int] = {}
    for cells in sums:
        for domain, tokens in cells.items():
            for bucket, count in zip(bucket_names(buckets.of(domain)), tokens, strict=True):
                written[domain, bucket] = written.get((domain, bucket), 0) + count
    return written
