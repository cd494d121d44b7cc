"""Why a budget has no quotas, in one sentence: which cells are short, and what would fit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixture.plan.cells import Counts
from mixture.plan.quota import Supply, Wish
from mixture.plan.solve import Limits, feasible, limits, raised, redistribute
from mixture.recipe.rules import MOST_EPOCHS, Mix

#: Budgets that are tried one by one above the largest that is found, where rounding decides; and how often.
_TRIES, _ROUNDS = 32, 8
_MOST_NAMED = 6
_MOST_MOVES = 3


@dataclass(frozen=True)
class _Short:
    """Cells of one domain that hold less than is wanted; or a domain, for its own cap."""

    name: str
    held: int
    used: int
    most: int
    wanted: int


def explain(mix: Mix, supply: Supply, budget: int, sequence: int) -> str:
    """Return the sentence; see `solve` for the arguments."""
    wish, most = Wish.of(mix, supply), limits(mix, supply)
    goal = wish.quotas(budget)
    if mix.on_shortage == "repeat":
        most = raised(supply, goal, most)
    short = _short(supply, goal, most)
    cells = int((goal > most.cells).sum())
    count = "1 cell holds" if cells == 1 else f"{cells} cells hold" if cells else "a domain's cap allows"
    shown = [_sentence(s) for s in short[:_MOST_NAMED]]
    more = f"; and {len(short) - _MOST_NAMED} more domains" if len(short) > _MOST_NAMED else ""
    options = _options(mix, supply, wish, goal, most, sequence)
    return (
        f"{count} less than the recipe wants of {budget:,} tokens: {'; '.join(shown)}{more}. "
        f"Options: {'; or '.join(options)}"
    )


def _short(supply: Supply, goal: Counts, most: Limits) -> list[_Short]:
    """Return what is short, the worst first: by the tokens that are missing."""
    grid, found = supply.grid, []
    for d, domain in enumerate(grid.domains):
        span = grid.span(d)
        over = [c for c in range(span.start, span.stop) if goal[c] > most.cells[c]]
        if over:
            buckets = [grid.names[c][1] for c in over]
            named = f"{domain} {', '.join(buckets)}"
            found.append(_Short(named, *(int(x[over].sum()) for x in (supply.tokens, supply.used, most.cells, goal))))
        elif goal[span].sum() > most.domains[d]:
            held, used, asked = (int(x[span].sum()) for x in (supply.tokens, supply.used, goal))
            found.append(_Short(f"{domain}, all of it,", held, used, int(most.domains[d]), asked))
    return sorted(found, key=lambda s: s.most - s.wanted)


def _sentence(short: _Short) -> str:
    if not short.held:
        return f"{short.name} holds nothing, wanted {short.wanted:,}"
    allowed = ""
    if short.used:
        allowed = f" ({short.most:,} may still be drawn, after {short.used:,})"
    elif not short.most or short.most % short.held:
        allowed = f" ({short.most:,} under its caps)"
    elif short.most != short.held:
        allowed = f" ({short.most:,} at max_epochs {short.most // short.held})"
    return (
        f"{short.name} holds {short.held:,}{allowed}, wanted {short.wanted:,} ({short.wanted / short.held:.2f} epochs)"
    )


def _options(mix: Mix, supply: Supply, wish: Wish, goal: Counts, most: Limits, sequence: int) -> list[str]:
    grid, options = supply.grid, []
    largest = largest_budget(mix, supply, int(goal.sum()), sequence)
    if largest:
        options.append(f"budget: {largest} (the largest that this recipe can have)")
    else:
        options.append("no budget at all as the recipe stands")
    over = np.flatnonzero(goal > most.cells)
    short = np.unique(grid.owner[over]) if len(over) else np.flatnonzero(grid.sums(goal) > most.domains)
    names = ", ".join(grid.domains[d] for d in short)
    if len(over) and supply.tokens[over].all():
        # One number takes the place of the caps of all buckets, so it must be enough for every one of them.
        own = any(entry.max_epochs for entry in mix.named().values())
        cells = np.flatnonzero((goal > 0) & (np.isin(grid.owner, short) | (not own)))
        epochs = max(-(-int(goal[c] + supply.used[c]) // int(supply.tokens[c])) for c in cells)
        if epochs <= MOST_EPOCHS:
            where = f" for {names}" if own else ""
            options.append(f"max_epochs: {epochs}{where} (on_shortage: repeat does that for the short cells alone)")
    nearest = redistribute(mix, wish, goal, limits(mix, supply))
    if nearest is not None:
        options.append(f"on_shortage: redistribute, the nearest mixture that fits: {_moves(supply, goal, nearest)}")
    options.append(f"a smaller share or a gentler length rule for {names}, or more such documents")
    return options


def _moves(supply: Supply, goal: Counts, granted: Counts) -> str:
    """Name the cells that change most, with their tokens before and after."""
    change = granted - goal
    order = [int(c) for c in np.argsort(-np.abs(change), kind="stable") if change[c]]
    names = supply.grid.names
    shown = [f"{names[c][0]} {names[c][1]} {goal[c]:,} → {granted[c]:,}" for c in order[:_MOST_MOVES]]
    more = f" and {len(order) - _MOST_MOVES} more cells" if len(order) > _MOST_MOVES else ""
    return ", ".join(shown) + more


def largest_budget(mix: Mix, supply: Supply, budget: int, sequence: int) -> int:
    """Return the largest budget of whole sequences, up to the one given, that `solve` has quotas for.

    0 if none does. Rounding can make a budget feasible above one that is not, by a few sequences; those are tried too.
    Only where a cell holds next to nothing, and next to nothing is wanted of it, may a still larger one be feasible.
    """
    wish, most = Wish.of(mix, supply), limits(mix, supply)

    def fit(sequences: int) -> bool:
        return feasible(mix, supply, wish.quotas(sequences * sequence), most)

    best, over = 0, budget // sequence + 1
    while over - best > 1:
        middle = (best + over) // 2
        best, over = (middle, over) if fit(middle) else (best, middle)
    for _ in range(_ROUNDS):
        further = next((n for n in range(best + _TRIES, best, -1) if n * sequence <= budget and fit(n)), None)
        if further is None:
            break
        best = further
    return best * sequence
