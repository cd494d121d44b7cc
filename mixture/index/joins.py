"""Tables of scores beside the index: which columns they bring, and how they join to it by id."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mixture import schemas
from mixture.errors import PlanError, StoreError, some
from mixture.scores.tables import ScoreTable
from mixture.storage import Place, local, publish
from mixture.storage.tables import open_parquet
from mixture.tokens.store import damaged

#: Rows of the index that are joined at once.
_ROWS_IN_RANGE = 1 << 23
_ROWS_AT_ONCE = 1 << 17


def quoted(name: str, mark: str = '"') -> str:
    """Return a name, or with `'` a text, as SQL spells it."""
    return mark + name.replace(mark, 2 * mark) + mark


def scan(paths: Sequence[Place]) -> str:
    """Return what stands after FROM for the rows of some Parquet files."""
    return f"read_parquet([{', '.join(quoted(str(local(path).absolute()), chr(39)) for path in paths)}])"


def columns_of(db: duckdb.DuckDBPyConnection, paths: Sequence[Place]) -> dict[str, str]:
    """Return the names and types of the columns of some Parquet files.

    Raises:
        StoreError: they cannot be read.
    """
    try:
        rows = db.execute(f"DESCRIBE SELECT * FROM {scan(paths)}").fetchall()  # noqa: S608 - quoted
    except duckdb.Error as error:
        raise StoreError(damaged(paths[0], error)) from error
    return {row[0]: row[1] for row in rows}


@dataclass(frozen=True)
class Join:
    """A table of scores and what is taken from it.

    Attributes:
        table: the files.
        key: name of its id column.
        hexadecimal: whether ids are written as 32 hex digits, not as 16 bytes.
        columns: the columns taken.
    """

    table: ScoreTable
    key: str
    hexadecimal: bool
    columns: tuple[str, ...]

    def only(self, names: frozenset[str]) -> Join:
        """Return the join that takes these columns alone."""
        return replace(self, columns=tuple(name for name in self.columns if name in names))

    def clause(self, number: int, within: str) -> str:
        """Return the LEFT JOIN of the table's rows whose id lies `within` a range; its aliases have a number."""
        identity = f"unhex({quoted(self.key)})" if self.hexadecimal else quoted(self.key)
        chosen = "".join(f", any_value({quoted(name)}) AS {quoted(name)}" for name in self.columns)
        rows = (
            f'SELECT {identity} AS "#id", count(*) AS "#count"{chosen} FROM {scan(self.table.parts)} '  # noqa: S608
            f'WHERE {within.format(id=identity)} GROUP BY "#id"'
        )
        return f'LEFT JOIN ({rows}) AS "#t{number}" ON documents.doc_id = "#t{number}"."#id"'

    def check(self, db: duckdb.DuckDBPyConnection) -> None:
        """Refuse ids that are none.

        Raises:
            PlanError: names the id and the next move.
        """
        key = quoted(self.key)
        fits = f"regexp_full_match({key}, '[0-9A-Fa-f]{{32}}')" if self.hexadecimal else f"octet_length({key}) = 16"
        shown = key if self.hexadecimal else f"lower(hex({key}))"
        query = f"SELECT {shown} FROM {scan(self.table.parts)} WHERE NOT coalesce({fits}, false) LIMIT 1"  # noqa: S608
        if bad := db.execute(query).fetchone():
            raise PlanError(
                f"scores: table {self.table.name!r} has the doc_id {bad[0]!r}; an id is 16 bytes or 32 hex digits"
            )


def write_joined(
    db: duckdb.DuckDBPyConnection, index: Place, joined: Sequence[Join], names: Sequence[str], target: Place
) -> dict[str, int]:
    """Write some columns of the index with those of its tables, in its order; return what each table does not hold.

    A join of everything at once would not fit into memory. Ids are hashes, and the index is sorted by them: so ranges
    of ids are joined one after the other.

    Args:
        db: a connection that reads the index and the tables.
        index: the index file.
        joined: the tables and the columns taken of each.
        names: the columns taken of the index.
        target: the Parquet file to write.

    Raises:
        PlanError: a document of the index has two rows in a table of another tool.
    """
    rows = open_parquet(index).metadata.num_rows
    ranges = -(-rows // _ROWS_IN_RANGE) or 1
    unscored = dict.fromkeys((join.table.name for join in joined), 0)
    columns = [*map(quoted, names), *(quoted(name) for join in joined for name in join.columns)]
    counts = [f'coalesce("#t{n}"."#count", 0)::BIGINT AS "#count{n}"' for n in range(len(joined))]
    chosen = ", ".join([*columns, *counts, 'documents.doc_id AS "#id"'])
    with publish(target) as out, contextlib.ExitStack() as stack:
        writer = None
        for number in range(ranges):
            within = _within(number, ranges)
            clauses = " ".join(join.clause(n, within) for n, join in enumerate(joined))
            query = (
                f"SELECT {chosen} "  # noqa: S608 - names are quoted
                f"FROM {scan([index])} AS documents {clauses} "
                f"WHERE {within.format(id='documents.doc_id')} ORDER BY file_row_number"
            )
            for batch in db.sql(query).to_arrow_reader(_ROWS_AT_ONCE):
                for n, join in enumerate(joined):
                    unscored[join.table.name] += _count_missing(join, batch, f"#count{n}")
                kept = pa.table(batch.columns[: len(columns)], names=batch.schema.names[: len(columns)])
                if writer is None:
                    writer = stack.enter_context(
                        pq.ParquetWriter(pa.PythonFile(out, "w"), kept.schema, compression="lz4")
                    )
                writer.write_table(kept)
    return unscored


def _within(number: int, ranges: int) -> str:
    """Return the condition that an `{id}` lies in one of so many ranges."""
    first, stop = ((at << 32) // ranges for at in (number, number + 1))
    low = f"{{id}} >= unhex('{first:08x}')"
    return low if number == ranges - 1 else f"{low} AND {{id}} < unhex('{stop:08x}')"


def _count_missing(join: Join, batch: pa.RecordBatch, name: str) -> int:
    counts = schemas.numbers(batch[name])
    if not join.table.ours and (counts > 1).any():
        at = int(np.argmax(counts > 1))
        raise PlanError(
            f"scores: table {join.table.name!r} has {counts[at]:,} rows for doc_id {batch['#id'][at].as_py().hex()}; "
            "keep one of them"
        )
    return int((counts == 0).sum())


def joins(db: duckdb.DuckDBPyConnection, index: Place, tables: Sequence[ScoreTable]) -> list[Join]:
    """Return how each table joins the index.

    Raises:
        PlanError: a table has no id, or a column of a name that is taken.
        StoreError: the index or a table cannot be read.
    """
    taken = dict.fromkeys(map(str.lower, columns_of(db, [index])), "the index")
    found = []
    for table in tables:
        columns = columns_of(db, table.parts)
        key = next((name for name in columns if name.lower() == "doc_id"), None)
        if key is None or columns[key] not in ("BLOB", "VARCHAR"):
            there = f"has it as {columns[key]}" if key else f"has only {', '.join(columns)}"
            raise PlanError(
                f"scores: table {table.name!r} needs a column doc_id of 16 bytes or 32 hex digits, and {there} "
                f"({some(table.parts)})"
            )
        names = tuple(name for name in columns if name != key)
        for name in names:
            if owner := taken.get(name.lower()):
                raise PlanError(
                    f"scores: table {table.name!r} has a column {name!r}, and so has {owner}; rename one of them"
                )
            taken[name.lower()] = f"table {table.name!r}"
        found.append(Join(table, key, columns[key] == "VARCHAR", names))
    return found
