"""What holds of every packing, and what sets each apart."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixture.pack import Ints, Pieces
from mixture.pack.best_fit import best_fit
from mixture.pack.concat import concat
from mixture.pack.intact import intact
from mixture.pack.split_by_length import split_by_length
from mixture.pack.vsl import buckets, vsl
from tests.pack.laws import LENGTHS, check, fills, ints, picture, rows_of

PACKINGS: dict[str, Callable[[Ints, int], Pieces]] = {
    "concat": concat,
    "best-fit": best_fit,
    "intact": intact,
    "split-by-length": split_by_length,
    "split-by-length, short ones only": partial(split_by_length, long=0.0),
    "vsl": vsl,
    "vsl, from 4": partial(vsl, smallest=4),
}


@pytest.mark.parametrize("name", PACKINGS)
@given(LENGTHS, st.sampled_from([1, 2, 4, 8, 16, 32]))
def test_every_token_has_one_place_and_pieces_are_in_order(name: str, lengths: Ints, length: int) -> None:
    check(PACKINGS[name](lengths, length), lengths, length)


@pytest.mark.parametrize("packing", [best_fit, intact, split_by_length])
@given(lengths=LENGTHS, length=st.integers(1, 33))
def test_a_length_need_not_be_a_power_of_two(
    packing: Callable[[Ints, int], Pieces], lengths: Ints, length: int
) -> None:
    check(packing(lengths, length), lengths, length)


@pytest.mark.parametrize("name", PACKINGS)
@pytest.mark.parametrize("lengths", [(), (0,), (0, 0, 0), (1,), (1000,), (0, 64, 0)])
def test_nothing_one_giant_document_and_empty_ones(name: str, lengths: tuple[int, ...]) -> None:
    given_lengths = ints(*lengths)
    pieces = PACKINGS[name](given_lengths, 8)
    check(pieces, given_lengths, 8)
    assert pieces.sequences == -(-sum(lengths) // 8)


@pytest.mark.parametrize("name", PACKINGS)
@given(LENGTHS)
def test_the_same_lengths_give_the_same_pieces_and_stay_as_they_are(name: str, lengths: Ints) -> None:
    before = lengths.copy()
    first, second = PACKINGS[name](lengths, 16), PACKINGS[name](lengths, 16)
    assert (lengths == before).all()
    assert all(np.array_equal(getattr(first, c), getattr(second, c)) for c in vars(first))


# best-fit


def naive_best_fit_decreasing(lengths: list[int], length: int) -> list[int]:
    """Fills of the sequences, one document at a time."""
    out = [length for size in lengths for _ in range(size // length)]
    rooms: list[int] = []
    for size in sorted((size % length for size in lengths if size % length), reverse=True):
        fitting = [room for room in rooms if room >= size]
        if fitting:
            rooms[rooms.index(min(fitting))] -= size
        else:
            rooms.append(length - size)
    return sorted(out + [length - room for room in rooms])


@given(LENGTHS, st.integers(1, 40))
def test_best_fit_fills_sequences_as_one_document_at_a_time_would(lengths: Ints, length: int) -> None:
    assert sorted(fills(best_fit(lengths, length))) == naive_best_fit_decreasing(lengths.tolist(), length)


@given(st.lists(st.integers(0, 12), max_size=200), st.integers(1, 60))
def test_best_fit_deals_many_equal_lengths_as_one_at_a_time_would(lengths: list[int], length: int) -> None:
    assert sorted(fills(best_fit(ints(*lengths), length))) == naive_best_fit_decreasing(lengths, length)


@given(LENGTHS, st.integers(1, 40))
def test_best_fit_cuts_no_document_that_fits_in_a_sequence(lengths: Ints, length: int) -> None:
    pieces = best_fit(lengths, length)
    count = np.bincount(pieces.row, minlength=len(lengths))
    assert (count == -(-lengths // length)).all()


def test_the_worked_examples_of_best_fit_and_intact() -> None:
    assert picture(best_fit(ints(11, 4, 3, 3, 2), 8), 8) == "aaaaaaaa | bbbbaaa· | cccdddee"
    assert picture(intact(ints(11, 3, 1), 4), 4) == "aaaa | aaaa | aaab | bbc·"


def test_best_fit_pads_less_than_a_thousandth_on_many_documents() -> None:
    draw = np.random.default_rng(3)
    lengths = np.exp(draw.normal(6, 1.2, 20_000)).astype(np.int64)
    pieces = best_fit(lengths, 4096)
    assert pieces.sequences * 4096 < int(lengths.sum()) * 1.001


# intact and split-by-length


@given(LENGTHS, st.integers(1, 40))
def test_intact_gives_every_whole_sequence_of_a_document_to_it_alone(lengths: Ints, length: int) -> None:
    pieces = intact(lengths, length)
    whole = int((lengths // length).sum())
    first = pieces.of_sequences(0, whole)
    assert (first.size == length).all()
    assert (np.bincount(first.row, minlength=len(lengths)) == lengths // length).all()
    assert (pieces.of_sequences(whole, pieces.sequences).size < length).all()


@given(LENGTHS, st.integers(1, 40))
def test_the_short_part_of_intact_keeps_the_order_of_the_stream_and_pads_the_last_sequence_only(
    lengths: Ints, length: int
) -> None:
    pieces = intact(lengths, length)
    short = pieces.of_sequences(int((lengths // length).sum()), pieces.sequences)
    assert (np.diff(short.row) >= 0).all()
    assert all(fill == length for fill in fills(pieces)[:-1])


@given(LENGTHS, st.integers(2, 40), st.floats(0, 1))
def test_long_sequences_are_one_document_and_packed_ones_have_short_pieces(
    lengths: Ints, length: int, long: float
) -> None:
    pieces = split_by_length(lengths, length, long)
    whole = pieces.size == length
    chunks = int(np.count_nonzero(whole))
    assert whole[:chunks].all()
    assert (pieces.size[chunks:] <= max(1, length // 8)).all()
    wanted = int(long * -(-int(lengths.sum()) // length) + 0.5)
    assert chunks == min(wanted, int((lengths // length).sum()))


@given(st.floats(0, 1), st.integers(0, 1000))
def test_the_ratio_is_met_to_a_sequence_where_documents_allow(long: float, seed: int) -> None:
    draw = np.random.default_rng(seed)
    lengths = draw.permutation(np.r_[draw.integers(512, 5000, 40), draw.integers(1, 60, 300)])
    pieces = split_by_length(lengths, 512, long)
    chunks = np.count_nonzero(pieces.size == 512)
    offered = int((lengths // 512).sum()) / pieces.sequences
    assert abs(chunks / pieces.sequences - min(long, offered)) <= 1 / pieces.sequences


def test_surplus_is_taken_from_the_end_of_the_stream_and_spread_over_packed_sequences() -> None:
    assert picture(split_by_length(ints(24, 4, 2, 1), 8, 0.5, 2), 8) == "aaaaaaaa | aaaaaaaa | aabbccaa | bbaaaad·"
    two_long = split_by_length(ints(16, 16), 8, 0.5, 2)
    assert picture(two_long, 8) == "aaaaaaaa | aaaaaaaa | bbbbbbbb | bbbbbbbb"
    assert (two_long.size[two_long.row == 1] == 2).all()
    three = split_by_length(ints(8, 8, 8, 8), 8, 0.25, 2)
    assert rows_of(three)[1:] == [(1, 2, 3, 1), (2, 3, 1, 2), (3, 1, 2, 3)]


@pytest.mark.parametrize("short", [0, -1, 8, 9])
def test_a_bound_for_short_pieces_that_is_none_is_refused(short: int) -> None:
    with pytest.raises(ValueError, match=rf"short: {short} is not from 1 to below the sequence length 8"):
        split_by_length(ints(5), 8, 0.5, short)


# vsl


def test_the_worked_example_of_vsl() -> None:
    assert picture(vsl(ints(11, 5), 8), 8) == "aaaaaaaa | bbbbaaab"
    assert picture(vsl(ints(11, 6, 6, 5), 8), 8) == "aaaaaaaa | bbbbcccc | ddddaabb | ccad····"


@given(LENGTHS, st.sampled_from([1, 2, 4, 8, 16, 64]))
def test_pieces_are_the_binary_digits_of_a_document_larger_ones_first(lengths: Ints, length: int) -> None:
    pieces = vsl(lengths, length)
    for row, size in enumerate(lengths.tolist()):
        of_document = pieces.row == row
        sizes = pieces.size[of_document][np.argsort(pieces.offset[of_document])].tolist()
        digits = [1 << power for power in reversed(range(length.bit_length() - 1)) if size >> power & 1]
        assert sizes == [length] * (size // length) + digits


@given(LENGTHS, st.sampled_from([1, 2, 4, 8, 16, 64]))
def test_rows_are_of_one_bucket_then_mixed_and_only_the_last_has_padding(lengths: Ints, length: int) -> None:
    pieces = vsl(lengths, length)
    assert all(fill == length for fill in fills(pieces)[:-1])
    of_size = [int(np.count_nonzero(pieces.size == size)) * size // length for size in reversed(buckets(length))]
    pure = sum(of_size)
    for number in range(pure):
        assert len(set(pieces.size[pieces.sequence == number].tolist())) == 1
    firsts = pieces.of_sequences(0, pure)
    assert (np.diff(firsts.size) <= 0).all()
    assert [
        int(np.count_nonzero(firsts.size == size)) * size // length for size in reversed(buckets(length))
    ] == of_size


@given(LENGTHS, st.sampled_from([2, 4, 8]))
def test_what_is_below_the_smallest_bucket_stands_at_the_very_end_and_only_the_last_row_has_padding(
    lengths: Ints, smallest: int
) -> None:
    pieces = vsl(lengths, 16, smallest)
    below = pieces.offset >= (lengths - lengths % smallest)[pieces.row]
    assert np.array_equal(below, np.sort(below))
    assert int(pieces.size[below].sum()) == int((lengths % smallest).sum())
    assert all(fill == 16 for fill in fills(pieces)[:-1])


@pytest.mark.parametrize(
    ("length", "smallest", "name"), [(12, 1, "length: 12"), (16, 3, "smallest: 3"), (0, 1, "length: 0")]
)
def test_vsl_wants_powers_of_two(length: int, smallest: int, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is not a power of two"):
        buckets(length, smallest)


def test_vsl_refuses_a_length_that_is_no_power_of_two() -> None:
    with pytest.raises(ValueError, match="length: 12 is not a power of two"):
        vsl(ints(5), 12)


def test_buckets_rise_from_the_smallest_to_the_length() -> None:
    assert buckets(8192, 256) == (256, 512, 1024, 2048, 4096, 8192)
    assert buckets(4) == (1, 2, 4)
    assert buckets(4, 256) == (4,)
