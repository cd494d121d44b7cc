"""`python -m bench.figure2`: Fu's mixtures on an index of SlimPajama's shape, planned; then 150B tokens of it.

First each preset of Fu et al. 2024 is planned as `mixture init --preset` writes it, its documents are laid into
sequences of 131,072 as `pack` would, and the pieces' lengths stand against Figure 2 of the paper, column by column, and
the domains' shares against the natural ones. Then 150B tokens at a long share of .7 from 8K on are asked of the 627B:
refused, repeated, redistributed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from bench import slimpajama
from bench.fu_corpus import NAMES
from bench.plan import planner
from bench.slimpajama import DOMAINS, FIGURE_2, FIGURE_COLUMNS, FIGURE_EDGES, NATURAL, SEQUENCE
from mixture import schemas
from mixture.engine.local import Local
from mixture.errors import ShortageError
from mixture.index.build import Index
from mixture.pack.concat import concat
from mixture.plan.cells import Grid
from mixture.plan.quota import Supply
from mixture.plan.solve import Solution, solve
from mixture.presets import find
from mixture.recipe import Phase, Recipe
from mixture.recipe.file import parse
from mixture.recipe.rules import Mix
from mixture.recipe.sources import Sequence
from mixture.scaffold.preset import from_preset

BIG = 150_000_000_000
_LONG = 8192


def preset_recipe(name: str, budget: int) -> Recipe:
    """Return a preset's recipe over the index's domains."""
    preset = find(name)
    pairs = tuple(NAMES.items()) if preset.domains else ()
    text = from_preset(preset, name, pairs=pairs, budget=str(budget), tokenizer="{kind: bytes}")
    return parse(text)


def measured_row(
    name: str, budget: int, index: Index, work: Path, engine: Local
) -> tuple[list[float], dict[str, float]]:
    """Plan a preset; return its row of Figure 2 and the share of each domain, from the plan."""
    of = preset_recipe(name, budget)
    made = planner(of, index, work, engine).plan(work / f"{name}.lock.json")
    (phase,) = made.phases
    rows = phase.read(0, phase.starts[-1])
    lengths = schemas.numbers(rows["doc_stop"]) - schemas.numbers(rows["doc_start"])
    pieces = concat(lengths.astype(np.int64), SEQUENCE).size
    column = np.searchsorted(FIGURE_EDGES, pieces, side="right")
    shares = np.bincount(column, pieces, len(FIGURE_EDGES) + 1) / pieces.sum()
    cells = made.lock.phases[0]["cells"]
    total = sum(cell["granted"] for cell in cells)
    domains = {d: sum(c["granted"] for c in cells if c["domain"] == d) / total for d in DOMAINS}
    return list(slimpajama.as_figure(shares)), domains


def big_solution(
    on_shortage: str, tokens: int = slimpajama.TOKENS, budget: int = BIG
) -> tuple[Phase, Supply, Solution]:
    """Solve 150B tokens per source, long share .7 from 8K on, on the whole corpus.

    Raises:
        ShortageError: with `on_shortage: error`.
    """
    edges = (4096, _LONG, 32768, 131072)
    domains, documents, held = slimpajama.scaled_supply(edges, tokens)
    grid = Grid(tuple(domains), (edges,) * len(domains))
    flat = held.reshape(-1)
    supply = Supply(grid, documents.reshape(-1), flat, flat[:, None])
    mix = Mix.model_validate(
        {"domains": NATURAL, "lengths": {"threshold": _LONG, "long": 0.7}, "on_shortage": on_shortage}
    )
    phase = Phase("", budget, Sequence(length=SEQUENCE), mix, 256_000_000)
    return phase, supply, solve(mix, supply, phase.exact_budget, SEQUENCE)


def figure_table(rows: dict[str, list[float]]) -> Table:
    """Ours against the figure, a line each, and the largest difference."""
    table = Table(title="token share by length of the piece: ours, Figure 2 (±.005), difference")
    for name in ("mixture", "", *FIGURE_COLUMNS, "largest"):
        table.add_column(name, justify="left" if name in ("mixture", "") else "right", no_wrap=True)
    for name, ours in rows.items():
        figure = FIGURE_2[name]
        deltas = [a - b for a, b in zip(ours, figure, strict=True)]
        table.add_row(name, "ours", *(f"{x:.3f}" for x in ours), "")
        table.add_row("", "figure", *(f"{x:.3f}" for x in figure), "")
        table.add_row("", "", *(f"{x:+.3f}" for x in deltas), f"{max(map(abs, deltas)):.3f}")
        table.add_section()
    return table


def big_table(supply: Supply, solution: Solution) -> Table:
    """Tokens in billions: what the cells hold, what is wanted, what is granted."""
    table = Table(title="150B tokens, per source, 70 % from 8K on; billions of tokens")
    for name in ("domain", "bucket", "supply", "wanted", "granted", "epochs", "cap", "slack", "binding"):
        table.add_column(name, justify="left" if name in ("domain", "bucket", "binding") else "right", no_wrap=True)
    binding, before = solution.binding(supply.grid), ""
    for c, (domain, bucket) in enumerate(supply.grid.names):
        if before and domain != before:
            table.add_section()
        figures = (supply.tokens[c], solution.wanted[c], solution.granted[c])
        held, granted = int(supply.tokens[c]), int(solution.granted[c])
        table.add_row(
            domain if domain != before else "",
            bucket,
            *(f"{x / 1e9:,.3f}" for x in figures),
            f"{granted / held if held else 0:.2f}",
            str(solution.limits.documents[c]),
            f"{solution.slack[c] / 1e9:,.3f}",
            binding[c],
        )
        before = domain
    return table


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(prog="python -m bench.figure2", description=__doc__)
    parser.add_argument("--documents", type=int, default=4_000_000, help="documents of the index (default 4M)")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 160)
    with tempfile.TemporaryDirectory(prefix="mixture-figure2-") as name, Local(options.workers) as engine:
        index = slimpajama.make_index(Path(name) / "index", options.documents, workers=options.workers)
        budget = index.tokens // 50
        console.print(f"{index.documents:,} documents, {index.tokens:,} tokens; each mixture {budget:,} tokens")
        rows, shares = {}, {}
        for preset in FIGURE_2:
            if preset != "original":
                rows[preset], shares[preset] = measured_row(preset, budget, index, Path(name) / "work", engine)
    console.print(figure_table(rows))
    off = max(abs(shares["fu-per-source"][d] - NATURAL[d] / sum(NATURAL.values())) for d in DOMAINS)
    console.print(f"fu-per-source: domain shares are off by {off:.1e} at most (a token of {budget:,})")
    try:
        big_solution("error")
    except ShortageError as error:
        console.print(f"\nerror: {error}\n")
    for how in ("repeat", "redistribute"):
        _, supply, solution = big_solution(how)
        console.print(f"on_shortage: {how}")
        console.print(big_table(supply, solution))


if __name__ == "__main__":
    main()
