"""The table and the curves."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mixture.recipe.quantities import show_length


def show(result: dict[str, Any], console: Console) -> None:
    """Print what was measured, and on what."""
    facts, model = result["machine"], result["model"]
    where = ", ".join(facts["gpus"]) or f"no GPU: {facts['processor']}, {facts['cores']} cores"
    console.print(
        f"{where}; load {facts['load_average'][0]}; Python {facts['python']}; "
        f"{', '.join(f'{name} {version}' for name, version in facts['libraries'].items())}; {facts['date']}"
    )
    console.print(
        f"{result['size']}: {model['parameters'] / 1e6:,.1f}M parameters, vocabulary {model['vocabulary']:,}, "
        f"{result['precision']}, activations recomputed, documents {'masked' if result['documents'] else 'not masked'}"
    )
    console.print(_table(result))
    for line in _lines(result):
        console.print(line, highlight=False)


def _table(result: dict[str, Any]) -> Table:
    table = Table(title="median (min to max) of steps; ratio: the faster of ours / this, step by step in one round")
    for heading in ("length", "batch", "contestant", "tokens/s", "TFLOP/s", "MFU", "memory", "ratio", "losses"):
        table.add_column(heading, justify="left" if heading in ("contestant", "losses") else "right", no_wrap=True)
    for part in result["lengths"]:
        for number, row in enumerate(part["rows"]):
            table.add_row(
                show_length(part["length"]) if not number else "",
                f"{part['batch']} × {part['length']:,}" if not number else "",
                row["title"],
                _spread(row["rate"]) or (row["failed"] or "").partition(":")[0],
                "" if row["tflops"] is None else _short(row["tflops"]["median"]),
                "" if row["mfu"] is None else f"{100 * row['mfu']['median']:.1f} %",
                _gib(row["memory"]) if row["memory"] else "",
                _spread(row["ratio"]),
                _agreed(row["agreement"]),
            )
        table.add_section()
    return table


def _lines(result: dict[str, Any]) -> list[str]:
    lines = [
        f"{show_length(part['length'])}, {row['title']}: {row['failed']}"
        for part in result["lengths"]
        for row in part["rows"]
        if row["failed"]
    ]
    lines += [f"left out: {why}" for why in result["skipped"]]
    lines.append(_resumed(result["resume"]))
    expected = [
        f"{show_length(part['length'])} {row['title']} {_gib(row['memory'])} of {_gib(row['estimate'])}"
        for part in result["lengths"]
        for row in part["rows"]
        if row.get("estimate")
    ]
    if expected:
        lines.append(f"memory, of what was expected: {', '.join(expected)}")
    lines.append(
        "attention: "
        + ", ".join(
            f"{show_length(part['length'])} has {100 * part['attended']:.0f} % of the pairs of whole sequences"
            for part in result["lengths"]
        )
    )
    spent = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in result["spent"].items())
    lines.append(f"time: {sum(result['spent'].values()):.0f} s: {spent}")
    return lines


def _resumed(found: dict[str, Any] | None) -> str:
    if found is None:
        return "resume: not tried"
    if found["failed"]:
        return f"resume: {found['failed']}"
    first = found["first"]
    what = f"resume: {first} + {found['steps'] - first} steps are {found['steps']} steps"
    if found["exact"]:
        return f"{what}, to the bit"
    noise = "" if found["noise"] is None else f"; two runs that were not stopped: {found['noise']:.1e}"
    return f"{what} but for {found['apart']:.1e} of the loss{noise}"


def _agreed(found: dict[str, Any] | None) -> str:
    if found is None or found["apart"] is None:
        return ""
    return f"{'agree' if found['agree'] else 'DIFFER'}: {found['apart']:.1e}"


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"


def _spread(found: dict[str, float] | None) -> str:
    if found is None:
        return ""
    return f"{_short(found['median'])} ({_short(found['min'])} to {_short(found['max'])})"


def _short(value: float) -> str:
    return (
        f"{value:,.0f}"
        if value >= 1000
        else f"{value:.1f}"
        if value >= 10
        else f"{value:.2f}"
        if value >= 0.1
        else f"{value:.2g}"
    )


def curves(result: dict[str, Any], path: Path) -> bool:
    """Draw the losses, if matplotlib is there; say whether it is."""
    if importlib.util.find_spec("matplotlib") is None:
        return False
    from matplotlib.figure import Figure

    parts = result["lengths"]
    figure = Figure(figsize=(5 * len(parts), 4), layout="constrained")
    for axes, part in zip(figure.subplots(1, len(parts), squeeze=False)[0], parts, strict=True):
        for row in part["rows"]:
            steps = {int(step): loss for step, loss in row["losses"].items()}
            axes.plot(list(steps), list(steps.values()), label=row["title"], marker=".", alpha=0.7)
        axes.set(title=show_length(part["length"]), xlabel="step", ylabel="loss")
        axes.legend()
    figure.savefig(path)
    return True
