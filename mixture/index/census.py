"""The census: documents and tokens by domain and length, summed by DuckDB; small enough for git."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from mixture.storage import Place, local


@dataclass(frozen=True)
class CensusRow:
    """Documents of one domain whose length in tokens lies in [2^log2, 2^(log2+1))."""

    domain: str
    log2: int
    documents: int
    tokens: int


@dataclass(frozen=True)
class Census:
    """All rows, by domain, then by length."""

    cells: tuple[CensusRow, ...]

    @property
    def domains(self) -> tuple[str, ...]:
        """Domains in alphabetical order."""
        return tuple(sorted({cell.domain for cell in self.cells}))

    def rows(self) -> list[dict[str, Any]]:
        """Return the census as JSON-able rows."""
        return [cell.__dict__ for cell in self.cells]

    @staticmethod
    def from_rows(rows: Sequence[dict[str, Any]]) -> Census:
        """Read what `rows` wrote."""
        return Census(tuple(CensusRow(**row) for row in rows))


def take_census(index: Place) -> Census:
    """Sum an index; a document of no tokens counts as of length 1."""
    query = """
        SELECT domain, length(bin(greatest(n_tokens, 1))) - 1 AS log2, count(*), sum(n_tokens)::BIGINT
        FROM read_parquet(?) GROUP BY ALL ORDER BY domain, log2"""
    with duckdb.connect() as db:
        rows = db.execute(query, [str(local(index))]).fetchall()
    return Census(tuple(CensusRow(*row) for row in rows))
