r"""Which rows hold a document, and the sentence for the first that does not.

text        "Emma …"   null        ""           b"\xff"
verdict     document   null text   empty text   not UTF-8
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mixture.corpus import fields
from mixture.corpus.documents import Chunk, InputFile, Reading, Reason, Reject
from mixture.errors import InputError, nearest

_SAMPLE = 80


def shown(row: bytes | bytearray | memoryview) -> str:
    """Return at most 80 printable characters of a row's start."""
    text = bytes(row[: 4 * _SAMPLE]).decode("utf-8", errors="replace")[:_SAMPLE]
    return "".join(c if c.isprintable() else "\N{MIDDLE DOT}" for c in text)


def unfit(text: pa.LargeBinaryArray, limit: int) -> dict[int, Reason]:
    """Return the rows of a text column that are null, empty or too long, with the reason, in row order."""
    offsets = np.frombuffer(text.buffers()[1] or bytes(8), dtype=np.int64)[text.offset :][: len(text) + 1]
    lengths = np.diff(offsets)
    if text.null_count:
        lengths[pc.is_null(text).to_numpy(zero_copy_only=False)] = -1
    reasons: dict[int, Reason] = {-1: "null text", 0: "empty text"}
    bad = np.flatnonzero((lengths <= 0) | (lengths > limit)).tolist()
    return {row: reasons.get(int(lengths[row]), "over the size limit") for row in bad}


def faults(text: pa.LargeBinaryArray, limit: int) -> dict[int, Reason]:
    """Return the rows of a text column that hold no document, with the reason, in row order.

    Args:
        text: one text per row.
        limit: most bytes that a text may have.
    """
    found = unfit(text, limit)
    if undecodable(text):
        _add_undecodable(text, found)
    return dict(sorted(found.items()))


def undecodable(text: pa.LargeBinaryArray) -> bool:
    """Say whether any text is not UTF-8."""
    try:
        text.view(pa.large_string()).validate(full=True)
    except (pa.ArrowInvalid, UnicodeDecodeError):
        return True
    return False


def _add_undecodable(text: pa.LargeBinaryArray, found: dict[int, Reason]) -> None:
    text.validate(full=True)  # Raises if the offsets are broken; what is left is the content.
    for row, value in enumerate(text):
        if row not in found:
            try:
                value.as_buffer().to_pybytes().decode("utf-8")
            except UnicodeDecodeError:
                found[row] = "not UTF-8"


def chunk_of_batches(
    index: int,
    file: InputFile,
    reading: Reading,
    first_row: int,
    batches: Sequence[pa.RecordBatch | pa.Table],
) -> Chunk:
    """Judge the rows of a stretch of an Arrow-like file.

    Args:
        index: number of the chunk.
        file: the file, for the sentence.
        reading: the text field and the columns wanted; the text field is in every batch (see `check_schema`).
        first_row: number in the file of the stretch's first row.
        batches: the stretch's rows, in order, with at least the wanted columns.

    Raises:
        InputError: a row holds no document and `reading.skip_bad` is false.
    """
    texts = [fields.as_bytes(fields.arrow_column(batch, reading.text)) for batch in batches]
    text = pa.concat_arrays(texts) if len(texts) != 1 else texts[0]
    columns = _columns(batches, reading.columns, len(text))
    found = faults(text, reading.max_document_bytes)
    bad = [Reject(row, reason, _sample(text[row], reading.text)) for row, reason in found.items()]
    keyless = without_key(columns, reading.key)
    bad += [Reject(row, "no join key", _sample_key(columns, reading.key, row)) for row in keyless if row not in found]
    rejects = tuple(sorted(bad, key=lambda reject: reject.row))
    if rejects and not reading.skip_bad:
        where = f"row {first_row + rejects[0].row:,}"
        raise InputError(bad_row(file, where, rejects[0], reading))
    rows: npt.NDArray[np.int64] = np.arange(len(text), dtype=np.int64)
    if rejects:
        rows = np.delete(rows, [reject.row for reject in rejects])
        text, columns = text.take(pa.array(rows)), columns.take(pa.array(rows))
    return Chunk(index, len(text) + len(rejects), rows, fields.to_bytes(text), columns, rejects)


def _columns(batches: Sequence[pa.RecordBatch | pa.Table], names: tuple[str, ...], rows: int) -> pa.Table:
    arrays = [
        pa.chunked_array([fields.plain(fields.arrow_column(batch, name)) for batch in batches]).combine_chunks()
        for name in names
    ]
    return table_of(arrays, names, rows)


def table_of(arrays: Sequence[pa.Array], names: tuple[str, ...], rows: int) -> pa.Table:
    """Return a table of columns that knows its number of rows even without any column."""
    return pa.Table.from_arrays([*arrays, pa.nulls(rows)], names=[*names, ""]).select(list(range(len(names))))


def without_key(columns: pa.Table, key: str) -> list[int]:
    """Return the rows in which the key is null or empty; none where no key is asked for."""
    if not key:
        return []
    column = columns[key]
    lacking = pc.is_null(column)
    if pa.types.is_large_string(column.type):
        lacking = pc.or_(lacking, pc.equal(pc.fill_null(pc.binary_length(column), 0), 0))
    return list(pc.indices_nonzero(lacking).to_pylist())


def _sample_key(columns: pa.Table, key: str, row: int) -> str:
    return f"{key}: null" if columns[key][row].as_py() is None else f'{key}: ""'


def _sample(text: pa.LargeBinaryScalar, name: str) -> str:
    if not text.is_valid:
        return f"{name}: null"
    start = text.as_buffer()
    return shown(memoryview(start)) if start.size else f'{name}: ""'


def bad_row(file: InputFile, where: str, reject: Reject, reading: Reading, detail: str = "") -> str:
    """Return the sentence for a row that holds no document.

    Args:
        file: the file that it is in.
        where: its place in the file: `row 3`, `line 4 (row 3)`.
        reject: what is wrong with it.
        reading: the text field, and the size limit if that is what it breaks.
        detail: what the parser said, or which fields are there.
    """
    cause: dict[str, str] = {
        "missing text": f"no field {reading.text!r}",
        "null text": f"{reading.text!r} is null",
        "text is not a string": f"{reading.text!r} is not a string",
        "empty text": f"{reading.text!r} is empty",
        "no join key": f"{reading.key!r}, by which documents are joined, is not there, null or empty",
        "over the size limit": f"{reading.text!r} is over the size limit of {reading.max_document_bytes:,} bytes",
    }
    said = cause.get(reject.reason, reject.reason) + (f" ({detail})" if detail else "")
    return (
        f"{file.name}, {where}: {said}: {reject.sample}; mend the row, or let such rows be counted and left out with "
        "`on_bad_row: skip`"
    )


def known_fields(wanted: str, names: Sequence[str]) -> str:
    """Return which fields there are, and the nearest to the one wanted."""
    listed = ", ".join(names[:24]) + (", …" if len(names) > 24 else "")
    guess = nearest(wanted, names)
    hint = f"; {guess}" if guess.startswith("did") else ""
    return f"fields there: {listed or 'none'}{hint}"


def check_schema(file: InputFile, schema: pa.Schema, reading: Reading) -> None:
    """Refuse a table that has no such text field, or one that is not text, or no such key.

    Raises:
        InputError: names the fields that are there.
    """
    path = fields.arrow_path(schema, reading.text)
    if path is None:
        there = known_fields(reading.text, fields.arrow_names(schema))
        raise InputError(f"{file.name}: no field {reading.text!r}; {there}; name the right one with `text:`")
    kind = fields.arrow_type(schema, path)
    if not fields.is_text(kind):
        there = known_fields(reading.text, _text_names(schema))
        raise InputError(
            f"{file.name}: {reading.text!r} is {kind}, not a string; of the strings, {there}; "
            "name the right one with `text:`"
        )
    if reading.key and fields.arrow_path(schema, reading.key) is None:
        there = known_fields(reading.key, fields.arrow_names(schema))
        raise InputError(f"{file.name}: no field {reading.key!r}; {there}; name the right one with `join.by`")


def _text_names(schema: pa.Schema) -> list[str]:
    def texty(name: str) -> bool:
        path = fields.arrow_path(schema, name)
        return path is not None and fields.is_text(fields.arrow_type(schema, path))

    return [name for name in fields.arrow_names(schema) if texty(name)]
