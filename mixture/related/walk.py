"""The path: documents in the order of their hashes in, an order in which neighbours are related out.

    documents 0 … 5; 0, 3, 5 speak of one thing, 1, 4 of another, 2 of nothing else
    path      0 5 3   1 4   2          starts at 0; from 3 no related document is left: on with 1, the next by hash

Greedy, as in In-Context Pretraining (Shi et al. 2023, arXiv 2310.10638): from each document to the most related one
that is left. There the neighbours are the nearest 20, found before, and a document whose 20 are used ends a stretch;
here they are sought among those that are left, so a stretch ends only where nothing related is left. After half of the
documents the rest is numbered anew, and each step costs what is left. Each document stands on the path once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from mixture.hashing import mix
from mixture.related.terms import Ints, Terms

Free = npt.NDArray[np.bool_]
#: Of a document, and which of those left are free: the place among them of the most related; below 0 for none.
Find = Callable[[int, Free], int]
#: With so few left, they are not numbered anew.
_FEW = 256


class Relation(Protocol):
    """What makes documents related."""

    def among(self, left: Ints) -> Find:
        """Return how to find the most related document among some, which are given by rising number."""
        ...


def walk(documents: int, relation: Relation) -> Ints:
    """Return the path: a permutation of 0 … documents - 1 that starts with 0.

    Args:
        documents: how many there are; their numbers are the order in which stretches start.
        relation: what makes them related.
    """
    path = np.empty(documents, np.int64)
    here, done = 0, 0
    left: Ints = np.arange(documents)
    while done < documents:
        find = relation.among(left)
        free = np.ones(len(left), np.bool_)
        stop = documents if len(left) <= _FEW else done + (len(left) + 1) // 2
        while done < stop:
            path[done] = here
            done += 1
            free[np.searchsorted(left, here)] = False
            if done < documents:
                found = find(here, free)
                # The first that is free is the next by hash.
                here = int(left[found if found >= 0 else int(np.argmax(free))])
        left = left[free]
    return path


class ByTerms:
    """Related are documents that share telling terms: the BM25 score of one for the telling terms of the other."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms

    def among(self, left: Ints) -> Find:
        """See `Relation`; of equal scores the first of the documents given."""
        terms, starts, document, weight = self._terms, *_compact(self._terms, left)
        size = len(left)

        def find(here: int, free: Free) -> int:
            wanted = terms.of(here)
            stretches = list(zip(starts[wanted].tolist(), starts[wanted + 1].tolist(), strict=True))
            if not stretches:
                return -1
            found = np.concatenate([document[a:b] for a, b in stretches])
            scores = np.bincount(found, np.concatenate([weight[a:b] for a, b in stretches]), size)
            scores *= free
            best = int(np.argmax(scores))
            return best if scores[best] > 0 else -1

        return find


def _compact(terms: Terms, left: Ints) -> tuple[Ints, npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return the postings of some documents, numbered by their places among these: starts, document, weight."""
    documents = len(terms.borders) - 1
    place = np.full(documents, -1, np.int32)
    place[left] = np.arange(len(left), dtype=np.int32)
    document = place[terms.document]
    kept = document >= 0
    before = np.concatenate([[0], np.cumsum(kept)])
    return before[terms.starts], document[kept], terms.weight[kept]


def by_keyword(terms: Terms) -> Ints:
    """Return documents of one keyword together, keywords in the order of a hash: Quest (Gao et al. 2024, 2405.19846).

    A document's keyword is its most telling term; those that have none come last. Takes time for a sort, and no walk.

    Returns:
        a permutation of the documents, shape (n,); inside a keyword their numbers rise.
    """
    documents = len(terms.borders) - 1
    has = np.diff(terms.borders) > 0
    keyword = np.zeros(documents, np.uint64)
    keyword[has] = terms.token[terms.telling[terms.borders[:-1][has]]].astype(np.uint64)
    return np.lexsort([np.arange(documents), keyword, mix(keyword), ~has])
