"""A layout: which packings, transforms and sequences go together, and where documents then begin."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixture.pack import Ints
from mixture.pack.layout import Knots, Rules, lay
from mixture.recipe.packing import Packing, Transforms, check
from tests.pack.laws import LENGTHS
from tests.pack.laws import check as holds

PACKINGS = ("concat", "best-fit", "intact", {"kind": "split-by-length", "long": 0.5})


def rules(packing: object, length: int, align: int, **utk: int) -> Rules:
    transforms = Transforms.model_validate({"utk": utk} if utk else {})
    return Rules(length, align, Packing.of(packing), transforms, Knots(300, 301, (302, 8)) if utk else None, 5)


@given(LENGTHS, st.sampled_from(PACKINGS), st.integers(1, 6), st.integers(1, 12))
def test_every_piece_begins_at_a_multiple_of_align_whatever_the_length(
    sizes: Ints, packing: object, align: int, units: int
) -> None:
    laid = lay(sizes, rules(packing, align * units, align), 0)
    holds(laid.pieces, sizes, align * units)
    assert not (laid.pieces.start % align).any()


def test_an_eighth_of_a_sequence_that_is_no_multiple_of_align_is_rounded() -> None:
    laid = lay(np.array([70, 5], np.int64), rules({"kind": "split-by-length", "long": 0}, 48, 16), 0)
    assert sorted(laid.pieces.size.tolist()) == [5, 6, 16, 16, 16, 16]


@pytest.mark.parametrize(("short", "room", "fits"), [(31, 32, True), (32, 32, False), (63, 0, True), (64, 0, False)])
def test_short_pieces_are_below_what_the_room_for_marks_leaves_of_a_sequence(short: int, room: int, fits: bool) -> None:
    packing = Packing.of({"kind": "split-by-length", "long": 0.5, "short": short})
    transforms = Transforms.model_validate({"utk": {"room": room}} if room else {})
    why = check(packing, transforms, 64, 1)
    assert (why == "") == fits
    if room and not fits:
        assert why == "packing.short: 32 is not below sequence.length 64 less transforms.utk.room 32"
    if fits:
        how = Rules(64, 1, packing, transforms, Knots(300, 301) if room else None, 0)
        assert lay(np.array([200, 9], np.int64), how, 0).pieces.size.sum() == 209


@pytest.mark.parametrize("trace", [None, (302, 8)])
def test_ids_of_marks_are_the_same_after_a_lock_was_written_and_read(trace: tuple[int, int] | None) -> None:
    said = Knots(300, 301, trace).to_json()
    assert json.loads(json.dumps(said)) == said
    assert Knots.of(said) == Knots(300, 301, trace)
