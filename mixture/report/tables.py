"""Tables for the terminal, from a lock or a census alone."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mixture.index.census import Census
from mixture.lockfile import Lock
from mixture.recipe import show_length

_UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K"))
_ARROW = " → "


def short(number: float) -> str:
    """Write a count in four characters or so: 19988480 → 20.0M."""
    for size, unit in _UNITS:
        if number >= size:
            return f"{number / size:.3g}{unit}" if number < 1000 * size else f"{number / size:,.0f}{unit}"
    return f"{number:,.0f}"


def share(part: float, whole: float) -> str:
    """Write a share as a percentage; a dot where there is nothing."""
    if not part or not whole:
        return "·"
    percent = 100 * part / whole
    return f"{percent:.1f}" if percent >= 0.05 else "<0.1"


def _move(before: str, after: str) -> Text:
    if before == after == "·":
        return Text("·", style="dim")
    return Text.assemble((before, "dim"), (_ARROW, "dim"), after)


def mixture_table(lock: Lock) -> RenderableType:
    """Domains by lengths, before → after, in percent; then what was wanted, written and repeated of each domain."""
    buckets = list(dict.fromkeys(cell["bucket"] for cell in lock.cells))
    domains = list(dict.fromkeys(cell["domain"] for cell in lock.cells))
    cells = {(cell["domain"], cell["bucket"]): cell for cell in lock.cells}
    supply, out = _sums(lock.cells, "supply_tokens"), _sums(lock.cells, _after(lock))
    table = Table(title=_title(lock), title_justify="left", header_style="bold")
    table.add_column("domain", no_wrap=True)
    table.add_column("share %", justify="right", no_wrap=True)
    for bucket in buckets:
        table.add_column(f"{bucket} %", justify="right", no_wrap=True)
    for name in ("wanted", "written", "epochs"):
        table.add_column(name, justify="right", no_wrap=True)
    for domain in domains:
        mine = [cells[domain, bucket] for bucket in buckets]
        before, after = supply[domain], out[domain]
        lengths = [_move(share(c["supply_tokens"], before), share(c[_after(lock)], after)) for c in mine]
        shares = _move(share(before, sum(supply.values())), share(after, sum(out.values())))
        table.add_row(domain, shares, *lengths, *_tail(lock, mine))
    everything = [
        _move(
            share(sum(cells[d, b]["supply_tokens"] for d in domains), sum(supply.values())),
            share(sum(cells[d, b][_after(lock)] for d in domains), sum(out.values())),
        )
        for b in buckets
    ]
    table.add_section()
    table.add_row("all", "", *everything, *_tail(lock, lock.cells), style="bold")
    return Group(
        table,
        Text(
            "before → after; lengths in percent of their domain; epochs of the supply: mean, and the most of a cell",
            "dim",
        ),
    )


def _title(lock: Lock) -> str:
    stream = lock.stream
    return (
        f"{lock.name}: {stream['tokens']:,} tokens in {stream['sequences']:,} sequences of "
        f"{show_length(stream['sequence_length'])}"
    )


def _after(lock: Lock) -> str:
    return "written" if lock.packed else "granted"


def _sums(cells: Sequence[dict[str, Any]], key: str) -> dict[str, int]:
    total: dict[str, int] = defaultdict(int)
    for cell in cells:
        total[cell["domain"]] += cell[key]
    return total


def _tail(lock: Lock, cells: Sequence[dict[str, Any]]) -> list[str]:
    wanted, written = sum(c["wanted"] for c in cells), sum(c.get("written", 0) for c in cells)
    done = (f"{written:,} " + ("=" if written == wanted else "≠")) if lock.packed else "not yet"
    used = [c for c in cells if c["granted"]]
    if not used:
        return [f"{wanted:,}", done, "·"]
    mean, most = wanted / sum(c["supply_tokens"] for c in used), max(c["epochs"] for c in used)
    return [f"{wanted:,}", done, f"{mean:.2f} / {most:.2f}"]


def lock_facts(lock: Lock) -> RenderableType:
    """What became of the documents, and what the stream is, one fact a line."""
    stream, granted = lock.stream, [c for c in lock.cells if c["granted"]]
    cut, drawn = sum(c["cut"] for c in granted), sum(c["documents"] for c in granted)
    facts = {
        "documents": _fates(lock.documents),
        "rejected": ", ".join(f"{count:,} {reason}" for reason, count in lock.documents["rejected"].items()),
        "held out": _held_out(lock.documents["held_out"]),
        "not drawn": _not_drawn(lock),
        "repeats": _repeats(granted, stream["tokens"]),
        "rounding": f"{stream['rounded_off']:,} of {stream['budget']:,} tokens do not fill a sequence",
        "exact": f"{cut} of {drawn:,} documents cut so that {len(granted)} cells are exact",
    }
    if not stream["rounded_off"]:
        del facts["rounding"]
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for name, value in facts.items():
        if value:
            table.add_row(name, value)
    return table


def _fates(documents: dict[str, Any]) -> str:
    rejected = sum(documents["rejected"].values())
    dropped = documents["read"] - rejected - documents["indexed"]
    parts = [f"{documents['indexed']:,} indexed"]
    if dropped:
        parts.append(f"{dropped:,} exact duplicates")
    if rejected:
        parts.append(f"{rejected:,} rejected")
    return f"{documents['read']:,} read = {' + '.join(parts)}"


def _held_out(held: dict[str, Any]) -> str:
    documents, tokens = sum(e["documents"] for e in held.values()), sum(e["tokens"] for e in held.values())
    return f"{documents:,} documents, {short(tokens)} tokens, never drawn" if documents else ""


def _not_drawn(lock: Lock) -> str:
    drawn = {cell["domain"] for cell in lock.cells if cell["granted"]}
    left = sorted({cell["domain"] for cell in lock.cells if cell["supply_tokens"]} - drawn)
    return f"{', '.join(left)} (the recipe gives them no share)" if left else ""


def _repeats(granted: Sequence[dict[str, Any]], tokens: int) -> str:
    repeated = sum(c["granted"] - c["unique_tokens"] for c in granted)
    if not repeated:
        return "nothing: no document appears twice"
    most = max(math.ceil(c["epochs"]) for c in granted)
    return f"{short(repeated)} tokens ({share(repeated, tokens)} %); no document more than {most} times"


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


def where_next(recipe: Path, lock: Path, folder: Path) -> RenderableType:
    """Where the shards are, how to open them, and what to do next."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_row("shards", str(folder))
    table.add_row("lock", f"{lock} (commit it: it proves what came out)")
    table.add_row("open", f'datasets.load_dataset("arrow", data_files="{folder}/*.arrow")')
    table.add_row("next", f"mixture verify {recipe}, or change the recipe and run again: no text is tokenized twice")
    return table
