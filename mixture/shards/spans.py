"""A record batch of a shard as arrays: its tokens, its spans end to end, and which places hold real tokens.

    row 0   a a a b b · · ·       spans [0, 3) [3, 5)
    row 1   b b b b b b · c       spans [0, 6) [7, 8)
    borders 0 2 4      start 0 3 0 7      stop 3 5 6 8      row 0 0 1 1

A *real* token is one that a span covers; the other places of a sequence hold padding (id 0), or marks that a transform
wrote and the column `marks` lists.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mixture import schemas
from mixture.pack import Ints
from mixture.pack.runs import covered
from mixture.tokens.store import Tokens

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Spans:
    """The spans of a record batch, end to end.

    Attributes:
        borders: where the spans of each row begin, and their number, int64, shape (rows + 1,).
        start: first place in the sequence, int64, shape (m,).
        stop: past the last place, int64, shape (m,).
        columns: all that is known of each, `schemas.SPAN`, shape (m,).
    """

    borders: Ints
    start: Ints
    stop: Ints
    columns: pa.StructArray

    def per_row(self) -> Ints:
        """Return how many each row has, shape (rows,)."""
        return np.diff(self.borders)

    @property
    def row(self) -> Ints:
        """Row of each, shape (m,)."""
        return np.repeat(np.arange(len(self.borders) - 1), self.per_row())

    def position(self, length: int) -> Ints:
        """Return where each starts among the tokens of all rows, end to end, shape (m,)."""
        return self.row * length + self.start

    def real(self, length: int) -> Flags:
        """Return which places they cover, shape (rows, length); they must not overlap."""
        rows, size = len(self.borders) - 1, self.stop - self.start
        if int(size.sum()) == rows * length:
            return np.ones((rows, length), np.bool_)
        begin = self.position(length)
        return covered(begin, begin + size, rows * length).reshape(rows, length)

    def numbers(self, name: str) -> Ints:
        """Return one of the columns of integers, shape (m,)."""
        return schemas.numbers(self.columns.field(name)).astype(np.int64)

    def ids(self) -> list[str]:
        """Return the documents' ids as 32 hex digits each."""
        column = self.columns.field("doc_id")
        text = column.buffers()[1].slice(16 * column.offset, 16 * len(column)).to_pybytes().hex()
        return [text[at : at + 32] for at in range(0, len(text), 32)]

    def coded_domains(self) -> tuple[Ints, list[str]]:
        """Return the number of each document's domain, shape (m,), and the domains' names."""
        coded = self.columns.field("domain").dictionary_encode()
        return schemas.numbers(coded.indices).astype(np.int64), coded.dictionary.to_pylist()

    def domains(self) -> list[str]:
        """Return the documents' domains."""
        codes, names = self.coded_domains()
        return [names[code] for code in codes.tolist()]


def tokens_of(batch: pa.RecordBatch) -> Tokens:
    """Return a batch's tokens without a copy, shape (rows, length)."""
    lists = batch.column("input_ids")
    return schemas.numbers(lists.flatten()).reshape(len(batch), lists.type.list_size)


def spans_of(batch: pa.RecordBatch) -> Spans:
    """Return a batch's spans."""
    borders, columns = schemas.lists(batch.column("spans"))
    start, stop = (schemas.numbers(columns.field(name)).astype(np.int64) for name in ("start", "stop"))
    return Spans(borders, start, stop, columns)


def real_of(batch: pa.RecordBatch) -> Flags:
    """Return which places hold real tokens, shape (rows, length)."""
    return spans_of(batch).real(batch.column("input_ids").type.list_size)
