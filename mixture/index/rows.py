"""The index in columns of numbers, a row group at a time: what the planner looks at."""

from __future__ import annotations

import bisect
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mixture import schemas
from mixture.errors import StoreError
from mixture.hashing import U64, id_words
from mixture.index.aligned import Aligned
from mixture.storage import Place
from mixture.storage.tables import open_parquet
from mixture.tokens.store import damaged

_NAMES = ("source", "domain")


@dataclass(frozen=True)
class Rows:
    """Consecutive documents of the index, as arrays of shape (n,).

    Attributes:
        hi: leading words of the ids, uint64, rising.
        lo: trailing words.
        domain: number of the domain in the index's sorted list.
        tokens: the document's own tokens.
        occurrence: number among equal texts of the domain.
        occurrences: how many those are.
        weight: relative chance to be drawn in its cell, 0 for never; None where all are alike.
        seen: how often the document appeared already; None where none did.
        table: further columns that were asked for.
    """

    hi: U64
    lo: U64
    domain: npt.NDArray[np.int64]
    tokens: npt.NDArray[np.int64]
    occurrence: npt.NDArray[np.int64]
    occurrences: npt.NDArray[np.int64]
    weight: npt.NDArray[np.float64] | None
    seen: npt.NDArray[np.int64] | None
    table: pa.Table

    def __len__(self) -> int:
        return len(self.hi)

    def take(self, where: npt.NDArray[Any]) -> Rows:
        """Return the rows at a mask or at positions."""
        places = np.flatnonzero(where) if where.dtype == np.bool_ else where
        return Rows(
            self.hi[places],
            self.lo[places],
            self.domain[places],
            self.tokens[places],
            self.occurrence[places],
            self.occurrences[places],
            None if self.weight is None else self.weight[places],
            None if self.seen is None else self.seen[places],
            self.table.take(schemas.column(places)),
        )


@dataclass(frozen=True)
class _Group:
    """One row group: the leading word of its first id, its file, its number there, its first row in the index."""

    first_id: int
    file: int
    number: int
    row: int
    rows: int


class IndexReader:
    """Reads index files by row groups; knows at which id each begins, so a range of ids opens few of them.

    Args:
        paths: files in the order of their ids.
        domains: names of the domains, sorted.
        weights: column of weights beside a single file, or None.
        seen: column of appearances so far beside a single file, or None.
    """

    def __init__(
        self, paths: Sequence[Place], domains: Sequence[str], weights: Place | None = None, seen: Place | None = None
    ) -> None:
        self._paths = list(paths)
        self._domains = schemas.strings(list(domains))
        self._files = [self._open(path) for path in paths]
        self._groups = list(self._list_groups())
        self._first = [group.first_id for group in self._groups]
        self._weights = None if weights is None else Aligned(weights)
        self._seen = None if seen is None else Aligned(seen)

    def _open(self, path: Place) -> pq.ParquetFile:
        try:
            return open_parquet(path, read_dictionary=list(_NAMES))
        except (pa.ArrowException, OSError) as error:
            raise StoreError(damaged(path, error)) from error

    def _list_groups(self) -> Iterator[_Group]:
        row = 0
        for number, file in enumerate(self._files):
            for group in range(file.num_row_groups):
                facts = file.metadata.row_group(group)
                first = int.from_bytes(facts.column(0).statistics.min[:8], "big")
                yield _Group(first, number, group, row, facts.num_rows)
                row += facts.num_rows

    @property
    def groups(self) -> tuple[int, ...]:
        """Documents in each row group."""
        return tuple(group.rows for group in self._groups)

    @functools.cached_property
    def most_occurrences(self) -> int:
        """The largest number of equal texts in one domain; 1 where the recipe keeps only the first."""
        most = 1
        for file in self._files:
            at = file.schema_arrow.get_field_index("occurrences")
            for group in range(file.num_row_groups):
                most = max(most, file.metadata.row_group(group).column(at).statistics.max)
        return most

    def groups_between(self, first: int, stop: int, columns: Sequence[str] = ()) -> Iterator[Rows]:
        """Yield the documents of row groups [first, stop), with further columns."""
        for group in self._groups[first:stop]:
            yield self._rows(group, columns)

    def between(self, first: int, stop: int, columns: Sequence[str]) -> Iterator[Rows]:
        """Yield the documents whose leading word lies in [first, stop), with further columns."""
        low = max(0, bisect.bisect_left(self._first, first) - 1)
        for group in self._groups[low:]:
            if group.first_id >= stop:
                break
            rows = self._rows(group, columns)
            inside = rows.hi >= np.uint64(first)
            if stop < 1 << 64:
                inside &= rows.hi < np.uint64(stop)
            if inside.any():
                yield rows.take(inside)

    def _rows(self, group: _Group, columns: Sequence[str]) -> Rows:
        file, path = self._files[group.file], self._paths[group.file]
        there = file.schema_arrow.names
        own = [name for name in ("weight", "seen") if name in there]
        numbered = ["occurrence", "occurrences"] if self.most_occurrences > 1 else []
        try:
            table = file.read_row_group(
                group.number, columns=["doc_id", "domain", "n_tokens", *numbered, *own, *columns]
            )
        except (pa.ArrowException, OSError) as error:
            raise StoreError(damaged(path, error)) from error
        hi, lo = id_words(table["doc_id"])
        coded = table["domain"].combine_chunks()
        names = schemas.numbers(pc.index_in(coded.dictionary, self._domains)).astype(np.int64)
        values = {name: schemas.numbers(table[name]).astype(np.int64, copy=False) for name in ("n_tokens", *numbered)}
        alike = np.zeros(len(hi), np.int64)
        return Rows(
            hi,
            lo,
            names[schemas.numbers(coded.indices)],
            values["n_tokens"],
            values.get("occurrence", alike),
            values.get("occurrences", alike + 1),
            self._beside(group, "weight", self._weights, table),
            self._beside(group, "seen", self._seen, table),
            table.select(list(columns)),
        )

    @staticmethod
    def _beside(group: _Group, name: str, column: Aligned | None, table: pa.Table) -> npt.NDArray[Any] | None:
        if name in table.column_names:
            return schemas.numbers(table[name])
        return None if column is None else column.between(group.row, group.row + group.rows)
