"""What a trainer needs of shards, as numpy arrays: the geometry of a batch, and which rank takes which sequence.

shard rows ─ Spans.of ─► spans ─ geometry ─► cu_seqlens, position_ids, labels
                               ─ balance  ─► sequences of a step, rank by rank
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pyarrow as pa

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Spans:
    """The spans of some rows (sequences), row by row, by place; int64 arrays.

    Attributes:
        start: place in the row where each span starts, shape (m,).
        stop: where it stops, shape (m,).
        doc_offset: which of the document's own tokens `start` holds, negative in an opening separator, shape (m,).
        doc_length: the document's own tokens, shape (m,).
        document: a number that the spans of one copy of one document share, and no others here, shape (m,).
        borders: spans borders[r] … borders[r+1]-1 are of row r, shape (rows+1,).
        marks: places of marks in their rows, rising in each, shape (k,).
        mark_borders: as `borders`, of marks, shape (rows+1,).
    """

    start: Ints
    stop: Ints
    doc_offset: Ints
    doc_length: Ints
    document: Ints
    borders: Ints
    marks: Ints
    mark_borders: Ints

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.borders) - 1

    @property
    def row(self) -> Ints:
        """Row of each span, shape (m,)."""
        return np.repeat(np.arange(self.rows), np.diff(self.borders))

    def of_rows(self, first: int, stop: int) -> Spans:
        """Return the spans of rows [first, stop), rows numbered from 0; documents keep their numbers."""
        low, high = self.borders[first], self.borders[stop]
        mark_low, mark_high = self.mark_borders[first], self.mark_borders[stop]
        return Spans(
            start=self.start[low:high],
            stop=self.stop[low:high],
            doc_offset=self.doc_offset[low:high],
            doc_length=self.doc_length[low:high],
            document=self.document[low:high],
            borders=self.borders[first : stop + 1] - low,
            marks=self.marks[mark_low:mark_high],
            mark_borders=self.mark_borders[first : stop + 1] - mark_low,
        )

    @staticmethod
    def of(spans: pa.ListArray | pa.ChunkedArray, marks: pa.ListArray | pa.ChunkedArray | None = None) -> Spans:
        """Read the columns `spans` and, where shards have it, `marks`, or slices of them.

        Args:
            spans: list<struct>, one list for each row, as in a shard.
            marks: list<int32> of the same rows.
        """
        from mixture.hashing import id_words
        from mixture.schemas import lists, numbers

        borders, fields = lists(spans)
        ids = id_words(fields.field("doc_id"))
        domain = numbers(fields.field("domain").dictionary_encode().indices)
        document = _numbered((*ids, numbers(fields.field("copy")), domain))
        start, stop, doc_offset, doc_length = (
            numbers(fields.field(name)).astype(np.int64) for name in ("start", "stop", "doc_offset", "doc_length")
        )
        places, mark_borders = np.empty(0, np.int64), np.zeros(len(borders), np.int64)
        if marks is not None:
            mark_borders, held = lists(marks)
            places = numbers(held).astype(np.int64)
        return Spans(start, stop, doc_offset, doc_length, document, borders, places, mark_borders)


def _numbered(keys: tuple[npt.NDArray[Any], ...]) -> Ints:
    """Number things so that equal keys have equal numbers, shape (m,)."""
    order = np.lexsort(keys)
    changed = np.zeros(len(order), np.bool_)
    for key in keys:
        changed[1:] |= key[order[1:]] != key[order[:-1]]
    out = np.empty(len(order), np.int64)
    out[order] = np.cumsum(changed)
    return out
