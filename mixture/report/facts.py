"""What became of the documents, and what the streams are: one fact a line, from a lock alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from mixture.errors import some
from mixture.lockfile import Lock
from mixture.recipe.packing import Packing
from mixture.report.packing import packing_line
from mixture.report.tables import mixture_table, share, short


def lock_tables(lock: Lock) -> list[RenderableType]:
    """All that `plan` and `run` show of a lock: each phase's mixture, then what became of the documents."""
    return [
        *(mixture_table(lock.name, phase) for phase in lock.phases),
        lock_facts(lock),
    ]


def lock_facts(lock: Lock) -> RenderableType:
    """What became of the documents, and what the streams are, one fact a line."""
    documents = lock.documents
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    facts = {
        "documents": _fates(documents),
        "rejected": ", ".join(f"{count:,} {reason}" for reason, count in documents["rejected"].items()),
        "filtered": f"{documents['filtered']:,} by the recipe's SQL" if documents["filtered"] else "",
        "held out": _held_out(documents["held_out"]),
        **_contaminated(documents),
        "related": _related(documents.get("related")),
        **_given(lock.given),
    }
    for phase in lock.phases:
        before = f"{phase['name']}: " if phase["name"] else ""
        kind = Packing.of(lock.recipe["content"]["packing"]).kind
        found = _phase_facts(phase, lock.given) | {"packing": packing_line(kind, phase)}
        facts |= {f"{before}{name}": value for name, value in found.items()}
    for name, value in facts.items():
        if value:
            table.add_row(name, value)
    return table


def _phase_facts(phase: dict[str, Any], given: dict[str, Any]) -> dict[str, str]:
    stream, granted = phase["stream"], [c for c in phase["cells"] if c["granted"]]
    cut, drawn = sum(c["cut"] for c in granted), sum(c["documents"] for c in granted)
    facts = {
        "not drawn": _not_drawn(phase),
        "moved": _moved(phase["cells"]),
        "over the cap": _over_cap(phase),
        "repeats": _repeats(granted, stream["tokens"]),
        "drift": _drift(phase["cells"]),
    }
    if 0 < stream["rounded_off"] < stream["sequence_length"]:
        facts["rounding"] = f"{stream['rounded_off']:,} of {stream['budget']:,} tokens do not fill a sequence"
    if not given.get("like"):
        facts["exact"] = f"{cut} of {drawn:,} documents cut so that {len(granted)} cells are exact"
    return facts


def _given(given: dict[str, Any]) -> dict[str, str]:
    seen = [
        f"{e['sequences']:,} sequences of {e['lock']}" + (", shuffled" if e.get("order") else "")
        for e in given.get("consumed", ())
    ]
    scale = f"{given['scale']} of the budget" if given.get("scale") else ""
    if given.get("match_repetition"):
        scale += f", from {given['scale']} of the documents, so that epochs are those of the whole"
    return {"consumed": ", ".join(seen), "scale": scale}


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


def _contaminated(documents: dict[str, Any]) -> dict[str, str]:
    found = {}
    for name, score in documents.get("scores", {}).items():
        if score["kind"] == "contamination":
            flagged = score["flagged"].values()
            count, held = sum(row["documents"] for row in flagged), sum(row["tokens"] for row in flagged)
            against = some(file["name"] for file in score["files"])
            found[name] = (
                f"{count:,} documents of {short(held)} tokens share {score['ngram']} tokens in a row with {against}"
            )
    return found


def _related(found: dict[str, Any] | None) -> str:
    if not found:
        return ""
    by = f"by {found['by']}" + (f" ({found['column']})" if "column" in found else "")
    alone = f"; {found['without']:,} of {found['documents']:,} documents have nothing to be related by"
    return by + (alone if found["without"] else "")


def _not_drawn(phase: dict[str, Any]) -> str:
    drawn = {cell["domain"] for cell in phase["cells"] if cell["granted"]}
    left = sorted({cell["domain"] for cell in phase["cells"] if cell["supply_tokens"]} - drawn)
    return f"{', '.join(left)} (the recipe gives them no share)" if left else ""


def _moved(cells: Sequence[dict[str, Any]]) -> str:
    changed = [c for c in cells if c["wanted"] != c["granted"]]
    changed.sort(key=lambda c: -abs(c["granted"] - c["wanted"]))
    shown = [f"{c['domain']} {c['bucket']} {short(c['wanted'])} → {short(c['granted'])}" for c in changed]
    return some(shown) + " (redistributed: the supply did not suffice)" if shown else ""


def _over_cap(phase: dict[str, Any]) -> str:
    raised = [c for c in phase["cells"] if c.get("raised")]
    return some(f"{c['domain']} {c['bucket']} {c['epochs']:.2f} epochs, cap {c['raised']:g}" for c in raised)


def _drift(cells: Sequence[dict[str, Any]]) -> str:
    if not any("like" in c for c in cells):
        return ""
    before, now = sum(c["like"] for c in cells), sum(c["granted"] for c in cells)
    moves = []
    for domain in dict.fromkeys(c["domain"] for c in cells):
        mine = [c for c in cells if c["domain"] == domain]
        moves.append(
            f"{domain} {share(sum(c['like'] for c in mine), before)} → {share(sum(c['granted'] for c in mine), now)} %"
        )
    return f"{before:,} → {now:,} tokens; {', '.join(moves)}"


def _repeats(granted: Sequence[dict[str, Any]], tokens: int) -> str:
    repeated = sum(c["granted"] - c["unique_tokens"] for c in granted)
    if not repeated:
        return "nothing: no document appears twice"
    most = max(math.ceil(c["epochs"]) for c in granted)
    return f"{short(repeated)} tokens ({share(repeated, tokens)} %); no document more than {most} times"
