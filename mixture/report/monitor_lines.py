"""Line charts: a metric over training, by context length, or by place in the sequence; each line in its interval.

aggregates of niah score      picture curve-behaviour-niah-score
tiny   0M  0.10 [.05, .15]    one line a model (and domain), a band from low to high, dashed where a fit is given
tiny   4M  0.55 [.48, .62]
tiny   8M  0.80 [.74, .86]
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mixture.monitor.measures import LEVELS, Measure
from mixture.recipe.quantities import show_length
from mixture.report import monitor_words as words
from mixture.report.monitor_figures import (
    COLOURS,
    MARKS,
    MOST,
    Line,
    Picture,
    css_width,
    file_name,
    plain_decades,
    png,
    sheet,
)
from mixture.report.monitor_words import Checkpoint, Series
from mixture.report.tables import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH, _HEIGHT = 4.4, 3.1
#: How far apart the ends of an axis are that is worth a logarithm.
_DECADES = 5
_CELL = re.compile(r"(position|length|prefix) (\S+)")
_PLACES = {
    "context": "context (tokens)",
    "position": "place in the document (tokens)",
    "length": "length of the document (tokens)",
    "prefix": "text before the needle (tokens)",
}
_BY = {"context": "context length", "position": "position", "length": "document length", "prefix": "text before it"}
_SECTIONS = {"context": "length", "prefix": "length", "position": "position", "length": "position"}
#: More lines than that have fainter bands, and a legend outside.
_FEW = 3
#: Characters of a name up to which three stand side by side.
_SHORT = 16
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_UNITS = {"K": 1 << 10, "M": 1 << 20}

#: Points of one line: place, value and interval.
Points = list[tuple[float, Measure]]


def curves(measures: Sequence[Measure], lines: Sequence[Line] = ()) -> Iterator[Picture]:
    """Draw each aggregate metric over training, where at least two checkpoints of a model have it.

    Domains of one metric share a picture, and so do models.
    """
    groups: dict[tuple[str, str, str], dict[tuple[str, str], list[Measure]]] = {}
    for series, found in words.aggregates(measures).items():
        for measure in found.values():
            group = groups.setdefault((series.level, series.task, series.metric), {})
            group.setdefault((measure.model, series.domain), []).append(measure)
    for (level, task, metric), named in sorted(groups.items(), key=lambda item: LEVELS.index(item[0][0])):
        axis = "tokens" if all(m.tokens is not None for those in named.values() for m in those) else "step"
        points = {name: _over(those, axis) for name, those in named.items()}
        points = {name: those for name, those in points.items() if len(those) > 1}
        if points:
            fits = [line for line in lines if (line.task, line.metric) == (task, metric)]
            yield _curve(level, task, metric, points, fits, axis)


def _over(those: Sequence[Measure], axis: str) -> Points:
    places = [(getattr(m, axis), m) for m in those]
    return sorted(((float(at), m) for at, m in places if at is not None), key=lambda point: point[0])


def _curve(
    level: str,
    task: str,
    metric: str,
    points: dict[tuple[str, str], Points],
    fits: Sequence[Line],
    axis: str,
) -> Picture:
    told = words.metric(metric)
    kept = dict(list(points.items())[: len(COLOURS)])
    fitted = [line for line in fits if (line.model, line.domain) in kept]
    models, domains = ({name[n] for name in kept} for n in (0, 1))
    with sheet(_WIDTH, _HEIGHT) as figure:
        panel = figure.subplots()
        for number, (name, those) in enumerate(kept.items()):
            label = ", ".join(
                part
                for part, several in zip(name, (len(models) > 1, len(domains) > 1), strict=True)
                if several and part
            )
            _line(panel, those, number, label or " ".join(filter(None, name)))
            for line in fitted:
                if (line.model, line.domain) == name:
                    panel.plot(line.x, line.y, "--", color=COLOURS[number], linewidth=1.1, marker="")
        panel.xaxis.set_major_formatter(lambda value, _: short(value) if value >= 0 else "")
        panel.set_xlabel("tokens trained on" if axis == "tokens" else "training steps")
        _finish(figure, told.label, metric)
        image = png(figure)
    left = f" {len(points) - len(kept)} more lines are in the table only." if len(points) > len(kept) else ""
    every = [m for those in kept.values() for _, m in those]
    dashed = "".join(f" Dashed{_whose(line, kept)}: {line.label}." for line in fitted)
    better = f" {words.direction(metric).capitalize()}." if words.direction(metric) else ""
    return Picture(
        "curves",
        file_name("curve", level, task, metric),
        f"{task}: {told.label}",
        f"{level.capitalize()}; bands: 95 % intervals; {words.samples(every)}.{better}{dashed}{left}",
        f"Line chart of {told.label} of {task} over training: {_told(kept, axis)}.",
        css_width(_WIDTH),
        image,
    )


def _whose(line: Line, kept: dict[tuple[str, str], Points]) -> str:
    return f" ({', '.join(filter(None, (line.model, line.domain)))})" if len(kept) > 1 else ""


def _told(kept: dict[tuple[str, str], Points], axis: str) -> str:
    """Say where each line begins and ends."""

    def ends(those: Points) -> str:
        said = (f"{words.shown(m.value)} at {_at(place, axis)}" for place, m in (those[0], those[-1]))
        return "from {} to {}".format(*said)

    return "; ".join(f"{', '.join(filter(None, name))} {ends(those)}" for name, those in kept.items())


def _at(place: float, axis: str) -> str:
    return f"{short(place)} tokens" if axis == "tokens" else f"step {place:,.0f}"


def by_length(measures: Sequence[Measure]) -> Iterator[Picture]:
    """Draw metrics that were measured by length alone, a line a checkpoint."""
    groups: dict[tuple[str, Series], list[Measure]] = {}
    for measure in measures:
        if measure.length is not None and measure.depth is None and not measure.cell:
            groups.setdefault((measure.model, Series.of(measure)), []).append(measure)
    for (model, series), mine in groups.items():
        lengths = sorted({m.length for m in mine if m.length is not None})
        if len(lengths) > 1:
            names = [show_length(length) for length in lengths]
            places = {length: n for n, length in enumerate(lengths)}
            yield _profile("context", model, series, mine, [places[m.length or 0] for m in mine], names)


def by_position(measures: Sequence[Measure]) -> Iterator[Picture]:
    """Draw losses by place in a document, by its length, or by what stands before the needle, as cells say.

    A picture a domain, a line a checkpoint, one scale for all domains.
    """
    groups: dict[tuple[str, str, Series], list[tuple[str, Measure]]] = {}
    for measure in measures:
        found = _CELL.fullmatch(measure.cell)
        if found and measure.length is None and measure.depth is None:
            groups.setdefault((found[1], measure.model, Series.of(measure)), []).append((found[2], measure))
    ends: dict[tuple[str, str, str], list[float]] = {}
    for (by, _, series), mine in groups.items():
        key = (by, series.task, series.metric)
        ends.setdefault(key, []).extend(value for _, m in mine for value in (m.low, m.high))
    for (by, model, series), mine in sorted(groups.items(), key=lambda item: item[0][0] != "position"):
        names = sorted({bucket for bucket, _ in mine}, key=_begins)
        those = [m for _, m in mine]
        places = [names.index(bucket) for bucket, _ in mine]
        yield _profile(by, model, series, those, places, names, ends[by, series.task, series.metric])


def _begins(bucket: str) -> tuple[float, str]:
    """Return where a bucket named `4K-16K`, `<4K` or `≥64K` begins."""
    found = _NUMBER.search(bucket)
    if found is None or bucket.startswith("<"):
        return -1.0, bucket
    unit = bucket[found.end() : found.end() + 1]
    return float(found[0]) * _UNITS.get(unit, 1), bucket


def _profile(
    by: str,
    model: str,
    series: Series,
    mine: Sequence[Measure],
    places: Sequence[int],
    names: Sequence[str],
    ends: Sequence[float] = (),
) -> Picture:
    """Draw a metric over named places, a line a checkpoint, later ones brighter.

    Args:
        by: what the places are: `context`, `position` or `length`, the last two of documents.
        model: whose.
        series: what it shows.
        mine: the points.
        places: of each point, the number of its name.
        names: of the places, in order.
        ends: values that the scale has to hold, besides.
    """
    told = words.metric(series.metric)
    every = words.checkpoints(mine)
    drawn = words.chosen(every, MOST)
    with sheet(_WIDTH, _HEIGHT) as figure:
        panel = figure.subplots()
        for number, one in enumerate(drawn):
            points = sorted(
                ((float(at), m) for at, m in zip(places, mine, strict=True) if Checkpoint.of(m) == one),
                key=lambda point: point[0],
            )
            _line(
                panel, points, number, one.label, _shade(number, len(drawn)), band=0.15 if len(drawn) <= _FEW else 0.08
            )
        panel.set_xticks(range(len(names)), names)
        panel.set_xlim(-0.3, len(names) - 0.7)
        panel.set_xlabel(_PLACES[by])
        if ends:
            room = 0.04 * (max(ends) - min(ends)) or 0.1
            panel.set_ylim(min(ends) - room, max(ends) + room)
        _finish(figure, told.label, series.metric)
        image = png(figure)
    by_place = ", ".join(
        f"{names[at]} {words.shown(m.value)}"
        for at, m in zip(places, mine, strict=True)
        if Checkpoint.of(m) == drawn[-1]
    )
    kept = "" if len(drawn) == len(every) else f"{len(drawn)} of {len(every)} checkpoints. "
    better = f" {words.direction(series.metric).capitalize()}." if words.direction(series.metric) else ""
    where = series.domain or ("all domains" if _SECTIONS[by] == "position" else "")
    what = f"{series.task}{', ' if where else ''}{where}: {told.label} by {_BY[by]}"
    return Picture(
        _SECTIONS[by],
        file_name("by", by, model, series.task, series.metric, series.domain),
        f"{what}, {model}",
        f"{kept}Bands: 95 % intervals; {words.samples(mine)}.{better}{' One scale for all domains.' if where else ''}",
        f"Line chart of {what}, at {words.listed([c.label for c in drawn])}. At the last of them: {by_place}.",
        css_width(_WIDTH),
        image,
    )


def _shade(number: int, count: int) -> tuple[float, ...]:
    """Return a colour of cividis: dark for the first, bright for the last, never as faint as its end."""
    from matplotlib import colormaps

    return colormaps["cividis"](0.85 * number / max(1, count - 1))


def _line(
    panel: Axes,
    points: Points,
    number: int,
    label: str,
    colour: str | tuple[float, ...] | None = None,
    *,
    band: float = 0.15,
) -> None:
    """Draw points, the line through them and the band of their intervals, of so much opacity."""
    shade = COLOURS[number % len(COLOURS)] if colour is None else colour
    x = [at for at, _ in points]
    panel.plot(x, [m.value for _, m in points], marker=MARKS[number % len(MARKS)], color=shade, label=label)
    panel.fill_between(x, [m.low for _, m in points], [m.high for _, m in points], color=shade, alpha=band, linewidth=0)


def _finish(figure: Figure, label: str, metric: str) -> None:
    """Name and scale the axis of values, and tell lines apart by a legend, under the panel where they are many."""
    (panel,) = figure.axes
    told = words.metric(metric)
    panel.set_ylabel("\n".join(textwrap.wrap(label, 36)))
    top, drawn = panel.get_ylim()[1], panel.dataLim
    if told.bounds == (0.0, 1.0):
        # Shares are drawn from 0 on, and up to 1 where that leaves them legible.
        top = 1.0 if top > 0.4 else max(top, 1e-3)
        panel.set_ylim(-0.03 * top, 1.03 * top)
    elif told.log and drawn.y0 > 0 and drawn.y1 > _DECADES * drawn.y0:
        panel.set_yscale("log")
        panel.autoscale(axis="y")
        plain_decades(panel.yaxis)
    handles, names = panel.get_legend_handles_labels()
    if len(names) > _FEW:
        columns = 3 if max(map(len, names)) < _SHORT else 2
        figure.set_figheight(_HEIGHT + 0.2 * -(-len(names) // columns))
        figure.legend(handles, names, loc="outside lower center", ncols=columns)
    elif len(names) > 1:
        panel.legend(loc="best")
