"""The table of scores for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table

from mixture.scores.summary import QUANTILES, Spread


def scores_table(spreads: Sequence[Spread]) -> RenderableType:
    """One line a column: documents, the least, deciles and quartiles, the most."""
    table = Table(title="scores over all documents", title_justify="left", header_style="bold", pad_edge=False)
    table.add_column("column", no_wrap=True)
    for name in ("documents", "min", *(_percent(q) for q in QUANTILES), "max"):
        table.add_column(name, justify="right", no_wrap=True)
    for spread in spreads:
        name = spread.column if spread.column == spread.table else f"{spread.table}: {spread.column}"
        values = [spread.least, *(spread.quantiles or (None,) * len(QUANTILES)), spread.most]
        table.add_row(name, f"{spread.documents:,}", *("·" if v is None else f"{v:.4g}" for v in values))
    return table


def _percent(share: float) -> str:
    return "median" if share == 0.5 else f"{100 * share:.0f} %"
