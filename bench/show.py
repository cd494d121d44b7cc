"""What was measured, and on what, as a table of the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table


def show(result: dict[str, Any], console: Console) -> None:
    """Print the rows of one run."""
    console.print(sentence(result["machine"]))
    table = Table(title="median (min to max); ratio: ours / other, between neighbours in time")
    table.add_column("bench")
    table.add_column("corpus")
    for heading in ("workers", "ours", "other", "", "ratio", "peak, ours", "other"):
        table.add_column(heading, justify="left" if heading == "other" else "right", no_wrap=True)
    for row in result["rows"]:
        others = [(row["other"], row.get("floor"), row.get("ratio"), row.get("floor_peak"))]
        others += [(o["name"], o["rate"], o["ratio"], o.get("peak")) for o in row.get("more", ())]
        corpus = ", ".join(filter(None, [row["corpus"], row.get("vocabulary"), f"{row['megabytes']:,.0f} MB"]))
        lead = [f"{row['bench']}, {row['unit']}", corpus, str(row["workers"]), spread(row["ours"])]
        for number, (name, floor, ratio, peak) in enumerate(others):
            said = spread(ratio) if ratio else row["skipped"]
            own = mebibytes(row["peak"]) if number == 0 else ""
            table.add_row(*(lead if number == 0 else [""] * 4), name, spread(floor), said, own, mebibytes(peak))
    console.print(table)
    for said in dict.fromkeys(row["says"] for row in result["rows"] if row.get("says")):
        console.print(said)


def sentence(facts: dict[str, Any]) -> str:
    """Return the machine in a line."""
    return (
        f"{facts['processor']}, {facts['cores']} cores, {facts['memory_gib']} GiB, load {facts['load_average'][0]}; "
        f"Python {facts['python']}; {', '.join(f'{k} {v}' for k, v in facts['libraries'].items())}; {facts['date']}"
    )


def spread(found: dict[str, float] | None) -> str:
    """Return median, least and most."""
    if found is None:
        return ""
    digits = 1 if found["median"] >= 10 else 2
    return f"{found['median']:.{digits}f} ({found['min']:.{digits}f} to {found['max']:.{digits}f})"


def mebibytes(size: float | None) -> str:
    """Return bytes in MiB; nothing for none."""
    return f"{size / 2**20:,.0f} MiB" if size else ""
