"""Which data-parallel rank takes which sequence of a step, so that none waits for the others.

    costs 9 1 8 2, two ranks      as they come: 9+1 | 8+2   →   10, 10
    costs 9 8 1 2                 as they come: 9+8 | 1+2   →   17, 3      balanced: 9+1 | 8+2

With document masks a sequence costs about Σ len² over its documents, and one long document outweighs many short ones.
A step (global batch) holds the same sequences whatever the order, so its gradient is the same, too. The method is the
balanced largest differencing method (Michiels, Korst, Aarts, van Leeuwen 2003: Karmarkar and Karp's, with equal
numbers): sequences in falling order of cost are dealt out one to each rank, round after round; then the two rounds of
the largest spreads are added, the heaviest of one to the lightest of the other, until a single round is left. Where one
sequence outweighs a whole round, the greedy method is better: the costliest first, each to the lightest rank with a
place left (Graham 1969, with equal numbers). Both are tried.
"""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np
import numpy.typing as npt

from mixture.errors import MixtureError
from mixture.loader import Ints, Spans

Costs = npt.NDArray[np.int64] | npt.NDArray[np.float64]


def costs(spans: Spans) -> Ints:
    """Return Σ len² over the spans of each row: what attention inside documents costs, int64, shape (rows,)."""
    until = np.zeros(len(spans.start) + 1, np.int64)
    np.cumsum((spans.stop - spans.start) ** 2, out=until[1:])
    return until[spans.borders[1:]] - until[spans.borders[:-1]]


def balanced(costs: Costs, ranks: int) -> Ints:
    """Return the sequences of one step that each rank takes, int64, shape (ranks, n // ranks).

    Each of 0 … n-1 is there once. The largest sum of a rank is the least of four orders': the two methods' above, and
    the plain ones, in which rank r takes a block of neighbours, or every `ranks`-th sequence from r on. By both methods
    a rank begins with its costliest sequence, so that what the ranks take at the same time differs little as well.

    Args:
        costs: of each sequence, int64 or float64, finite, shape (n,).
        ranks: data-parallel ranks, above 0; n is a multiple of them.

    Raises:
        MixtureError: the sequences do not share out equally.
    """
    if len(costs) % ranks:
        raise MixtureError(
            f"{len(costs):,} sequences of a step do not share out over {ranks} ranks: choose a multiple of {ranks}"
        )
    every = np.arange(len(costs))
    if not len(costs):
        return every.reshape(ranks, 0)
    orders = [_differenced(costs, ranks), _greedy(costs, ranks), every.reshape(ranks, -1), every.reshape(-1, ranks).T]
    return min(orders, key=lambda order: costs[order].sum(axis=1).max())


def balanced_stream(costs: Costs, ranks: int, batch: int) -> Ints:
    """Balance step after step; return the sequences of each, int64, shape (n // batch, ranks, batch // ranks).

    Args:
        costs: of sequences in the order of the stream, as those of a shard, shape (n,).
        ranks: data-parallel ranks.
        batch: sequences of a step, over all ranks.

    Raises:
        MixtureError: the sequences are not whole steps, or those of a step do not share out equally.
    """
    if len(costs) % batch:
        whole = len(costs) // batch * batch
        raise MixtureError(f"{len(costs):,} sequences are not whole steps of {batch:,}: pass the first {whole:,}")
    steps = [first + balanced(costs[first : first + batch], ranks) for first in range(0, len(costs), batch)]
    return np.array(steps, np.int64).reshape(-1, ranks, batch // ranks)


def _differenced(costs: Costs, ranks: int) -> Ints:
    falling = np.argsort(-costs, kind="stable")
    # Rounds are numbered as they are made: of equal spreads, the older one comes first, on every machine.
    rounds: list[tuple[Any, int, Costs, Ints]] = []
    for made, dealt in enumerate(falling.reshape(-1, ranks)):
        sums = costs[dealt]
        rounds.append((sums[-1] - sums[0], made, sums, dealt[:, None]))
    heapq.heapify(rounds)
    made = len(rounds)
    while len(rounds) > 1:
        (_, _, sums, taken), (_, _, others, more) = heapq.heappop(rounds), heapq.heappop(rounds)
        sums = sums + others[::-1]
        order = np.argsort(-sums, kind="stable")
        sums, taken = sums[order], np.concatenate([taken, more[::-1]], axis=1)[order]
        heapq.heappush(rounds, (sums[-1] - sums[0], made, sums, taken))
        made += 1
    return _costliest_first(rounds[0][3], falling)


def _greedy(costs: Costs, ranks: int) -> Ints:
    falling = np.argsort(-costs, kind="stable")
    taken: list[list[int]] = [[] for _ in range(ranks)]
    open_ranks: list[tuple[Any, int]] = [(0, rank) for rank in range(ranks)]
    for sequence, cost in zip(falling.tolist(), costs[falling].tolist(), strict=True):
        load, rank = heapq.heappop(open_ranks)
        taken[rank].append(sequence)
        if len(taken[rank]) < len(costs) // ranks:
            heapq.heappush(open_ranks, (load + cost, rank))
    return np.array(taken, np.int64)


def _costliest_first(taken: Ints, falling: Ints) -> Ints:
    place = np.empty(len(falling), np.int64)
    place[falling] = np.arange(len(falling))
    return np.take_along_axis(taken, np.argsort(place[taken], axis=1), axis=1)
