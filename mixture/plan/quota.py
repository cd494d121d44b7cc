"""What a recipe's rules want of each cell: shares of domains, shares of buckets, rounded to integers. Pure arithmetic.

The supply of a cell is counted in tokens as written: the documents' own and their separators. The rules give each
domain a share of the budget and each bucket a share of its domain:

    books   supply  <4K 10, ≥4K 90     long: 0.7 is below the natural .90: stays       shares .10 .90
    wiki    supply  <4K 80, ≥4K 20     long: 0.7 raises .20 to .70                     shares .30 .70
    budget 1000, domains .6 .4         wanted  books 60 540, wiki 120 280

Raising a long share L to T keeps short documents at the rate r = L(1-T) / (T(1-L)); the inverse is
T = L / (L + r(1-L)) (arithmetic of Fu et al. 2024, arXiv 2402.10171, section 3, whose code keeps short documents at r).

Rounding is by largest remainder, first over domains, then over the buckets of each, so domains' quotas are exact.
Whether the supply suffices is the matter of `solve`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixture.errors import PlanError, nearest
from mixture.plan.cells import Counts, Grid
from mixture.recipe.published import PUBLISHED
from mixture.recipe.quantities import SHARES_SUM_WITHIN
from mixture.recipe.rules import LengthRule, Mix

Shares = npt.NDArray[np.float64]

#: Bins of length per power of two in which a supply tells how its tokens lie inside a cell.
BINS_PER_OCTAVE = 8


@dataclass(frozen=True)
class Supply:
    """What a corpus holds of each cell, hold-out and filtered documents excluded.

    Attributes:
        grid: the cells.
        documents: documents per cell, shape (cells,).
        tokens: tokens per cell as written, separators included, shape (cells,).
        seen: of `tokens`, those in documents that appeared s times already, shape (cells, most seen + 1).
        lengths: `tokens` by eighth of an octave of the document's length, shape (cells, bins); None if not asked for.
    """

    grid: Grid
    documents: Counts
    tokens: Counts
    seen: Counts
    lengths: Counts | None = None

    @property
    def used(self) -> Counts:
        """Tokens that appeared already, per cell, repeats counted."""
        found: Counts = (self.seen * np.arange(self.seen.shape[1])).sum(axis=1)
        return found


def kept_short_rate(long_share: float, target: float) -> float:
    """Return the rate of short documents that makes a long share the target: r = L(1-T) / (T(1-L))."""
    return long_share * (1 - target) / (target * (1 - long_share))


def raised_long_share(long_share: float, rate: float) -> float:
    """Return the long share after keeping short documents at a rate: T = L / (L + r(1-L))."""
    return long_share / (long_share + rate * (1 - long_share))


def pool_needed(share: float, budget: float, long_share: float, target: float) -> float:
    """Return the tokens that a domain must hold so that nothing repeats: w·B·max(T/L, (1-T)/(1-L))."""
    return share * budget * max(target / long_share, (1 - target) / (1 - long_share))


def bucket_shares(rule: LengthRule, supply: Supply, domain: int) -> Shares:
    """Return the share of each bucket of one domain, shape (K,), summing to 1.

    Raises:
        PlanError: the rule copies a domain that the corpus does not have, or one with other buckets.
    """
    shares = _FORMS[rule.form](rule, supply, domain)
    return shares if rule.floors is None else _above(shares, np.array(rule.floors))


def _above(shares: Shares, floors: Shares) -> Shares:
    """Raise shares to floors; a recipe may let floors sum to a hair more than 1."""
    return clipped(shares, floors / max(1.0, math.fsum(floors)), np.ones(len(shares)), 1.0)


def _tokens(supply: Supply, domain: int) -> Shares:
    return supply.tokens[supply.grid.span(domain)].astype(np.float64)


def _is_long(rule: LengthRule, supply: Supply, domain: int) -> npt.NDArray[np.bool_]:
    edges = supply.grid.edges[domain]
    return np.arange(len(edges) + 1) > edges.index(rule.threshold or 0)


def _keep_short(rule: LengthRule, supply: Supply, domain: int) -> Shares:
    is_long, rate = _is_long(rule, supply, domain), 1.0 if rule.keep_short is None else rule.keep_short
    return normal(np.where(is_long, 1.0, rate) * _tokens(supply, domain), is_long.astype(np.float64))


def _by_factors(rule: LengthRule, supply: Supply, domain: int) -> Shares:
    factors = np.array(rule.factors)
    factors /= factors.max()
    return normal(factors * _tokens(supply, domain), factors)


def _raise_long(rule: LengthRule, supply: Supply, domain: int) -> Shares:
    tokens, is_long, target = _tokens(supply, domain), _is_long(rule, supply, domain), rule.long or 0.0
    if tokens[is_long].sum() >= target * tokens.sum() and not rule.exact:
        return normal(tokens)
    shares = np.zeros(len(tokens))
    shares[~is_long] = (1 - target) * normal(tokens[~is_long])
    shares[is_long] = target * normal(tokens[is_long])
    return shares


def _by_power(rule: LengthRule, supply: Supply, domain: int) -> Shares:
    """Weight tokens by a power of their document's length, which is known to an eighth of an octave."""
    if supply.lengths is None:
        raise PlanError("lengths: power needs the lengths inside cells, and this supply has none")
    lengths = supply.lengths[supply.grid.span(domain)]
    middle = 2.0 ** ((np.arange(lengths.shape[1]) + 0.5) / BINS_PER_OCTAVE)
    return normal((lengths * middle ** (rule.power or 0.0)).sum(axis=1))


def _like(rule: LengthRule, supply: Supply, domain: int) -> Shares:
    """Copy the shares of another domain, or those that a paper prints."""
    grid, like = supply.grid, rule.like
    edges = grid.edges[domain]
    if like is not None and like.published is not None:
        found = PUBLISHED[like.published]
        bucket = np.searchsorted(np.array(edges), [0, *found.edges], side="right")
        return normal(np.bincount(bucket, found.shares, len(edges) + 1).astype(np.float64))
    name = "" if like is None or like.domain is None else like.domain
    where = f"lengths of {grid.domains[domain]}: like {name!r}"
    if name not in grid.domains:
        raise PlanError(f"{where} is no domain of this corpus; {nearest(name, grid.domains)}")
    other = grid.domains.index(name)
    if grid.edges[other] != edges:
        raise PlanError(f"{where} has other buckets; give both the same")
    if not supply.tokens[grid.span(other)].any():
        raise PlanError(f"{where} holds nothing to copy lengths from; name another, or {{published: …}}")
    return normal(_tokens(supply, other))


_FORMS: dict[str, Callable[[LengthRule, Supply, int], Shares]] = {
    "natural": lambda _, supply, domain: normal(_tokens(supply, domain)),
    "long": _raise_long,
    "keep_short": _keep_short,
    "shares": lambda rule, *_: normal(np.array(rule.shares)),
    "factors": _by_factors,
    "power": _by_power,
    "like": _like,
}


def normal(weights: Shares, otherwise: Shares | None = None) -> Shares:
    """Scale weights to sum to 1.

    Where none has any, what was wished for is not there. The wish stands, so that caps refuse it: at those of
    `otherwise`, or all at the first.
    """
    total = math.fsum(weights)
    if total > 0:
        return weights / total
    if otherwise is not None:
        return normal(otherwise)
    first = np.zeros(len(weights))
    first[:1] = 1
    return first


def clipped(wanted: Shares, low: Shares, high: Shares, total: float) -> Shares:
    """Return the split of a total between bounds that is nearest to what is wanted.

    Nearest by Kullback-Leibler divergence: min Σ x log(x/w) subject to low ≤ x ≤ high, Σ x = total. Its solution is
    x = clip(θ·w, low, high) for one number θ, found here by bisection over the sorted places where a bound is left.

    Args:
        wanted: w, shape (n,), not negative; where it is 0 the result is `low`.
        low: shape (n,).
        high: shape (n,); Σ low ≤ total ≤ Σ high over the places where w > 0.
        total: what the result sums to.
    """
    if math.isclose(math.fsum(wanted), total, rel_tol=1e-12) and ((wanted >= low) & (wanted <= high)).all():
        return wanted
    free = wanted > 0
    w, lo, hi = wanted[free], low[free], high[free]
    rest = total - math.fsum(low[~free])
    with np.errstate(over="ignore"):  # where w is next to nothing, a bound is left at infinity
        breaks = np.unique(np.concatenate([lo / w, hi / w]))
    sums = np.array([math.fsum(np.clip(theta * w, lo, hi)) for theta in breaks])
    at = int(np.searchsorted(sums, rest, side="left"))
    out = low.astype(np.float64).copy()
    if at == len(breaks):
        out[free] = hi
    elif at == 0:
        out[free] = np.clip(breaks[0] * w, lo, hi)
    else:
        part = (rest - sums[at - 1]) / (sums[at] - sums[at - 1])
        out[free] = np.clip((breaks[at - 1] + part * (breaks[at] - breaks[at - 1])) * w, lo, hi)
    return out


def domain_shares(mix: Mix, supply: Supply) -> Shares:
    """Return the share of each domain, shape (D,), summing to 1; domains that the recipe does not name get 0.

    Raises:
        PlanError: the recipe names a domain that the corpus does not have, or floors pass 1.
    """
    domains = supply.grid.domains
    tokens = supply.grid.sums(supply.tokens).astype(np.float64)
    for name in mix.named():
        if name not in domains:
            raise PlanError(
                f"mix.domains: {name!r} is not a domain of this corpus; {nearest(name, domains)} "
                f"(domains: {', '.join(domains)})"
            )
    given = [mix.of(name).share for name in domains]
    if isinstance(mix.domains, str):
        shares = normal(tokens)
    elif all(share is None for share in given):
        named = np.isin(domains, list(mix.named())).astype(np.float64)
        shares = normal(tokens * named, named)
    else:
        shares = normal(np.array([share or 0.0 for share in given]))
    return _above_floors(mix, supply.grid, shares)


def _above_floors(mix: Mix, grid: Grid, shares: Shares) -> Shares:
    """Raise the shares of the domains that are drawn from to their floors."""
    drawn = zip(grid.domains, shares, strict=True)
    floors = np.array([mix.floor_of(name) if share > 0 else 0.0 for name, share in drawn])
    if math.fsum(floors) > 1 + SHARES_SUM_WITHIN:
        raise PlanError(
            f"mix.floor: the floors of {int((floors > 0).sum())} domains sum to {floors.sum():.4g}, more than 1; "
            "lower them"
        )
    return _above(shares, floors)


@dataclass(frozen=True)
class Wish:
    """What the rules want, whatever the budget.

    Attributes:
        grid: the cells.
        domains: the share of each domain in the budget, shape (D,), summing to 1.
        buckets: the share of each cell in its domain, shape (cells,), summing to 1 in each.
    """

    grid: Grid
    domains: Shares
    buckets: Shares

    @staticmethod
    def of(mix: Mix, supply: Supply) -> Wish:
        """Apply a recipe's rules.

        Raises:
            PlanError: the recipe names a domain that the corpus does not have, or floors pass 1.
        """
        grid = supply.grid
        if mix.domains == "global":
            return _global(mix, supply)
        inner = [bucket_shares(mix.rule(name), supply, d) for d, name in enumerate(grid.domains)]
        return Wish(grid, domain_shares(mix, supply), np.concatenate(inner))

    def quotas(self, budget: int) -> Counts:
        """Return the tokens wanted of each cell, shape (cells,), summing to the budget."""
        return self.inside(whole(self.domains * budget, budget))

    def inside(self, by_domain: Counts) -> Counts:
        """Split each domain's tokens over its buckets: shapes (D,) to (cells,)."""
        parts = [whole(self.buckets[self.grid.span(d)] * int(n), int(n)) for d, n in enumerate(by_domain)]
        return np.concatenate(parts)


def _global(mix: Mix, supply: Supply) -> Wish:
    """Apply the length rule to the corpus as one domain; inside a bucket, domains keep their proportions."""
    grid = supply.grid
    table = supply.tokens.reshape(len(grid.domains), -1)
    lengths = None if supply.lengths is None else supply.lengths.reshape(*table.shape, -1).sum(axis=0)
    whole_corpus = Supply(
        Grid(("all",), grid.edges[:1]), table.sum(axis=0), table.sum(axis=0), table.sum(axis=0)[:, None], lengths
    )
    buckets = bucket_shares(mix.lengths, supply if mix.lengths.form == "like" else whole_corpus, 0)
    everything = table.sum(axis=1).astype(np.float64)
    by_bucket = [normal(held.astype(np.float64), everything) for held in table.T]
    cells = np.stack(by_bucket, axis=1) * buckets
    domains = _above_floors(mix, grid, normal(cells.sum(axis=1)))
    return Wish(grid, domains, np.concatenate([normal(row) for row in cells]))


def whole(ideal: Shares, total: int, most: Counts | None = None) -> Counts:
    """Round a split of a total to integers: largest remainder, ties to the first.

    Args:
        ideal: shape (n,), summing to the total but for the errors of floating point.
        total: what the result sums to.
        most: bounds, shape (n,), that the ideal keeps; their sum, where the ideal is above 0, is at least the total.
    """
    bound = np.where(ideal > 0, np.int64(total) if most is None else most, 0)
    found = np.minimum(np.floor(ideal).astype(np.int64), bound)
    order = np.argsort(-(ideal - found), kind="stable")
    # Floating point may leave a shortfall of more than one round, or an excess, of a few tokens in 10^15.
    while left := total - int(found.sum()):
        step = 1 if left > 0 else -1
        room = bound - found if left > 0 else found
        open_ = order[room[order] > 0][::step]
        if not len(open_):
            raise ArithmeticError(f"{total} does not fit the bounds {bound.tolist()}")
        each = max(1, abs(left) // len(open_))
        found[open_[: abs(left)]] += step * np.minimum(each, room[open_[: abs(left)]])
    return found


def wanted(mix: Mix, supply: Supply, budget: int) -> Counts:
    """Return the tokens wanted of each cell, shape (cells,), int64, summing to the budget; see `Wish`."""
    return Wish.of(mix, supply).quotas(budget)
