"""Lines of `bench.growth`: seconds and memory of each stage over the size of the work; PNG, SVG, Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.show import sentence

_NAME = "growth"
_MIB = 1 << 20


def draw(rows: Sequence[dict[str, Any]], facts: dict[str, Any], folder: Path) -> None:
    """Write `growth.png`, `growth.svg` and `growth.md` into a folder.

    Args:
        rows: of `bench.growth`.
        facts: of the machine.
        folder: it is made.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    # The same rows give the same file, and text in it can be looked for.
    with mpl.rc_context({"svg.hashsalt": _NAME, "svg.fonttype": "none", "axes.spines.top": False}):
        figure = Figure(figsize=(10, 4.4), layout="constrained")
        time, memory = figure.subplots(1, 2)
        for stage in dict.fromkeys(row["stage"] for row in rows):
            mine = [row for row in rows if row["stage"] == stage]
            at = [row["times"] for row in mine]
            style = {"marker": "o", "markersize": 4, "linewidth": 1.5, "linestyle": "--" if " " in stage else "-"}
            time.plot(at, [row["ours"]["median"] for row in mine], label=stage, **style)
            memory.plot(at, [row["peak"] / _MIB for row in mine], label=stage, **style)
        _finish(time, memory, rows)
        figure.suptitle(f"{facts['cores']} cores, {facts['date'][:10]}; 1 × is {rows[0]['corpus']}", fontsize=9)
        figure.savefig(folder / f"{_NAME}.png", dpi=160, metadata={"Software": ""})
        figure.savefig(folder / f"{_NAME}.svg", metadata={"Date": None, "Creator": None})
    (folder / f"{_NAME}.md").write_text(table(rows, facts), encoding="utf-8")


def _finish(time: Any, memory: Any, rows: Sequence[dict[str, Any]]) -> None:
    sizes = sorted({row["times"] for row in rows})
    least = min(row["ours"]["median"] for row in rows)
    time.plot(sizes, [least * size / sizes[0] for size in sizes], color="0.7", linestyle=":", label="in proportion")
    time.set(xscale="log", yscale="log", xlabel="times the work", ylabel="seconds", title="time")
    memory.set(xscale="log", xlabel="times the work", ylabel="MiB, all processes", title="peak memory")
    memory.set_ylim(bottom=0)
    for axes in (time, memory):
        axes.set_xticks(sizes, [f"{size} ×" for size in sizes])
        axes.minorticks_off()
        axes.grid(visible=True, color="0.92")
    time.legend(fontsize=8, frameon=False)


def table(rows: Sequence[dict[str, Any]], facts: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    sizes = sorted({row["times"] for row in rows})
    told = (
        "Seconds (median) and peak memory of all processes, mapped files included; the last columns are of the largest "
    )
    lines = [
        "# Cost as work grows: the figures",
        "",
        f"`python -m bench --only growth --plot DIR`. {sentence(facts)}.",
        "",
        f"{told}size over the smallest.",
        "",
        f"| stage | {' | '.join(f'{size} ×' for size in sizes)} | time | memory |",
        f"|---|{'--:|' * (len(sizes) + 2)}",
    ]
    for stage in dict.fromkeys(row["stage"] for row in rows):
        mine = {row["times"]: row for row in rows if row["stage"] == stage}
        cells = [f"{mine[size]['ours']['median']:.2f} s, {mine[size]['peak'] / _MIB:,.0f} MiB" for size in sizes]
        last = mine[sizes[-1]]
        lines.append(f"| {stage} | {' | '.join(cells)} | {last['time_growth']:.1f} × | {last['memory_growth']:.2f} × |")
    lines += ["", "What the work is:", ""]
    lines += [f"- {what}" for what in dict.fromkeys(f"{row['times']} ×: {row['corpus']}" for row in rows)]
    return "\n".join([*lines, ""])
