"""Weights by SQL: a filter and a relative weight for every document of the index.

    where   n_tokens > 1000 and gzip_ratio between .2 and .5
    weight  exp(-perplexity / 300)

comes out as one column of numbers beside the index, in its order: 0 for a document that `where` leaves out (or where
either is NULL). Weights are rounded to 32-bit floating point, so that the last bits of another machine's `exp` do not
move documents; one above zero stays above zero.

DuckDB does it within its memory limit, on a connection that can read the index and the tables of scores, nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mixture import schemas
from mixture.engine import Progress
from mixture.errors import PlanError, StoreError
from mixture.hashing import fingerprint
from mixture.index.aligned import write_aligned
from mixture.index.expressions import VIEW, Expression, check, first_line
from mixture.index.joins import Join, columns_of, joins, quoted, scan, write_joined
from mixture.scores.tables import ScoreTable
from mixture.storage import Place, exists, file_digest, local, read_record, size_of, spill, write_json
from mixture.storage.tables import open_parquet
from mixture.tokens.store import damaged

_MEMORY_LIMIT = "2GB"
_ROWS_AT_ONCE = 1 << 17
_ROW = "file_row_number"
#: Each thread needs memory of its own.
_MOST_THREADS = 4
_LEAST = float(np.nextafter(np.float32(0), np.float32(1)))
_MOST = float(np.finfo(np.float32).max)


def find_weights(
    index: Place,
    where: str | None,
    weight: str | None,
    tables: Sequence[ScoreTable],
    held: Mapping[str, Any],
    progress: Progress,
) -> tuple[Place, dict[str, Any]]:
    """Return the column of weights beside an index, and its record; evaluate it if it is not there, see `weigh`.

    Args:
        index: the index file.
        where: which documents may be drawn; None for all.
        weight: how likely each is against others of its cell; None for alike.
        tables: tables of scores that the expressions may name columns of.
        held: what those hold: other scores make another column.
        progress: who is told.
    """
    target = index.with_name(f"weights-{fingerprint([where, weight, held])}.arrow")
    record = read_record(target.with_suffix(".json"), "lightest", "heaviest") if exists(target) else None
    if record is None:
        progress.start("weigh", "weights by SQL", "columns", 1, 0)
        record = weigh(index, where, weight, tables, target, Path(spill(index.parent)))
        record["file"] = [size_of(target), file_digest(target)]
        write_json(target.with_suffix(".json"), record)
        progress.finish()
    for name, count in record.get("unscored", {}).items():
        if count:
            progress.say(f"plan: {count:,} documents are not in the scores {name!r}; their columns are NULL")
    return target, record


def weigh(
    index: Place, where: str | None, weight: str | None, tables: Sequence[ScoreTable], target: Place, aside: Path
) -> dict[str, Any]:
    """Evaluate `where` and `weight` for every row of an index, and publish the column `weight` beside it.

    Args:
        index: the index file.
        where: which documents may be drawn; None for all.
        weight: how likely each is against others of its cell; None for alike.
        tables: tables of scores that the expressions may name columns of.
        target: the Arrow file to publish.
        aside: folder for what does not fit into memory.

    Returns:
        `documents` in the index, `filtered` of them with weight 0, `weightless` of those that `where` had let pass,
        the `lightest` weight above 0 and the `heaviest`, and `unscored`: by table, documents that it does not hold.

    Raises:
        PlanError: an expression cannot be used, a weight is negative or not a number, or no document is left.
        StoreError: the index or a table cannot be read, or the disk is full.
    """
    # The connection can read nothing that it is not told of before its configuration is locked.
    joined = aside / f".joined-{os.getpid()}-{os.urandom(4).hex()}.tmp"
    try:
        rows = open_parquet(index).metadata.num_rows
        with _connect([index, joined, *(part for table in tables for part in table.parts)], aside) as db:
            return _Weighing(db, index, rows, joined).weigh({"where": where, "weight": weight}, tables, target)
    except duckdb.OutOfMemoryException as error:
        raise StoreError(
            f"{index}: {_MEMORY_LIMIT} of memory do not suffice for its weights ({first_line(error)}); take windows "
            "over smaller partitions, or carry what they give as a column"
        ) from error
    except duckdb.IOException as error:
        cause = first_line(error)
        raise StoreError(f"{aside}: weights cannot be made there ({cause}); free some space and run again") from error
    except (pa.ArrowException, OSError) as error:
        raise StoreError(damaged(index, error)) from error
    finally:
        joined.unlink(missing_ok=True)


def _connect(files: Sequence[Place], aside: Path) -> duckdb.DuckDBPyConnection:
    """Open a connection that reads these files and can do nothing else outside itself."""
    config: dict[str, Any] = {
        "memory_limit": _MEMORY_LIMIT,
        "temp_directory": str(aside),
        "threads": min(_MOST_THREADS, os.cpu_count() or 1),
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "python_enable_replacements": False,
    }
    db = duckdb.connect(config=config)
    listed = ", ".join(quoted(str(local(path).absolute()), "'") for path in files)
    for setting in ("TimeZone = 'UTC'", f"allowed_paths = [{listed}]", "enable_external_access = false"):
        db.execute(f"SET {setting}")
    db.execute("SET lock_configuration = true")
    return db


@dataclass
class _Record:
    """What is counted while weights go by."""

    documents: int = 0
    filtered: int = 0
    weightless: int = 0
    lightest: float = float("inf")
    heaviest: float = 0.0
    unscored: dict[str, int] = field(default_factory=dict)


class _Weighing:
    """One evaluation of an index."""

    def __init__(self, db: duckdb.DuckDBPyConnection, index: Place, rows: int, joined: Place) -> None:
        self._db, self._index, self._rows, self._joined = db, index, rows, joined
        self._expressions: dict[str, Expression] = {}

    def weigh(self, texts: Mapping[str, str | None], tables: Sequence[ScoreTable], target: Place) -> dict[str, Any]:
        """Check the expressions, join what they name, write the column; return the record."""
        columns = list(columns_of(self._db, [self._index]))
        if _ROW in (name.lower() for name in columns):
            raise PlanError(f"carry: a column cannot be named {_ROW!r} where there are weights; carry it under another")
        found = joins(self._db, self._index, tables)
        self._check(texts, columns, found)
        named = frozenset[str]().union(*(expression.columns for expression in self._expressions.values()))
        record = _Record()
        if used := [join.only(named) for join in found if named.intersection(join.columns)]:
            for join in used:
                join.check(self._db)
            kept = [name for name in columns if name in named] or columns[:1]
            record.unscored = write_joined(self._db, self._index, used, kept, self._joined)
            self._judge_joins(record.unscored)
        self._db.execute(
            f"CREATE OR REPLACE TEMP VIEW {VIEW} AS SELECT *, {_ROW} "  # noqa: S608 - a path of ours
            f"FROM {scan([self._joined if used else self._index])}"
        )
        try:
            write_aligned(target, "weight", pa.float64(), self._batches(record))
        except (duckdb.IOException, duckdb.OutOfMemoryException):
            raise
        except duckdb.Error as error:
            raise self._blame(error) from error
        return asdict(record)

    def _check(self, texts: Mapping[str, str | None], columns: Sequence[str], found: Sequence[Join]) -> None:
        """Hold the expressions to the columns that there are, on a view without a row."""
        parts = [f"(SELECT {', '.join(map(quoted, columns))} FROM {scan([self._index])} LIMIT 0)"]  # noqa: S608
        parts += [
            f"(SELECT {', '.join(map(quoted, join.columns))} FROM {scan(join.table.parts)} LIMIT 0)"  # noqa: S608
            for join in found
            if join.columns
        ]
        rows = " POSITIONAL JOIN ".join(parts)
        self._db.execute(f"CREATE TEMP VIEW {VIEW} AS SELECT * FROM {rows}")  # noqa: S608 - names are quoted
        names = [*columns, *(name for join in found for name in join.columns)]
        for label, text in texts.items():
            if text is not None:
                self._expressions[label] = check(self._db, label, text, names)

    def _judge_joins(self, unscored: Mapping[str, int]) -> None:
        for name, missing in unscored.items():
            if missing == self._rows:
                raise PlanError(
                    f"scores: table {name!r} holds none of {missing:,} documents; its doc_id must be the XXH3-128 of "
                    "the text, as in the index"
                )

    def _batches(self, record: _Record) -> Iterator[npt.NDArray[np.float64]]:
        """Yield weights in the order of the index; refuse the first that is none, and that all are zero."""
        for batch in _gathered(self._answer()):
            weights = self._checked(batch, record.documents)
            above = weights[weights > 0]
            record.documents += len(batch)
            record.filtered += len(batch) - len(above)
            record.weightless += len(batch) - len(above) - batch["weight"].null_count
            if len(above):
                record.lightest = min(record.lightest, float(above.min()))
                record.heaviest = max(record.heaviest, float(above.max()))
            yield weights
        self._judge(record)

    def _answer(self) -> pa.RecordBatchReader:
        where, weight = (self._expressions.get(label) for label in ("where", "weight"))
        passes = f"coalesce({where.sql}::BOOLEAN, false)" if where else "true"
        value = f"coalesce({weight.sql}::DOUBLE, 0)" if weight else "1::DOUBLE"
        # Windows mix the rows; without them DuckDB keeps the file's order, and no sort is needed.
        order = f"ORDER BY {_ROW}" if any(e.windows for e in self._expressions.values()) else ""
        query = f"SELECT {_ROW} AS place, CASE WHEN {passes} THEN {value} END AS weight FROM {VIEW} {order}"  # noqa: S608
        return self._db.sql(query).to_arrow_reader(_ROWS_AT_ONCE)

    def _checked(self, batch: pa.Table, first: int) -> npt.NDArray[np.float64]:
        """Return a stretch's weights, rounded; 0 for NULL."""
        places = schemas.numbers(batch["place"])
        if not np.array_equal(places, np.arange(first, first + len(places))):
            raise StoreError(f"{self._index}: its rows came out of order; run the same command again")
        found = schemas.numbers(batch["weight"].fill_null(0.0))
        with np.errstate(over="ignore"):
            rounded = found.astype(np.float32).astype(np.float64)
        bad = np.flatnonzero(~((found >= 0) & (found <= _MOST)))
        if len(bad):
            raise PlanError(self._unfit(first + int(bad[0]), float(found[bad[0]])))
        return np.where((found > 0) & (rounded == 0), _LEAST, np.minimum(rounded, _MOST))

    def _unfit(self, row: int, value: float) -> str:
        found = self._db.execute(
            f"SELECT input_file, input_row, lower(hex(doc_id)) FROM {scan([self._index])} WHERE {_ROW} = {row}"  # noqa: S608
        ).fetchone() or ("?", 0, "?")
        if value < 0:
            why, move = "negative", "greatest(0, …)"
        elif value > 0:
            why, move = f"above {_MOST:.2g}, the largest", "least(…, 1e6)"
        else:
            why, move = "not a number", "CASE WHEN isfinite(…) THEN … END"
        return (
            f"weight: {value} for the document in {found[0]}, row {found[1]:,} (doc_id {found[2]}) is {why}; write "
            f"{move}, or leave such documents out with `where`"
        )

    def _judge(self, record: _Record) -> None:
        if record.documents != self._rows:
            raise StoreError(damaged(self._index, ValueError(f"{record.documents:,} of {self._rows:,} rows read")))
        passed = record.documents - record.filtered + record.weightless
        if not passed:
            raise PlanError(f"where: leaves no document of {record.documents:,}; make it milder")
        if record.weightless == passed:
            raise PlanError(f"weight: 0 or NULL for all of {passed:,} documents; make it a number above 0 for some")

    def _blame(self, error: duckdb.Error) -> PlanError:
        """Say which expression DuckDB could not evaluate."""
        failing = [label for label, expression in self._expressions.items() if self._fails(expression)]
        label = failing[0] if failing else list(self._expressions)[-1]
        move = "TRY(…) around it gives NULL there, or CASE leaves such documents out"
        return PlanError(f"{label}: {first_line(error)}; {move}")

    def _fails(self, expression: Expression) -> bool:
        try:
            self._db.execute(f"SELECT max({expression.sql}) FROM {VIEW}").fetchall()  # noqa: S608
        except duckdb.Error:
            return True
        return False


def _gathered(reader: pa.RecordBatchReader) -> Iterator[pa.Table]:
    """Gather DuckDB's batches into tables of `_ROWS_AT_ONCE` rows."""
    held: list[pa.RecordBatch] = []
    rows = 0
    for batch in reader:
        held.append(batch)
        rows += len(batch)
        while rows >= _ROWS_AT_ONCE:
            table = pa.Table.from_batches(held)
            yield table.slice(0, _ROWS_AT_ONCE)
            held, rows = table.slice(_ROWS_AT_ONCE).to_batches(), rows - _ROWS_AT_ONCE
    if rows:
        yield pa.Table.from_batches(held)
