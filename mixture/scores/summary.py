"""How scores are spread: quantiles of each column, by DuckDB."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import duckdb

from mixture.errors import StoreError
from mixture.scores.tables import ScoreTable
from mixture.storage import local

QUANTILES = (0.1, 0.2, 0.25, 0.5, 0.75, 0.8, 0.9)
_MEMORY_LIMIT = "4GB"
_NUMBERS = ("INT", "FLOAT", "DOUBLE", "DECIMAL")


@dataclass(frozen=True)
class Spread:
    """One column of numbers.

    Attributes:
        table: the table it is of.
        column: its name.
        documents: rows that have a number.
        without: rows that have none.
        least: the smallest number; None where there is none at all.
        quantiles: those of `QUANTILES`.
        most: the largest.
    """

    table: str
    column: str
    documents: int
    without: int
    least: float | None
    quantiles: tuple[float, ...]
    most: float | None

    def row(self) -> dict[str, Any]:
        """Return it JSON-able, quantiles by percent."""
        fields = asdict(self)
        values = fields.pop("quantiles")
        return fields | {f"p{round(100 * q)}": value for q, value in zip(QUANTILES, values, strict=False)}


def spreads(tables: Sequence[ScoreTable]) -> tuple[Spread, ...]:
    """Return how every column of numbers is spread; rows of equal texts count once for each file they are in.

    Raises:
        StoreError: a table cannot be read.
    """
    try:
        with duckdb.connect(config={"memory_limit": _MEMORY_LIMIT}) as db:
            return tuple(spread for table in tables for spread in _of_table(db, table))
    except duckdb.Error as error:
        names = ", ".join(table.name for table in tables)
        cause = " ".join(str(error).split())
        raise StoreError(f"scores {names}: cannot be read ({cause}); check the tables and run again") from error


def _of_table(db: duckdb.DuckDBPyConnection, table: ScoreTable) -> list[Spread]:
    paths = [str(local(part)) for part in table.parts]
    columns = db.execute("DESCRIBE SELECT * FROM read_parquet(?)", [paths]).fetchall()
    found = []
    for name, kind, *_ in columns:
        if not any(number in kind for number in _NUMBERS) or "[" in kind or "(" in kind.partition("DECIMAL")[0]:
            continue
        column = '"' + name.replace('"', '""') + '"'
        cuts = ", ".join(map(str, QUANTILES))
        query = f"""
            SELECT count(x), count(*) - count(x), min(x), quantile_disc(x, [{cuts}]), max(x)
            FROM (SELECT {column}::DOUBLE AS x FROM read_parquet(?))"""  # noqa: S608 - quoted
        documents, without, least, quantiles, most = db.execute(query, [paths]).fetchall()[0]
        found.append(Spread(table.name, name, documents, without, least, tuple(quantiles or ()), most))
    return found
