"""Fact pairs in: a subject and an object a line, from JSON lines, CSV or TSV.

    facts.jsonl     {"subject": "Marie Curie", "object": "Warsaw"}
    facts.tsv       subject <tab> object                                the first line names the columns
                    Marie Curie <tab> Warsaw

Further fields are left alone. A pair keeps its number, its place in the file, so results can be laid beside the file.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from mixture.errors import MonitorError, some

#: Column separators of tables, by suffix.
_TABLES = {".csv": ",", ".tsv": "\t"}
_SUFFIXES = (".jsonl", *_TABLES)


@dataclass(frozen=True)
class Pair:
    """A fact, as two names that a text which tells it holds.

    Attributes:
        subject: what the fact is about, as it is written in texts.
        object: what it says of it, likewise.

    Raises:
        MonitorError: a name is empty.
    """

    subject: str
    object: str

    def __post_init__(self) -> None:
        for name in ("subject", "object"):
            if not getattr(self, name).strip():
                raise MonitorError(f"field {name!r} is empty; give the name as texts write it")


def read_pairs(path: Path, *, subject: str = "subject", object: str = "object") -> tuple[Pair, ...]:  # noqa: A002
    """Read a file of fact pairs; its suffix says what it is.

    Args:
        path: `.jsonl`, `.csv` or `.tsv`, in UTF-8.
        subject: name of the field that holds the subject.
        object: name of the field that holds the object.

    Raises:
        MonitorError: there is no such file, or a line of it is not a pair; the sentence names line and field.
    """
    rows = _rows(path, (subject, object))
    pairs = tuple(_pair(path, line, row, (subject, object)) for line, row in rows)
    if not pairs:
        raise MonitorError(f"{path}: no pair in it; give at least one line with {subject!r} and {object!r}")
    return pairs


def _rows(path: Path, fields: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the line number, from 1, and the fields of each row."""
    if path.suffix not in _SUFFIXES:
        raise MonitorError(
            f"{path}: facts come as {', '.join(_SUFFIXES)}, not {path.suffix or 'a file without suffix'}"
        )
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise MonitorError(f"{path}: cannot be read ({error.strerror}); check the name") from error
    except UnicodeDecodeError as error:
        raise MonitorError(f"{path}: not UTF-8 at byte {error.start:,}; save it as UTF-8") from error
    if path.suffix in _TABLES:
        yield from _table(path, text, _TABLES[path.suffix], fields)
    else:
        yield from _json_lines(path, text)


def _json_lines(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    # Not `splitlines`: a string of JSON may hold line ends of Unicode.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise MonitorError(f"{path}, line {number:,}: not JSON ({error}); write one object a line") from error
        if not isinstance(value, dict):
            raise MonitorError(f"{path}, line {number:,}: a {type(value).__name__}, not an object with named fields")
        yield number, value


def _table(path: Path, text: str, between: str, fields: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=between, strict=True)
    try:
        names = next(rows, [])
        for field in fields:
            if field not in names:
                raise MonitorError(f"{path}, line 1: no column is named {field!r}; it has {some(names) or 'none'}")
        for row in rows:
            if not row:
                continue
            if len(row) != len(names):
                raise MonitorError(
                    f"{path}, line {rows.line_num:,}: {len(row)} fields for {len(names)} columns; "
                    "put a field that holds the separator in double quotes"
                )
            yield rows.line_num, dict(zip(names, row, strict=True))
    except csv.Error as error:
        raise MonitorError(f"{path}, line {rows.line_num:,}: not a table ({error}); check the quotes there") from error


def _pair(path: Path, line: int, row: dict[str, Any], fields: Sequence[str]) -> Pair:
    where = f"{path}, line {line:,}"
    for field in fields:
        if field not in row:
            raise MonitorError(f"{where}: no field {field!r}; it has {some(row) or 'none'}")
        if not isinstance(row[field], str):
            raise MonitorError(f"{where}: field {field!r} is {row[field]!r}, not text; put it in double quotes")
        if not row[field].strip():
            raise MonitorError(f"{where}: field {field!r} is empty; give the name as texts write it")
    return Pair(*(row[field] for field in fields))
