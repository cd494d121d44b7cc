"""Text: a file is one document, in one chunk, in row 0; `.gz` and `.zst` are decompressed.

Bytes are taken as they are: line ends, leading blanks and a byte order mark belong to the text. A file without a
byte holds no document.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from mixture.corpus import bytestream, fields, verdict
from mixture.corpus.documents import Chunk, InputFile, Reading, Reason, Reject
from mixture.errors import InputError


def chunks(file: InputFile, reading: Reading) -> int | None:  # noqa: ARG001 (every format has this signature)
    """Return 1: the file."""
    return 1


def read(file: InputFile, reading: Reading, start: int = 0, step: int = 1) -> Iterator[Chunk]:  # noqa: ARG001
    """Yield the file's one chunk, if `start` is 0.

    Raises:
        InputError: the file cannot be read or decompressed, or (unless `reading.skip_bad`) is not UTF-8 or too large.
    """
    if start:
        return
    pieces, size = [], 0
    for block in bytestream.blocks(file):
        pieces.append(block)
        size += len(block)
        if size > reading.max_document_bytes:
            break  # The verdict is certain; the rest need not be held.
    text = b"".join(pieces)
    pieces.clear()
    reason = _fault(text, reading)
    rejects = (Reject(0, reason, verdict.shown(text)),) if reason else ()
    if rejects and not reading.skip_bad:
        raise InputError(_sentence(file, rejects[0], reading))
    kept = [text] if text and not reason else []
    names = reading.columns
    columns = verdict.table_of([pa.nulls(len(kept)) for _ in names], names, len(kept))
    row = np.arange(len(kept), dtype=np.int64)
    yield Chunk(0, 1 if text else 0, row, kept, columns, rejects)


def _fault(text: bytes, reading: Reading) -> Reason | None:
    if not text:
        return None
    return verdict.faults(fields.from_bytes([text]), reading.max_document_bytes).get(0)


def _sentence(file: InputFile, reject: Reject, reading: Reading) -> str:
    if reject.reason == "over the size limit":
        cause = f"over the size limit of {reading.max_document_bytes:,} bytes for one document"
    else:
        cause = "not UTF-8 text"
    return (
        f"{file.name}: {cause}: {reject.sample}; mend or exclude the file, or let such files be counted and left out "
        "with `on_bad_row: skip`"
    )
