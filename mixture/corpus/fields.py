"""Dotted names: `meta.title` in a JSON object, in an Arrow schema, in a column of structs.

A name that exists as it is written, dots and all, is that field; otherwise each dot steps into a nested one.

    {"meta": {"title": "Emma"}}        meta.title -> "Emma"
    {"meta.title": "Emma"}             meta.title -> "Emma"

In JSON the choice is made row by row, and a literal null does not hide a nested value.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

#: What `pick` returns where a row has no such field (None is a field that is null).
MISSING: Any = type("Missing", (), {"__repr__": lambda _: "MISSING"})()

_INT64 = (-(1 << 63), (1 << 63) - 1)
_BYTES = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary(), pa.string_view(): pa.binary_view()}


def pick(row: Mapping[str, Any], name: str) -> Any:
    """Return a JSON object's value under a dotted name: None if it is null, MISSING if it is not there."""
    literal = row.get(name, MISSING)
    if (literal is not MISSING and literal is not None) or "." not in name:
        return literal
    value: Any = row
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return literal
        value = value[part]
    return value


def json_names(row: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return the dotted names of the fields of a JSON object, in its order."""
    names: list[str] = []
    for key, value in row.items():
        if isinstance(value, Mapping) and value:
            names += json_names(value, f"{prefix}{key}.")
        else:
            names.append(f"{prefix}{key}")
    return names


def json_column(values: Sequence[Any]) -> pa.Array:
    """Build a column of JSON values, MISSING and None being null.

    The type is null, bool, int64, double (numbers that are not all integers) or large_string if all values are;
    anything else, integers beyond 64 bits among it, becomes large_string with strings as they are and the JSON text
    of other values.
    """
    cleaned = [None if value is MISSING else value for value in values]
    kind = _common(cleaned)
    if kind == pa.float64():
        cleaned = [None if value is None else float(value) for value in cleaned]
    elif kind is None:
        cleaned = [_as_text(value) for value in cleaned]
        kind = pa.large_string()
    return pa.array(cleaned, type=kind)


def _common(values: Iterable[Any]) -> pa.DataType | None:
    types = {type(value) for value in values} - {type(None)}
    if types == {int}:
        inside = all(value is None or _INT64[0] <= value <= _INT64[1] for value in values)
        return pa.int64() if inside else None
    if types and types <= {int, float}:
        return pa.float64()
    return {(): pa.null(), (bool,): pa.bool_(), (str,): pa.large_string()}.get(tuple(types))


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    try:
        return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # It writes no integer beyond 64 bits.
        return json.dumps(value, default=str, separators=(",", ":"), ensure_ascii=False)


def arrow_names(schema: pa.Schema | pa.StructType, prefix: str = "") -> list[str]:
    """Return the dotted names of the fields of an Arrow schema, in its order."""
    names: list[str] = []
    for field in schema:
        if pa.types.is_struct(field.type) and field.type.num_fields:
            names += arrow_names(field.type, f"{prefix}{field.name}.")
        else:
            names.append(f"{prefix}{field.name}")
    return names


def arrow_path(schema: pa.Schema, name: str) -> tuple[str, ...] | None:
    """Return the way to a dotted name, from the top-level column down, or None where there is no such field."""
    if schema.get_field_index(name) >= 0:
        return (name,)
    path = tuple(name.split("."))
    return path if arrow_type(schema, path) is not None else None


def arrow_type(schema: pa.Schema, path: tuple[str, ...]) -> pa.DataType | None:
    """Return the type at the end of a way through nested structs, or None where it leads nowhere."""
    here: Any = pa.struct(list(schema))
    for part in path:
        index = here.get_field_index(part) if pa.types.is_struct(here) else -1
        if index < 0:
            return None
        here = here.field(index).type
    return here


def arrow_column(batch: pa.RecordBatch | pa.Table, name: str) -> pa.Array:
    """Return a batch's column under a dotted name, null wherever a parent is; null throughout if it is not there."""
    path = arrow_path(batch.schema, name)
    if path is None:
        return pa.nulls(batch.num_rows)
    column = batch.column(path[0])
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    return pc.struct_field(column, list(path[1:])) if len(path) > 1 else column


def plain(column: pa.Array) -> pa.Array:
    """Return a column as a later stage can take it: no dictionaries or views, nested values as their JSON text."""
    kind = column.type
    if isinstance(column, pa.ExtensionArray):
        return plain(column.storage)
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return plain(pc.run_end_decode(column) if pa.types.is_run_end_encoded(kind) else column.dictionary_decode())
    if pa.types.is_string(kind) or pa.types.is_string_view(kind):
        return column.cast(pa.large_string())
    if pa.types.is_nested(kind):
        return pa.array([_as_text(value) for value in column.to_pylist()], type=pa.large_string())
    column.validate(full=True)
    return column


def is_text(kind: pa.DataType) -> bool:
    """Say whether a column of this type can hold the text: strings or bytes of any layout, or nulls alone."""
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return is_text(kind.value_type)
    layouts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_binary)
    more = (
        pa.types.is_large_binary,
        pa.types.is_binary_view,
        pa.types.is_null,
        pa.types.is_fixed_size_binary,
    )
    return any(check(kind) for check in layouts + more)


def as_bytes(column: pa.Array) -> pa.LargeBinaryArray:
    """Return a column of strings or bytes of any layout as large_binary, without a copy where the layout allows."""
    if pa.types.is_dictionary(column.type):
        # Cast first: the decoded strings may need 64-bit offsets where the distinct ones did not.
        column = column.cast(pa.dictionary(column.type.index_type, pa.large_binary())).dictionary_decode()
    elif pa.types.is_run_end_encoded(column.type):
        column = pc.run_end_decode(column)
    if column.type in _BYTES:
        column = column.view(_BYTES[column.type])
    column.validate(full=True)  # Offsets; what the bytes hold is judged row by row.
    return column.cast(pa.large_binary())


def from_bytes(pieces: Sequence[bytes]) -> pa.LargeBinaryArray:
    """Build a large_binary array of the pieces, joining them once."""
    offsets = np.zeros(len(pieces) + 1, dtype=np.int64)
    np.cumsum([len(piece) for piece in pieces], out=offsets[1:])
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(pieces))]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(pieces), buffers)


def to_bytes(array: pa.LargeBinaryArray) -> list[bytes]:
    """Return the values of a large_binary array without nulls."""
    if not len(array):
        return []
    offsets = np.frombuffer(array.buffers()[1], np.int64, len(array) + 1, 8 * array.offset).tolist()
    whole = memoryview(array.buffers()[2] or b"")
    return [bytes(whole[begin:end]) for begin, end in itertools.pairwise(offsets)]
