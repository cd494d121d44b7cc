"""From spans to what a trainer needs, against place by place."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixture.errors import MixtureError
from mixture.loader import Spans
from mixture.loader.geometry import (
    aligned,
    cu_seqlens,
    cu_seqlens_padded,
    kept,
    labels,
    max_seqlen,
    position_ids,
    positions_in,
    rounded,
)
from mixture.schemas import SPAN
from tests.loader.batches import Batch, batch_of, batches


def owner(batch: Batch, row: int, place: int) -> int | None:
    """The span that a place belongs to: it holds it, or it is a mark of it."""
    spans, _ = batch.rows[row]
    if (held := batch.covered(row, place)) is not None:
        return held
    if not batch.marked(row, place):
        return None
    after = batch.covered(row, place + 1) if place + 1 < batch.length else None
    if after is not None and spans[after][0] == place + 1 and spans[after][2] in {s[2] for s in spans[:after]}:
        return after
    while place >= 0 and batch.marked(row, place):
        place -= 1
    return batch.covered(row, place)


def segments(batch: Batch) -> list[list[tuple[int, int]]]:
    """Runs of places, (row, place), of one owner each; runs without an owner among them."""
    out: list[list[tuple[int, int]]] = []
    for row in range(len(batch.rows)):
        last: Any = "none yet"
        for place in range(batch.length):
            now = owner(batch, row, place)
            if now != last:
                out.append([])
            out[-1].append((row, place))
            last = now
    return out


def test_the_worked_example_of_the_module() -> None:
    batch = batch_of([([(0, 3, 0, 0), (3, 6, 1, 0)], [])], 8)
    ids = np.array([[1, 1, 1, 2, 2, 2, 0, 0]])
    assert cu_seqlens(batch.spans, 8).tolist() == [0, 3, 6, 8]
    assert cu_seqlens(batch.spans, 8, padding="drop").tolist() == [0, 3, 6]
    assert position_ids(batch.spans, 8, reset=True).tolist() == [[0, 1, 2, 0, 1, 2, 0, 1]]
    plain = labels(ids, batch.spans, mask_starts=False, shift=True)
    assert plain.tolist() == [[1, 1, 2, 2, 2, -100, -100, -100]]
    masked = labels(ids, batch.spans, mask_starts=True, shift=True)
    assert masked.tolist() == [[1, 1, -100, 2, 2, -100, -100, -100]]


def test_a_head_mark_goes_with_the_part_after_it_and_tails_with_the_part_before() -> None:
    # a a T | b b | H a a 0 1 | · ·
    batch = batch_of([([(0, 2, 7, 0), (3, 5, 8, 0), (6, 8, 7, 2)], [2, 5, 8, 9])], 12)
    assert cu_seqlens(batch.spans, 12).tolist() == [0, 3, 5, 10, 12]
    positions = position_ids(batch.spans, 12, reset=True, offset=True)
    assert positions.tolist() == [[0, 1, 2, 0, 1, 1, 2, 3, 4, 5, 0, 1]]


@given(batches())
def test_segments_hold_one_span_and_its_marks_or_padding(batch: Batch) -> None:
    expected = segments(batch)
    boundaries = cu_seqlens(batch.spans, batch.length)
    assert boundaries.dtype == np.int32
    assert np.diff(boundaries).tolist() == [len(of) for of in expected]
    assert boundaries[-1] == len(batch.rows) * batch.length
    assert max_seqlen(boundaries) == max((len(of) for of in expected), default=0)


@given(batches())
def test_no_segment_crosses_a_document_or_a_row(batch: Batch) -> None:
    boundaries = cu_seqlens(batch.spans, batch.length).tolist()
    for first, stop in pairwise(boundaries):
        held = {
            (row, batch.covered(row, place)) for row, place in (divmod(i, batch.length) for i in range(first, stop))
        }
        assert len({row for row, _ in held}) == 1
        assert len({span for _, span in held if span is not None}) <= 1


@given(batches())
def test_without_padding_only_kept_places_have_segments(batch: Batch) -> None:
    expected = [of for of in segments(batch) if owner(batch, *of[0]) is not None]
    assert np.diff(cu_seqlens(batch.spans, batch.length, padding="drop")).tolist() == [len(of) for of in expected]
    places = [row * batch.length + place for of in expected for row, place in of]
    assert np.flatnonzero(kept(batch.spans, batch.length)).tolist() == places


@given(batches())
def test_positions_start_anew_in_each_segment(batch: Batch) -> None:
    expected = [i for of in segments(batch) for i in range(len(of))]
    positions = position_ids(batch.spans, batch.length, reset=True)
    assert positions.shape == (len(batch.rows), batch.length)
    assert positions.ravel().tolist() == expected


@given(batches(), st.integers(0, 2))
def test_positions_go_on_in_the_document_where_asked(batch: Batch, prefix: int) -> None:
    positions = position_ids(batch.spans, batch.length, reset=True, offset=True, prefix=prefix)
    for row, (spans, _) in enumerate(batch.rows):
        for start, stop, _, offset in spans:
            assert positions[row, start:stop].tolist() == list(range(offset + prefix, offset + prefix + stop - start))


@given(batches())
def test_positions_without_reset_count_places(batch: Batch) -> None:
    assert position_ids(batch.spans, batch.length, reset=False).tolist() == [list(range(batch.length))] * len(
        batch.rows
    )


def naive_labels(ids: Any, batch: Batch, mask_starts: bool, trace: tuple[int, int] | None) -> list[list[int]]:
    """What each place is predicted to be, unshifted."""
    out = []
    for row, (spans, _) in enumerate(batch.rows):
        line = []
        for place in range(batch.length):
            real = batch.covered(row, place) is not None
            named = trace is not None and batch.marked(row, place) and trace[0] <= ids[row, place] < sum(trace)
            told = place == 0 or batch.covered(row, place - 1) is not None or batch.marked(row, place - 1)
            begins = any(span[0] == place for span in spans)
            line.append(int(ids[row, place]) if (real or named) and told and not (mask_starts and begins) else -100)
        out.append(line)
    return out


@given(batches(), st.booleans(), st.sampled_from([None, (30, 10)]), st.sampled_from([np.uint16, np.uint32, np.int64]))
def test_padding_and_marks_are_never_learnt(batch: Batch, mask_starts: bool, trace: Any, kind: Any) -> None:
    ids = (np.arange(len(batch.rows) * batch.length) * 7 % 60).reshape(len(batch.rows), batch.length).astype(kind)
    unshifted = labels(ids, batch.spans, mask_starts=mask_starts, shift=False, trace=trace)
    assert unshifted.dtype == np.int64
    assert unshifted.tolist() == naive_labels(ids, batch, mask_starts, trace)
    shifted = labels(ids, batch.spans, mask_starts=mask_starts, shift=True, trace=trace)
    assert shifted[:, :-1].tolist() == unshifted[:, 1:].tolist()
    assert (shifted[:, -1] == -100).all()


@given(batches())
def test_rows_have_the_same_geometry_alone(batch: Batch) -> None:
    together = position_ids(batch.spans, batch.length, reset=True, offset=True)
    for row in range(len(batch.rows)):
        alone = position_ids(batch.spans.of_rows(row, row + 1), batch.length, reset=True, offset=True)
        assert alone.tolist() == [together[row].tolist()]


def test_aligned_rows_give_both_boundaries_of_transformer_engine() -> None:
    rows = [([(0, 5, 0, 0), (8, 16, 1, 0)], []), ([(0, 3, 2, 0)], [])]
    batch = batch_of(rows, 16)
    assert aligned(batch.spans, cp=4)
    assert cu_seqlens(batch.spans, 16, padding="drop").tolist() == [0, 5, 13, 16]
    assert cu_seqlens_padded(batch.spans, 16, cp=4).tolist() == [0, 8, 16, 32]


def test_rows_that_are_not_aligned_are_refused_with_the_place() -> None:
    batch = batch_of([([(0, 5, 0, 0)], []), ([(0, 3, 1, 0), (6, 9, 2, 0)], [])], 16)
    assert not aligned(batch.spans, cp=4)
    with pytest.raises(MixtureError, match=r"row 1 has a document at place 6, not a multiple of 2 · 4: .*align 8"):
        cu_seqlens_padded(batch.spans, 16, cp=4)
    with pytest.raises(MixtureError, match="rows of 16 places do not split over 2 · 3 chunks"):
        cu_seqlens_padded(batch.spans, 16, cp=3)


@given(st.lists(st.integers(0, 40), max_size=20), st.integers(1, 16))
def test_rounded_boundaries_are_of_the_same_segments_in_multiples(sizes: list[int], multiple: int) -> None:
    padded = np.diff(rounded(np.cumsum([0, *sizes]).astype(np.int32), multiple))
    assert (padded % multiple == 0).all()
    assert all(0 <= more - size < multiple for more, size in zip(padded.tolist(), sizes, strict=True))


def test_more_places_than_int32_numbers_are_refused_with_the_rows_that_fit() -> None:
    nothing, borders = np.zeros(0, np.int64), np.zeros(5, np.int64)
    spans = Spans(nothing, nothing, nothing, nothing, nothing, borders, nothing, borders, nothing)
    with pytest.raises(MixtureError, match=r"4 rows of 536,870,912 places .*take at most 3 rows"):
        cu_seqlens(spans, 1 << 29)
    assert cu_seqlens(spans.of_rows(1, 4), 1 << 29).tolist() == [0, 1 << 29, 2 << 29, 3 << 29]


def column(rows: list[list[tuple[int, int, str, int, int]]]) -> pa.ListArray:
    """Spans of (start, stop, domain, id, copy) as a shard has them."""
    names = ("start", "stop", "domain", "doc_id", "copy")
    values = [
        [
            dict(zip(names, span, strict=True)) | {"doc_id": bytes([span[3]] * 16), "doc_offset": 10, "doc_length": 90}
            for span in row
        ]
        for row in rows
    ]
    return pa.array(values, pa.list_(SPAN))


ROWS = [
    [(0, 3, "books", 1, 0), (3, 8, "wiki", 2, 0)],
    [(0, 2, "wiki", 2, 0), (2, 4, "books", 1, 1), (4, 8, "wiki", 1, 0)],
    [],
    [(0, 8, "wiki", 1, 0)],
]
NAMES = {("books", 1, 0): 0, ("wiki", 2, 0): 1, ("books", 1, 1): 2, ("wiki", 1, 0): 3}


@pytest.mark.parametrize(("first", "stop"), [(0, 4), (1, 3), (1, 4), (2, 3), (3, 3)])
def test_spans_are_read_from_a_slice_of_a_shard(first: int, stop: int) -> None:
    marks = pa.array([[3], [], [1, 2], [7]], pa.list_(pa.int32()))
    spans = Spans.of(column(ROWS)[first:stop], marks[first:stop])
    flat = [span for row in ROWS[first:stop] for span in row]
    assert spans.rows == stop - first
    assert spans.start.tolist() == [span[0] for span in flat]
    assert spans.stop.tolist() == [span[1] for span in flat]
    assert spans.row.tolist() == [r for r, row in enumerate(ROWS[first:stop]) for _ in row]
    assert np.split(spans.marks, spans.mark_borders[1:-1])[0].tolist() == marks[first].as_py() if stop > first else True
    assert {c.dtype for c in (spans.start, spans.doc_offset, spans.document, spans.borders, spans.marks)} == {
        np.dtype("i8")
    }


def test_copies_and_domains_tell_documents_of_equal_text_apart() -> None:
    spans = Spans.of(pa.chunked_array([column(ROWS[:1]), column(ROWS[1:])]))
    keys = [(domain, doc_id, copy) for row in ROWS for _, _, domain, doc_id, copy in row]
    assert len(spans.marks) == 0
    for one, number in zip(keys, spans.document, strict=True):
        for other, another in zip(keys, spans.document, strict=True):
            assert (one == other) == (number == another)


READ = """
import sys
from mixture.loader import Spans, balance, geometry
assert not {"torch", "pandas", "pyarrow"} & sys.modules.keys()
import numpy as np, pyarrow as pa
from mixture.hashing import id_array
from mixture.schemas import SPAN, column, strings
two, word = np.arange(2), np.arange(2, dtype=np.uint64)
columns = {"domain": strings(["a", "b"]), "doc_id": id_array(word, word)}
fields = [columns[field.name] if field.name in columns else column(two, field.type) for field in SPAN]
structs = pa.StructArray.from_arrays(fields, fields=list(SPAN))
spans = pa.ListArray.from_arrays(column(np.array([0, 1, 2], np.int32)), structs)
assert Spans.of(spans).start.tolist() == [0, 1]
assert not {"torch", "pandas"} & sys.modules.keys()
"""


def test_reading_spans_loads_neither_pandas_nor_torch() -> None:
    subprocess.run([sys.executable, "-c", READ], check=True)


@given(batches(marked=False), st.booleans(), st.integers(0, 9))
def test_labels_of_rows_without_marks_are_those_of_the_general_rule(batch: Batch, mask_starts: bool, seed: int) -> None:
    shape = (batch.spans.rows, batch.length)
    ids = np.random.default_rng(seed).integers(1, 99, shape)
    wanted = labels(ids, batch.spans, mask_starts=mask_starts, shift=False)
    shifted = np.full(shape, -100)
    shifted[:, :-1] = wanted[:, 1:]
    assert labels(ids, batch.spans, mask_starts=mask_starts, shift=True).tolist() == shifted.tolist()


@given(batches())
def test_positions_follow_from_boundaries_alone(batch: Batch) -> None:
    wanted = position_ids(batch.spans, batch.length, reset=True)
    assert positions_in(cu_seqlens(batch.spans, batch.length)).tolist() == wanted.reshape(-1).tolist()


def test_positions_in_long_segments_are_counted_too() -> None:
    boundaries = np.array([0, 70_000, 70_001, 140_000], np.int32)
    wanted = np.concatenate([np.arange(size) for size in (70_000, 1, 69_999)])
    assert (positions_in(boundaries) == wanted).all()
