"""The bench runs at toy size and says what it must; its figures are nobody's test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import main

TOY = ["--megabytes", "0.3", "--vocabulary", "400", "--repeat", "1", "--warm-up", "0", "--workers", "1", "--no-short"]


def run(tmp_path: Path, only: str) -> dict[str, Any]:
    out = tmp_path / "out.json"
    main([*TOY, "--only", only, "--out", str(out), "--temp", str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]
    result: dict[str, Any] = json.loads(out.read_text())
    return result


def check_spreads(row: dict[str, Any], *names: str) -> None:
    for name in names:
        assert 0 < row[name]["min"] <= row[name]["median"] <= row[name]["max"], name


@pytest.mark.slow
def test_tokenize(tmp_path: Path) -> None:
    result = run(tmp_path, "tokenize")
    assert {"processor", "cores", "memory_gib", "python", "libraries", "date"} <= result["machine"].keys()
    assert [row["other"].split()[0] for row in result["rows"]] == ["gigatoken", "tokenizers"]
    for row in result["rows"]:
        check_spreads(row, "ours", "floor", "ratio", "ours_mtok", "ours_wall")
        assert row["peak"] > 0


@pytest.mark.slow
def test_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.pack.MOST_TOKENS", 50_000)
    monkeypatch.setattr("bench.pack._SHM", tmp_path / "none")
    rows = run(tmp_path, "pack")["rows"]
    assert [row["corpus"] for row in rows] == ["stdlib → disk", "stdlib → disk, synced"]
    for row in rows:
        check_spreads(row, "ours", "floor", "ratio")
        check_spreads(row["more"][0], "rate", "ratio")


@pytest.mark.slow
def test_plan(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    main([*TOY, "--only", "plan", "--documents", "300K", "--budget", "50M", "--out", str(out), "--temp", str(tmp_path)])
    (row,) = json.loads(out.read_text())["rows"]
    assert row["corpus"].startswith("300,000 documents")
    check_spreads(row, "ours", "floor", "ratio", "ours_seconds")
    assert row["more"][0]["name"] == "DuckDB, sorted draw"
