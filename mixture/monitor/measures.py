"""The long table: everything that the monitor measures, one number with its interval in a row.

    model  step  tokens   level      task  metric  length  depth  value  low   high  n
    tiny   2000  8192000  behaviour  niah  score   4096    0.5    0.80   0.60  0.95  20
    tiny   2000  8192000  behaviour  niah  score                  0.71   0.66  0.76  400

The second row is over the whole grid: it has no length, no depth and no cell. A folder holds the table twice, as
`metrics.parquet` and as `metrics.jsonl`. What is measured again takes the place of what was there, so a checkpoint can
be examined twice and a run followed from the middle. The price: a write reads and writes the whole table, about a
second for each 300,000 rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import orjson
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from mixture import schemas
from mixture.errors import MonitorError, StoreError
from mixture.storage import explain, publish
from mixture.storage.tables import open_parquet

#: In the order in which a report shows them; "harness" holds what other programs measured.
LEVELS = ("behaviour", "probability", "mechanism", "harness")
#: What makes two rows the same measurement. `tokens` follows from `step`.
KEY = ("model", "step", "level", "task", "domain", "metric", "length", "depth", "cell")
PARQUET, JSON_LINES = "metrics.parquet", "metrics.jsonl"

#: How long one writer waits for another; a write takes seconds.
_PATIENCE_SECONDS = 120.0


@dataclass(frozen=True)
class Measure:
    """One row of the long table.

    Attributes:
        model: name of the run or model, as `qwen-0.5b`.
        step: training steps done, None where unknown.
        tokens: tokens trained on, None where unknown.
        level: one of `LEVELS`.
        task: as `niah`, `json_kv`, `holdout`, `longppl`, `retrieval_heads`.
        domain: data domain or group of tasks; empty where there is none.
        metric: as `score`, `perplexity`, `loss`, `heads`.
        length: tokens of context, a column of the grid; None over the grid.
        depth: place of the needle, 0 the start and 1 the end; None over the grid.
        cell: further coordinates in words, as `position 4K-16K`; empty over the grid.
        value: what was measured, in the metric's unit.
        low: lower end of its 95 % interval; the value itself where none was computed.
        high: upper end of it.
        n: samples behind the value.

    Raises:
        MonitorError: on construction, when the row contradicts itself.
    """

    model: str
    step: int | None
    tokens: int | None
    level: str
    task: str
    domain: str
    metric: str
    length: int | None
    depth: float | None
    cell: str
    value: float
    low: float
    high: float
    n: int

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise MonitorError(f"{self._name}: level {self.level!r} is not known; it is one of {', '.join(LEVELS)}")
        if not all(map(math.isfinite, (self.value, self.low, self.high))):
            raise MonitorError(
                f"{self._name}: value {self.value}, interval {self.low} to {self.high}; a measure is finite: leave out "
                "what could not be measured"
            )
        if not self.low <= self.value <= self.high:
            raise MonitorError(f"{self._name}: value {self.value} is outside its interval {self.low} to {self.high}")
        for field, least in (("step", 0), ("tokens", 0), ("length", 1), ("n", 1)):
            number = getattr(self, field)
            if number is not None and number < least:
                raise MonitorError(f"{self._name}: {field} is {number}; at least {least} is possible")
        if self.depth is not None and not 0 <= self.depth <= 1:
            raise MonitorError(f"{self._name}: depth is {self.depth}; a depth is between 0 and 1")

    @property
    def _name(self) -> str:
        return f"measure {self.task} {self.metric} of {self.model}"

    @property
    def whole(self) -> bool:
        """Whether the measure is over the whole grid."""
        return self.length is None and self.depth is None and not self.cell

    def row(self) -> tuple[Any, ...]:
        """Return the columns of the long table, numpy's numbers as Python's."""
        return _plain(vars(self))


#: Columns, and what they hold in Python.
_COLUMNS = {field.name: {"string": str, "int64": int, "double": float}[str(field.type)] for field in schemas.METRICS}
_POLARS = {name: {str: pl.String, int: pl.Int64, float: pl.Float64}[kind] for name, kind in _COLUMNS.items()}


def _plain(values: dict[str, Any]) -> tuple[Any, ...]:
    """Return the columns in order; a number of numpy's becomes Python's."""
    return tuple(None if values[name] is None else kind(values[name]) for name, kind in _COLUMNS.items())


def frame(measures: Iterable[Measure]) -> pl.DataFrame:
    """Return measures as a table with the columns of `schemas.METRICS`, one row each, in the order given."""
    return pl.DataFrame([measure.row() for measure in measures], schema=_POLARS, orient="row")


def write(measures: Iterable[Measure], folder: Path) -> None:
    """Add measures to the table of a folder; one that is there under the same key gives way.

    Args:
        measures: what was measured, the later of two of the same key counting.
        folder: is made where there is none.

    Raises:
        MonitorError: the table that is there is damaged, or another program is writing it for two minutes.
        StoreError: the folder cannot be written.
    """
    new = frame(measures)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / ".metrics.lock", timeout=_PATIENCE_SECONDS):
            _publish(_together(_standing(folder), new), folder)
    except filelock.Timeout as error:
        raise MonitorError(
            f"{folder}: another program has been writing metrics there for {_PATIENCE_SECONDS:.0f} seconds; wait for "
            "it, or give another folder"
        ) from error
    except OSError as error:
        raise StoreError(explain(error, folder)) from error


def _standing(folder: Path) -> pl.DataFrame:
    files = [folder / name for name in (PARQUET, JSON_LINES) if (folder / name).exists()]
    return table(files[0]) if files else frame(())


def _together(old: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame:
    """Put rows together, the later of equal keys staying, in one order whatever was written first."""
    rows = pl.concat([old, new]).unique(KEY, keep="last", maintain_order=True)
    level = pl.col("level").replace_strict(list(LEVELS), range(len(LEVELS)), return_dtype=pl.Int64)
    by = [pl.col(name) if name != "level" else level for name in KEY]
    return rows.sort(by, nulls_last=False, maintain_order=True)


def _publish(rows: pl.DataFrame, folder: Path) -> None:
    with publish(folder / PARQUET) as out:
        arrow = rows.to_arrow().cast(schemas.METRICS)
        pq.write_table(arrow, pa.PythonFile(out, "w"), compression="zstd", write_page_checksum=True)
    with publish(folder / JSON_LINES) as out:
        for row in rows.iter_rows(named=True):
            out.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))


def read(place: Path) -> list[Measure]:
    """Read the measures of a folder, or of one of its files.

    Raises:
        MonitorError: there are none, or the file is damaged.
    """
    rows = table(place).iter_rows(named=True)
    try:
        return [Measure(**row) for row in rows]
    except MonitorError as error:
        raise MonitorError(f"{place}: {error}") from error


def table(place: Path) -> pl.DataFrame:
    """Read the measures of a folder, or of one of its files, as a table with the columns of `schemas.METRICS`.

    Raises:
        MonitorError: there are none, or the file is damaged.
    """
    if place.is_dir():
        files = [place / name for name in (PARQUET, JSON_LINES) if (place / name).exists()]
        if not files:
            raise MonitorError(f"{place}: holds no {PARQUET}; give the folder that `mixture monitor` wrote to")
        place = files[0]
    try:
        return _json_lines(place) if place.suffix in (".jsonl", ".json") else _parquet(place)
    except FileNotFoundError as error:
        raise MonitorError(f"{place}: there is no such file; give a folder of `mixture monitor`, or a file") from error
    except OSError as error:
        raise MonitorError(explain(error, place)) from error


def _parquet(path: Path) -> pl.DataFrame:
    try:
        with open_parquet(path) as file:
            rows = file.read()
        missing = [name for name in _COLUMNS if name not in rows.column_names]
        if missing:
            raise MonitorError(f"{path}: has no column {missing[0]!r}; give a table that `mixture monitor` wrote")
        made = pl.from_arrow(rows.select(list(_COLUMNS)).cast(schemas.METRICS))
    except (pa.ArrowException, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        cause = " ".join(str(error).split())
        raise MonitorError(
            f"{path}: damaged ({cause}); take it away where {JSON_LINES} beside it is whole, which holds the same rows"
        ) from error
    return made if isinstance(made, pl.DataFrame) else made.to_frame()


def _json_lines(path: Path) -> pl.DataFrame:
    rows = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            row = orjson.loads(line)
            rows.append(_plain(row))
        except (ValueError, KeyError, TypeError) as error:
            raise MonitorError(
                f"{path}, line {number}: is no measure ({error}); take the line away, or the file where {PARQUET} "
                "beside it is whole"
            ) from error
    return pl.DataFrame(rows, schema=_POLARS, orient="row")
