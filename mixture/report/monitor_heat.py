"""Heat maps: the needle's grid (length × depth) and the heads (layer × head), one panel a checkpoint, one scale.

    measures of niah score            picture needle-tiny-niah-score
    length 4096, depth 0.5, 0.8   →   panels   0 tokens | 4M tokens | 8M tokens
    length 8192, depth 0.5, 0.4   →   a cell   column 8K, row 50 %: 0.4 in all three on the same colours

Bright is good in every needle map: the colours of a metric that is better when low run the other way. What was not
measured is hatched, so it cannot be taken for a zero.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mixture.monitor.measures import Measure
from mixture.recipe.quantities import show_length
from mixture.report import monitor_words as words
from mixture.report.monitor_figures import MOST, Picture, css_width, file_name, plain_decades, png, sheet
from mixture.report.monitor_words import Checkpoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize

_HEAD = re.compile(r"layer (\d+) head (\d+)")
_COLUMNS = 3
#: Cells of a row in which there is room for a number.
_WRITTEN = 6
#: A head that copies; https://arxiv.org/abs/2404.15574, section 2.
_RETRIEVES = 0.1
#: Heads of a layer up to which those that copy are framed.
_FRAMED = 40

Grid = npt.NDArray[np.float64]


def needle_maps(measures: Sequence[Measure]) -> Iterator[Picture]:
    """Draw, for each model, task and metric measured on a grid, the grid at its checkpoints."""
    groups: dict[tuple[str, str, str, str], list[Measure]] = {}
    for measure in measures:
        if measure.length is not None and measure.depth is not None and not measure.cell:
            at = (measure.model, measure.task, measure.metric, measure.domain)
            groups.setdefault(at, []).append(measure)
    for (model, task, metric, domain), mine in groups.items():
        yield _needle_map(model, task, metric, domain, mine)


def _needle_map(model: str, task: str, metric: str, domain: str, mine: Sequence[Measure]) -> Picture:
    lengths = sorted({m.length for m in mine if m.length is not None})
    depths = sorted({m.depth for m in mine if m.depth is not None})
    every = words.checkpoints(mine)
    drawn = words.chosen(every, MOST)
    grids = {one: np.full((len(depths), len(lengths)), np.nan) for one in drawn}
    for m in mine:
        grid = grids.get(Checkpoint.of(m))
        if grid is not None and m.length is not None and m.depth is not None:
            grid[depths.index(m.depth), lengths.index(m.length)] = m.value
    names = [show_length(length) for length in lengths], [f"{100 * depth:.0f} %" for depth in depths]
    told = words.metric(metric)
    low, high = _range(mine, metric)
    scale = _norm(low, high, log=told.log)
    colours = "cividis_r" if told.better < 0 else "cividis"
    image, width = _panels(grids, scale, colours, told.label, ("context (tokens)", "depth of the needle"), names)
    kept = "" if len(drawn) == len(every) else f"{len(drawn)} of {len(every)} checkpoints. "
    bright = "; brighter is better" if told.better else ""
    last = [m for m in mine if Checkpoint.of(m) == drawn[-1]]
    worst = (min if told.better >= 0 else max)(last, key=lambda m: m.value)
    return Picture(
        "needle",
        file_name("needle", model, task, metric, domain),
        f"{task}: {told.label} by length and depth{_of(domain)}, {model}",
        f"{kept}{words.samples(mine)} a cell; one scale for all panels, {words.shown(low)} to {words.shown(high)}"
        f"{bright}.",
        f"Heat maps of {told.label} by context length and needle depth at {words.listed([c.label for c in drawn])}. "
        f"At the last of them the mean of the cells is {words.shown(float(np.mean([m.value for m in last])))} and the "
        f"worst cell {words.shown(worst.value)}, at {show_length(worst.length or 0)} and depth "
        f"{100 * (worst.depth or 0):.0f} %.",
        width,
        image,
    )


def head_maps(measures: Sequence[Measure]) -> Iterator[Picture]:
    """Draw, for each model, the retrieval score of every head at its checkpoints."""
    groups: dict[tuple[str, str, str], list[tuple[int, int, Measure]]] = {}
    for measure in measures:
        found = _HEAD.fullmatch(measure.cell)
        if found and measure.level == "mechanism":
            at = (measure.model, measure.task, measure.metric)
            groups.setdefault(at, []).append((int(found[1]), int(found[2]), measure))
    for (model, task, metric), mine in groups.items():
        yield _head_map(model, task, metric, mine)


def _head_map(model: str, task: str, metric: str, mine: Sequence[tuple[int, int, Measure]]) -> Picture:
    layers, heads = 1 + max(layer for layer, _, _ in mine), 1 + max(head for _, head, _ in mine)
    every = words.checkpoints(m for _, _, m in mine)
    drawn = words.chosen(every, MOST)
    grids = {one: np.full((layers, heads), np.nan) for one in drawn}
    for layer, head, m in mine:
        if (grid := grids.get(Checkpoint.of(m))) is not None:
            grid[layer, head] = m.value
    names = [str(n) for n in range(heads)], [str(n) for n in range(layers)]
    top = max(_RETRIEVES, *(m.value for _, _, m in mine))
    low = min(0.0, *(m.value for _, _, m in mine))
    label = words.metric(metric).label
    frame = _RETRIEVES if metric == "retrieval_score" and heads <= _FRAMED else None
    image, width = _panels(grids, _norm(low, top, log=False), "cividis", label, ("head", "layer"), names, frame=frame)
    kept = "" if len(drawn) == len(every) else f"{len(drawn)} of {len(every)} checkpoints. "
    framed = f"; framed: heads of {_RETRIEVES:g} and more" if frame is not None else ""
    last = grids[drawn[-1]]
    at_layer, at_head = divmod(int(np.nanargmax(last)), heads)
    return Picture(
        "heads",
        file_name("heads", model, task, metric),
        f"{label} of each head, {model}",
        f"{kept}{words.samples(m for _, _, m in mine)} a head; one scale for all panels, {words.shown(low)} to "
        f"{words.shown(top)}{framed}.",
        f"Heat maps of the {label} of {layers} layers of {heads} heads at {words.listed([c.label for c in drawn])}. "
        f"At the last of them {int(np.nansum(last >= _RETRIEVES))} heads have {_RETRIEVES:g} or more; the highest, "
        f"{words.shown(float(last[at_layer, at_head]))}, is head {at_head} of layer {at_layer}.",
        width,
        image,
    )


def _panels(
    grids: dict[Checkpoint, Grid],
    scale: Normalize,
    colours: str,
    label: str,
    axes: tuple[str, str],
    names: tuple[list[str], list[str]],
    *,
    frame: float | None = None,
) -> tuple[bytes, int]:
    """Draw grids of one shape side by side; return the PNG and the CSS width to show it in.

    Args:
        grids: what stands in each panel, float64, shape (rows, columns); NaN where nothing was measured.
        scale: of the colours, for all.
        colours: name of the colour map.
        label: of the colours.
        axes: names of columns and rows.
        names: of each column and of each row.
        frame: cells of at least this are framed.
    """
    columns = min(_COLUMNS, len(grids))
    rows = -(-len(grids) // columns)
    across = min(3.6, max(2.2, 0.34 * len(names[0]) + 0.9))
    down = min(3.4, max(1.7, 0.22 * len(names[1]) + 0.8))
    width = across * columns + 1.1
    with sheet(width, down * rows + 0.35) as figure:
        table = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        used: list[Axes] = list(table.flat)[: len(grids)]
        for unused in list(table.flat)[len(grids) :]:
            unused.set_axis_off()
        for panel, (one, grid) in zip(used, grids.items(), strict=True):
            panel.grid(visible=False)
            panel.set_facecolor("#f3f3f3")
            drawn = panel.imshow(grid, cmap=colours, norm=scale, aspect="auto", interpolation="nearest")
            panel.set_title(one.label)
            _hatch(panel, grid)
            _write(panel, grid, scale, colours)
            if frame is not None:
                _frame(panel, grid, frame)
            _ticks(panel, names)
        # Ticks of a column that ends early stand under its last panel.
        for panel in used[-columns:]:
            panel.tick_params(labelbottom=True)
        bar = figure.colorbar(drawn, ax=used, label=label, fraction=0.05, pad=0.02)
        bar.outline.set_visible(False)
        if bar.ax.get_yscale() == "log":
            plain_decades(bar.ax.yaxis)
        figure.supxlabel(axes[0], fontsize=9)
        figure.supylabel(axes[1], fontsize=9)
        return png(figure), css_width(width)


def _ticks(panel: Axes, names: tuple[list[str], list[str]]) -> None:
    """Name every column and row where there is room, else some of them."""
    across, down = (max(1, -(-len(each) // 12)) for each in names)
    panel.set_xticks(range(0, len(names[0]), across), names[0][::across])
    if len(names[0]) > _WRITTEN and max(map(len, names[0])) > 2:
        panel.tick_params(axis="x", rotation=90)
    panel.set_yticks(range(0, len(names[1]), down), names[1][::down])
    panel.tick_params(length=0)
    for side in panel.spines.values():
        side.set_visible(False)


def _write(panel: Axes, grid: Grid, scale: Normalize, colours: str) -> None:
    """Write values into cells, if there is room, dark on bright and bright on dark."""
    from matplotlib import colormaps

    if grid.shape[1] > _WRITTEN or grid.shape[0] > 2 * _WRITTEN:
        return
    for (row, column), value in np.ndenumerate(grid):
        if np.isfinite(value):
            red, green, blue, _ = colormaps[colours](float(scale(value)))
            dark = 0.299 * red + 0.587 * green + 0.114 * blue > 0.5
            panel.text(
                column,
                row,
                f"{value:.2f}" if abs(value) < 10 else words.shown(value),
                ha="center",
                va="center",
                fontsize=7.5,
                color="#111111" if dark else "white",
            )


def _hatch(panel: Axes, grid: Grid) -> None:
    from matplotlib.patches import Rectangle

    for row, column in np.argwhere(~np.isfinite(grid)):
        panel.add_patch(
            Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, hatch="////", linewidth=0, edgecolor="#b0b0b0")
        )


def _frame(panel: Axes, grid: Grid, least: float) -> None:
    from matplotlib.patches import Rectangle

    for row, column in np.argwhere(np.nan_to_num(grid) >= least):
        panel.add_patch(
            Rectangle((column - 0.45, row - 0.45), 0.9, 0.9, fill=False, linewidth=1.0, edgecolor="#D55E00")
        )


def _range(mine: Sequence[Measure], metric: str) -> tuple[float, float]:
    """Return the ends of a metric's scale: its bounds, or what was measured."""
    bounds = words.metric(metric).bounds
    if bounds is not None:
        return bounds
    values = [m.value for m in mine]
    low, high = min(values), max(values)
    return (low, high) if high > low else (low, low + max(1e-9, abs(low) * 1e-3))


def _norm(low: float, high: float, *, log: bool) -> Normalize:
    from matplotlib.colors import LogNorm, Normalize

    return LogNorm(low, high) if log and low > 0 else Normalize(low, high)


def _of(domain: str) -> str:
    return f", {domain}" if domain else ""
