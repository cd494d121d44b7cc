"""Facts of a packing."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixture.pack import Ints, Pieces
from mixture.pack.best_fit import best_fit
from mixture.pack.concat import concat
from mixture.pack.facts import Facts, measure
from tests.pack.laws import LENGTHS, ints


def facts(pieces: Pieces, lengths: Ints, length: int, domain: Ints, domains: int) -> Facts:
    begins = pieces.offset == 0
    ends = pieces.offset + pieces.size == lengths[pieces.row]
    return measure(pieces, begins, ends, domain[pieces.row], domains, pieces.sequences, length)


def example() -> Facts:
    lengths = ints(6, 4, 3)
    return facts(concat(lengths, 8), lengths, 8, ints(0, 1, 1), 3)


def test_the_worked_example_of_the_module() -> None:
    assert example() == Facts(2, 0, 16, 13, 4, 1, (1, 2, 0), (0, 1, 0), 20, 53)


def test_ratios_of_the_worked_example() -> None:
    made = example()
    assert (made.documents, made.length) == (3, 8)
    assert made.fill == 13 / 16
    assert made.padding == 3 / 16
    assert made.cuts_per_document == 1 / 3
    assert made.truncation == (0.0, 0.5, 0.0)
    assert made.mean_context == 20 / 13
    assert made.pieces_per_sequence == 2
    assert made.relative_cost == 53 / (13 * 8)


def test_nothing_has_ratios_of_zero() -> None:
    none = Facts.none(1)
    assert (none.fill, none.padding, none.mean_context, none.relative_cost, none.truncation) == (0, 0, 0, 0, (0,))


@given(LENGTHS, st.integers(1, 20))
def test_facts_are_those_of_counting_token_by_token(lengths: Ints, length: int) -> None:
    pieces = best_fit(lengths, length)
    made = facts(pieces, lengths, length, np.arange(len(lengths)) % 2, 2)
    assert made.tokens == lengths.sum()
    assert made.context == sum(i for size in pieces.size.tolist() for i in range(size))
    counts = np.bincount(pieces.sequence, minlength=pieces.sequences)
    assert made.single_share == (np.count_nonzero(counts == 1) / len(counts) if len(counts) else 0)
    assert made.cost == sum(size**2 for size in pieces.size.tolist())
    assert made.pieces == made.documents + made.cuts
    assert made.begun == tuple(int(np.count_nonzero(lengths[number::2])) for number in range(2))
    assert made.truncated == tuple(int(np.count_nonzero(lengths[number::2] > length)) for number in range(2))


@given(LENGTHS, st.integers(0, 5))
def test_facts_of_parts_add_up_to_those_of_the_whole(lengths: Ints, cut: int) -> None:
    pieces = concat(lengths, 8)
    cut = min(cut, pieces.sequences)
    begins, ends = pieces.offset == 0, pieces.offset + pieces.size == lengths[pieces.row]
    domain = pieces.row % 3
    low = int(np.searchsorted(pieces.sequence, cut))
    whole = measure(pieces, begins, ends, domain, 3, pieces.sequences, 8)
    first = measure(pieces.of_sequences(0, cut), begins[:low], ends[:low], domain[:low], 3, cut, 8)
    rest = pieces.of_sequences(cut, pieces.sequences)
    second = measure(rest, begins[low:], ends[low:], domain[low:], 3, rest.sequences, 8)
    assert first + second == whole == Facts.none(3) + whole


def test_facts_survive_json_and_named_ones_add_up_by_name() -> None:
    made = example()
    one = Facts.from_json(json.loads(json.dumps(made.to_json(("books", "web", "code")))))
    assert one.to_json() == made.to_json(("books", "web", "code"))
    other = Facts.from_json(made.to_json(("web", "arxiv", "books")) | {"marks": 3})
    both = one + other
    assert both.domains == ("arxiv", "books", "code", "web")
    assert both.begun == (2, 1, 0, 3)
    assert both.truncated == (1, 0, 0, 1)
    assert both == other + one


def test_facts_of_unlike_domains_without_names_do_not_add_up() -> None:
    with pytest.raises(ValueError, match="facts of 1 and of 2 domains"):
        _ = Facts.none(1) + Facts.none(2)


def test_sums_may_pass_sixty_four_bits() -> None:
    large = Facts(1, 1, 1 << 62, 1 << 62, 1, 0, (1,), (0,), 1 << 63, 1 << 63)
    assert (large + large).cost == 1 << 64
