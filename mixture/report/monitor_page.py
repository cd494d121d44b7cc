"""The page of a monitored run: verdicts in words, a table of aggregates, pictures; one file that needs no network.

    measures, verdicts ─ render ─► FOLDER/index.html             verdicts, table, pictures inside
                                   FOLDER/pictures/*.png         the same pictures as files

Pictures are published first and the page last, so a page that is there is whole. Pictures of an earlier page that this
one does not have are taken away; nothing else in the folder is touched.
"""

from __future__ import annotations

import base64
import string
from collections.abc import Iterator, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from mixture.monitor.measures import LEVELS, Measure
from mixture.report import monitor_words as words
from mixture.report.monitor_figures import Line, Picture, pictures
from mixture.report.monitor_fits import fitted
from mixture.report.monitor_words import Checkpoint, Series
from mixture.storage import publish

if TYPE_CHECKING:
    from mixture.monitor.verdicts import LevelVerdict, Saturation

PAGE = "index.html"
_FOLDER = "pictures"
#: Checkpoints of one table; of more, the first, the last and some between are shown.
_COLUMNS = 12
#: Curves behind a verdict that are listed unasked.
_REASONS = 6
#: Pictures up to this many CSS pixels stand beside each other.
_SMALL = 500
#: Of each section: its heading, what to look for, and what is said where there is no picture.
_SECTIONS = {
    "curves": (
        "Over training",
        "Each metric over the whole grid, checkpoint by checkpoint.",
        "A curve needs at least two checkpoints of one model with the same metric; there are none yet.",
    ),
    "needle": (
        "The needle, by length and depth",
        "Where in a context of which length a sentence is found again.",
        "Nothing was measured on a grid of lengths and depths.",
    ),
    "length": (
        "By length",
        "By the length of the context where depth does not matter, or by how much text stands before the needle.",
        "No task was measured by length alone.",
    ),
    "position": (
        "Loss on held-out documents",
        "Where long context helps, loss goes on falling with the position.",
        "No loss by position was measured: hold-out documents were not scored.",
    ),
    "heads": (
        "Heads",
        "Which heads copy the needle's tokens to the answer.",
        "No head was examined: the mechanism level was not measured.",
    ),
}


def render(
    measures: Sequence[Measure],
    verdicts: Sequence[Saturation],
    folder: Path,
    *,
    title: str,
    lines: Sequence[Line] | None = None,
) -> Path:
    """Publish the page and its pictures; return the page.

    Args:
        measures: rows of the long table.
        verdicts: on saturation, of each model one; none where there are too few checkpoints.
        folder: is made where there is none.
        title: of the page.
        lines: curves that are drawn over their points; by default power laws through those that have verdicts.

    Raises:
        MonitorError: matplotlib is not installed.
        StoreError: the folder cannot be written.
    """
    drawn = pictures(measures, fitted(verdicts) if lines is None else lines)
    for picture in drawn:
        with publish(folder / _FOLDER / f"{picture.name}.png") as out:
            out.write(picture.png)
    page = folder / PAGE
    with publish(page) as out:
        out.write(html(measures, verdicts, drawn, title=title).encode())
    kept = {f"{picture.name}.png" for picture in drawn}
    for old in (folder / _FOLDER).glob("*.png"):
        if old.name not in kept:
            old.unlink(missing_ok=True)
    return page


def html(measures: Sequence[Measure], verdicts: Sequence[Saturation], drawn: Sequence[Picture], *, title: str) -> str:
    """Return the page as HTML with everything inside; see `render`."""
    template = string.Template(resources.files(__package__).joinpath("monitor_page.html").read_text(encoding="utf-8"))
    sections = [("table", "Table"), *((name, told[0]) for name, told in _SECTIONS.items())]
    return template.substitute(
        title=escape(title),
        subtitle=escape(subtitle(measures)),
        verdicts="\n".join(_verdicts(verdicts)),
        contents=" ".join(f'<a href="#{name}">{escape(heading)}</a>' for name, heading in sections),
        table="\n".join(_tables(measures)),
        pictures="\n".join(line for name in _SECTIONS for line in _section(name, drawn)),
    )


def subtitle(measures: Sequence[Measure]) -> str:
    """Say in a line what was measured: models, checkpoints, the last of them, samples."""
    found = words.checkpoints(measures)
    if not found:
        return "Nothing was measured yet."
    models = list(dict.fromkeys(one.model for one in found))
    levels = [level for level in LEVELS if any(m.level == level for m in measures)]
    last = f", the last at {found[-1].label}" if len(models) == 1 and found[-1].label != models[0] else ""
    many = "one checkpoint" if len(found) == 1 else f"{len(found):,} checkpoints"
    return f"{words.listed(models)}: {many}{last}; {len(measures):,} measures of {words.listed(levels)}."


def _verdicts(verdicts: Sequence[Saturation]) -> Iterator[str]:
    yield '<section id="verdicts" aria-labelledby="h-verdicts"><h2 id="h-verdicts">Is it saturated?</h2>'
    if not verdicts:
        yield "<p>No verdict: it needs several checkpoints of one run.</p>"
    for verdict in verdicts:
        if len(verdicts) > 1:
            yield f"<h3>{escape(verdict.model)}</h3>"
        # Behind the sentence of each level come their order and, last, what nobody should miss.
        *more, last = ("", *map(words.sentence, verdict.words[len(verdict.levels) :]))
        if verdict.deceptive:
            yield f'<p class="warning" role="note"><strong>Warning.</strong> {escape(last)}</p>'
        yield '<div class="verdicts">'
        yield from map(_level, verdict.levels)
        yield "</div>"
        yield from (f"<p>{escape(said)}</p>" for said in (*more, "" if verdict.deceptive else last) if said)
    yield "</section>"


def _level(verdict: LevelVerdict) -> str:
    kind = verdict.state if verdict.state in ("saturated", "moving") else "unknown"
    name, _, said = verdict.words.partition(": ")
    reasons = "".join(f"<li>{escape(curve.words)}</li>" for curve in verdict.curves)
    reasons = f"<ul>{reasons}</ul>" if reasons else ""
    if len(verdict.curves) > _REASONS:
        reasons = f"<details><summary>{len(verdict.curves)} curves</summary>{reasons}</details>"
    return (
        f'<article class="verdict {kind}"><h3>{escape(name.capitalize())}</h3>'
        f'<p class="soft">{escape(words.QUESTIONS[verdict.level])}</p>'
        f"<b>{escape(said)}</b>{reasons}</article>"
    )


def _tables(measures: Sequence[Measure]) -> Iterator[str]:
    """Write the aggregates, a table for each model, a column a checkpoint."""
    yield '<section id="table" aria-labelledby="h-table"><h2 id="h-table">Over the whole grid</h2>'
    found = words.aggregates(measures)
    if not found:
        yield "<p>No aggregate was measured.</p>"
    every = words.checkpoints(m for those in found.values() for m in those.values())
    models = list(dict.fromkeys(one.model for one in every))
    for model in models:
        columns = [one for one in every if one.model == model]
        shown = words.chosen(columns, _COLUMNS)
        if len(models) > 1:
            yield f"<h3>{escape(model)}</h3>"
        if len(shown) < len(columns):
            yield f'<p class="soft">{len(shown)} of {len(columns)} checkpoints.</p>'
        yield from _table(model, shown, found)
    yield "</section>"


def _table(model: str, columns: Sequence[Checkpoint], found: dict[Series, dict[Checkpoint, Measure]]) -> Iterator[str]:
    yield f'<div class="scroll" tabindex="0" role="region" aria-label="aggregates of {escape(model)}"><table>'
    heads = "".join(f'<th scope="col">{escape(one.label)}</th>' for one in columns)
    yield f'<thead><tr><th scope="col">metric</th>{heads}<th scope="col">n</th></tr></thead><tbody>'
    level = ""
    for series, values in found.items():
        mine = [values.get(one) for one in columns]
        there = [m for m in mine if m is not None]
        if not there:
            continue
        if series.level != level:
            level = series.level
            yield f'<tr class="level"><th scope="rowgroup" colspan="{len(columns) + 2}">{escape(level)}</th></tr>'
        arrow = words.arrow(series.metric)
        cells = "".join(map(_cell, mine))
        count = words.samples(there).removeprefix("n = ")
        yield f'<tr><th scope="row">{escape(series.label)}{arrow}</th>{cells}<td class="n">{count}</td></tr>'
    yield "</tbody></table></div>"


def _cell(measure: Measure | None) -> str:
    if measure is None:
        return '<td class="n">·</td>'
    interval = words.interval(measure)
    return f"<td>{words.shown(measure.value)}{f'<small>{interval}</small>' if interval else ''}</td>"


def _section(name: str, drawn: Sequence[Picture]) -> Iterator[str]:
    heading, told, empty = _SECTIONS[name]
    mine = [picture for picture in drawn if picture.section == name]
    yield f'<section id="{name}" aria-labelledby="h-{name}"><h2 id="h-{name}">{escape(heading)}</h2>'
    yield f'<p class="soft">{escape(told if mine else empty)}</p>'
    if mine:
        yield '<div class="pictures">'
        yield from map(_figure, mine)
        yield "</div>"
    yield "</section>"


def _figure(picture: Picture) -> str:
    kind = "small" if picture.width <= _SMALL else "wide"
    data = base64.b64encode(picture.png).decode("ascii")
    style = "" if kind == "small" else f' style="width: {picture.width}px"'
    return (
        f'<figure class="{kind}"{style}><div class="scroll">'
        f'<img alt="{escape(picture.alt)}" src="data:image/png;base64,{data}"></div>'
        f"<figcaption><strong>{escape(picture.title)}</strong>{escape(picture.caption)}</figcaption></figure>"
    )
