"""`mixture score`."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from mixture.cli import app
from mixture.report.scores import scores_table
from mixture.scores.summary import Spread
from tests.scores.test_compute import RECIPE, TEXTS, Desk


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    made = Desk(tmp_path)
    made.corpus(TEXTS)
    return made


def run(desk: Desk, *options: str, scores: str = "[gzip_ratio]") -> Any:
    path = desk.root / "small.yaml"
    path.write_text(RECIPE.format(scores=scores, more=""))
    where = ["--work", str(desk.root / "work"), "--data", str(desk.root), "-j", "1"]
    return CliRunner().invoke(app, ["score", str(path), *where, *options])


def test_it_shows_the_recipes_scores(desk: Desk) -> None:
    result = run(desk)
    assert result.exit_code == 0, result.output
    assert "gzip_ratio" in result.stdout
    assert "median" in result.stdout
    assert "50 documents scored" in result.stdout


def test_it_answers_machines(desk: Desk) -> None:
    result = run(desk, "--json", "--columns", "type_token_ratio, gzip_ratio")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert summary["documents"] == 50
    assert [column["column"] for column in summary["columns"]] == ["type_token_ratio", "gzip_ratio"]
    assert summary["columns"][0]["p10"] <= summary["columns"][0]["p90"] <= summary["columns"][0]["most"]
    assert summary["scores"]["gzip_ratio"]["kind"] == "gzip_ratio"


def test_a_recipe_without_scores_is_told_what_to_write(desk: Desk) -> None:
    result = run(desk, scores="[]")
    assert result.exit_code == 1
    assert "write `scores: [gzip_ratio, type_token_ratio]`" in result.stderr


def test_a_misspelt_column_is_named(desk: Desk) -> None:
    result = run(desk, "--columns", "gzip_ration")
    assert result.exit_code == 1
    assert "--columns gzip_ration: no such score; did you mean 'gzip_ratio'?" in result.stderr


def test_the_table_has_a_line_a_column_and_dots_for_nothing() -> None:
    spreads = [
        Spread("q", "q", 1200, 3, 0.125, (0.2, 0.25, 0.3, 0.5, 0.7, 0.75, 0.8), 1.0),
        Spread("t", "empty", 0, 5, None, (), None),
    ]
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(scores_table(spreads))
    text = console.export_text()
    assert "1,200" in text
    assert "0.125" in text
    assert "t: empty" in text
    assert text.splitlines()[-2].count("·") == 9
