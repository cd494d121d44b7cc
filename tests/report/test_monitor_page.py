"""The page is whole, safe and says in words what it has, and what it has not."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from mixture.monitor.curves import Curve
from mixture.monitor.measures import Measure
from mixture.monitor.verdicts import Epsilon, LevelVerdict, Saturation, State, Verdict
from mixture.report.monitor_fits import fitted
from mixture.report.monitor_page import PAGE, render
from tests.report.monitor_data import PNG, grid, measure, measured

pytest.importorskip("matplotlib", reason="matplotlib is not installed")


def curve(level: str, task: str, metric: str, values: Sequence[float]) -> Curve:
    tokens = tuple(1e6 * (n + 1) for n in range(len(values)))
    return Curve("tiny", level, task, "", metric, tokens, tuple(values), (0.001,) * len(values))


def verdict(curve: Curve, state: State, since: float | None = None) -> Verdict:
    return Verdict(curve, state, 0.001, -0.004, 0.006, Epsilon(0.02), len(curve), since)


SCORE = verdict(curve("behaviour", "niah", "score", (0.9, 0.9, 0.9)), "saturated", 2e6)
LOSS = verdict(curve("probability", "holdout", "loss", (3.0, 2.5, 2.3, 2.2, 2.1, 2.05)), "moving")
VERDICTS = [
    Saturation(
        "tiny",
        (
            LevelVerdict("behaviour", "saturated", 2e6, (SCORE,)),
            LevelVerdict("probability", "moving", None, (LOSS,)),
            LevelVerdict("mechanism", "not yet known", None, ()),
        ),
    )
]
VOID = {"meta", "img", "link", "br", "hr", "input"}


class Outline(HTMLParser):
    """Holds that every tag is closed, and collects what a reader and a browser meet."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    def images(self) -> list[dict[str, str | None]]:
        return [attrs for tag, attrs in self.tags if tag == "img"]


def small() -> list[Measure]:
    found = [*grid(0, [[0.5, 0.25]]), *grid(10**6, [[1.0, 0.75]])]
    return [*found, measure(0, 0.375, low=0.3, high=0.45, n=40), measure(10**6, 0.875, low=0.8, high=0.95, n=40)]


def test_everything_is_inside_and_beside(tmp_path: Path) -> None:
    page = render(small(), VERDICTS, tmp_path / "new" / "report", title="a run")
    assert page == tmp_path / "new" / "report" / PAGE
    outline = Outline(page.read_text(encoding="utf-8"))
    assert len(outline.images()) == 2
    inside = {
        base64.b64decode((image["src"] or "").removeprefix("data:image/png;base64,")) for image in outline.images()
    }
    beside = {path.read_bytes() for path in (page.parent / "pictures").iterdir()}
    assert inside == beside
    assert all(png.startswith(PNG) for png in inside)
    assert all(image["alt"] for image in outline.images())


def test_nothing_is_fetched_and_a_phone_is_thought_of(tmp_path: Path) -> None:
    text = render(small(), VERDICTS, tmp_path, title="a run").read_text(encoding="utf-8")
    bare = re.sub(r"base64,[A-Za-z0-9+/=]+", "", text)
    assert not re.search(r"https?:|//|<script|@import|url\(|<link", bare)
    outline = Outline(text)
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in outline.tags
    # Every link leads to a place of the page.
    places = {attrs.get("id") for _, attrs in outline.tags}
    assert {(attrs["href"] or "")[1:] for tag, attrs in outline.tags if tag == "a"} <= places


def test_verdicts_come_first_and_the_warning_before_them(tmp_path: Path) -> None:
    text = Outline(render(small(), VERDICTS, tmp_path, title="a run").read_text(encoding="utf-8")).text
    told = [
        "a run",
        "tiny: 2 checkpoints, the last at 1M tokens",
        "Warning. Deceptive saturation: behaviour has settled while probability still moves; go on training.",
        "Behaviour does it answer right? saturated since 2M (1 saturated) niah score: saturated; the next doubling",
        "Probability how probable is the right answer to it? moving (1 moving)",
        "Mechanism do its heads look where the answer stands? not yet known, nothing was measured that is judged",
        "Over the whole grid",
        "Each metric over the whole grid, checkpoint by checkpoint",
    ]
    places = [text.index(words) for words in told]
    assert places == sorted(places)


def test_levels_that_settled_are_told_in_their_order_and_without_a_warning(tmp_path: Path) -> None:
    loss = replace(LOSS, state="saturated", since=5e6)
    heads = verdict(curve("mechanism", "retrieval_heads", "top_score", (0.2, 0.2, 0.2)), "saturated", 3e6)
    levels = [LevelVerdict(v.curve.level, "saturated", v.since, (v,)) for v in (SCORE, loss, heads)]
    page = render(small(), [Saturation("tiny", tuple(levels))], tmp_path, title="a run").read_text(encoding="utf-8")
    assert "Order: behaviour at 2M, then mechanism at 3M, then probability at 5M." in Outline(page).text
    assert "Warning" not in Outline(page).text


def test_each_model_has_verdicts_of_its_own_and_many_curves_are_folded(tmp_path: Path) -> None:
    many = LevelVerdict("behaviour", "saturated", 2e6, (SCORE,) * 9)
    other = Saturation("other", (many, *VERDICTS[0].levels[1:]))
    page = render([], [VERDICTS[0], other], tmp_path, title="two", lines=()).read_text(encoding="utf-8")
    assert page.count('class="warning"') == 2
    assert [page.index(f"<h3>{name}</h3>") for name in ("tiny", "other")] == sorted(
        page.index(f"<h3>{name}</h3>") for name in ("tiny", "other")
    )
    assert page.count("<details><summary>9 curves</summary>") == 1


def test_a_judged_curve_is_fitted_and_drawn_to_the_next_doubling() -> None:
    (line,) = fitted(VERDICTS)
    assert (line.task, line.metric) == ("holdout", "loss")
    assert (line.x[0], line.x[-1]) == pytest.approx((1e6, 12e6))
    # Through its points, within what a law of three numbers leaves of six.
    assert np.interp(LOSS.curve.tokens, line.x, line.y) == pytest.approx(LOSS.curve.values, abs=0.06)
    assert line.label.startswith(f"a power law, {line.y[-1]:.2f} at 12M tokens; fitted without the last checkpoint")
    assert line.label.endswith("measured was 2.05")


def test_the_table_has_each_value_with_its_interval_and_samples(tmp_path: Path) -> None:
    text = Outline(render(small(), [], tmp_path, title="a run").read_text(encoding="utf-8")).text
    row = r"niah: score \(share of right answers\)\s↑ 0\.375 \[0\.300, 0\.450\] 0\.875 \[0\.800, 0\.950\] 40"
    assert re.search(row, text)
    # A cell of the grid is no aggregate.
    assert "0.25" not in text


def test_what_is_not_there_is_said_in_words(tmp_path: Path) -> None:
    page = render([], [], tmp_path, title="nothing")
    text = Outline(page.read_text(encoding="utf-8")).text
    for words in (
        "Nothing was measured yet.",
        "No verdict: it needs several checkpoints of one run.",
        "No aggregate was measured.",
        "Nothing was measured on a grid of lengths and depths.",
        "No head was examined",
        "hold-out documents were not scored",
        "needs at least two checkpoints",
    ):
        assert words in text
    assert "<img" not in page.read_text(encoding="utf-8")


def test_a_checkpoint_without_a_metric_leaves_a_gap(tmp_path: Path) -> None:
    found = [measured(at, "behaviour", "niah", "score", 0.5) for at in (0, 1)]
    found.append(measured(1, "mechanism", "retrieval_heads", "top_overlap", 0.9))
    text = Outline(render(found, [], tmp_path, title="a run").read_text(encoding="utf-8")).text
    assert re.search(r"checkpoint before \(share\) · 0\.900 20", text)


def test_several_models_have_tables_of_their_own(tmp_path: Path) -> None:
    found = [measured(at, "behaviour", "niah", "score", 0.5, model=model) for model in ("a", "b") for at in (0, 1)]
    text = Outline(render(found, [], tmp_path, title="two").read_text(encoding="utf-8")).text
    assert "a and b: 4 checkpoints" in text
    # A row in each table, and one picture for both.
    assert text.count("answers) ↑") == 2
    assert text.count("niah: score (share of right answers)") == 3


def test_a_name_cannot_break_out_of_the_page(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>\"'&$title"
    found = [measure(at, 0.5, model=evil, domain=evil) for at in (0, 10**6)]
    text = render(found, [_of(evil), _of(evil)], tmp_path, title=evil, lines=())
    outline = Outline(text.read_text(encoding="utf-8"))
    assert "script" not in {tag for tag, _ in outline.tags}
    # In the title (twice), the verdicts of both, and the tables.
    assert outline.text.count(evil) >= 6


def _of(name: str) -> Saturation:
    judged = replace(SCORE, curve=replace(SCORE.curve, model=name, task=name, domain=name))
    return Saturation(name, (LevelVerdict("behaviour", "saturated", 2e6, (judged,)), *VERDICTS[0].levels[1:]))


def test_a_second_page_takes_away_what_only_the_first_had(tmp_path: Path) -> None:
    render(small(), VERDICTS, tmp_path, title="a run")
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    (tmp_path / "pictures" / "notes.txt").write_text("mine")
    first = {path.name for path in (tmp_path / "pictures").glob("*.png")}
    render([measure(0, 0.5), measure(10**6, 0.6)], VERDICTS, tmp_path, title="a run")
    second = {path.name for path in (tmp_path / "pictures").glob("*.png")}
    assert second == {"curve-behaviour-niah-score.png"}
    assert first - second == {"needle-tiny-niah-score.png"}
    assert (tmp_path / "metrics.jsonl").exists()
    assert (tmp_path / "pictures" / "notes.txt").exists()
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_page_that_fails_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = render(small(), VERDICTS, tmp_path, title="old")
    old = page.read_bytes()
    monkeypatch.setattr("mixture.report.monitor_page._tables", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        render(small(), VERDICTS, tmp_path, title="new")
    assert page.read_bytes() == old


def test_importing_the_page_imports_no_matplotlib() -> None:
    code = (
        "import sys, mixture.report.monitor_page, mixture.report.monitor_table; sys.exit('matplotlib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
