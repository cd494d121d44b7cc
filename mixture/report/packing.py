"""What a packing does to documents, as tables: of what was packed, or of all packings side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from mixture.pack.facts import Facts
from mixture.report.tables import share

_COLUMNS = (
    "sequences",
    "fill %",
    "padding %",
    "of one\ndocument %",
    "documents\nin each",
    "cuts per\ndocument",
    "truncated\n%",
    "mean\ncontext",
    "Σ len² /\nfull",
)


def packings_table(title: str, found: Mapping[str, Facts]) -> RenderableType:
    """Packings side by side, a row each."""
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column("packing", no_wrap=True)
    for name in _COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for name, facts in found.items():
        table.add_row(name, *_row(facts))
    return table


def truncation_table(phase: Mapping[str, Any]) -> RenderableType:
    """Which share of each domain's documents does not end in the sequence that it begins in."""
    facts = Facts.from_json(phase["packing"])
    table = Table(title="documents that begin, and those cut before their end", title_justify="left")
    table.add_column("domain", no_wrap=True)
    for name in ("documents", "truncated", "truncated %"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, begun, cut in zip(facts.domains, facts.begun, facts.truncated, strict=True):
        table.add_row(name, f"{begun:,}", f"{cut:,}", share(cut, begun))
    return table


def packing_line(kind: str, phase: Mapping[str, Any]) -> str:
    """Say in one line what packing did to a phase's documents; nothing where it is not packed."""
    if not phase["packing"]:
        return ""
    facts, marks = Facts.from_json(phase["packing"]), phase["packing"]["marks"]
    padding = facts.places - facts.tokens - marks
    empty = f"{padding:,} places of padding ({share(padding, facts.places)} %)" if padding else "no padding"
    marked = f", {marks:,} marks" if marks else ""
    cut = sum(facts.truncated)
    single = f"{share(facts.single, facts.sequences)} %" if facts.single else "none"
    truncated = f"{share(cut, facts.documents)} % of" if cut else "no"
    return (
        f"{kind}: {facts.sequences:,} sequences, {single} of one document each, {empty}{marked}; {truncated} documents "
        f"truncated, mean context {facts.mean_context:,.0f} tokens"
    )


def summary(facts: Facts) -> dict[str, Any]:
    """Return facts with their ratios, for machines."""
    ratios = (
        "fill",
        "padding",
        "single_share",
        "cuts_per_document",
        "mean_context",
        "pieces_per_sequence",
        "relative_cost",
    )
    return facts.to_json() | {name: getattr(facts, name) for name in ratios}


def _row(facts: Facts) -> list[str]:
    return [
        f"{facts.sequences:,}",
        f"{100 * facts.fill:.3f}",
        share(facts.places - facts.tokens, facts.places),
        share(facts.single, facts.sequences),
        f"{facts.pieces_per_sequence:.1f}",
        f"{facts.cuts_per_document:.3f}",
        share(sum(facts.truncated), facts.documents),
        f"{facts.mean_context:,.0f}",
        f"{facts.relative_cost:.3f}",
    ]
