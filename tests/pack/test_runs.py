"""Things in groups, numbered, placed and covered: as loops over them would."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mixture.pack.runs import covered, firsts, places, spread

SIZES = st.lists(st.integers(0, 5), max_size=20)


@given(SIZES)
def test_parts_are_numbered_thing_by_thing(counts: list[int]) -> None:
    owner, part = spread(np.array(counts, np.int64))
    assert list(zip(owner.tolist(), part.tolist(), strict=True)) == [
        (thing, number) for thing, count in enumerate(counts) for number in range(count)
    ]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), max_size=20).map(sorted))
def test_things_of_a_group_stand_side_by_side(things: list[tuple[int, int]]) -> None:
    group, size = (np.array([thing[at] for thing in things], np.int64) for at in (0, 1))
    filled: dict[int, int] = {}
    expected = []
    for number, room in things:
        expected.append(filled.get(number, 0))
        filled[number] = filled.get(number, 0) + room
    assert places(group, size).tolist() == expected
    assert firsts(group).tolist() == [n for n, (number, _) in enumerate(things) if n == 0 or things[n - 1][0] != number]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), max_size=10), st.integers(0, 3))
def test_a_place_is_covered_if_it_lies_in_a_stretch(gaps_and_sizes: list[tuple[int, int]], rest: int) -> None:
    begin, stop, at, expected = [], [], 0, []
    for gap, size in gaps_and_sizes:
        begin.append(at + gap)
        at += gap + size
        stop.append(at)
        expected += [False] * gap + [True] * size
    found = covered(np.array(begin, np.int64), np.array(stop, np.int64), at + rest)
    assert found.tolist() == expected + [False] * rest
