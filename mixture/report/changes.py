"""Tables of what differs between two mixtures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from mixture.lockfile import Lock
from mixture.plan.compare import by_domain, compare_cells
from mixture.report.tables import short

if TYPE_CHECKING:
    from mixture.flow import Comparison

_NOTHING = "·"


def rule_changes(rules: Sequence[str]) -> RenderableType:
    """Name what differs between two recipes, one thing a line."""
    if not rules:
        return Text("the recipes are the same", "dim")
    table = Table(show_header=False, box=None, pad_edge=False, title="recipe", title_justify="left")
    table.add_column()
    for rule in rules:
        table.add_row(rule)
    return table


def share_table(a: str, b: str, before: Lock, after: Lock) -> RenderableType:
    """Share of the stream, epochs and unique tokens of each domain and bucket, a → b; unchanged buckets left out."""
    cells = compare_cells(before, after)
    table = Table(title=f"{a} → {b}", title_justify="left", header_style="bold")
    table.add_column("domain", no_wrap=True)
    table.add_column("bucket", no_wrap=True)
    for name in ("share %", "change", "epochs", "unique tokens", "documents"):
        table.add_column(name, justify="right", no_wrap=True)
    for domain, sums in by_domain(cells).items():
        table.add_row(domain, "all", *_row(sums.get("a"), sums.get("b")), style="bold")
        for row in cells:
            if row["domain"] == domain and row["a"] != row["b"]:
                table.add_row("", row["bucket"], *_row(row["a"], row["b"]))
        table.add_section()
    return table


def _row(a: dict[str, float] | None, b: dict[str, float] | None) -> list[str]:
    shares = [100 * side["share"] if side else 0.0 for side in (a, b)]
    return [
        f"{shares[0]:.2f} → {shares[1]:.2f}",
        f"{shares[1] - shares[0]:+.2f}" if a != b else "=",
        _move(*(f"{side['epochs']:.2f}" if side else _NOTHING for side in (a, b))),
        _move(*(short(side["unique_tokens"]) if side else _NOTHING for side in (a, b))),
        _move(*(f"{side['documents']:,.0f}" if side else _NOTHING for side in (a, b))),
    ]


def _move(before: str, after: str) -> str:
    return before if before == after else f"{before} → {after}"


def document_table(found: Comparison) -> RenderableType:
    """Documents kept, gained and lost, by domain."""
    table = Table(title="documents", title_justify="left", header_style="bold")
    table.add_column("domain", no_wrap=True)
    names = ("kept", "gained", "lost")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    rows = found.documents or []
    for row in rows:
        table.add_row(row["domain"], *(f"{row[name]:,}" for name in names))
    table.add_section()
    table.add_row("all", *(f"{sum(row[name] for row in rows):,}" for name in names), style="bold")
    return table
