"""The path: a permutation, greedy, and the same whatever the order of sums."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mixture.related import walk
from mixture.related.terms import Ints
from mixture.related.vectors import ByVectors
from mixture.related.walk import Find, Free
from tests.related.test_terms import Corpus, corpora, of


class Plain:
    """Relatedness by a table; the reference."""

    def __init__(self, scores: np.ndarray) -> None:
        self.scores = scores

    def among(self, left: Ints) -> Find:
        def find(here: int, free: Free) -> int:
            scores = np.where(free, self.scores[here, left], 0)
            return int(np.argmax(scores)) if scores.max() > 0 else -1

        return find


def greedy(scores: np.ndarray) -> list[int]:
    """Walk without any shortcut."""
    left, here, path = set(range(1, len(scores))), 0, [0] if len(scores) else []
    while left:
        best = max(left, key=lambda n: (scores[here, n], -n))
        here = best if scores[here, best] > 0 else min(left)
        left.remove(here)
        path.append(here)
    return path


def bm25(corpus: Corpus) -> np.ndarray:
    found = of(corpus)
    scores = np.zeros((len(corpus), len(corpus)), np.int64)
    for here in range(len(corpus)):
        for term in found.of(here).tolist():
            stretch = slice(found.starts[term], found.starts[term + 1])
            scores[here, found.document[stretch]] += found.weight[stretch]
    return scores


@given(corpora)
def test_a_path_goes_on_to_the_most_related_document_that_is_left(corpus: Corpus) -> None:
    assert walk.walk(len(corpus), walk.ByTerms(of(corpus))).tolist() == greedy(bm25(corpus))


@given(st.integers(0, 5), st.integers(1, 40))
def test_numbering_those_left_anew_changes_nothing(seed: int, kinds: int) -> None:
    draw = np.random.default_rng(seed)
    scores = draw.integers(0, kinds, (700, 700))
    assert walk.walk(700, Plain(scores)).tolist() == greedy(scores)


def test_a_path_of_terms_is_the_same_where_those_left_are_numbered_anew() -> None:
    draw = np.random.default_rng(1)
    corpus = [draw.integers(0, 400, draw.integers(0, 20)).tolist() for _ in range(900)]
    assert walk.walk(len(corpus), walk.ByTerms(of(corpus))).tolist() == greedy(bm25(corpus))


def test_documents_of_a_topic_stand_together_and_unrelated_ones_start_anew() -> None:
    corpus = [[1, 2], [3, 4], [9], [1, 2], [3, 4], [1, 2]]
    assert walk.walk(6, walk.ByTerms(of(corpus))).tolist() == [0, 3, 5, 1, 4, 2]


def test_documents_of_one_keyword_stand_together_and_those_of_none_come_last() -> None:
    corpus = [[5, 5, 5, 6], [8], [7, 7, 6], [5, 5, 6], [], [7, 7, 7]]
    path = walk.by_keyword(of(corpus)).tolist()
    assert sorted(path) == list(range(6))
    assert path[4:] == [1, 4]
    assert path[:4] in ([0, 3, 2, 5], [2, 5, 0, 3])


def test_nothing_has_an_empty_path() -> None:
    assert walk.walk(0, walk.ByTerms(of([]))).tolist() == []
    assert walk.by_keyword(of([])).tolist() == []
    assert walk.walk(1, walk.ByTerms(of([[1]]))).tolist() == [0]


@given(st.integers(0, 1000), st.integers(1, 60), st.integers(1, 5))
def test_a_path_of_vectors_goes_on_to_the_nearest_by_cosine(seed: int, count: int, dimensions: int) -> None:
    draw = np.random.default_rng(seed)
    vectors = draw.normal(size=(count, dimensions))
    vectors[draw.random(count) < 0.2] = np.nan
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    steps = np.nan_to_num(np.rint(vectors / length * 127))
    # Those without a vector relate to nothing; all others do to each other, however little.
    scores = steps @ steps.T + 200**2
    scores[np.isnan(vectors[:, 0])] = 0
    scores[:, np.isnan(vectors[:, 0])] = 0
    assert walk.walk(count, ByVectors(vectors)).tolist() == greedy(scores)


def test_a_path_of_many_vectors_is_the_same_beyond_the_nearest() -> None:
    draw = np.random.default_rng(2)
    centres = draw.normal(size=(3, 16))
    vectors = centres[draw.integers(0, 3, 1500)] + draw.normal(size=(1500, 16)) * 0.3
    steps = np.rint(vectors / np.linalg.norm(vectors, axis=1, keepdims=True) * 127)
    path = walk.walk(1500, ByVectors(vectors)).tolist()
    assert path == greedy(steps @ steps.T + 200**2)


def test_products_are_exact_at_any_number_of_dimensions() -> None:
    for dimensions in (1, 768, 4096):
        rows = ByVectors(np.random.default_rng(3).normal(size=(50, dimensions)))._rows
        whole = rows.astype(np.int64)
        assert np.array_equal(whole, rows)
        assert np.array_equal((rows @ rows.T).astype(np.int64), whole @ whole.T)
