"""The index in columns of numbers, some row groups at a time: what the planner looks at."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mixture.errors import StoreError
from mixture.hashing import U64, id_words
from mixture.tokens.store import damaged


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
        table: further columns that were asked for.
    """

    hi: U64
    lo: U64
    domain: npt.NDArray[np.int64]
    tokens: npt.NDArray[np.int64]
    occurrence: npt.NDArray[np.int64]
    occurrences: npt.NDArray[np.int64]
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
            self.table.take(pa.array(places)),
        )


class IndexReader:
    """Reads an index file by row groups; knows at which id each begins, so a range of ids opens few of them."""

    def __init__(self, path: Path, domains: Sequence[str]) -> None:
        self._path = path
        try:
            self._file = pq.ParquetFile(path, page_checksum_verification=True)
        except (pa.ArrowException, OSError) as error:
            raise StoreError(damaged(path, error)) from error
        self._domains = pa.array(domains, pa.string())
        self._first = np.array([self._first_id(group) for group in range(self._file.num_row_groups)], np.uint64)

    @functools.cached_property
    def most_occurrences(self) -> int:
        """The largest number of equal texts in one domain; 1 where the recipe keeps only the first."""
        groups = range(self._file.num_row_groups)
        at = self._file.schema_arrow.get_field_index("occurrences")
        return max((self._file.metadata.row_group(g).column(at).statistics.max for g in groups), default=1)

    def _first_id(self, group: int) -> int:
        column = self._file.metadata.row_group(group).column(0)
        return int.from_bytes(column.statistics.min[:8], "big")

    def all(self) -> Iterator[Rows]:
        """Yield every document, in order of id."""
        for group in range(self._file.num_row_groups):
            yield self._rows([group], ())

    def between(self, first: int, stop: int, columns: Sequence[str]) -> Iterator[Rows]:
        """Yield the documents whose leading word lies in [first, stop), with further columns."""
        low = max(0, int(np.searchsorted(self._first, np.uint64(first), "left")) - 1)
        for group in range(low, len(self._first)):
            if int(self._first[group]) >= stop:
                break
            rows = self._rows([group], columns)
            inside = rows.hi >= np.uint64(first)
            if stop < 1 << 64:
                inside &= rows.hi < np.uint64(stop)
            if inside.any():
                yield rows.take(inside)

    def _rows(self, groups: Sequence[int], columns: Sequence[str]) -> Rows:
        names = ["doc_id", "domain", "n_tokens", "occurrence", "occurrences", *columns]
        try:
            table = self._file.read_row_groups(list(groups), columns=names)
        except (pa.ArrowException, OSError) as error:
            raise StoreError(damaged(self._path, error)) from error
        hi, lo = id_words(table["doc_id"])
        domain = pc.index_in(table["domain"], self._domains).to_numpy().astype(np.int64)
        tokens, occurrence, occurrences = (
            table[name].to_numpy().astype(np.int64) for name in ("n_tokens", "occurrence", "occurrences")
        )
        return Rows(hi, lo, domain, tokens, occurrence, occurrences, table.select(list(columns)))
