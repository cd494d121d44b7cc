"""The geometry of a batch: from spans to `cu_seqlens`, `position_ids` and `labels`.

    one row of 8 places    a a a b b b · ·        spans a [0, 3), b [3, 6); two places of padding
    cu_seqlens             0 3 6 8                padding is a segment of its own; with padding="drop": 0 3 6
    position_ids           0 1 2 0 1 2 0 1        reset at each segment
    labels, shifted        a a b b b - - -        -: ignored; with mask_starts, the first b too

Nothing is guessed from ids: text that looks like a separator is none, and padding is what no span covers. Marks (tokens
that a transform wrote) are covered by no span either; where their places are known they belong to a segment: the mark
right before a part that continues a document of its row (a head) to that part, every other to the part that it follows.
"""

from __future__ import annotations

import functools
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mixture.errors import MixtureError
from mixture.loader import Ints, Spans
from mixture.loader.room import empty
from mixture.pack.runs import covered

Int32s = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]


def cu_seqlens(spans: Spans, length: int, *, padding: Literal["own", "drop"] = "own") -> Int32s:
    """Return the boundaries of segments for variable-length attention over flattened rows, int32, shape (segments+1,).

    A span and the marks that belong to it are a segment: no attention crosses a document, nor a seam within one.

    Args:
        spans: of `rows` rows.
        length: places in a row.
        padding: "own": each run of places that no segment holds is a segment too, and the last boundary is
            rows · length. "drop": boundaries in the flattened rows without those places (see `kept`).

    Raises:
        MixtureError: more places than int32 can number.
    """
    total = _total(spans, length)
    if padding == "own":
        return np.append(_tiles(spans, length)[0], total).astype(np.int32)
    first, stop = _segments(spans, length)
    return np.append(0, np.cumsum(stop - first)).astype(np.int32)


def cu_seqlens_padded(spans: Spans, length: int, *, cp: int) -> Int32s:
    """Return where the segments of `cu_seqlens(…, padding="drop")` lie in flattened rows, int32, shape (segments+1,).

    Transformer Engine takes both for context parallelism: the one says how long segments are, this one where they
    begin, each followed by its padding until the next. All its differences are multiples of 2·cp.

    Args:
        spans: of rows that begin with a document, as those of a shard do.
        length: places in a row, a multiple of 2·cp.
        cp: context-parallel ranks.

    Raises:
        MixtureError: a document or a row begins elsewhere than at a multiple of 2·cp.
    """
    step = 2 * cp
    total = _total(spans, length)
    if length % step:
        raise MixtureError(
            f"rows of {length:,} places do not split over 2 · {cp} chunks: choose a cp that divides them"
        )
    first, _ = _segments(spans, length)
    wrong = np.flatnonzero(first % step)
    if len(wrong):
        row, place = divmod(int(first[wrong[0]]), length)
        raise MixtureError(
            f"row {row} has a document at place {place}, not a multiple of 2 · {cp}: "
            f"pack with sequence.align {step}, or a multiple of it"
        )
    return np.append(first, total).astype(np.int32)


def rounded(boundaries: Int32s, multiple: int) -> Int32s:
    """Return boundaries of the same segments, each padded to a multiple of so many places, int32, shape (segments+1,).

    For trainers that pad segments themselves; rows packed with `sequence.align` want `cu_seqlens_padded`.
    """
    sizes = -(-np.diff(boundaries.astype(np.int64)) // multiple) * multiple
    return np.append(0, np.cumsum(sizes)).astype(np.int32)


def max_seqlen(boundaries: Int32s) -> int:
    """Return the places of the longest segment."""
    return int(np.diff(boundaries).max(initial=0))


def aligned(spans: Spans, *, cp: int) -> bool:
    """Return whether every span starts at a multiple of 2·cp, as context parallelism by zigzag asks."""
    return not (spans.start % (2 * cp)).any()


def kept(spans: Spans, length: int) -> Bools:
    """Return which places segments hold, the others being padding, bool, shape (rows, length)."""
    return covered(*_segments(spans, length), spans.rows * length).reshape(spans.rows, length)


def position_ids(spans: Spans, length: int, *, reset: bool, offset: bool = False, prefix: int = 0) -> Ints:
    """Return the position of each place, int64, shape (rows, length).

    Args:
        spans: of `rows` rows.
        length: places in a row.
        reset: count from 0 in each segment of `cu_seqlens` (a document that goes on from the row before starts at 0
            again, as does padding); else from 0 to length-1 in each row.
        offset: with `reset`, count in the document instead: what goes on starts where the row before stopped.
        prefix: with `offset`, tokens of the opening separator, so that the first of them has position 0.
    """
    if not reset:
        return np.tile(np.arange(length), (spans.rows, 1))
    starts, span = _tiles(spans, length)
    begin = np.zeros(len(starts), np.int64)
    if offset:
        own = span >= 0
        which = span[own]
        # A head mark stands before the token that its span starts with.
        begin[own] = spans.doc_offset[which] + prefix + starts[own] - (spans.row * length + spans.start)[which]
    total = spans.rows * length
    shift = np.repeat(begin - starts, np.diff(starts, append=total))
    return (np.arange(total) + shift).reshape(spans.rows, length)


#: Segments of more places than this on average are filled one by one: a copy of 0, 1, 2, … costs less than arithmetic.
_LONG = 256


def positions_in(boundaries: Int32s) -> Ints:
    """Return the place in its segment of each place of flattened rows, int64, shape (boundaries[-1],).

    What `position_ids` with `reset` returns, from `cu_seqlens` alone.
    """
    total = int(boundaries[-1])
    counted = _counted(-(-max(total, 1) // _PLACES) * _PLACES)
    if total < _LONG * (len(boundaries) - 1):
        starts = boundaries[:-1].astype(np.int64)
        return np.subtract(counted[:total], np.repeat(starts, np.diff(boundaries)), out=empty((total,)))
    out = empty((total,))
    borders = boundaries.tolist()
    for start, stop in pairwise(borders):
        out[start:stop] = counted[: stop - start]
    return out


_PLACES = 1 << 16


@functools.lru_cache(maxsize=4)
def _counted(count: int) -> Ints:
    numbers = np.arange(count)
    numbers.flags.writeable = False
    return numbers


def labels(
    input_ids: npt.NDArray[Any],
    spans: Spans,
    *,
    mask_starts: bool,
    shift: bool,
    ignore: int = -100,
    trace: tuple[int, int] | None = None,
) -> Ints:
    """Return what each place learns to predict, int64, shape (rows, length).

    Padding and marks are never predicted, and nothing is predicted from padding. Text after a mark is.

    Args:
        input_ids: integers, shape (rows, length).
        spans: of these rows.
        mask_starts: leave out the first token of each span: it would be predicted from another document.
        shift: labels[r, i] is the token at i+1, and the last place is ignored; else the token at i, and the model
            shifts, as those of Hugging Face do.
        ignore: the label of places that do not count.
        trace: first id and number of those that Untie the Knots writes for back-tracing: these marks are predicted.
    """
    rows, length = input_ids.shape
    if shift and not len(spans.marks):
        return _next_tokens(input_ids, spans, mask_starts=mask_starts, ignore=ignore)
    place = spans.row * length
    target = covered(place + spans.start, place + spans.stop, rows * length).reshape(rows, length)
    source = target.copy()
    source.reshape(-1)[_flat_marks(spans, length)] = True
    if trace is not None:
        target |= source & (input_ids >= trace[0]) & (input_ids < sum(trace))
    target[:, 1:] &= source[:, :-1]
    if mask_starts:
        target[spans.row, spans.start] = False
    out = np.where(target, input_ids.astype(np.int64), ignore)
    if shift:
        out[:, :-1] = out[:, 1:]
        out[:, -1:] = ignore
    return out


def _next_tokens(input_ids: npt.NDArray[Any], spans: Spans, *, mask_starts: bool, ignore: int) -> Ints:
    """Return `labels` with `shift` where there are no marks: the tokens moved by one, with a few places taken out."""
    rows, length = input_ids.shape
    out = empty((rows, length))
    if not out.size:
        return out
    out[:, :-1] = input_ids[:, 1:]
    out[:, -1] = ignore
    flat, row = out.reshape(-1), spans.row * length
    first, stop = row + spans.start, row + spans.stop
    if mask_starts:
        # The first token of a span would be predicted from the place before it.
        flat[first[spans.start > 0] - 1] = ignore
    # Places between spans are padding: nothing is predicted from them, nor are they.
    ends = np.concatenate([stop, np.arange(rows) * length])
    begins = np.concatenate([first, np.arange(1, rows + 1) * length])
    ends.sort()
    begins.sort()
    for end, begin in zip(ends[ends < begins].tolist(), begins[ends < begins].tolist(), strict=True):
        flat[end - (end % length > 0) : begin] = ignore
    return out


def _total(spans: Spans, length: int) -> int:
    total = spans.rows * length
    if total > np.iinfo(np.int32).max:
        raise MixtureError(
            f"{spans.rows:,} rows of {length:,} places are {total:,}, above 2^31-1 that int32 can number: "
            f"take at most {np.iinfo(np.int32).max // length:,} rows at a time"
        )
    return total


def _flat_marks(spans: Spans, length: int) -> Ints:
    return np.repeat(np.arange(spans.rows), np.diff(spans.mark_borders)) * length + spans.marks


def _segments(spans: Spans, length: int) -> tuple[Ints, Ints]:
    """Return where each span and the marks that belong to it start and stop in flattened rows, shape (m,) each."""
    row = spans.row
    first, stop = row * length + spans.start, row * length + spans.stop
    if not len(spans.marks):
        return first, stop
    marks = _flat_marks(spans, length)
    order = np.lexsort((spans.start, spans.document, row))
    goes_on = np.zeros(len(row), np.bool_)
    goes_on[order[1:]] = (row[order[1:]] == row[order[:-1]]) & (spans.document[order[1:]] == spans.document[order[:-1]])
    first = first - (goes_on & (_upto(marks, first - 1) > first - 1))
    rest = np.minimum(np.append(first[1:], spans.rows * length), (row + 1) * length)
    return first, np.minimum(_upto(marks, stop), rest)


def _upto(marks: Ints, place: Ints) -> Ints:
    """Return where the marks that stand side by side from each place on end; the place itself where none stands."""
    ends = np.append(np.flatnonzero(np.diff(marks) != 1), len(marks) - 1)
    at = np.searchsorted(marks, place)
    found = marks[np.minimum(at, len(marks) - 1)] == place
    run = np.minimum(np.searchsorted(ends, at), len(ends) - 1)
    return np.where(found, marks[ends[run]] + 1, place)


def _tiles(spans: Spans, length: int) -> tuple[Ints, Ints]:
    """Return where segments and the runs between them start in flattened rows, and the span of each, -1 for a run."""
    first, stop = _segments(spans, length)
    if int((stop - first).sum()) == spans.rows * length:
        # Segments do not overlap, so there is nothing between them.
        return first, np.arange(len(first))
    rows = np.arange(spans.rows) * length
    starts = np.unique(np.concatenate([first, stop, rows]))
    starts = starts[starts < spans.rows * length]
    span = np.searchsorted(first, starts, side="right") - 1
    inside = span >= 0
    inside[inside] = starts[inside] < stop[span[inside]]
    return starts, np.where(inside, span, -1)
