"""Chunk-interleaved sequences."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixture.pack import Pieces
from mixture.pack.concat import concat
from mixture.pack.interleave import interleave


def rows(pieces: Pieces) -> list[tuple[int, ...]]:
    columns = (pieces.row, pieces.offset, pieces.size, pieces.sequence, pieces.start)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def tokens(pieces: Pieces) -> dict[int, list[tuple[int, int]]]:
    """(row, offset) of each token of a sequence, in order of place."""
    out = defaultdict(list)
    for row, offset, size, sequence, _ in rows(pieces):
        out[sequence] += [(row, offset + i) for i in range(size)]
    return dict(out)


def naive(documents: list[tuple[int, int, int]], parts: int) -> list[tuple[int, int]]:
    """(row, offset) of each token, from the (row, offset, size) of a sequence's documents, turn by turn."""
    cut = []
    for row, offset, size in documents:
        count = min(parts, size)
        edges = [offset + size * j // count for j in range(count + 1)]
        cut.append([[(row, i) for i in range(a, b)] for a, b in pairwise(edges)])
    return [token for turn in range(parts) for document in cut if turn < len(document) for token in document[turn]]


def test_the_worked_example_of_the_module() -> None:
    pieces = interleave(concat(np.array([4, 6, 2]), 12), parts=2)
    assert rows(pieces) == [
        (0, 0, 2, 0, 0),
        (1, 0, 3, 0, 2),
        (2, 0, 1, 0, 5),
        (0, 2, 2, 0, 6),
        (1, 3, 3, 0, 8),
        (2, 1, 1, 0, 11),
    ]


@given(st.lists(st.integers(0, 60), max_size=40), st.integers(1, 25), st.integers(1, 6))
def test_documents_take_turns_inside_each_sequence(lengths: list[int], length: int, parts: int) -> None:
    packed = concat(np.array(lengths, np.int64), length)
    documents = defaultdict(list)
    for row, offset, size, sequence, _ in rows(packed):
        documents[sequence].append((row, offset, size))
    assert tokens(interleave(packed, parts=parts)) == {s: naive(of, parts) for s, of in documents.items()}


@given(st.lists(st.integers(0, 60), max_size=40), st.integers(1, 25), st.integers(1, 6))
def test_sequences_stay_filled_from_the_start_without_gaps(lengths: list[int], length: int, parts: int) -> None:
    packed = concat(np.array(lengths, np.int64), length)
    turned = interleave(packed, parts=parts)
    ends: dict[int, int] = defaultdict(int)
    for _, _, size, sequence, start in rows(turned):
        assert start == ends[sequence]
        assert size > 0
        ends[sequence] = start + size
    assert [key[3:] for key in rows(turned)] == sorted(key[3:] for key in rows(turned))
    assert dict(ends) == {s: len(of) for s, of in tokens(packed).items()}


@pytest.mark.parametrize("parts", [1, 2, 9])
def test_a_sequence_of_one_document_stays_as_it_is(parts: int) -> None:
    packed = concat(np.array([100]), 30)
    assert rows(interleave(packed, parts=parts)) == rows(packed)


def test_padding_between_documents_moves_to_the_end() -> None:
    zero = np.zeros(2, np.int64)
    packed = Pieces(np.array([0, 1]), zero, np.array([3, 2]), zero, np.array([0, 8]))
    assert rows(interleave(packed, parts=1)) == [(0, 0, 3, 0, 0), (1, 0, 2, 0, 3)]


def test_no_pieces_give_no_pieces() -> None:
    assert rows(interleave(concat(np.zeros(3, np.int64), 8), parts=4)) == []
