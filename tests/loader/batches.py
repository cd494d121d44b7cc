"""Random batches, with what stands in each place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from mixture.loader import Spans

PAD = 0


@dataclass(frozen=True)
class Batch:
    """A batch, and the same place by place.

    Attributes:
        spans: as geometry takes them.
        length: places in a row.
        rows: for each row, its spans as (start, stop, document, doc_offset), and its marks.
    """

    spans: Spans
    length: int
    rows: list[tuple[list[tuple[int, int, int, int]], list[int]]]

    def covered(self, row: int, place: int) -> int | None:
        """The span of the row that holds the place, if any."""
        return next((i for i, s in enumerate(self.rows[row][0]) if s[0] <= place < s[1]), None)

    def marked(self, row: int, place: int) -> bool:
        return place in self.rows[row][1]


def batch_of(rows: list[tuple[list[tuple[int, int, int, int]], list[int]]], length: int) -> Batch:
    spans = [span for row, _ in rows for span in row]
    columns = [np.array([span[i] for span in spans], np.int64) for i in range(4)]
    start, stop, document, offset = columns
    borders = np.cumsum([0, *(len(row) for row, _ in rows)])
    mark_borders = np.cumsum([0, *(len(marks) for _, marks in rows)])
    marks = np.array([place for _, places in rows for place in places], np.int64)
    length_of = offset + stop - start
    spans = Spans(start, stop, offset, length_of, document, borders, marks, mark_borders, document * 0)
    return Batch(spans, length, rows)


@st.composite
def batches(draw: Any, *, marked: bool = True) -> Batch:
    """Rows of a few spans, gaps that are padding or marks, and documents that come back in a row."""
    length = draw(st.integers(1, 24))
    rows = []
    for _ in range(draw(st.integers(0, 4))):
        spans, marks, place = [], [], 0
        seen: set[int] = set()
        while place < length:
            document = draw(st.integers(0, 3))
            head = marked and document in seen and draw(st.booleans())
            if head:
                marks.append(place)
                place += 1
            if place < length:
                stop = min(place + draw(st.integers(1, 8)), length)
                spans.append((place, stop, document, draw(st.integers(-1, 50))))
                seen.add(document)
                tails = draw(st.integers(0, 2)) if marked else 0
                marks += range(stop, min(stop + tails, length))
                place = min(stop + tails, length)
                place += draw(st.sampled_from([0, 0, 1, 3]))
            if draw(st.integers(0, 5)) == 0:
                break
        rows.append((spans, marks))
    return batch_of(rows, length)
