"""Tables for the terminal, from a lock or a census alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mixture.index.census import Census
from mixture.plan.context import CONTEXTS
from mixture.recipe.quantities import show_length
from mixture.storage import Place

_UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K"))
_ARROW = " → "
_SIDE_BY_SIDE = 5
_PICTURES = (
    {n: 0x2400 + n for n in range(32) if chr(n) not in "\t\n\r"}
    | {0x7F: 0x2421}
    | dict.fromkeys(range(0x80, 0xA0), "\ufffd")
)


def short(number: float) -> str:
    """Write a count in four characters or so: 19988480 → 20.0M."""
    for size, unit in _UNITS:
        if number >= size:
            return f"{number / size:.3g}{unit}" if number < 1000 * size else f"{number / size:,.0f}{unit}"
    return f"{number:,.0f}"


def visible(text: str) -> str:
    """Put pictures (␛) in the place of a text's control characters, but for line ends and tabs.

    A document's text must not give a terminal commands.
    """
    return text.translate(_PICTURES)


def share(part: float, whole: float) -> str:
    """Write a share as a percentage; a dot where there is nothing."""
    if not part or not whole:
        return "·"
    percent = 100 * part / whole
    return f"{percent:.1f}" if percent >= 0.05 else "<0.1"


def _move(before: str, after: str, *, narrow: bool = False) -> Text:
    if before == after == "·":
        return Text("·", style="dim")
    return Text.assemble((before, "dim"), ("\n" if narrow else _ARROW, "dim"), after)


def mixture_table(name: str, phase: dict[str, Any]) -> RenderableType:
    """Domains by lengths, before → after, in percent; then what was wanted, written and repeated of each domain.

    Domains whose buckets differ stand in tables of their own.
    """
    domains: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for cell in phase["cells"]:
        domains[cell["domain"]].append(cell)
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for domain, cells in domains.items():
        groups[tuple(cell["bucket"] for cell in cells)].append(domain)
    tables = [
        _group_table(_title(name, phase) if not number else "", buckets, {d: domains[d] for d in mine}, phase)
        for number, (buckets, mine) in enumerate(groups.items())
    ]
    sign = "over" if any(len(buckets) > _SIDE_BY_SIDE for buckets in groups) else "→"
    legend = (
        f"before {sign} after; lengths in percent of their domain; epochs of the supply: mean, and the most of a cell"
    )
    return Group(*tables, Text(legend, "dim"))


def _group_table(
    title: str, buckets: Sequence[str], domains: dict[str, list[dict[str, Any]]], phase: dict[str, Any]
) -> Table:
    after = _after(phase)
    supplied, written = _total(phase["cells"], "supply_tokens"), _total(phase["cells"], after)
    # Before stands above after where there are too many columns for both side by side.
    narrow = len(buckets) > _SIDE_BY_SIDE
    moved = any(cell["wanted"] != cell["granted"] for cell in phase["cells"])
    table = Table(title=title or None, title_justify="left", header_style="bold")
    table.add_column("domain", no_wrap=True)
    table.add_column("share %", justify="right", no_wrap=True)
    for bucket in buckets:
        folded = bucket.replace("-", "-\n")
        heading = f"{folded}\n%" if narrow else f"{bucket} %"
        table.add_column(heading, justify="right", no_wrap=True)
    for column in ("wanted", *(["granted"] if moved else []), "written", "epochs"):
        table.add_column(column, justify="right", no_wrap=True)
    for domain, cells in domains.items():
        before, now = _total(cells, "supply_tokens"), _total(cells, after)
        lengths = [_move(share(c["supply_tokens"], before), share(c[after], now), narrow=narrow) for c in cells]
        table.add_row(
            domain, _move(share(before, supplied), share(now, written)), *lengths, *_tail(phase, cells, moved)
        )
    every = [cell for cells in domains.values() for cell in cells]
    columns = [[cells[k] for cells in domains.values()] for k in range(len(buckets))]
    lengths = [
        _move(
            share(_total(column, "supply_tokens"), _total(every, "supply_tokens")),
            share(_total(column, after), _total(every, after)),
            narrow=narrow,
        )
        for column in columns
    ]
    table.add_section()
    table.add_row("all", "", *lengths, *_tail(phase, every, moved), style="bold")
    return table


def _title(name: str, phase: dict[str, Any]) -> str:
    stream = phase["stream"]
    of_phase = f", phase {phase['name']}" if phase["name"] else ""
    return (
        f"{name}{of_phase}: {stream['tokens']:,} tokens in {stream['sequences']:,} sequences of "
        f"{show_length(stream['sequence_length'])}"
    )


def _after(phase: dict[str, Any]) -> str:
    return "written" if phase["shards"] else "granted"


def _total(cells: Sequence[dict[str, Any]], key: str) -> int:
    return sum(cell[key] for cell in cells)


def _tail(phase: dict[str, Any], cells: Sequence[dict[str, Any]], moved: bool) -> list[str]:
    wanted, granted = _total(cells, "wanted"), _total(cells, "granted")
    written = _total(cells, "written") if phase["shards"] else 0
    done = (f"{written:,} " + ("=" if written == granted else "≠")) if phase["shards"] else "not yet"
    figures = [f"{wanted:,}", *([f"{granted:,}"] if moved else []), done]
    used = [c for c in cells if c["granted"]]
    if not used:
        return [*figures, "·"]
    mean = sum(c["granted"] + c["used"] for c in used) / _total(used, "supply_tokens")
    return [*figures, f"{mean:.2f} / {max(c['epochs'] for c in used):.2f}"]


def cell_table(title: str, cells: Sequence[dict[str, Any]]) -> RenderableType:
    """Every cell: supply, wanted, granted, epochs, slack, and what keeps it from more."""
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column("domain", no_wrap=True)
    table.add_column("bucket", no_wrap=True)
    names = ("documents", "supply", "wanted", "granted", "epochs", "cap", "slack")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("binding")
    before = ""
    for cell in cells:
        if before and cell["domain"] != before:
            table.add_section()
        moved = cell["granted"] != cell["wanted"]
        short_of = cell["slack"] < 0
        table.add_row(
            cell["domain"] if cell["domain"] != before else "",
            cell["bucket"],
            f"{cell['supply_documents']:,}",
            f"{cell['supply_tokens']:,}",
            f"{cell['wanted']:,}",
            "short" if short_of else f"{cell['granted']:,}",
            f"{cell['epochs']:.2f}",
            str(cell["cap"]),
            f"{cell['slack']:,}",
            cell["binding"],
            style="red" if short_of else "yellow" if moved else None,
        )
        before = cell["domain"]
    table.add_section()
    totals = [f"{_total(cells, key):,}" for key in ("supply_documents", "supply_tokens", "wanted", "granted")]
    table.add_row("all", "", *totals, "", "", "", "", style="bold")
    return table


def context_table(phase: dict[str, Any]) -> RenderableType:
    """How many tokens have long context: at least so many tokens of their own document before them, by domain."""
    context = phase["context"]
    last = "shards" if "shards" in context else "plan"
    title = f"tokens with at least … of their own document before them, % of the domain: supply → {last}"
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column("domain", no_wrap=True)
    for limit in CONTEXTS:
        table.add_column(f"≥{show_length(limit)} %", justify="right", no_wrap=True)
    table.add_column("unique", justify="right", no_wrap=True)
    table.add_column("repeated", justify="right", no_wrap=True)
    nothing = [0] * (len(CONTEXTS) + 1)
    for domain, before in context["supply"].items():
        now = context[last].get(domain, nothing)
        cells = [c for c in phase["cells"] if c["domain"] == domain]
        unique, granted = _total(cells, "unique_tokens"), _total(cells, "granted")
        moves = [_move(share(a, before[0]), share(b, now[0])) for a, b in zip(before[1:], now[1:], strict=True)]
        table.add_row(domain, *moves, short(unique), short(granted - unique) if granted > unique else "·")
    table.add_section()
    for name in ("supply", "plan", "shards"):
        if name in context:
            sums = [sum(values) for values in zip(*context[name].values(), strict=True)] or nothing
            label = {"supply": "all: supply", "plan": "plan, uncut", "shards": "shards, after cuts"}[name]
            table.add_row(label, *(f"{share(n, sums[0])} ({short(n)})" if n else "·" for n in sums[1:]), "", "")
    return table


def top_table(phase: dict[str, Any]) -> RenderableType:
    """Which documents take most of the stream, and how much of their domain the ten heaviest make."""
    table = Table(title="heaviest documents", title_justify="left", header_style="bold")
    for name in ("domain", "ten heaviest %", "document", "tokens", "times", "written", "% of domain"):
        table.add_column(name, justify="left" if name in ("domain", "document") else "right", no_wrap=True)
    heaviest: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in phase["top"]:
        heaviest[row["domain"]].append(row)
    for domain, rows in heaviest.items():
        granted = sum(c["granted"] for c in phase["cells"] if c["domain"] == domain)
        first = rows[0]
        table.add_row(
            domain,
            share(sum(row["written"] for row in rows), granted),
            first["doc_id"],
            f"{first['tokens']:,}",
            str(first["times"]),
            f"{first['written']:,}",
            share(first["written"], granted),
        )
    return table


def census_table(census: Census) -> RenderableType:
    """Tokens of each domain by power of two of the document's length, in percent of the domain."""
    powers = range(min(c.log2 for c in census.cells), max(c.log2 for c in census.cells) + 1)
    # Short lengths share one column: below 512 tokens nothing is long.
    columns = [(None, 9), *[(p, p + 1) for p in powers if p >= 9]]
    table = Table(
        title="tokens by document length, % of the domain",
        title_justify="left",
        header_style="bold",
        pad_edge=False,
    )
    for name in ("domain", "documents", "tokens", "mean"):
        table.add_column(name, justify="left" if name == "domain" else "right", no_wrap=True)
    for low, high in columns:
        table.add_column(f"<{show_length(1 << high)}" if low is None else f"{show_length(1 << low)}+", justify="right")
    for domain in census.domains:
        mine = [c for c in census.cells if c.domain == domain]
        documents, tokens = sum(c.documents for c in mine), sum(c.tokens for c in mine)
        shares = [
            share(sum(c.tokens for c in mine if (low is None or c.log2 >= low) and c.log2 < high), tokens)
            for low, high in columns
        ]
        table.add_row(domain, f"{documents:,}", short(tokens), short(tokens / documents), *shares)
    return table


def where_next(recipe: Place, lock: Place, folders: Sequence[Place]) -> RenderableType:
    """Where the shards are, how to open them, and what to do next."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(no_wrap=True)
    for folder in folders:
        table.add_row("shards", str(folder))
    table.add_row("lock", f"{lock} (commit it: it proves what came out)")
    table.add_row("open", f'datasets.load_dataset("arrow", data_files="{folders[0]}/*.arrow")')
    table.add_row("next", f"mixture verify {recipe}, or change the recipe and run again: no text is tokenized twice")
    return table
