"""What a training run would be: its phases, and what each GPU would hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from mixture.recipe.quantities import show_length
from mixture.report.tables import short

if TYPE_CHECKING:
    from mixture.train.forecast import Forecast

_GIB = 1 << 30


def forecast(told: Forecast) -> list[RenderableType]:
    """Return the pictures of a forecast: steps and rates by phase, memory by what it holds."""
    gpus = "one GPU" if told.ranks == 1 else f"{told.ranks} GPUs"
    title = f"{told.name}: {short(told.parameters)} parameters, on {gpus}"
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column("phase", no_wrap=True)
    for name in ("length", "sequences", "batch", "steps", "tokens", "lr first, middle, last", "rope", "PFLOP ≤"):
        table.add_column(name, justify="right", no_wrap=True)
    for phase in told.phases:
        table.add_row(
            phase.name or "·",
            show_length(phase.length),
            f"{phase.sequences:,}",
            f"{phase.batch:,}",
            f"{phase.steps:,}",
            short(phase.tokens),
            ", ".join(f"{rate:.2g}" for rate in phase.lr),
            str(phase.rope["rope"]["kind"]),
            f"{phase.flops / 1e15:,.3g}",
        )
    return [table, _memory(told), Text("memory: estimated, GiB of each GPU", "dim")]


def _memory(told: Forecast) -> Table:
    table = Table(header_style="bold")
    table.add_column("phase", no_wrap=True)
    names = list(told.phases[0].parts)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for phase in told.phases:
        table.add_row(phase.name or "·", *(f"{size / _GIB:.3g}" for size in phase.parts.values()))
    return table
