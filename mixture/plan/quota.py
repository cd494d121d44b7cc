"""From a recipe's rules and a supply to one integer quota per cell. Pure arithmetic.

A *cell* is a domain and a length bucket. Its supply is counted in tokens as written: the documents' own and their
separators. The rules give each domain a share of the budget and each bucket a share of its domain:

    books   supply  <4K 10, ≥4K 90     long: 0.7 is below the natural .90: stays       shares .10 .90
    wiki    supply  <4K 80, ≥4K 20     long: 0.7 raises .20 to .70                     shares .30 .70
    budget 1000, domains .6 .4         quotas  books 60 540, wiki 120 280

Raising a long share L to T keeps short documents at the rate r = L(1-T) / (T(1-L)); the inverse is
T = L / (L + r(1-L)) (arithmetic of Fu et al. 2024, arXiv 2402.10171, section 3, whose code keeps short documents at r).

Rounding is by largest remainder, first over domains, then over the buckets of each, so domains' quotas are exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixture.errors import PlanError, ShortageError, nearest
from mixture.recipe import MOST_EPOCHS, LengthRule, Mix

Counts = npt.NDArray[np.int64]

#: Budgets that are tried one by one above the first that is found, where rounding decides.
_TRIES = 50


@dataclass(frozen=True)
class Supply:
    """What there is to draw from, hold-out excluded.

    Attributes:
        domains: names of the D domains, sorted.
        buckets: names of the K length buckets, shortest first.
        edges: the K-1 edges between them, in tokens.
        documents: documents per cell, shape (D, K).
        tokens: tokens per cell as written, separators included, shape (D, K).
    """

    domains: tuple[str, ...]
    buckets: tuple[str, ...]
    edges: tuple[int, ...]
    documents: Counts
    tokens: Counts


def kept_short_rate(long_share: float, target: float) -> float:
    """Return the rate of short documents that makes a long share the target: r = L(1-T) / (T(1-L))."""
    return long_share * (1 - target) / (target * (1 - long_share))


def raised_long_share(long_share: float, rate: float) -> float:
    """Return the long share after keeping short documents at a rate: T = L / (L + r(1-L))."""
    return long_share / (long_share + rate * (1 - long_share))


def length_shares(rule: LengthRule, tokens: Counts, edges: Sequence[int]) -> npt.NDArray[np.float64]:
    """Return the share of each bucket of one domain, shape (K,), summing to 1.

    Args:
        rule: one of the forms of `LengthRule`.
        tokens: the domain's supply, shape (K,), not all zero.
        edges: edges between the K buckets.
    """
    if rule.shares is not None:
        return _normal(np.array(rule.shares))
    if rule.factors is not None:
        return _normal(tokens * np.array(rule.factors))
    if rule.threshold is None:
        return _normal(tokens.astype(np.float64))
    is_long = np.arange(len(tokens)) > edges.index(rule.threshold)
    if rule.keep_short is not None:
        return _normal(np.where(is_long, 1.0, rule.keep_short) * tokens)
    target = rule.long or 0.0
    long_tokens, all_tokens = int(tokens[is_long].sum()), int(tokens.sum())
    if long_tokens >= target * all_tokens:
        return _normal(tokens.astype(np.float64))
    shares = np.zeros(len(tokens))
    shares[~is_long] = (1 - target) * _normal(tokens[~is_long].astype(np.float64))
    # No long document at all: the wish stands, at the first long bucket, and the caps will refuse it there.
    shares[is_long] = target * _normal(tokens[is_long].astype(np.float64))
    return shares


def _normal(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    total = math.fsum(weights)
    if total > 0:
        return weights / total
    first = np.zeros(len(weights))
    first[:1] = 1
    return first


def domain_shares(mix: Mix, supply: Supply) -> npt.NDArray[np.float64]:
    """Return the share of each domain, shape (D,), summing to 1; domains that the recipe does not name get 0.

    Raises:
        PlanError: the recipe names a domain that the corpus does not have.
    """
    tokens = supply.tokens.sum(axis=1).astype(np.float64)
    if mix.domains == "natural":
        return _normal(tokens)
    for name in mix.domains:
        if name not in supply.domains:
            raise PlanError(
                f"mix.domains: {name!r} is not a domain of this corpus; {nearest(name, supply.domains)} "
                f"(domains: {', '.join(supply.domains)})"
            )
    given = [mix.of(name).share for name in supply.domains]
    if all(share is None for share in given):
        return _normal(
            np.array([t if name in mix.domains else 0 for t, name in zip(tokens, supply.domains, strict=True)])
        )
    return _normal(np.array([share or 0.0 for share in given]))


def whole(shares: npt.NDArray[np.float64], total: int) -> Counts:
    """Split a total into integers by shares: largest remainder, ties to the first.

    Args:
        shares: shape (n,), summing to 1.
        total: what the result sums to.
    """
    ideal = shares * total
    floor = np.floor(ideal).astype(np.int64)
    left = total - int(floor.sum())
    order = np.argsort(-(ideal - floor), kind="stable")
    # Floating point may leave a shortfall of more than one round, or an excess, of a few tokens in 10^15.
    order = order[shares[order] > 0]
    for number in range(abs(left)):
        floor[order[number % len(order)]] += 1 if left > 0 else -1
    return floor


def quotas(mix: Mix, supply: Supply, budget: int) -> Counts:
    """Return the tokens wanted of each cell, shape (D, K), int64, summing to the budget.

    Raises:
        PlanError: the recipe names a domain that the corpus does not have.
    """
    by_domain = whole(domain_shares(mix, supply), budget)
    return np.stack([whole(shares, int(n)) for shares, n in zip(_shares_inside(mix, supply), by_domain, strict=True)])


def _shares_inside(mix: Mix, supply: Supply) -> list[npt.NDArray[np.float64]]:
    """Return the share of each bucket inside each domain."""
    rules = [mix.of(name).lengths or mix.lengths for name in supply.domains]
    return [length_shares(rule, tokens, supply.edges) for rule, tokens in zip(rules, supply.tokens, strict=True)]


def capacity(mix: Mix, supply: Supply) -> Counts:
    """Return the most tokens that the caps allow of each cell, shape (D, K)."""
    caps = np.array([mix.of(name).max_epochs or mix.max_epochs for name in supply.domains], np.int64)
    return supply.tokens * caps[:, None]


def solve(mix: Mix, supply: Supply, budget: int, sequence: int) -> Counts:
    """Return the quotas of a budget, or say why there are none.

    Args:
        mix: the recipe's rules.
        supply: what there is.
        budget: tokens to write, whole sequences.
        sequence: tokens in a sequence.

    Raises:
        ShortageError: a cell holds less than is wanted of it, names the cells and the largest feasible budget.
        PlanError: the recipe names a domain that the corpus does not have.
    """
    wanted = quotas(mix, supply, budget)
    most = capacity(mix, supply)
    if (wanted > most).any():
        raise ShortageError(_shortage(mix, supply, budget, sequence, wanted))
    return wanted


def largest_budget(mix: Mix, supply: Supply, budget: int, sequence: int) -> int:
    """Return the largest budget of whole sequences, up to the one given, whose quotas the caps allow.

    0 if none does. Rounding can make a budget feasible above one that is not, by a few sequences; those are tried too.
    """
    most = capacity(mix, supply)

    def fits(sequences: int) -> bool:
        return not (quotas(mix, supply, sequences * sequence) > most).any()

    best, over = 0, budget // sequence + 1
    while over - best > 1:
        middle = (best + over) // 2
        best, over = (middle, over) if fits(middle) else (best, middle)
    while further := next((n for n in range(best + _TRIES, best, -1) if n * sequence <= budget and fits(n)), None):
        best = further
    return best * sequence


def _shortage(mix: Mix, supply: Supply, budget: int, sequence: int, wanted: Counts) -> str:
    most = capacity(mix, supply)
    short = [
        (d, k) for d in range(len(supply.domains)) for k in range(len(supply.buckets)) if wanted[d, k] > most[d, k]
    ]
    cells = "; ".join(_cell(supply, d, k, int(wanted[d, k]), int(most[d, k])) for d, k in short)
    feasible = largest_budget(mix, supply, budget, sequence)
    options = []
    if feasible:
        options.append(f"budget: {feasible} (the largest that this recipe can have)")
    else:
        options.append("no budget at all as the recipe stands")
    if all(supply.tokens[d, k] for d, k in short):
        epochs = max(-(-int(wanted[d, k]) // int(supply.tokens[d, k])) for d, k in short)
        if epochs <= MOST_EPOCHS:
            options.append(f"max_epochs: {epochs}")
    names = ", ".join(dict.fromkeys(supply.domains[d] for d, _ in short))
    options.append(f"a smaller share or a gentler length rule for {names}, or more such documents")
    count = "1 cell holds" if len(short) == 1 else f"{len(short)} cells hold"
    return f"{count} less than the recipe wants of {budget:,} tokens: {cells}. Options: {'; or '.join(options)}"


def _cell(supply: Supply, domain: int, bucket: int, wanted: int, most: int) -> str:
    held = int(supply.tokens[domain, bucket])
    name = f"{supply.domains[domain]} {supply.buckets[bucket]}"
    if not held:
        return f"{name} holds nothing, wanted {wanted:,}"
    cap = most // held
    allowed = f" ({most:,} at max_epochs {cap})" if cap > 1 else ""
    return f"{name} holds {held:,}{allowed}, wanted {wanted:,} ({wanted / held:.2f} epochs)"
