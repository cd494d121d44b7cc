r"""The rows of one chunk of JSON lines: a fast parser, and an exact one that is asked wherever the fast one doubts.

    b'{"text": "a", "n": 1}\n\nnot json\n{"text": ""}\n'
      -> lines 0 … 3; a document in row 0; row 1 is blank; rejects: 2 "invalid JSON", 3 "empty text"

The fast path is Arrow's JSON reader with an explicit schema: it builds the UTF-8 column without a Python object per
row. It is looser than JSON in places (it splits values by content, not by line; skips what no schema names without
checking its UTF-8; crashes on a line that is `null`), so lines are checked here first, and a chunk with anything
unusual (a null, a type that differs, any error) is parsed again, row by row, by orjson. Both give the same chunk.

Rows that strict JSON refuses but Python writes (`NaN`, `Infinity`) are taken, by both. What is left between the two:
in a field that nobody reads, the fast path also takes `Inf`, `-NaN`, and values nested a thousand deep.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from mixture.corpus import fields, verdict
from mixture.corpus.documents import Reading, Reason, Reject

#: Arrow parses a chunk in blocks that stay in the cache; a longer line makes its block longer.
_BLOCK_BYTES = 1 << 23
_SCAN_BYTES = 1 << 18
# Beyond this Arrow's 32-bit lengths are near; the exact parser has none.
_MAX_FAST_LINE = 1 << 30
_SAMPLED_ROWS = 64
_BLANK = b" \t\r"
_FAST_TYPES: dict[type, pa.DataType] = {
    bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.large_string()
}  # fmt: skip


@dataclass(frozen=True)
class Rows:
    """What the lines of a chunk hold; as in `Chunk`."""

    rows: int
    row: npt.NDArray[np.int64]
    text: pa.LargeBinaryArray
    columns: pa.Table
    rejects: tuple[Reject, ...]


@dataclass(frozen=True)
class _Lines:
    """The lines of a chunk: line i is data[start[i] : stop[i]], without its newline; shapes (n,)."""

    data: memoryview
    start: npt.NDArray[np.int64]
    stop: npt.NDArray[np.int64]

    def __iter__(self) -> Iterator[memoryview]:
        for start, stop in zip(self.start.tolist(), self.stop.tolist(), strict=True):
            yield self.data[start:stop]


def parse(data: memoryview, reading: Reading) -> Rows:
    """Return the documents and the rejects of whole lines, in order.

    Args:
        data: lines of a file; the last may lack its newline.
        reading: the text field, columns, and the size limit; `skip_bad` is the caller's business.
    """
    lines = _split(data)
    return _fast(lines, reading) or _exact(lines, reading)


def line_at(data: memoryview, row: int) -> memoryview:
    """Return one line of a chunk, without its newline."""
    lines = _split(data)
    return data[lines.start[row] : lines.stop[row]]


def explain(line: memoryview, reject: Reject, reading: Reading) -> str:
    """Return what there is to say of a bad row beyond the reason: the parser's words, or the fields that are there."""
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return str(error).split(": line")[0] if reject.reason == "invalid JSON" else ""
    if not isinstance(value, dict):
        return f"a row is an object, {{…}}, not {_KINDS.get(type(value), 'a value')}"
    wanted = {"missing text": reading.text, "no join key": reading.key}.get(reject.reason, "")
    lacking = wanted and fields.pick(value, wanted) is fields.MISSING
    return verdict.known_fields(wanted, fields.json_names(value)) if lacking else ""


_KINDS = {list: "an array", str: "a string", int: "a number", float: "a number", bool: "a boolean", type(None): "null"}


def _split(data: memoryview) -> _Lines:
    view = np.frombuffer(data, dtype=np.uint8)
    # In stretches that fit the cache: the comparison's result would otherwise be as large as the chunk.
    found = [np.flatnonzero(view[at : at + _SCAN_BYTES] == 10) + at for at in range(0, len(view), _SCAN_BYTES)]
    stop = np.concatenate(found) if found else np.zeros(0, dtype=np.int64)
    if len(view) and view[-1] != 10:
        stop = np.append(stop, len(view))
    start = np.zeros_like(stop)
    start[1:] = stop[:-1] + 1
    return _Lines(data, start, stop)


def _fast(lines: _Lines, reading: Reading) -> Rows | None:
    """Parse with Arrow, or return None if there is any doubt that the exact parser would say the same."""
    row = _object_rows(lines)
    if row is None or not len(row) or not _is_utf8(lines.data):
        return None
    kinds = _guess(lines, row, reading)
    schema = _schema({reading.text: pa.large_string(), **kinds}) if kinds is not None else None
    longest = int((lines.stop - lines.start).max()) + 1
    if kinds is None or schema is None or longest > _MAX_FAST_LINE:
        return None
    try:
        table = pj.read_json(
            pa.BufferReader(lines.data),
            read_options=pj.ReadOptions(use_threads=False, block_size=max(_BLOCK_BYTES, longest)),
            parse_options=pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
        text = _column(table, reading.text).view(pa.large_binary())
        if len(text) != len(row) or verdict.unfit(text, reading.max_document_bytes):
            return None
        columns = [fields.plain(_column(table, name)) for name in reading.columns]
    except (pa.ArrowException, UnicodeDecodeError):
        return None
    made = verdict.table_of(columns, reading.columns, len(row))
    return None if verdict.without_key(made, reading.key) else Rows(len(lines.stop), row, text, made, ())


def _object_rows(lines: _Lines) -> npt.NDArray[np.int64] | None:
    """Return the lines that are not blank, or None unless each of them begins with { and ends with }.

    In valid JSON `}` and then `{` only ever meet between two whole values. So if every line looks like that and there
    are as many objects as lines, each line is one object, and Arrow's rows are the lines.
    """
    view = np.frombuffer(lines.data, dtype=np.uint8)
    start, stop = lines.start, lines.stop
    stop = stop - ((stop > start) & (view[stop - 1] == 13))
    row = np.flatnonzero(stop > start)
    whole = (view[start[row]] == ord("{")) & (view[stop[row] - 1] == ord("}"))
    return row if bool(whole.all()) else None


def _is_utf8(data: memoryview) -> bool:
    offsets = pa.py_buffer(np.array([0, len(data)], dtype=np.int64))
    whole = pa.Array.from_buffers(pa.large_string(), 1, [None, offsets, pa.py_buffer(data)])
    try:
        whole.validate(full=True)
    except (pa.ArrowInvalid, UnicodeDecodeError):
        return False
    return True


def _guess(lines: _Lines, row: npt.NDArray[np.int64], reading: Reading) -> dict[str, pa.DataType] | None:
    """Return each column's type as its first rows have it (null if none has it), or None if no fast type fits."""
    if not reading.columns:
        return {}
    seen: dict[str, set[type]] = {name: set() for name in reading.columns}
    for number in row[:_SAMPLED_ROWS].tolist():
        value, _ = _value(lines.data[lines.start[number] : lines.stop[number]])
        if value is None:
            return None
        for name, types in seen.items():
            types.add(type(fields.pick(value, name)))
    kinds: dict[str, pa.DataType] = {}
    for name, types in seen.items():
        present = types - {type(None), type(fields.MISSING)}
        kind = float if present == {int, float} else next(iter(present)) if len(present) == 1 else None
        if present and kind not in _FAST_TYPES:
            return None
        kinds[name] = _FAST_TYPES[kind] if kind else pa.null()
    return kinds


def _schema(kinds: Mapping[str, pa.DataType]) -> pa.Schema | None:
    """Return the schema that reads each name both as it is written and nested, or None if two names collide."""
    tree: dict[str, Any] = {}
    for name, kind in kinds.items():
        ways = [(name,), tuple(name.split("."))] if "." in name else [(name,)]
        for path in ways:
            here = tree
            for part in path[:-1]:
                here = here.setdefault(part, {})
                if not isinstance(here, dict):
                    return None
            if here.setdefault(path[-1], kind) != kind:
                return None
    return pa.schema(_arrow_fields(tree))


def _arrow_fields(tree: Mapping[str, Any]) -> list[pa.Field]:
    return [
        pa.field(name, pa.struct(_arrow_fields(kind)) if isinstance(kind, dict) else kind)
        for name, kind in tree.items()
    ]


def _column(table: pa.Table, name: str) -> pa.Array:
    literal = table.column(name).combine_chunks()
    if "." not in name or not literal.null_count:
        return literal
    first, *rest = name.split(".")
    nested = pc.struct_field(table.column(first).combine_chunks(), rest)
    return nested if literal.null_count == len(literal) else pc.coalesce(literal, nested)


def _exact(lines: _Lines, reading: Reading) -> Rows:
    texts: list[bytes] = []
    values: list[list[Any]] = [[] for _ in reading.columns]
    row: list[int] = []
    rejects: list[Reject] = []
    for number, line in enumerate(lines):
        value, reason = _value(line)
        if value is not None:
            text, reason = _text(value, reading)
            if reason is None:
                texts.append(text)
                row.append(number)
                for column, name in zip(values, reading.columns, strict=True):
                    column.append(fields.pick(value, name))
        if reason is not None:
            rejects.append(Reject(number, reason, verdict.shown(line)))
    columns = verdict.table_of([fields.json_column(column) for column in values], reading.columns, len(row))
    return Rows(len(lines.stop), np.array(row, dtype=np.int64), fields.from_bytes(texts), columns, tuple(rejects))


def _text(row: Mapping[str, Any], reading: Reading) -> tuple[bytes, Reason | None]:
    value = fields.pick(row, reading.text)
    if value is fields.MISSING:
        return b"", "missing text"
    if value is None:
        return b"", "null text"
    if not isinstance(value, str):
        return b"", "text is not a string"
    text = value.encode()
    if not text:
        return b"", "empty text"
    if len(text) > reading.max_document_bytes:
        return text, "over the size limit"
    lacking = reading.key and fields.pick(row, reading.key) in (fields.MISSING, None, "")
    return text, "no join key" if lacking else None


def _value(line: memoryview) -> tuple[dict[str, Any] | None, Reason | None]:
    """Return a line's object, or why it is none; neither for a blank line."""
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return _odd_value(line)
    return (value, None) if isinstance(value, dict) else (None, "invalid JSON")


def _odd_value(line: memoryview) -> tuple[dict[str, Any] | None, Reason | None]:
    """Judge a line that orjson refuses: blank, not UTF-8, Python's own JSON, or nonsense."""
    raw = bytes(line)
    if not raw.strip(_BLANK):
        return None, None
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return None, "not UTF-8"
    try:
        value = json.loads(text)
        # Lone surrogates, `"\ud800"`, come through Python's parser and stop here.
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return None, "not UTF-8"
    except (ValueError, RecursionError):
        return None, "invalid JSON"
    return (value, None) if isinstance(value, dict) else (None, "invalid JSON")
