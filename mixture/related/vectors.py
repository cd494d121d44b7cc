"""Vectors: embeddings in a Parquet column in, relatedness by cosine out.

    doc_id, emb                    doc_id as 16 bytes or 32 hex digits; a list of numbers, or its JSON text
     └ of a range of ids  ──►  rows of length 1, in whole steps of 1/127   [0.6, 0.8] → [76, 102]

Steps are whole numbers so small that products of two rows are exact in 32-bit floating point, in whatever order they
are summed: a path does not hang on a machine's BLAS.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from mixture import schemas
from mixture.errors import InputError, StoreError
from mixture.hashing import U64, id_words
from mixture.index.joins import columns_of, quoted, scan
from mixture.related.terms import Ints
from mixture.related.walk import Find, Free
from mixture.storage import Place

_MEMORY_LIMIT = "2GB"
_ROWS_AT_ONCE = 1 << 13
_NEAREST = 32
_AT_ONCE = 1 << 10
#: Steps of a row's length; fewer where rows have more than 1,040 dimensions.
_STEPS = 127
_EXACT = 1 << 24
_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)


def read_vectors(paths: Sequence[Place], column: str, hi: U64, lo: U64) -> npt.NDArray[np.float64]:
    """Read the vectors of some documents, shape (n, dimensions); rows of NaN for those that have none.

    Args:
        paths: Parquet files with a `doc_id`; best sorted by it, or each call reads all of them.
        column: name of the vectors' column.
        hi: leading words of the ids, sorted by (hi, lo).
        lo: trailing words.

    Raises:
        InputError: the column is not there, or holds no vectors of one length.
        StoreError: the files cannot be read.
    """
    found = np.full((len(hi), 0), np.nan)
    for ids, values, rows in _batches(paths, column, int(hi[0]), int(hi[-1])):
        if values.shape[1] != found.shape[1]:
            if found.shape[1]:
                raise InputError(
                    f"{paths[0]}: vectors in {column!r} have {found.shape[1]:,} numbers and {values.shape[1]:,}; all "
                    "must have as many"
                )
            found = np.full((len(hi), values.shape[1]), np.nan)
        theirs = [words[rows] for words in id_words(ids)]
        at = np.minimum(np.searchsorted(hi, theirs[0]), len(hi) - 1)
        same = (hi[at] == theirs[0]) & (lo[at] == theirs[1])
        if len(np.unique(at[same])) < same.sum() or not np.isnan(found[at[same], 0]).all():
            raise InputError(f"{paths[0]}: has two rows with {column!r} for one doc_id; keep one of them")
        found[at[same]] = values[same]
    return found


def _batches(
    paths: Sequence[Place], column: str, first: int, last: int
) -> Iterator[tuple[pa.Array, npt.NDArray[np.float64], Ints]]:
    """Yield ids, vectors, and the rows of the ids that these are of; rows without a vector are left out."""
    try:
        with duckdb.connect(config={"memory_limit": _MEMORY_LIMIT, "threads": 1}) as db:
            names = columns_of(db, paths)
            key = next((name for name in names if name.lower() == "doc_id"), None)
            if key is None or column not in names:
                lacking = "doc_id" if key is None else column
                raise InputError(f"{paths[0]}: has no column {lacking!r}, only {', '.join(names)}; name another file")
            text = names[key] == "VARCHAR"
            identity = f"unhex({quoted(key)})" if text else quoted(key)
            query = (
                f"SELECT {identity} AS id, {quoted(column)} AS vector FROM {scan(paths)} "  # noqa: S608 - quoted
                f"WHERE {identity} BETWEEN ? AND ?"
            )
            bounds = [first.to_bytes(8, "big") + bytes(8), last.to_bytes(8, "big") + b"\xff" * 8]
            for batch in db.sql(query, params=bounds).to_arrow_reader(_ROWS_AT_ONCE):
                rows, values = as_vectors(batch.column(1), f"{paths[0]}: column {column!r}")
                if len(rows):
                    yield batch.column(0).cast(schemas.DOC_ID), values, rows
    except (duckdb.Error, pa.ArrowException) as error:
        cause = " ".join(str(error).split())
        raise StoreError(f"{paths[0]}: vectors cannot be read ({cause}); check the file and run again") from error


def as_vectors(column: pa.Array, name: str) -> tuple[Ints, npt.NDArray[np.float64]]:
    """Return which rows of a column have a vector, and these, shape (rows, dimensions).

    Raises:
        InputError: it holds something else, or vectors of several lengths; `name` says where.
    """
    rows = np.flatnonzero(schemas.numbers(column.is_valid().cast(pa.uint8())))
    if not len(rows):
        return rows, np.empty((0, 0))
    try:
        values = _values(column.drop_null())
    except (ValueError, TypeError, pa.ArrowException) as error:
        cause = " ".join(str(error).split())
        raise InputError(f"{name} holds no vectors of one length ({cause}); give lists of as many numbers") from error
    if values.ndim != 2 or not values.shape[1]:
        raise InputError(f"{name} holds lists without numbers, or numbers alone; give a list of numbers, or null")
    return rows, values


def _values(column: pa.Array) -> npt.NDArray[np.float64]:
    """Return a column without nulls as numbers, shape (rows, dimensions).

    Raises:
        ValueError: it holds something else, or lists of several lengths.
    """
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        # The corpus reader carries nested values as their JSON text.
        return np.array([orjson.loads(text) for text in column.to_pylist()], np.float64)
    if not any(kind(column.type) for kind in _LISTS):
        raise ValueError(f"its type is {column.type}")
    sizes = np.unique(schemas.numbers(pc.list_value_length(column)))
    if len(sizes) > 1:
        raise ValueError(f"they have {sizes[0]:,} to {sizes[-1]:,} numbers")
    return schemas.numbers(column.flatten().cast(pa.float64())).reshape(len(column), int(sizes[0]))


class ByVectors:
    """Related are documents whose vectors point the same way: the largest cosine, rounded to whole steps."""

    def __init__(self, vectors: npt.NDArray[np.float64]) -> None:
        """Take vectors of shape (n, dimensions), of any length; rows of NaN or zeros relate to nothing."""
        dimensions = max(1, vectors.shape[1])
        steps = min(_STEPS, math.isqrt((_EXACT - 1) // dimensions))
        length = np.sqrt((vectors**2).sum(axis=1, keepdims=True))
        usable = np.isfinite(length) & (length > 0)
        unit = np.divide(vectors, length, out=np.zeros_like(vectors), where=usable)
        self._rows: npt.NDArray[np.float32] = np.rint(unit * steps).astype(np.float32)
        self._usable: Free = usable[:, 0]

    @property
    def without(self) -> int:
        """Documents that have no vector."""
        return int((~self._usable).sum())

    def among(self, left: Ints) -> Find:
        """See `mixture.related.walk.Relation`; of equal cosines the first of the documents given."""
        rows, usable = self._rows[left], self._usable[left]
        near = _nearest(rows, usable)

        def find(here: int, free: Free) -> int:
            if not self._usable[here]:
                return -1
            place = int(np.searchsorted(left, here))
            if place < len(left) and left[place] == here:
                chosen = near[place]
                open_ = free[chosen] & usable[chosen]
                if open_.any():
                    return int(chosen[int(np.argmax(open_))])
            scores = np.where(free & usable, rows @ self._rows[here], -np.inf)
            best = int(np.argmax(scores))
            return best if scores[best] > -np.inf else -1

        return find


def _nearest(rows: npt.NDArray[np.float32], usable: Free) -> npt.NDArray[np.int32]:
    """Return the nearest rows to each, nearest first, of equally near ones the first; shape (n, ≤ _NEAREST)."""
    count = len(rows)
    most = min(_NEAREST, count)
    found: npt.NDArray[Any] = np.empty((count, most), np.int32)
    for low in range(0, count, _AT_ONCE):
        scores = rows[low : low + _AT_ONCE] @ rows.T
        scores[:, ~usable] = -_EXACT
        # Made distinct by the place, so that a partition has one outcome: exact as 53-bit numbers.
        ranked = scores.astype(np.float64) * count - np.arange(count)
        chosen = np.argpartition(-ranked, most - 1, axis=1)[:, :most]
        order = np.argsort(-np.take_along_axis(ranked, chosen, axis=1), axis=1)
        found[low : low + _AT_ONCE] = np.take_along_axis(chosen, order, axis=1)
    return found
