"""Supplies and recipes for the solver: a few written by hand, many drawn at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from mixture.plan.cells import Grid
from mixture.plan.quota import Supply
from mixture.recipe.rules import Mix

K = 1024
#: Edges of a domain with n buckets are the first n - 1 of these.
EDGES = (4 * K, 16 * K, 64 * K, 256 * K)


def supply(**tokens: list[int] | list[list[int]]) -> Supply:
    """Make a supply: of each domain the tokens of each bucket; or lists of them, by how often they appeared already."""
    grid = Grid(tuple(tokens), tuple(EDGES[: len(cells) - 1] for cells in tokens.values()))
    levels = [[cell] if isinstance(cell, int) else cell for cells in tokens.values() for cell in cells]
    seen = np.zeros((len(levels), max(map(len, levels))), np.int64)
    for row, cell in zip(seen, levels, strict=True):
        row[: len(cell)] = cell
    held = seen.sum(axis=1)
    return Supply(grid, held // 10 + (held > 0), held, seen)


def mix(**rules: Any) -> Mix:
    return Mix.model_validate(rules)


def by_domain(found: Supply, cells: np.ndarray[Any, Any]) -> dict[str, list[int]]:
    """Fold a row of cells into lists, by domain."""
    return {name: cells[found.grid.span(d)].tolist() for d, name in enumerate(found.grid.domains)}


@dataclass(frozen=True)
class Problem:
    """What `solve` is asked."""

    mix: Mix
    supply: Supply
    budget: int
    sequence: int


_SHARE = st.floats(0.01, 1)


def shares(count: int) -> st.SearchStrategy[list[float]]:
    weights = st.lists(st.one_of(_SHARE, st.just(0.0)), min_size=count, max_size=count).filter(any)
    return weights.map(lambda found: [w / sum(found) for w in found])


def rules(buckets: int) -> st.SearchStrategy[dict[str, Any]]:
    """Any length rule that looks at one domain."""
    many = st.lists(st.floats(0, 9), min_size=buckets, max_size=buckets).filter(any)
    forms = [
        st.just({}),
        st.fixed_dictionaries({"shares": shares(buckets)}),
        st.fixed_dictionaries({"factors": many}),
    ]
    if buckets > 1:
        threshold = st.sampled_from(EDGES[: buckets - 1])
        forms += [
            st.fixed_dictionaries({"threshold": threshold, "long": st.floats(0, 1)}),
            st.fixed_dictionaries({"threshold": threshold, "keep_short": st.floats(0, 1)}),
        ]
    floors = shares(buckets).map(lambda found: [0.7 * share for share in found])
    return st.tuples(st.one_of(forms), st.one_of(st.none(), floors)).map(
        lambda pair: pair[0] if pair[1] is None else pair[0] | {"floors": pair[1]}
    )


def caps(buckets: int) -> st.SearchStrategy[Any]:
    epochs, document = st.floats(0.05, 6), st.integers(1, 6)
    return st.one_of(
        document,
        epochs,
        st.lists(epochs, min_size=buckets, max_size=buckets),
        st.fixed_dictionaries({"document": document}, optional={"cell": epochs, "domain": epochs}),
    )


@st.composite
def supplies(draw: st.DrawFn, *, most: int = 10**9, levels: int = 3) -> Supply:
    held = st.one_of(st.integers(0, most), st.just(0))
    cell = st.lists(held, min_size=1, max_size=levels)
    cells = st.lists(cell, min_size=1, max_size=len(EDGES) + 1)
    found = draw(st.lists(cells, min_size=1, max_size=5))
    return supply(**{f"d{n}": domain for n, domain in enumerate(found)})


@st.composite
def problems(draw: st.DrawFn, *, on_shortage: str = "", fixed: bool = False, most: int = 10**9) -> Problem:
    """Draw a problem; `fixed` for one in which no wish depends on the supply."""
    found = draw(supplies(most=most))
    named: dict[str, Any] = {}
    split = draw(shares(len(found.grid.domains)))
    for d, name in enumerate(found.grid.domains):
        buckets = len(found.grid.edges[d]) + 1
        rule = st.fixed_dictionaries({"shares": shares(buckets)}) if fixed else rules(buckets)
        named[name] = {"share": split[d], "lengths": draw(rule), "max_epochs": draw(caps(buckets))}
    if not fixed and draw(st.booleans()):
        floors = draw(shares(len(named)))
        for entry, floor in zip(named.values(), floors, strict=True):
            del entry["share"]
            entry["floor"] = 0.8 * floor
    mode = on_shortage or draw(st.sampled_from(["error", "repeat", "redistribute"]))
    sequence = draw(st.sampled_from([1, 7, 4096]))
    budget = draw(st.integers(1, 2 * max(1, int(found.tokens.sum()) // sequence))) * sequence
    return Problem(mix(domains=named, on_shortage=mode), found, budget, sequence)
