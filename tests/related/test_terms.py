"""Terms: counts, BM25 weights, and the terms that tell most of a document."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixture.related import terms
from mixture.related.terms import Terms

Corpus = list[list[int]]
# Tokens above 16 bits too, and documents of nothing.
corpora = st.lists(st.lists(st.sampled_from([0, 1, 2, 3, 5, 8, 70_000, (1 << 32) - 1]), max_size=12), max_size=12)


def of(corpus: Corpus, groups: int = 1) -> Terms:
    """Count a corpus in some groups of documents, and weigh it."""
    edges = np.linspace(0, len(corpus), groups + 1).astype(int).tolist()
    counted = []
    for first, stop in itertools.pairwise(edges):
        token = np.array([t for document in corpus[first:stop] for t in document], np.uint32)
        owner = np.repeat(np.arange(first, stop), [len(document) for document in corpus[first:stop]])
        counted.append(terms.count(token, owner))
    return terms.weigh(counted, len(corpus))


def postings(found: Terms) -> dict[tuple[int, int], int]:
    """Return the weights by token and document."""
    owner = np.repeat(found.token, np.diff(found.starts))
    columns = (owner.tolist(), found.document.tolist(), found.weight.tolist())
    return {(t, d): w for t, d, w in zip(*columns, strict=True)}


@given(corpora)
def test_a_weight_is_that_of_bm25_in_whole_4096ths(corpus: Corpus) -> None:
    counts = [Counter(document) for document in corpus]
    often = Counter(token for count in counts for token in count)
    mean = sum(map(len, corpus)) / max(1, len(corpus)) or 1.0
    wanted = {
        (token, number): math.log(1 + (len(corpus) - often[token] + 0.5) / (often[token] + 0.5))
        * tf
        / (1.5 * (0.25 + 0.75 * len(corpus[number]) / mean) + tf)
        for number, count in enumerate(counts)
        for token, tf in count.items()
        if often[token] > 1
    }
    found = postings(of(corpus))
    assert found.keys() == wanted.keys()
    for at, weight in found.items():
        assert weight / 4096 == pytest.approx(wanted[at], abs=1 / 1024 + 1 / 4096)


@given(corpora, st.integers(1, 4))
def test_how_documents_are_grouped_for_counting_changes_nothing(corpus: Corpus, groups: int) -> None:
    one, other = of(corpus), of(corpus, groups)
    for name in ("token", "starts", "document", "weight", "telling", "borders"):
        assert np.array_equal(getattr(one, name), getattr(other, name))


@given(corpora)
def test_telling_terms_are_those_of_largest_weight(corpus: Corpus) -> None:
    found = of(corpus)
    weights = postings(found)
    for number in range(len(corpus)):
        mine = sorted(((-w, t) for (t, d), w in weights.items() if d == number))
        assert found.token[found.of(number)].tolist() == [t for _, t in mine][: terms.TELLING]


def test_terms_of_one_document_and_of_most_documents_relate_nothing() -> None:
    corpus = [[9999, 1000 + n, n // 2] for n in range(200)]
    found = of(corpus)
    assert found.token.tolist() == list(range(100))
    assert np.diff(found.borders).tolist() == [1] * 200


def test_a_long_document_has_no_more_telling_terms_than_others() -> None:
    corpus = [list(range(500)), list(range(500)), [1, 2], [3]]
    assert np.diff(of(corpus).borders).tolist() == [terms.TELLING, terms.TELLING, 2, 1]


def test_more_documents_than_can_be_numbered_are_refused() -> None:
    with pytest.raises(ValueError, match="65,537 documents"):
        terms.weigh([], terms.MOST_DOCUMENTS + 1)


def test_scores_are_those_of_bm25s() -> None:
    bm25s: Any = pytest.importorskip("bm25s")
    draw = np.random.default_rng(4)
    corpus = [(draw.zipf(1.5, draw.integers(5, 60)) % 90).tolist() for _ in range(64)]
    names, flat = np.unique(np.concatenate(corpus), return_inverse=True)
    edges = np.cumsum([0, *map(len, corpus)])
    numbered = [flat[a:b].tolist() for a, b in itertools.pairwise(edges)]
    peer = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
    peer.index(numbered, show_progress=False)
    found = of(numbered)
    assert len(names) > len(found.token) > 20
    for term in range(len(found.token)):
        stretch = slice(found.starts[term], found.starts[term + 1])
        ours = np.zeros(len(corpus))
        ours[found.document[stretch]] = found.weight[stretch] / 4096
        assert ours == pytest.approx(peer.get_scores_from_ids([int(found.token[term])]), abs=2e-3)
