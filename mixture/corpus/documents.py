"""The nouns of reading: an input file, what to take of it, a chunk of documents, a rejected row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mixture.storage import Place

#: Text in a chunk, about; one document may be longer.
CHUNK_BYTES = 64 << 20

Reason = Literal[
    "invalid JSON",
    "missing text",
    "null text",
    "text is not a string",
    "empty text",
    "not UTF-8",
    "over the size limit",
    "no join key",
]


@dataclass(frozen=True)
class InputFile:
    """A file (or a data set) with its content's hash.

    `name` is relative to the data root and enters locks; `path` is where it lies on this machine.
    """

    name: str
    path: Place
    size: int
    digest: str


@dataclass(frozen=True)
class Reading:
    """What to take of each row.

    Attributes:
        text: field of the text; dots reach into nested fields. Unused by format text.
        columns: further fields wanted, dots allowed.
        skip_bad: count bad rows instead of stopping at the first.
        max_document_bytes: a longer text (in UTF-8 bytes) is a bad row.
        key: one of `columns`; a row in which it is null or empty is a bad row. Unused by format text.
        options: what a format needs beyond this (configuration and split of a Hugging Face data set …).
    """

    text: str = "text"
    columns: tuple[str, ...] = ()
    skip_bad: bool = False
    max_document_bytes: int = 4_000_000_000
    key: str = ""
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Reject:
    """A row that holds no document. `row` counts from 0 at the start of the chunk."""

    row: int
    reason: Reason
    sample: str


@dataclass(frozen=True)
class Chunk:
    """The documents of one stretch of a file, in file order.

    Attributes:
        index: number of the chunk in its file.
        rows: rows in the chunk, rejected ones included (lines of JSON lines: blank lines count as rows too, so that
            row numbers are line numbers, but are no documents and no rejects).
        row: row of each document, counted from 0 at the start of the chunk, shape (n,).
        texts: UTF-8 of each document, valid and not empty; length n. Bytes, since all that is done to a text (hash,
            tokenize) takes one at a time.
        columns: the wanted columns, in the order asked for, one row per document; nulls where a row has no such field.
        rejects: the bad rows.
    """

    index: int
    rows: int
    row: npt.NDArray[np.int64]
    texts: list[bytes]
    columns: pa.Table
    rejects: tuple[Reject, ...]
