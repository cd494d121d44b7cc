"""Untie the Knots."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixture.pack import Marks, Pieces
from mixture.pack.concat import concat
from mixture.pack.utk import utk

HEAD, TAIL, FIRST = 1001, 1002, 2000
LENGTH = 64

lengths = st.lists(st.integers(1, 90), min_size=1, max_size=40)
rooms = st.integers(0, 24)
traces = st.sampled_from([None, (FIRST, 1), (FIRST, 3), (FIRST, 400)])


def packed(sizes: list[int], room: int) -> Pieces:
    return concat(np.array(sizes, np.int64), LENGTH - room)


def tangle(pieces: Pieces, room: int, **more: Any) -> tuple[Pieces, Marks]:
    how = {"seed": 5, "window": 3, "probability": 1.0, "parts": 3, "head": HEAD, "tail": TAIL}
    return utk(pieces, LENGTH, room=room, **(how | more))


def rows(pieces: Pieces) -> list[tuple[int, ...]]:
    columns = (pieces.row, pieces.offset, pieces.size, pieces.sequence, pieces.start)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def marks_of(marks: Marks) -> list[tuple[int, ...]]:
    return list(zip(marks.sequence.tolist(), marks.start.tolist(), marks.token.tolist(), strict=True))


Layout = dict[int, dict[int, Any]]


def laid(pieces: Pieces, marks: Marks) -> Layout:
    """What stands in each place of each sequence: a token's (row, offset), or a mark's id."""
    out: Layout = defaultdict(dict)
    things = [(s, start + i, (row, offset + i)) for row, offset, size, s, start in rows(pieces) for i in range(size)]
    for sequence, place, what in [*things, *marks_of(marks)]:
        assert place not in out[sequence], "two things in one place"
        assert 0 <= place < LENGTH
        out[sequence][place] = what
    return dict(out)


def by_sequence(pieces: Pieces, marks: Marks) -> dict[int, tuple[Any, Any]]:
    out: dict[int, tuple[Any, Any]] = defaultdict(lambda: ([], []))
    for row in rows(pieces):
        out[row[3]][0].append(row)
    for mark in marks_of(marks):
        out[mark[0]][1].append(mark)
    return dict(out)


def parts_of(pieces: Pieces) -> dict[tuple[int, int], list[tuple[int, ...]]]:
    """The parts of each document of each sequence, as they stand."""
    out = defaultdict(list)
    for row in rows(pieces):
        out[row[3], row[0]].append(row)
    return dict(out)


def text(pieces: Pieces, marks: Marks) -> str:
    """The first sequence, its documents as letters."""
    held = laid(pieces, marks)[0]
    return "".join("abc"[what[0]] if isinstance(what, tuple) else chr(what) for _, what in sorted(held.items()))


def test_the_worked_example_of_the_module() -> None:
    # A window in which the draws fall so; they are written down, so they always will.
    how: dict[str, Any] = {
        "seed": 42,
        "window": 6458,
        "probability": 1.0,
        "parts": 3,
        "head": ord("H"),
        "tail": ord("T"),
    }
    before = concat(np.array([6, 3, 4]), 13)
    assert text(*utk(before, 32, room=19, trace=(ord("0"), 8), **how)) == "aaTccTbbbHaaaa02Hcc13"
    assert text(*utk(before, 32, room=19, **how)) == "aaTccTbbbHaaaaHcc"
    # Room for one knot goes to the longest document.
    assert text(*utk(before, 32, room=2, **how)) == "aaTbbbHaaaacccc"


@given(lengths, rooms, traces, st.sampled_from([0.0, 0.4, 1.0]))
def test_tokens_stay_in_their_sequence_each_exactly_once(sizes: list[int], room: int, trace: Any, share: float) -> None:
    before = packed(sizes, room)
    after, marks = tangle(before, room, trace=trace, probability=share)
    was, now = laid(before, Marks.none()), laid(after, marks)
    assert was.keys() == now.keys()
    for sequence, places in now.items():
        kept = sorted(what for what in places.values() if isinstance(what, tuple))
        assert kept == sorted(was[sequence].values())
        assert sorted(places) == list(range(len(places))), "padding only at the end"
    assert [row[3:] for row in rows(after)] == sorted(row[3:] for row in rows(after))
    assert [mark[:2] for mark in marks_of(marks)] == sorted(mark[:2] for mark in marks_of(marks))


@given(lengths, rooms, traces)
def test_the_parts_of_a_document_keep_their_order(sizes: list[int], room: int, trace: Any) -> None:
    before = packed(sizes, room)
    after, _ = tangle(before, room, trace=trace)
    for row, offset, size, sequence, _ in rows(before):
        parts = parts_of(after)[sequence, row]
        assert 1 <= len(parts) <= 3
        assert [part[1] for part in parts] == [offset, *(part[1] + part[2] for part in parts[:-1])]
        assert parts[-1][1] + parts[-1][2] == offset + size
        assert all(part[2] > 0 for part in parts)


@given(lengths, rooms, traces)
def test_marks_never_take_more_than_the_room(sizes: list[int], room: int, trace: Any) -> None:
    _, marks = tangle(packed(sizes, room), room, trace=trace)
    assert not len(marks.sequence) or np.bincount(marks.sequence).max() <= room


@given(lengths, st.integers(4, 24), st.integers(0, 3))
def test_marks_take_only_what_the_documents_leave_of_the_sequence(sizes: list[int], room: int, left: int) -> None:
    before = packed(sizes, left)
    _, marks = tangle(before, room)
    filled = np.bincount(before.sequence, before.size, minlength=before.sequences)
    assert (np.bincount(marks.sequence, minlength=before.sequences) <= LENGTH - filled).all()


@given(lengths, rooms)
def test_a_tail_ends_each_part_that_goes_on_and_a_head_begins_each_that_continues(sizes: list[int], room: int) -> None:
    after, marks = tangle(packed(sizes, room), room)
    expected = []
    for (sequence, _), parts in parts_of(after).items():
        for part, follower in pairwise(parts):
            expected += [(sequence, part[4] + part[2], TAIL), (sequence, follower[4] - 1, HEAD)]
    assert sorted(expected) == marks_of(marks)


@given(lengths, rooms, st.sampled_from([1, 3, 12]))
def test_traces_name_where_the_parts_stand_among_those_of_cut_documents(
    sizes: list[int], room: int, count: int
) -> None:
    after, marks = tangle(packed(sizes, room), room, trace=(FIRST, count))
    found = defaultdict(list)
    for sequence, place, token in marks_of(marks):
        if token >= FIRST:
            found[sequence].append((place, token))
    expected = defaultdict(list)
    torn = defaultdict(list)
    for (sequence, _), parts in parts_of(after).items():
        torn[sequence] += [part[4] for part in parts if len(parts) > 1]
    for (sequence, _), parts in parts_of(after).items():
        numbers = [sorted(torn[sequence]).index(part[4]) for part in parts if len(parts) > 1]
        if numbers and max(numbers) < count:
            end = parts[-1][4] + parts[-1][2]
            expected[sequence] += [(end + j, FIRST + number) for j, number in enumerate(numbers)]
    assert found == {sequence: sorted(of) for sequence, of in expected.items()}


@given(lengths, rooms)
def test_half_the_room_in_ids_traces_every_cut_document(sizes: list[int], room: int) -> None:
    after, marks = tangle(packed(sizes, room), room, trace=(FIRST, max(room // 2, 1)))
    torn = sum(len(parts) for parts in parts_of(after).values() if len(parts) > 1)
    assert int((marks.token >= FIRST).sum()) == torn


@given(lengths, rooms, traces)
def test_a_cut_document_is_no_shorter_than_one_that_wanted_cuts_and_got_none(
    sizes: list[int], room: int, trace: Any
) -> None:
    before = packed(sizes, room)
    plenty, _ = utk(before, 10_000, seed=5, window=3, probability=1.0, parts=3, room=9_000, head=HEAD, tail=TAIL)
    after, _ = tangle(before, room, trace=trace)
    wanted, got = parts_of(plenty), parts_of(after)
    size = {(s, row): n for row, _, n, s, _ in rows(before)}
    for (sequence, row), parts in got.items():
        if len(parts) == 1 and len(wanted[sequence, row]) > 1:
            longer = [key for key in got if key[0] == sequence and len(got[key]) > 1]
            assert all(size[key] >= size[sequence, row] for key in longer)


@given(lengths, rooms, traces)
def test_a_sequence_does_not_see_the_others_of_its_window(sizes: list[int], room: int, trace: Any) -> None:
    before = packed(sizes, room)
    whole = by_sequence(*tangle(before, room, trace=trace, probability=0.6))
    for parity in (0, 1):
        which = before.sequence % 2 == parity
        columns = (before.row, before.offset, before.size, before.sequence, before.start)
        some = by_sequence(*tangle(Pieces(*(c[which] for c in columns)), room, trace=trace, probability=0.6))
        assert some == {sequence: of for sequence, of in whole.items() if sequence % 2 == parity}


@given(lengths, rooms)
def test_the_same_window_comes_out_the_same(sizes: list[int], room: int) -> None:
    one, other = tangle(packed(sizes, room), room), tangle(packed(sizes, room), room)
    assert rows(one[0]) == rows(other[0])
    assert marks_of(one[1]) == marks_of(other[1])


def test_seed_and_window_each_tangle_anew() -> None:
    before = packed([9] * 60, 8)
    layouts = [rows(tangle(before, 8, **more)[0]) for more in ({}, {"seed": 6}, {"window": 4})]
    assert layouts[0] != layouts[1]
    assert layouts[0] != layouts[2]


@given(lengths, rooms)
def test_the_last_document_ends_its_sequence(sizes: list[int], room: int) -> None:
    before = packed(sizes, room)
    after, _ = tangle(before, room)
    for sequence in range(before.sequences):
        last = [row for row in rows(before) if row[3] == sequence][-1]
        now = [row for row in rows(after) if row[3] == sequence][-1]
        assert (now[0], now[1] + now[2]) == (last[0], last[1] + last[2])


def test_a_sequence_of_one_document_is_left_alone() -> None:
    before = packed([500], 8)
    after, marks = tangle(before, 8)
    assert rows(after) == rows(before)
    assert marks_of(marks) == []


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0, 0), (0.3, 250, 350), (1.0, 1000, 1000)])
def test_the_share_of_tangled_sequences_is_the_probability(share: float, low: int, high: int) -> None:
    # Four documents in each sequence: of 1 … 14 parts, they are practically never all left whole.
    _, marks = tangle(packed([14] * 4000, 8), 8, parts=14, probability=share)
    assert low <= len(np.unique(marks.sequence)) <= high


def test_untouched_sequences_keep_their_padding_between_documents() -> None:
    zero = np.zeros(2, np.int64)
    before = Pieces(np.array([0, 1]), zero, np.array([3, 2]), zero, np.array([0, 8]))
    assert rows(tangle(before, 4, probability=0.0)[0]) == rows(before)


def test_each_order_of_documents_before_the_last_is_about_equally_likely() -> None:
    # Without room nothing is cut: three documents, the last stays, so there are two orders of the others.
    before = concat(np.full(6000, 10), 30)
    after, _marks = utk(before, 30, seed=1, window=0, probability=1.0, parts=3, room=0, head=HEAD, tail=TAIL)
    leads = (after.row[::3] % 3 == 0).mean()
    assert 0.46 < leads < 0.54


def test_cuts_fall_everywhere() -> None:
    before = concat(np.full(4000, 20), 40)
    after, _ = utk(before, 100, seed=1, window=0, probability=1.0, parts=2, room=60, head=HEAD, tail=TAIL)
    points = np.bincount(after.offset[after.offset > 0], minlength=20)[1:]
    assert len(points) == 19
    assert points.min() > 0.6 * points.mean()
    assert points.max() < 1.4 * points.mean()
