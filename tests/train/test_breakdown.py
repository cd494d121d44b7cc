"""Losses by domain and position: by hand, against a count place by place, and over ranks."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixture.loader import Spans
from mixture.train.breakdown import Cells, tally


def _spans(rows: list[list[tuple[int, int, int, int]]]) -> Spans:
    """Spans of rows, each (start, stop, doc_offset, domain)."""
    flat = [span for row in rows for span in row]
    start, stop, offset, domain = (np.array([span[n] for span in flat], np.int64) for n in range(4))
    borders = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    none = np.empty(0, np.int64)
    counted = np.arange(len(flat))
    length = np.full(len(flat), 10**6)
    return Spans(start, stop, offset, length, counted, borders, none, np.zeros(len(borders), np.int64), domain)


def test_the_module_s_own_example() -> None:
    cells = Cells(("books", "code"), (4, 8))
    assert cells.size == 6
    assert cells.buckets == ("<4", "4-8", "≥8")
    found = cells.of(_spans([[(0, 6, 0, 0), (6, 8, 7, 1)]]), 8)
    assert found.tolist() == [[0, 0, 0, 1, 1, 4, 5, -1]]


def test_padding_is_in_no_cell_and_an_opening_separator_in_the_first() -> None:
    found = Cells(("a",), (2,)).of(_spans([[(0, 4, -1, 0)], [(1, 3, 1, 0)], []]), 5)
    assert found.tolist() == [[0, 0, 1, -1, -1], [0, 1, -1, -1, -1], [-1] * 5]


@st.composite
def _rows(draw: st.DrawFn) -> tuple[list[list[tuple[int, int, int, int]]], int]:
    length = draw(st.integers(1, 30))
    rows = []
    for _ in range(draw(st.integers(1, 3))):
        cuts = sorted(draw(st.sets(st.integers(0, length), max_size=6)))
        row = [
            (a, b, draw(st.integers(-2, 40)), draw(st.integers(0, 2))) for a, b in pairwise(cuts) if draw(st.booleans())
        ]
        rows.append(row)
    return rows, length


@given(_rows(), st.lists(st.integers(1, 50), max_size=3, unique=True).map(sorted))
def test_each_place_is_in_the_cell_of_the_token_after_it(
    drawn: tuple[list[list[tuple[int, int, int, int]]], int], edges: list[int]
) -> None:
    rows, length = drawn
    cells = Cells(("x", "y", "z"), tuple(edges))
    found = cells.of(_spans(rows), length)
    for row, spans in enumerate(rows):
        for place in range(length):
            held = [s for s in spans if s[0] <= place + 1 < s[1]] if place + 1 < length else []
            expected = -1
            if held:
                start, _, offset, domain = held[0]
                position = max(0, offset + place + 1 - start)
                expected = domain * (len(edges) + 1) + sum(position >= edge for edge in edges)
            assert found[row, place] == expected


def _tally(cells: Any, losses: Any, labels: Any, size: int) -> Any:
    torch = pytest.importorskip("torch")
    return tally(torch.tensor(cells), torch.tensor(losses), torch.tensor(labels), size)


def test_only_labels_count_and_every_one_of_them_once() -> None:
    sums = _tally([[0, 2, 2, -1]], [[1.0, 2.0, 4.0, 8.0]], [[5, -100, 7, 9]], 3)
    assert sums.tolist() == [[1.0, 0.0, 4.0], [1.0, 0.0, 1.0]]


def test_the_sums_of_ranks_add_up_to_those_of_one() -> None:
    torch = pytest.importorskip("torch")
    draw = np.random.default_rng(0)
    cells, losses = draw.integers(-1, 6, (4, 50)), draw.random((4, 50)).astype(np.float32)
    labels = draw.integers(-1, 9, (4, 50))
    whole = _tally(cells, losses, labels, 6)
    parts = sum(_tally(cells[n : n + 2], losses[n : n + 2], labels[n : n + 2], 6) for n in (0, 2))
    assert torch.allclose(whole, parts, rtol=1e-12)
    counted = (labels >= 0) & (cells >= 0)
    for cell in range(6):
        mine = counted & (cells == cell)
        assert whole[1, cell] == mine.sum()
        assert float(whole[0, cell]) == pytest.approx(losses[mine].astype(np.float64).sum())


def test_the_table_has_means_by_name_and_leaves_out_what_was_not_seen() -> None:
    table = Cells(("books", "code"), (4096,)).table([[6.0, 0.0, 0.0, 5.0], [3, 0, 0, 2]])
    assert table == {"books": {"<4K": {"loss": 2.0, "tokens": 3}}, "code": {"≥4K": {"loss": 2.5, "tokens": 2}}}
