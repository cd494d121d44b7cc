"""What a shard's record says of it: a hash of every row, and tokens by cell. Written by `write`, held to by `verify`.

    shard-00000-of-00002.rows.json   ["6b1f…", "03ae…"]
    shard-00000-of-00002.json        {…, "cells": {"books": [0, 512, 128]}, "rows": [70, "a5c0…"], "seal": "…"}

Rows have hashes of their own, so that damage is found by row and not only by file. They lie in a file apart, whose size
and hash the record says: a driver reads the records of all shards again and again, and nobody reads those hashes but
who found damage.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from mixture import schemas
from mixture.hashing import U64, id_words
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
    spans = spans_of(batch)
    columns = [spans.numbers(name) for name in HASHED]
    codes, names = spans.coded_domains()
    marks_at, marks = np.zeros(len(batch) + 1, np.int64), np.empty(0, np.int64)
    if "marks" in batch.schema.names:
        marks_at, held = schemas.lists(batch.column("marks"))
        marks = schemas.numbers(held)
    words = id_words(spans.columns.field("doc_id"))
    facts = span_facts(columns, words, domain_hashes(names)[codes])
    return [f"{one:016x}" for one in hash_each(tokens_of(batch), (spans.borders, facts), (marks_at, marks))]


#: The columns of spans that are hashed, in this order.
HASHED = ("start", "stop", "doc_offset", "doc_length", "copy")


def domain_hashes(names: Iterable[str]) -> U64:
    """Return what stands for each domain in the hash of a row: the 64-bit XXH3 of its name."""
    return np.array([xxhash.xxh3_64_intdigest(name.encode()) for name in names], np.uint64)


def span_facts(columns: Iterable[npt.NDArray[Any]], words: tuple[U64, U64], domains: U64) -> npt.NDArray[np.int64]:
    """Return what is hashed of each span, int64, little-endian, shape (m, 8).

    Args:
        columns: as `HASHED` names them, shape (m,) each.
        words: of the documents' ids.
        domains: as `domain_hashes` gives them.
    """
    return np.stack([column.astype("<i8") for column in (*columns, *(w.view(np.int64) for w in (*words, domains)))], 1)


def hash_each(
    tokens: Iterable[npt.NDArray[Any]],
    spans: tuple[Ints, npt.NDArray[np.int64]],
    marks: tuple[Ints, npt.NDArray[Any]],
) -> list[int]:
    """Hash rows one by one; return the 64-bit XXH3 of each.

    Args:
        tokens: of each row.
        spans: where those of each row begin, shape (rows + 1,), and `span_facts` of all.
        marks: where those of each row begin, shape (rows + 1,), and their places.
    """
    (at, facts), (marks_at, places) = (spans[0].tolist(), spans[1]), (marks[0].tolist(), marks[1].astype("<i8"))
    hashes = []
    for row, ids in enumerate(tokens):
        state = xxhash.xxh3_64(ids.data)
        state.update(facts[at[row] : at[row + 1]].data)
        state.update(places[marks_at[row] : marks_at[row + 1]].data)
        hashes.append(state.intdigest())
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
