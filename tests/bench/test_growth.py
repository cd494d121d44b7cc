"""Growth over sizes is reckoned from the rows, and drawn from them alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench import growth, growth_plot

FACTS = {
    "processor": "some",
    "cores": 2,
    "memory_gib": 4,
    "load_average": [0.1],
    "python": "3.11",
    "libraries": {"numpy": "2"},
    "date": "2026-01-01T00:00:00+00:00",
}


def _row(stage: str, times: int, seconds: float, peak: int) -> dict[str, Any]:
    spread = {"min": seconds, "median": seconds, "max": seconds}
    return {"stage": stage, "times": times, "ours": spread, "peak": peak, "corpus": f"{times}M tokens"}


def test_sixteen_times_the_work_in_eight_times_the_time_grows_by_three_quarters() -> None:
    first, last = _row("plan", 1, 2.0, 100), _row("plan", 16, 16.0, 110)
    assert growth.compared(last, first) == {"time_growth": 8.0, "memory_growth": 1.1, "exponent": pytest.approx(0.75)}
    assert growth.compared(first, first) == {"time_growth": 1.0, "memory_growth": 1.0, "exponent": None}


def test_lines_and_table_are_drawn_from_the_rows(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rows = []
    for stage, seconds in (("tokenize", 1.0), ("plan alone", 3.0)):
        first = _row(stage, 1, seconds, 1 << 28)
        rows += [row | growth.compared(row, first) for row in (first, _row(stage, 4, 4 * seconds, 1 << 28))]
    growth_plot.draw(rows, FACTS, tmp_path / "img")
    assert {path.name for path in (tmp_path / "img").iterdir()} == {"growth.png", "growth.svg", "growth.md"}
    said = (tmp_path / "img" / "growth.md").read_text()
    assert "| tokenize | 1.00 s, 256 MiB | 4.00 s, 256 MiB | 4.0 × | 1.00 × |" in said
    assert "- 4 ×: 4M tokens" in said
    assert ">plan alone<" in (tmp_path / "img" / "growth.svg").read_text()
    before = (tmp_path / "img" / "growth.svg").read_bytes()
    growth_plot.draw(rows, FACTS, tmp_path / "img")
    assert (tmp_path / "img" / "growth.svg").read_bytes() == before
