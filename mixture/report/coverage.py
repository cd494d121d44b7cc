"""Which facts a mixture holds, for the terminal: a line a pair, the rarest in the plan first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from mixture.report.tables import short, visible

if TYPE_CHECKING:
    from mixture.monitor.coverage import Coverage

#: Pairs that are shown; the others are in the file.
_ROWS = 20


def coverage_table(found: Coverage) -> list[RenderableType]:
    """Return the table of pairs, and a sentence on those that stand nowhere."""
    rows = found.pairs.sort("copies", "documents", maintain_order=True).to_dicts()
    table = Table(title="knowledge coverage", title_justify="left", header_style="bold", pad_edge=False)
    for name in ("subject", "object"):
        table.add_column(name, overflow="fold")
    for name in ("documents", "drawn", "copies", "tokens drawn"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows[:_ROWS]:
        numbers = [f"{row[name]:,}" for name in ("documents", "drawn", "copies")]
        table.add_row(visible(row["subject"]), visible(row["object"]), *numbers, short(row["drawn_tokens"]))
    nowhere, undrawn = (sum(not row[name] for row in rows) for name in ("documents", "copies"))
    told = f"{len(rows):,} pairs: {undrawn:,} are in no document that is drawn, {nowhere:,} in none at all"
    more = f"; the first {_ROWS} are shown" if len(rows) > _ROWS else ""
    return [table, Text(told + more, "dim")]
