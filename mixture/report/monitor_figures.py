"""Pictures of what the monitor measured, as PNG in memory: `pictures(measures)` draws all that there is data for.

    needle    heat maps, length × depth, one panel a checkpoint                     monitor_heat.py
    length    a task's metric by length, where depth does not matter                monitor_lines.py
    position  loss by place in a document, one picture a domain                     monitor_lines.py
    heads     heat maps, layer × head, one panel a checkpoint                       monitor_heat.py
              and what the answer costs with heads silenced                         monitor_bars.py
    curves    each aggregate metric over training, with its interval and its fit    monitor_lines.py

Pictures of one metric share their scale, so that two checkpoints can be compared by eye. Colours are of cividis and of
Okabe and Ito, which people who confuse red and green tell apart; lines differ by their marks as well. Matplotlib is
imported when something is drawn, and no window system or global state is touched.
"""

from __future__ import annotations

import io
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mixture.errors import MonitorError
from mixture.monitor.measures import Measure

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

#: Pixels to an inch: sharp on a screen of twice the usual density.
_DPI = 192
#: CSS pixels to an inch.
_CSS = 96
#: Of Okabe and Ito, without the yellow, which is faint on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKS = ("o", "s", "^", "D", "v", "P", "X")
#: Panels of one picture, and lines of one panel.
MOST = 6
#: `Any`: matplotlib lists the names of settings as a type, each version its own.
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.grid": True,
    "grid.color": "#e2e2e2",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "xtick.color": "#333333",
    "ytick.color": "#333333",
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    # Names of models and domains are text, also with a dollar sign.
    "text.parse_math": False,
}


@dataclass(frozen=True)
class Picture:
    """A picture and what is said of it.

    Attributes:
        section: `needle`, `length`, `position`, `heads` or `curves`.
        name: of its file, without suffix; no two pictures of a report have the same.
        title: what it shows.
        caption: unit, scale and samples, as a sentence or two.
        alt: what it shows to who cannot see it.
        width: CSS pixels in which it is read at ease.
        png: the file.
    """

    section: str
    name: str
    title: str
    caption: str
    alt: str
    width: int
    png: bytes = field(repr=False)


@dataclass(frozen=True)
class Line:
    """A fitted curve, to be drawn over the points of one series.

    Attributes:
        model: whose.
        task: as the measures' that it was fitted to.
        domain: likewise.
        metric: likewise.
        x: tokens (steps, where tokens are not known), rising, at least two.
        y: the curve there.
        label: what it is, for the caption: `0.94 - 0.8·N^-0.4; the last checkpoint, held out, is off by 0.01`.

    Raises:
        MonitorError: x and y differ in length, or are too few.
    """

    model: str
    task: str
    domain: str
    metric: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    label: str

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y) or len(self.x) < 2:
            raise MonitorError(
                f"fit of {self.task} {self.metric}: {len(self.x)} places and {len(self.y)} values; give as many of "
                "each, and at least two"
            )


def pictures(measures: Sequence[Measure], lines: Sequence[Line] = ()) -> list[Picture]:
    """Draw all that there is data for, in the order of the sections.

    Args:
        measures: rows of the long table, of any number of models and checkpoints.
        lines: fitted curves.

    Raises:
        MonitorError: matplotlib is not installed.
    """
    require()
    from mixture.report.monitor_bars import masking
    from mixture.report.monitor_heat import head_maps, needle_maps
    from mixture.report.monitor_lines import by_length, by_position, curves

    found: list[Picture] = [*needle_maps(measures), *by_length(measures), *by_position(measures), *head_maps(measures)]
    found += masking(measures)
    return list(_apart([*found, *curves(measures, lines)]))


def _apart(found: Sequence[Picture]) -> Iterator[Picture]:
    """Give pictures whose names come out equal, as those of domains in other scripts, a number."""
    seen: Counter[str] = Counter()
    for picture in found:
        name = picture.name
        while seen[name]:
            seen[picture.name] += 1
            name = f"{picture.name}-{seen[picture.name]}"
        seen[name] += 1
        yield replace(picture, name=name)


def require() -> None:
    """Check that pictures can be drawn.

    Raises:
        MonitorError: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise MonitorError("pictures need matplotlib; run `pip install 'mixture[monitor]'`") from error
    del mpl


@contextmanager
def sheet(width: float, height: float) -> Iterator[Figure]:
    """Lend an empty figure of so many inches, in the report's style; draw on it and `png` it before the block ends."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        yield Figure(figsize=(width, height), layout="constrained")


def png(figure: Figure) -> bytes:
    """Return a figure as PNG; equal figures make equal bytes."""
    out = io.BytesIO()
    with warnings.catch_warnings():
        # A name in a script that the font lacks shows as boxes; the page has it in full.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(out, format="png", dpi=_DPI, metadata={"Software": None})
    return out.getvalue()


def plain_decades(axis: Axis) -> None:
    """Write the ticks of a logarithmic axis as numbers: 1, 2, 5, 10; at least two of them."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    low, high = sorted(axis.get_view_interval())
    if sum(low <= tick <= high for tick in axis.get_majorticklocs()) < 2:
        axis.set_major_locator(LogLocator(subs=tuple(n / 10 for n in range(10, 100)), numticks=6))
    axis.set_minor_formatter(NullFormatter())


def css_width(inches: float) -> int:
    """Return how many CSS pixels so many inches are."""
    return round(inches * _CSS)


def file_name(*parts: str) -> str:
    """Return a name of a file made of words: lower case, digits and hyphens."""
    return "-".join(filter(None, (re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-") for part in parts)))
