"""The monitor's aggregates for the terminal: a line a metric, a column a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from mixture.monitor.measures import Measure
from mixture.report import monitor_words as words
from mixture.report.monitor_words import Checkpoint, Series
from mixture.report.tables import visible

#: Checkpoints side by side: an interval is some 14 characters, a terminal 80 or more.
_COLUMNS = 4


def monitor_table(measures: Sequence[Measure], *, columns: int = _COLUMNS) -> list[RenderableType]:
    """Return a table for each model: metrics over the whole grid, with their intervals.

    Args:
        measures: rows of the long table.
        columns: most checkpoints that are shown; of more, the first, the last and some between.
    """
    found = words.aggregates(measures)
    every = words.checkpoints(m for those in found.values() for m in those.values())
    if not every:
        return [Text("no metric over the whole grid was measured", "dim")]
    models = dict.fromkeys(one.model for one in every)
    tables = [_table(model, [one for one in every if one.model == model], columns, found) for model in models]
    legend = "a value over its 95 % interval; ↑ more is better, ↓ less is better; n: samples behind a value"
    return [*tables, Text(legend, "dim")]


def _table(
    model: str, every: Sequence[Checkpoint], columns: int, found: dict[Series, dict[Checkpoint, Measure]]
) -> Table:
    shown = words.chosen(every, columns)
    kept = f" ({len(shown)} of {len(every)} checkpoints)" if len(shown) < len(every) else ""
    table = Table(title=visible(f"{model}{kept}"), title_justify="left", header_style="bold", pad_edge=False)
    table.add_column("metric", overflow="fold")
    for one in shown:
        table.add_column(visible(one.label), justify="right", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    level = ""
    for series, values in found.items():
        mine = [values.get(one) for one in shown]
        there = [m for m in mine if m is not None]
        if not there:
            continue
        if series.level != level:
            table.add_section()
            table.add_row(Text(series.level, "bold"))
            level = series.level
        name = Text(visible(f"{series.label}{words.arrow(series.metric)}"))
        table.add_row(name, *_cells(mine), words.samples(there).removeprefix("n = "))
    return table


def _cells(mine: Sequence[Measure | None]) -> Iterator[Text]:
    for measure in mine:
        if measure is None:
            yield Text("·", "dim")
        else:
            interval = words.interval(measure)
            yield Text.assemble(words.shown(measure.value), (f"\n{interval}" if interval else "", "dim"))
