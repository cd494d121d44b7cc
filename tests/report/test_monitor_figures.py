"""Pictures say what was measured: the values in their places, one scale for all checkpoints, words for all else."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mixture.errors import MonitorError
from mixture.monitor.measures import Measure
from mixture.report import monitor_bars, monitor_figures, monitor_heat, monitor_lines
from mixture.report.monitor_figures import Line, Picture, pictures
from tests.report.monitor_data import PNG, grid, measure

pytest.importorskip("matplotlib", reason="matplotlib is not installed")


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that were drawn, as matplotlib holds them."""
    seen: list[Any] = []

    def keep(figure: Any) -> bytes:
        seen.append(figure)
        figure.draw_without_rendering()
        return PNG

    for module in (monitor_heat, monitor_lines, monitor_bars):
        monkeypatch.setattr(module, "png", keep)
    return seen


def panels(figure: Any) -> list[Any]:
    return [axes for axes in figure.axes if axes.images]


def test_nothing_measured_draws_nothing() -> None:
    assert pictures([]) == []
    # One checkpoint is no curve, and one length no profile.
    assert pictures([measure(0, 0.5), measure(0, 0.5, length=4096)]) == []


def test_a_needle_map_has_depths_downwards_lengths_to_the_right_and_one_scale(figures: list[Any]) -> None:
    first = [*grid(0, [[1.0, 0.5], [0.75, 0.25]])]
    second = [*grid(10**6, [[1.0, 0.9], [0.8, 0.7]])]
    (picture,) = pictures([*second, *first])
    left, right = panels(figures[0])
    assert (left.get_title(), right.get_title()) == ("0 tokens", "1M tokens")
    assert left.images[0].get_array().tolist() == [[1.0, 0.5], [0.75, 0.25]]
    assert right.images[0].get_array().tolist() == [[1.0, 0.9], [0.8, 0.7]]
    assert [label.get_text() for label in right.get_xticklabels()] == ["4K", "8K"]
    assert [label.get_text() for label in left.get_yticklabels()] == ["0 %", "50 %"]
    # imshow's first row is on top: depth 0, the start of the context.
    assert left.get_ylim()[0] > left.get_ylim()[1]
    assert [axes.images[0].get_clim() for axes in (left, right)] == [(0.0, 1.0)] * 2
    assert {text.get_text() for text in left.texts} == {"1.00", "0.50", "0.75", "0.25"}
    assert "n = 20 a cell" in picture.caption
    assert "brighter is better" in picture.caption
    assert "the worst cell 0.700, at 8K and depth 50 %" in picture.alt


def test_the_scale_of_perplexities_holds_all_checkpoints_and_good_is_bright(figures: list[Any]) -> None:
    where: dict[str, Any] = {"task": "niah_ppl", "metric": "perplexity", "level": "probability"}
    pictures([*grid(0, [[2.0, 8.0]], **where), *grid(10**6, [[1.0, 1.5]], **where)])
    for axes in panels(figures[0]):
        assert axes.images[0].get_clim() == (1.0, 8.0)
        assert axes.images[0].get_cmap().name == "cividis_r"


def test_a_cell_that_was_not_measured_is_hatched_and_not_zero(figures: list[Any]) -> None:
    pictures([*grid(0, [[1.0, math.nan], [0.5, 0.0]])])
    (axes,) = panels(figures[0])
    assert axes.images[0].get_array().mask.tolist() == [[False, True], [False, False]]
    (hatched,) = axes.patches
    assert hatched.get_hatch()
    assert hatched.get_xy() == (0.5, -0.5)


def test_of_many_checkpoints_the_first_and_the_last_are_drawn(figures: list[Any]) -> None:
    (picture,) = pictures([m for at in range(20) for m in grid(at * 10**6, [[0.05 * at]])])
    titles = [axes.get_title() for axes in panels(figures[0])]
    assert len(titles) == 6
    assert (titles[0], titles[-1]) == ("0 tokens", "19M tokens")
    assert "6 of 20 checkpoints" in picture.caption


def heads(at: int, scores: Sequence[Sequence[float]]) -> Iterator[Measure]:
    for layer, row in enumerate(scores):
        for head, score in enumerate(row):
            cell = f"layer {layer} head {head}"
            yield measure(at, score, level="mechanism", task="retrieval_heads", metric="retrieval_score", cell=cell)


def test_a_head_map_has_layers_downwards_and_frames_heads_that_copy(figures: list[Any]) -> None:
    (picture,) = pictures([*heads(0, [[0.0, 0.05], [0.0, 0.0]]), *heads(10**6, [[0.0, 0.1], [0.6, 0.0]])])
    left, right = panels(figures[0])
    assert right.images[0].get_array().tolist() == [[0.0, 0.1], [0.6, 0.0]]
    assert left.images[0].get_clim() == right.images[0].get_clim() == (0.0, 0.6)
    assert len(left.patches) == 0
    assert sorted(tuple(round(at) for at in patch.get_xy()) for patch in right.patches) == [(0, 1), (1, 0)]
    assert "2 heads have 0.1 or more; the highest, 0.600, is head 0 of layer 1" in picture.alt


def test_a_curve_runs_through_its_points_in_its_interval_and_the_fit_is_dashed(figures: list[Any]) -> None:
    points = [measure(n * 10**6, 0.2 * n, low=0.2 * n - 0.1, high=0.2 * n + 0.1, n=10 + n) for n in (3, 1, 2)]
    fit = Line("tiny", "niah", "", "score", (1e6, 4e6), (0.2, 0.8), "a fit, off by 0.01")
    other = replace(fit, task="json_kv")
    (picture,) = pictures(points, [fit, other])
    (axes,) = figures[0].axes
    solid, dashed = axes.lines
    assert list(solid.get_xdata()) == [1e6, 2e6, 3e6]
    assert list(solid.get_ydata()) == pytest.approx([0.2, 0.4, 0.6])
    assert (dashed.get_linestyle(), tuple(dashed.get_ydata())) == ("--", (0.2, 0.8))
    band = axes.collections[0].get_paths()[0].get_extents()
    assert (band.y0, band.y1) == pytest.approx((0.1, 0.7))
    assert axes.get_xlabel() == "tokens trained on"
    assert "Dashed: a fit, off by 0.01." in picture.caption
    assert "n = 11 to 13" in picture.caption
    assert "from 0.200 at 1M tokens to 0.600 at 3M tokens" in picture.alt


def test_domains_and_models_share_a_picture_and_differ_by_colour_and_mark(figures: list[Any]) -> None:
    where: dict[str, Any] = {"level": "probability", "task": "holdout", "metric": "loss"}
    found = [
        measure(at, 2.0 - at / 1e7, domain=domain, model=model, **where)
        for model in ("a", "b")
        for domain in ("books", "code")
        for at in (0, 10**6)
    ]
    (picture,) = pictures(found)
    (axes,) = figures[0].axes
    # Four lines leave no room for a legend among them.
    assert axes.get_legend() is None
    assert [text.get_text() for text in figures[0].legends[0].get_texts()] == [
        "a, books",
        "b, books",
        "a, code",
        "b, code",
    ]
    assert len({line.get_color() for line in axes.lines}) == len({line.get_marker() for line in axes.lines}) == 4
    assert picture.title == "holdout: loss (nats a token)"


def test_more_lines_than_colours_are_counted_not_drawn(figures: list[Any]) -> None:
    where: dict[str, Any] = {"level": "probability", "task": "holdout", "metric": "loss"}
    (picture,) = pictures([measure(at, 2.0, domain=f"d{n:02}", **where) for n in range(20) for at in (0, 10**6)])
    assert len(figures[0].axes[0].lines) == len(monitor_figures.COLOURS)
    assert "13 more lines are in the table only" in picture.caption


def test_steps_stand_in_where_tokens_are_not_known(figures: list[Any]) -> None:
    pictures([replace(measure(1000 * step, 0.1), tokens=None) for step in (10, 20)])
    (axes,) = figures[0].axes
    assert axes.get_xlabel() == "training steps"
    assert list(axes.lines[0].get_xdata()) == [10, 20]


@pytest.mark.parametrize(("last", "scale"), [(2.0, "linear"), (300.0, "log")])
def test_a_perplexity_that_spans_decades_has_a_logarithmic_axis_with_plain_numbers(
    figures: list[Any], last: float, scale: str
) -> None:
    where: dict[str, Any] = {"level": "probability", "task": "niah_ppl", "metric": "perplexity"}
    pictures([measure(at, value, **where) for at, value in ((0, 1.5), (10**6, last))])
    (axes,) = figures[0].axes
    assert axes.get_yscale() == scale
    low, high = axes.get_ylim()
    assert low < 1.5 < last < high
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert not any("$" in text for text in shown)
    assert scale == "linear" or {"2", "10", "100"} <= set(shown)


def test_loss_by_position_is_in_the_order_of_positions_and_on_one_scale(figures: list[Any]) -> None:
    where: dict[str, Any] = {"level": "probability", "task": "holdout", "metric": "loss"}
    buckets = ("≥16K", "<256", "4K-16K", "256-4K")
    found = [
        measure(at, base + n, domain=domain, cell=f"position {bucket}", **where)
        for domain, base in (("books", 1.0), ("code", 3.0))
        for at in (0, 10**6)
        for n, bucket in enumerate(buckets)
    ]
    # Cells of both coordinates at once are for the table.
    found.append(measure(0, 9.0, domain="books", cell="length <4K, position <256", **where))
    books, code = pictures(found)
    assert [label.get_text() for label in figures[0].axes[0].get_xticklabels()] == ["<256", "256-4K", "4K-16K", "≥16K"]
    assert list(figures[0].axes[0].lines[0].get_ydata()) == [2.0, 4.0, 3.0, 1.0]
    low, high = figures[0].axes[0].get_ylim()
    assert figures[1].axes[0].get_ylim() == (low, high)
    assert low < 1.0
    assert high > 6.0
    assert [books.section, books.name, code.name] == [
        "position",
        "by-position-tiny-holdout-loss-books",
        "by-position-tiny-holdout-loss-code",
    ]


def test_a_task_without_depth_is_drawn_by_length(figures: list[Any]) -> None:
    (picture,) = pictures([measure(0, value, length=n, task="json_kv") for n, value in ((8192, 0.5), (4096, 0.9))])
    assert list(figures[0].axes[0].lines[0].get_ydata()) == [0.9, 0.5]
    assert picture.section == "length"
    assert "4K 0.900" in picture.alt


def test_silenced_heads_are_bars_of_the_last_checkpoint(figures: list[Any]) -> None:
    cells = {"all heads": 1.1, "without the best 30": 15.0, "without 30 others": 1.2}
    found = [
        measure(at, value + at, level="mechanism", task="causal_masking", metric="perplexity", cell=cell)
        for at in (0, 1)
        for cell, value in cells.items()
    ]
    (picture,) = pictures(found)
    (axes,) = figures[0].axes
    assert [bar.get_x() + bar.get_width() for bar in axes.patches] == pytest.approx([2.1, 16.0, 2.2])
    assert picture.section == "heads"
    assert "without the best 30: 16" in picture.alt


def test_files_of_pictures_have_names_of_their_own() -> None:
    names = ("数学", "代码", "a/b", "a b")
    where: dict[str, Any] = {"level": "probability", "task": "holdout", "metric": "loss"}
    found = [
        measure(0, 1.0, domain=name, cell=f"position {bucket}", **where) for name in names for bucket in ("<4K", "≥4K")
    ]
    drawn = pictures(found)
    assert len({picture.name for picture in drawn}) == 4
    assert all(picture.name.replace("-", "").isalnum() and picture.name.isascii() for picture in drawn)


def test_a_name_with_signs_of_mathematics_is_drawn_as_text() -> None:
    (picture,) = pictures([measure(at, 0.5, domain="$\\frac{", model="$x^") for at in (0, 10**6)])
    assert picture.png.startswith(PNG)


def test_equal_measures_make_equal_files_of_a_known_size() -> None:
    found = [measure(at, 0.5) for at in (0, 10**6)]
    (one,), (two,) = pictures(found), pictures(found)
    assert one == two
    assert isinstance(one, Picture)
    width = int.from_bytes(one.png[16:20], "big")
    assert width == 2 * one.width


def test_large_grids_keep_their_panels_legible(figures: list[Any]) -> None:
    pictures(list(heads(0, np.linspace(0, 1, 64 * 64).reshape(64, 64).tolist())))
    (axes,) = panels(figures[0])
    assert len(axes.get_xticks()) <= 12
    assert len(axes.get_yticks()) <= 12
    assert not axes.texts


def test_a_fit_of_unequal_places_is_refused() -> None:
    with pytest.raises(MonitorError, match="fit of niah score: 2 places and 1 values"):
        Line("tiny", "niah", "", "score", (1.0, 2.0), (1.0,), "")
