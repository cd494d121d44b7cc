"""Bars: what the needle's answer costs with some heads silenced, at the last checkpoint of each model that was asked.

cells of causal_masking perplexity        all heads            1.02
                                          without the best 30  9.80   long: these heads carry the answer
                                          without 30 others    1.03   short: any 30 would not do
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mixture.monitor.measures import Measure
from mixture.report import monitor_words as words
from mixture.report.monitor_figures import COLOURS, Picture, css_width, file_name, plain_decades, png, sheet
from mixture.report.monitor_words import Checkpoint

_WITHOUT = ("all heads", "without ")
_WIDTH = 4.4


def masking(measures: Sequence[Measure]) -> Iterator[Picture]:
    """Draw, for each model, the perplexity with all heads and without some, at the last checkpoint that has it."""
    groups: dict[tuple[str, str], list[Measure]] = {}
    for measure in measures:
        if measure.metric == "perplexity" and measure.level == "mechanism" and measure.cell.startswith(_WITHOUT):
            groups.setdefault((measure.model, measure.task), []).append(measure)
    for (model, task), mine in groups.items():
        last = words.checkpoints(mine)[-1]
        yield _bars(model, task, last, [m for m in mine if Checkpoint.of(m) == last])


def _bars(model: str, task: str, at: Checkpoint, mine: Sequence[Measure]) -> Picture:
    values = [m.value for m in mine]
    with sheet(_WIDTH, 0.45 * len(mine) + 0.9) as figure:
        panel = figure.subplots()
        panel.grid(visible=False, axis="y")
        # From 1 on: that is the perplexity of an answer that is certain.
        room = [[m.value - m.low for m in mine], [m.high - m.value for m in mine]]
        names = [m.cell for m in mine]
        panel.barh(
            names, [value - 1 for value in values], left=1, xerr=room, color=COLOURS[0], height=0.6, ecolor="#333333"
        )
        panel.invert_yaxis()
        panel.set_xlim(left=1)
        if max(values) > 10:
            panel.set_xscale("log")
            plain_decades(panel.xaxis)
        panel.set_xlabel("perplexity of the needle's answer")
        image = png(figure)
    told = "; ".join(f"{m.cell}: {words.shown(m.value)}" for m in mine)
    return Picture(
        "heads",
        file_name("masking", model, task),
        f"{task}: heads silenced, {model}, {at.label}",
        f"Lines: 95 % intervals; {words.samples(mine)}. Heads that carry the answer are missed more than others.",
        f"Bar chart of the perplexity of the needle's answer. {told}.",
        css_width(_WIDTH),
        image,
    )
