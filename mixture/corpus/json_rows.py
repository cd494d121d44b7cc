r"""Rows out of lines of JSON, fed block by block: a typed decoder, and an exact judge for whatever it refuses.

    b'{"text": "a", "n": 1}\n\nnot json\n{"text": ""}\n'
      -> lines 0 … 3; a document in row 0; row 1 is blank; rejects: 2 "invalid JSON", 3 "empty text"

The decoder (pydantic's core) is told which fields are wanted and that the text is `bytes`: it hands the text over as
UTF-8, as the tokenizers take it, without making a Python string first, and makes no objects of other fields. Lines are
decoded many at a time; where it refuses one, each is asked again, and what it refuses is judged by Python's parser, to
say what is wrong. The verdict on a line depends on that line alone.

What strict JSON refuses but Python writes (`NaN`, `Infinity`) is taken.
"""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
from pydantic_core import SchemaValidator, ValidationError, core_schema

from mixture.corpus import fields, verdict
from mixture.corpus.documents import Reading, Reason, Reject

BOM = b"\xef\xbb\xbf"
_BLANK = b" \t\r"
Line: TypeAlias = bytes | bytearray


@dataclass(frozen=True)
class Rows:
    """What the lines of a chunk hold; as in `Chunk`, and what there is to say of the first reject."""

    rows: int
    row: npt.NDArray[np.int64]
    texts: list[bytes]
    columns: pa.Table
    rejects: tuple[Reject, ...]
    detail: str


class Gatherer:
    """Takes the bytes of a chunk's lines, cut anywhere, and makes rows of them.

    Args:
        reading: the text field, columns, and the size limit; `skip_bad` is the caller's business.
        marked: whether the chunk's first line may begin with a byte order mark, which is left out.
    """

    def __init__(self, reading: Reading, *, marked: bool = False) -> None:
        self._reading = reading
        self._marked = marked
        self._decode = _decoder(reading.text, reading.columns)
        self._tail = bytearray()
        self._count = 0
        self._texts: list[bytes] = []
        self._row: list[npt.NDArray[np.int64]] = []
        self._values: list[list[Any]] = [[] for _ in reading.columns]
        self._rejects: list[Reject] = []
        self._detail = ""

    def feed(self, data: bytes) -> None:
        """Take the next bytes; their last line may be cut off."""
        lines: list[Line] = list(io.BytesIO(data).readlines())
        if lines and self._tail:
            self._tail += lines[0]
            lines[0], self._tail = self._tail, bytearray()
        if lines and not lines[-1].endswith(b"\n"):
            last = lines.pop()
            self._tail = last if isinstance(last, bytearray) else bytearray(last)
        if lines:
            self._take(lines)

    def rows(self) -> Rows:
        """Return all rows; the last line may lack its newline."""
        last, self._tail = self._tail, bytearray()
        if last and not (self._marked and not self._count and last == BOM):
            self._take([last])
        row = np.concatenate([np.zeros(0, np.int64), *self._row])
        names = self._reading.columns
        columns = verdict.table_of([fields.json_column(column) for column in self._values], names, len(row))
        return Rows(self._count, row, self._texts, columns, tuple(self._rejects), self._detail)

    def _take(self, lines: list[Line]) -> None:
        if self._marked and not self._count and lines[0].startswith(BOM):
            lines[0] = lines[0][len(BOM) :]
        if not self._quickly(lines):
            for line in lines:
                if not self._quickly([line]):
                    self._judge(line)

    def _quickly(self, lines: Sequence[Line]) -> bool:
        """Take lines if all of them hold a document; say whether they do."""
        name, names, key = self._reading.text, self._reading.columns, self._reading.key
        try:
            rows = list(map(self._decode, lines))
            texts = [row[name] for row in rows] if _is_typed(name, names) else [_encoded(row, name) for row in rows]
        except (ValidationError, UnicodeError, TypeError):
            return False
        if not all(texts) or max(map(len, texts)) > self._reading.max_document_bytes:
            return False
        if key and any(_is_no_key(fields.pick(row, key)) for row in rows):
            return False
        self._add(texts, rows)
        return True

    def _judge(self, line: Line) -> None:
        """Take a line that the decoder refuses, or say why it holds no document."""
        line = line.removesuffix(b"\n")
        value, reason = _value(line)
        if value is not None:
            text, reason = _text(value, self._reading)
            if reason is None:
                self._add([text], [value])
                return
        if reason is not None:
            reject = Reject(self._count, reason, verdict.shown(line))
            self._detail = self._detail or (_explain(line, reject, self._reading) if not self._rejects else "")
            self._rejects.append(reject)
        self._count += 1

    def _add(self, texts: Sequence[bytes], rows: Sequence[Mapping[str, Any]]) -> None:
        """Take documents, one of each of the next lines."""
        self._texts += texts
        for values, name in zip(self._values, self._reading.columns, strict=True):
            values.extend([fields.pick(row, name) for row in rows])
        self._row.append(np.arange(self._count, self._count + len(texts)))
        self._count += len(texts)


def _is_typed(text: str, columns: Sequence[str]) -> bool:
    """Say whether the text can be asked for as bytes: it is at the top level and no column besides."""
    return "." not in text and text not in columns


@functools.lru_cache(maxsize=64)
def _decoder(text: str, columns: tuple[str, ...]) -> Callable[[Line], dict[str, Any]]:
    """Return what makes of a line its object with the wanted fields, by their names at the top level."""
    tops = {top for name in (text, *columns) for top in (name, name.split(".")[0])}
    wanted = {top: core_schema.typed_dict_field(core_schema.any_schema(), required=False) for top in tops}
    if _is_typed(text, columns):
        wanted[text] = core_schema.typed_dict_field(core_schema.bytes_schema())
    return SchemaValidator(core_schema.typed_dict_schema(wanted)).validate_json


def _encoded(row: Mapping[str, Any], name: str) -> bytes:
    return str.encode(fields.pick(row, name))


def _is_no_key(value: Any) -> bool:
    return value is fields.MISSING or value is None or value == ""


def _explain(line: Line, reject: Reject, reading: Reading) -> str:
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
    lacking = reading.key and _is_no_key(fields.pick(row, reading.key))
    return text, "no join key" if lacking else None


def _value(line: Line) -> tuple[dict[str, Any] | None, Reason | None]:
    """Return a line's object, or why it is none; neither for a blank line."""
    if not line.strip(_BLANK):
        return None, None
    try:
        value = json.loads(line.decode())
        # Lone surrogates, `"\ud800"`, come through Python's parser and stop here.
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeError:
        return None, "not UTF-8"
    except (ValueError, RecursionError):
        return None, "invalid JSON"
    return (value, None) if isinstance(value, dict) else (None, "invalid JSON")
