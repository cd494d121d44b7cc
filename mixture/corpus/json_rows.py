r"""Rows out of lines of JSON, fed block by block: a typed decoder, and an exact judge for whatever it refuses.

    b'{"text": "a", "n": 1}\n\nnot json\n{"text": ""}\n'
      -> lines 0 … 3; a document in row 0; row 1 is blank; rejects: 2 "invalid JSON", 3 "empty text"

The decoder (`msgspec`) is told which fields are wanted and of what type the text is. It skips the others without making
objects of them, so it costs little beyond the text itself. A block in which it refuses a line, or in which a text is
empty or too long, is judged again line by line, to say what is wrong. The verdict on a line depends on that line alone.

Rows that strict JSON refuses but Python writes (`NaN`, `Infinity`) are taken. In a field that nobody reads a number may
be too large for a double.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from mixture.corpus import fields, verdict
from mixture.corpus.documents import Reading, Reason, Reject

BOM = b"\xef\xbb\xbf"
_BLANK = b" \t\r"
_STRETCH = 1 << 16
#: In a field's name, what the typed decoder does not take: then all fields are decoded.
_UNSPELT = re.compile(r'["\\\x00-\x1f]')
_REFUSALS = (msgspec.DecodeError, RecursionError, UnicodeError)


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
        self._shape = _shape(reading.text, reading.columns)
        self._tail: list[bytes] = []
        self._count = 0
        self._texts: list[bytes] = []
        self._row: list[npt.NDArray[np.int64]] = []
        self._values: list[list[Any]] = [[] for _ in reading.columns]
        self._rejects: list[Reject] = []
        self._detail = ""

    def feed(self, data: bytes) -> None:
        """Take the next bytes; their last line may be cut off."""
        cut = data.rfind(b"\n")
        if cut >= 0:
            whole = b"".join([*self._tail, data[:cut]])
            self._tail = []
            self._take(self._unmarked(whole))
            data = data[cut + 1 :]
        if data:
            self._tail.append(data)

    def rows(self) -> Rows:
        """Return all rows; the last line may lack its newline."""
        if rest := self._unmarked(b"".join(self._tail)):
            self._take(rest)
        self._tail = []
        row = np.concatenate([np.zeros(0, np.int64), *self._row])
        names = self._reading.columns
        columns = verdict.table_of([fields.json_column(column) for column in self._values], names, len(row))
        return Rows(self._count, row, self._texts, columns, tuple(self._rejects), self._detail)

    def _unmarked(self, lines: bytes) -> bytes:
        return lines.removeprefix(BOM) if self._marked and not self._count else lines

    def _take(self, block: bytes) -> None:
        # What is skipped has not been looked at otherwise.
        is_utf8 = block.isascii() or not verdict.undecodable(fields.from_bytes([block]))
        lines = _lines_of_objects(block)
        if not is_utf8 or not lines or not self._quickly(block, lines):
            self._one_by_one(block.split(b"\n"))

    def _quickly(self, block: bytes, lines: int) -> bool:
        """Take so many lines, of an object each, if all of them hold a document; say whether they do."""
        try:
            rows = self._shape.decode_lines(block)
            texts = list(map(str.encode, map(self._shape.text, rows)))
        except (*_REFUSALS, TypeError):
            return False
        if len(rows) != lines or not all(texts) or max(map(len, texts)) > self._reading.max_document_bytes:
            return False
        columns = [[of(row) for row in rows] for of in self._shape.columns]
        if self._reading.key and any(map(_is_no_key, columns[self._reading.columns.index(self._reading.key)])):
            return False
        self._texts += texts
        for values, more in zip(self._values, columns, strict=True):
            values.extend(more)
        self._row.append(np.arange(self._count, self._count + lines))
        self._count += lines
        return True

    def _one_by_one(self, lines: Sequence[bytes]) -> None:
        row: list[int] = []
        for number, line in enumerate(lines, self._count):
            value, reason = _value(line, self._shape.generic)
            if value is not None:
                text, reason = _text(value, self._reading)
                if reason is None:
                    self._texts.append(text)
                    row.append(number)
                    for values, name in zip(self._values, self._reading.columns, strict=True):
                        values.append(fields.pick(value, name))
            if reason is not None:
                reject = Reject(number, reason, verdict.shown(line))
                self._detail = self._detail or (_explain(line, reject, self._reading) if not self._rejects else "")
                self._rejects.append(reject)
        self._row.append(np.array(row, dtype=np.int64))
        self._count += len(lines)


@dataclass(frozen=True)
class _Shape:
    """How wanted fields are taken from a line.

    Attributes:
        decode_lines: lines → rows that have them; refuses what is no object or has no such text.
        text: row → the text.
        columns: row → a column's value, MISSING where there is none.
        generic: line → the wanted fields of any type, by their names at the top level.
    """

    decode_lines: Callable[[bytes], list[Any]]
    text: Callable[[Any], str]
    columns: tuple[Callable[[Any], Any], ...]
    generic: Callable[[bytes], dict[str, Any]]


@functools.lru_cache(maxsize=64)
def _shape(text: str, columns: tuple[str, ...]) -> _Shape:
    tops = list(dict.fromkeys(top for name in (text, *columns) for top in (name, name.split(".")[0])))
    if any(map(_UNSPELT.search, tops)):
        every = msgspec.json.Decoder(dict[str, Any])
        getters = [functools.partial(fields.pick, name=name) for name in (text, *columns)]
        return _Shape(every.decode_lines, getters[0], tuple(getters[1:]), every.decode)
    names = {top: f"field_{number}" for number, top in enumerate(tops)}
    of_any = _decoder(dict.fromkeys(names.values(), (Any, fields.MISSING)), names)
    # A nested text's type is seen when it is encoded; fields without a default come first.
    strict = {names[text]: (str,)} if "." not in text else {}
    of_text = _decoder(strict | {n: (Any, fields.MISSING) for n in names.values() if n not in strict}, names)

    def generic(line: bytes) -> dict[str, Any]:
        row = of_any.decode(line)
        found = {top: getattr(row, name) for top, name in names.items()}
        return {top: value for top, value in found.items() if value is not fields.MISSING}

    return _Shape(of_text.decode_lines, _getter(text, names), tuple(_getter(name, names) for name in columns), generic)


def _decoder(kinds: Mapping[str, tuple[Any, ...]], names: Mapping[str, str]) -> msgspec.json.Decoder[Any]:
    kind = msgspec.defstruct(
        "Row",
        [(name, *of) for name, of in kinds.items()],
        rename={name: top for top, name in names.items()},
        gc=False,
    )
    return msgspec.json.Decoder(kind)


def _getter(name: str, names: Mapping[str, str]) -> Callable[[Any], Any]:
    """Return what `fields.pick` would, for rows of a `_shape`."""
    literal = attrgetter(names[name])
    if "." not in name:
        return literal
    top = name.split(".", maxsplit=1)[0]
    parent = attrgetter(names[top])
    return lambda row: fields.pick({name: literal(row), top: parent(row)}, name)


def _lines_of_objects(block: bytes) -> int:
    """Return the number of lines, or 0 unless each of them begins with { and ends with }.

    In valid JSON `}` and then `{` only ever meet between two whole values. So if every line looks like that and there
    are as many objects as lines, each line is one object.
    """
    view = np.frombuffer(block, dtype=np.uint8)
    # By stretches that fit the cache, result and all.
    found = [np.flatnonzero(view[at : at + _STRETCH] == ord("\n")) + at for at in range(0, len(view), _STRETCH)]
    stop = np.concatenate([*found, [len(view)]])
    start = np.append(0, stop[:-1] + 1)
    if (stop - start < 2).any():
        return 0
    last = view[stop - 1]
    last = np.where(last == ord("\r"), view[stop - 2], last)
    return len(stop) if (view[start] == ord("{")).all() and (last == ord("}")).all() else 0


def _is_no_key(value: Any) -> bool:
    return value is fields.MISSING or value is None or value == ""


def _explain(line: bytes, reject: Reject, reading: Reading) -> str:
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


def _value(line: bytes, generic: Callable[[bytes], dict[str, Any]]) -> tuple[dict[str, Any] | None, Reason | None]:
    """Return a line's object with the wanted fields, or why it is none; neither for a blank line."""
    if not line.strip(_BLANK):
        return None, None
    try:
        line.decode()
        return generic(line), None
    except UnicodeDecodeError:
        return None, "not UTF-8"
    except _REFUSALS:
        return _odd_value(line)


def _odd_value(line: bytes) -> tuple[dict[str, Any] | None, Reason | None]:
    """Judge a line that the decoder refuses: Python's own JSON, or nonsense."""
    try:
        value = json.loads(line.decode())
        # Lone surrogates, `"\ud800"`, come through Python's parser and stop here.
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return None, "not UTF-8"
    except (ValueError, RecursionError):
        return None, "invalid JSON"
    return (value, None) if isinstance(value, dict) else (None, "invalid JSON")
