"""What a trainer takes: sequences in an order, dealt to ranks, as arrays or tensors; its state is one number.

lock ─ order ─► sequences of a step ─ balance ─► rank by rank ─ stream ─► tokens, spans ─ geometry ─► batch

state     what was taken: {"lock", "phase", "sequences"}      geometry  cu_seqlens, position_ids, labels from spans
order     steps, ranks and micro-batches, as arithmetic       ahead     the next ones, made in a thread
balance   ranks of a step level in Σ len²                     steps     step after step of a rank, as numpy arrays
shard     one shard, mapped or fetched                        batch     the same as tensors; data sets for DataLoader,
gather    rows of several shards, held to their hashes                  StatefulDataLoader, Hugging Face's Trainer
stream    the sequences of a phase by number                  room      memory of batches, lent again
"""

from __future__ import annotations

from collections.abc import Sequence
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
        domain: number of each span's domain, shape (m,); a stream's `domains` names them.
    """

    start: Ints
    stop: Ints
    doc_offset: Ints
    doc_length: Ints
    document: Ints
    borders: Ints
    marks: Ints
    mark_borders: Ints
    domain: Ints

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
            domain=self.domain[low:high],
        )

    def take(self, rows: Ints) -> Spans:
        """Return the spans of some rows, in this order; of none for a row -1. Documents keep their numbers."""
        spans, borders = _ranges(self.borders, rows)
        marks, mark_borders = _ranges(self.mark_borders, rows)
        return Spans(
            start=self.start[spans],
            stop=self.stop[spans],
            doc_offset=self.doc_offset[spans],
            doc_length=self.doc_length[spans],
            document=self.document[spans],
            borders=borders,
            marks=self.marks[marks],
            mark_borders=mark_borders,
            domain=self.domain[spans],
        )

    @staticmethod
    def of(
        spans: pa.ListArray | pa.ChunkedArray,
        marks: pa.ListArray | pa.ChunkedArray | None = None,
        domains: Sequence[str] = (),
    ) -> Spans:
        """Read the columns `spans` and, where shards have it, `marks`, or slices of them.

        Args:
            spans: list<struct>, one list for each row, as in a shard.
            marks: list<int32> of the same rows.
            domains: what `domain` numbers; others follow as they appear.
        """
        from mixture.hashing import id_words
        from mixture.schemas import lists, numbers

        borders, fields = lists(spans)
        ids = id_words(fields.field("doc_id"))
        coded = fields.field("domain").dictionary_encode()
        names = {name: number for number, name in enumerate(domains)}
        code = np.array([names.setdefault(name, len(names)) for name in coded.dictionary.to_pylist()], np.int64)
        domain = code[numbers(coded.indices)]
        document = numbered((*ids, numbers(fields.field("copy")), domain))
        start, stop, doc_offset, doc_length = (
            numbers(fields.field(name)).astype(np.int64) for name in ("start", "stop", "doc_offset", "doc_length")
        )
        places, mark_borders = np.empty(0, np.int64), np.zeros(len(borders), np.int64)
        if marks is not None:
            mark_borders, held = lists(marks)
            places = numbers(held).astype(np.int64)
        return Spans(start, stop, doc_offset, doc_length, document, borders, places, mark_borders, domain)


def _ranges(borders: Ints, rows: Ints) -> tuple[Ints, Ints]:
    """Return which things lie between the borders of some rows, and where those of each row begin among them."""
    low, high = borders[rows], borders[rows + 1]
    count = np.where(rows < 0, 0, high - low)
    into = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(count, out=into[1:])
    return np.repeat(low - into[:-1], count) + np.arange(into[-1]), into


def numbered(keys: tuple[npt.NDArray[Any], ...]) -> Ints:
    """Number things so that equal keys have equal numbers, shape (m,)."""
    order = np.lexsort(keys)
    changed = np.zeros(len(order), np.bool_)
    for key in keys:
        changed[1:] |= key[order[1:]] != key[order[:-1]]
    out = np.empty(len(order), np.int64)
    out[order] = np.cumsum(changed)
    return out
