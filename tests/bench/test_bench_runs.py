"""The bench runs at toy size and says what it must; its figures are nobody's test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import main

TOY = ["--megabytes", "0.3", "--vocabulary", "400", "--repeat", "1", "--workers", "1"]


def run(tmp_path: Path, only: str) -> dict[str, Any]:
    out = tmp_path / "out.json"
    main([*TOY, "--only", only, "--out", str(out), "--temp", str(tmp_path)])
    result: dict[str, Any] = json.loads(out.read_text())
    return result


def check_spread(found: dict[str, float]) -> None:
    assert 0 < found["min"] <= found["median"] <= found["max"]


@pytest.mark.slow
def test_tokenize(tmp_path: Path) -> None:
    result = run(tmp_path, "tokenize")
    assert {"processor", "cores", "memory_gib", "python", "libraries", "date"} <= result["machine"].keys()
    assert {row["corpus"] for row in result["rows"]} == {"stdlib", "short"}
    for row in result["rows"]:
        for name in ("ours", "floor", "ratio", "ours_mtok", "ours_wall"):
            check_spread(row[name])
        assert row["peak"] > 0
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


@pytest.mark.slow
def test_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.pack.MOST_TOKENS", 50_000)
    result = run(tmp_path, "pack")
    assert {row["corpus"].split()[0] for row in result["rows"]} == {"stdlib", "short"}
    for row in result["rows"]:
        for name in ("ours", "floor", "ratio", "memcpy", "ratio_memcpy"):
            check_spread(row[name])
