"""Whether the supply meets what is wanted, and what gives way where it does not. Pure arithmetic.

Caps bound a cell (`max_epochs`): no document more often than D times, no cell over e epochs, no domain over x epochs;
what earlier phases or runs have used counts. If a cell is wanted above that:

    error         stop, and say the largest budget and the nearest mixture that fit
    repeat        raise the cap of that cell as far as it needs
    redistribute  the excess goes to the nearest buckets of the same domain, so that domains' shares hold;
                  what a domain cannot hold at all goes to the others, nearest to what was wanted by KL divergence

    wiki holds  <4K 80, 4K-16K 15, ≥16K 5; wanted are 30, 10, 30; cap 1
    25 are too many for ≥16K; 5 find room next door, 20 one further: granted 50, 15, 5
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from mixture.errors import ShortageError
from mixture.plan.cells import Counts, Grid
from mixture.plan.quota import Supply, Wish, clipped, whole
from mixture.recipe.rules import MOST_EPOCHS, Mix


@dataclass(frozen=True)
class Limits:
    """The most that caps allow.

    Attributes:
        documents: appearances of a document of each cell, all phases together, shape (cells,).
        cells: tokens of each cell that may still be written, shape (cells,).
        domains: tokens of each domain that may still be written, shape (D,).
    """

    documents: Counts
    cells: Counts
    domains: Counts


@dataclass(frozen=True)
class Solution:
    """Quotas.

    Attributes:
        wanted: tokens of each cell that the rules ask for, shape (cells,), summing to the budget.
        granted: tokens of each cell that will be written, likewise.
        limits: the caps that hold for them.
        asked: the caps that the recipe says; lower where `repeat` had to raise them.
    """

    wanted: Counts
    granted: Counts
    limits: Limits
    asked: Limits

    def binding(self, grid: Grid) -> tuple[str, ...]:
        """Return what keeps each cell from more: `cap`, `domain cap`, or nothing; `repeat` where a cap was raised."""
        full = (grid.sums(self.granted) >= self.limits.domains)[grid.owner]
        over = (self.limits.domains > self.asked.domains)[grid.owner] & (self.granted > 0)
        raised = over | (self.limits.cells > self.asked.cells)
        cells = zip(self.granted, self.limits.cells, full, raised, strict=True)
        return tuple(
            "repeat" if raised else "" if not got else "cap" if got >= most else "domain cap" if all_of_domain else ""
            for got, most, all_of_domain, raised in cells
        )

    @property
    def slack(self) -> Counts:
        """Tokens of each cell that the caps leave unused, shape (cells,)."""
        found: Counts = self.limits.cells - self.granted
        return found


def limits(mix: Mix, supply: Supply) -> Limits:
    """Return the most that a recipe's caps allow of a supply."""
    grid = supply.grid
    documents, epochs, domains = [], [], []
    for d, name in enumerate(grid.domains):
        caps = mix.caps(name)
        count = len(grid.edges[d]) + 1
        documents += [caps.of_document(k) for k in range(count)]
        epochs += [caps.of_cell(k) for k in range(count)]
        domains.append(float(MOST_EPOCHS) if caps.domain is None else caps.domain)
    held, used = supply.tokens, supply.used
    cap = np.array(documents, np.int64)
    by_documents = _room(supply, cap)
    by_epochs = _times(held, epochs) - used
    by_domain = _times(grid.sums(held), domains) - grid.sums(used)
    return Limits(cap, np.maximum(np.minimum(by_documents, by_epochs), 0), np.maximum(by_domain, 0))


def _room(supply: Supply, caps: Counts) -> Counts:
    """Return the tokens of each cell that its documents may still give under caps of their own, shape (cells,)."""
    left = np.maximum(caps[:, None] - np.arange(supply.seen.shape[1]), 0)
    found: Counts = (supply.seen * left).sum(axis=1)
    return found


def _times(tokens: Counts, epochs: Sequence[float]) -> Counts:
    """Multiply, exactly as the epochs are written: 10 tokens at 2.3 are 23; then round down."""
    exact = {e: Fraction(repr(float(e))) for e in set(epochs)}
    pairs = zip(tokens.tolist(), epochs, strict=True)
    return np.array([n * exact[e].numerator // exact[e].denominator for n, e in pairs], np.int64)


def solve(mix: Mix, supply: Supply, budget: int, sequence: int) -> Solution:
    """Return the quotas of a budget, or say why there are none.

    Args:
        mix: the recipe's rules.
        supply: what there is.
        budget: tokens to write, whole sequences.
        sequence: tokens in a sequence.

    Raises:
        ShortageError: cells hold less than is wanted of them and the recipe allows no way out; the message names them,
            the largest feasible budget and the nearest feasible mixture.
        PlanError: the recipe names a domain that the corpus does not have.
    """
    from mixture.plan.shortage import explain

    wish, most = Wish.of(mix, supply), limits(mix, supply)
    goal = wish.quotas(budget)
    if fits(supply.grid, goal, most):
        return Solution(goal, goal, most, most)
    if mix.on_shortage == "repeat":
        more = raised(supply, goal, most)
        if fits(supply.grid, goal, more):
            return Solution(goal, goal, more, most)
    elif mix.on_shortage == "redistribute":
        granted = redistribute(mix, wish, goal, most)
        if granted is not None:
            return Solution(goal, granted, most, most)
    raise ShortageError(explain(mix, supply, budget, sequence))


def feasible(mix: Mix, supply: Supply, goal: Counts, most: Limits) -> bool:
    """Tell whether `solve` finds quotas for what is wanted: as it is, or by the way out that the recipe allows."""
    if mix.on_shortage == "redistribute":
        return int(_ceilings(supply.grid, goal, most).sum()) >= int(goal.sum())
    if mix.on_shortage == "repeat":
        return bool((goal <= _room(supply, np.full_like(goal, MOST_EPOCHS))).all())
    return fits(supply.grid, goal, most)


def fits(grid: Grid, quota: Counts, most: Limits) -> bool:
    """Tell whether caps allow a quota."""
    return bool((quota <= most.cells).all() and (grid.sums(quota) <= most.domains).all())


def raised(supply: Supply, goal: Counts, most: Limits) -> Limits:
    """Raise the caps of the cells that are short, as little as they need, if any cap is enough."""
    low, high = most.documents, np.full_like(most.documents, MOST_EPOCHS)
    for _ in range(MOST_EPOCHS.bit_length()):
        middle = (low + high) // 2
        enough = _room(supply, middle) >= goal
        low, high = np.where(enough, low, np.minimum(middle + 1, high)), np.where(enough, middle, high)
    room = _room(supply, high)
    short = (goal > most.cells) & (room >= goal)
    cells, documents = np.where(short, room, most.cells), np.where(short, high, most.documents)
    return Limits(documents, cells, np.maximum(most.domains, supply.grid.sums(goal)))


def _ceilings(grid: Grid, goal: Counts, most: Limits) -> Counts:
    """Return the most that each domain of which something is wanted can hold, shape (D,)."""
    found: Counts = np.where(grid.sums(goal) > 0, np.minimum(most.domains, grid.sums(most.cells)), 0)
    return found


def redistribute(mix: Mix, wish: Wish, goal: Counts, most: Limits) -> Counts | None:
    """Return the quotas nearest to what is wanted that caps allow, shape (cells,); None if the budget does not fit.

    Over domains: the split of least KL divergence between their floors and caps. Inside a domain: the least total
    distance in buckets that tokens move.
    """
    grid, budget = wish.grid, int(goal.sum())
    by_domain, high = grid.sums(goal), _ceilings(grid, goal, most)
    if high.sum() < budget:
        return None
    low = np.minimum(np.array([math.floor(mix.floor_of(name) * budget) for name in grid.domains]), high)
    low = np.where(by_domain > 0, low, 0)
    ideal = clipped(by_domain.astype(np.float64), low.astype(np.float64), high.astype(np.float64), float(budget))
    totals = by_domain if (by_domain <= high).all() else whole(ideal, budget, high)
    again = wish.inside(totals)
    parts = [spread(again[grid.span(d)], most.cells[grid.span(d)]) for d in range(len(grid.domains))]
    return np.concatenate(parts)


def spread(goal: Counts, most: Counts) -> Counts:
    """Move what is over the bounds of its bucket to other buckets, by the least total distance.

    The distance between buckets is the number of edges between them. Of equal ways, the one to the longest bucket is
    taken. A minimum cost flow on a line, by shortest augmenting paths (Ahuja, Magnanti, Orlin: Network Flows, ch. 9).

    Args:
        goal: tokens wanted, shape (K,).
        most: bounds, shape (K,); their sum is at least the goal's.
    """
    excess, room = np.maximum(goal - most, 0), np.maximum(most - goal, 0)
    moved = np.zeros(max(len(goal) - 1, 0), np.int64)  # net flow over each edge, to the right
    while excess.any():
        ways = [
            (_cost(moved, a, b), -b, -a) for a in np.flatnonzero(excess).tolist() for b in np.flatnonzero(room).tolist()
        ]
        _, b, a = min(ways)
        a, b = -a, -b
        path, sign = (slice(a, b), 1) if a < b else (slice(b, a), -1)
        against = -sign * moved[path]
        undone = against[against > 0]
        amount = min(int(excess[a]), int(room[b]), *undone.tolist())
        moved[path] += sign * amount
        excess[a] -= amount
        room[b] -= amount
    found: Counts = np.minimum(goal, most) + (np.maximum(most - goal, 0) - room)
    return found


def _cost(moved: Counts, a: int, b: int) -> int:
    """Return what one more token from bucket a to b costs: taking back what went the other way saves a step."""
    path, sign = (moved[a:b], 1) if a < b else (moved[b:a], -1)
    return int(np.where(sign * path < 0, -1, 1).sum())
