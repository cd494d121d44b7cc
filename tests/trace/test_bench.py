"""The bench of lookups runs at toy size and says what it must; its figures are nobody's test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.__main__ import main


@pytest.mark.slow
def test_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_QUESTIONS", "_COMMANDS"):
        monkeypatch.setattr(f"bench.trace.{name}", 2)
    out = tmp_path / "out.json"
    size = ["--documents", "150K", "--budget", "20M", "--workers", "1"]
    main(["--only", "trace", *size, "--out", str(out), "--temp", str(tmp_path)])
    rows = json.loads(out.read_text())["rows"]
    assert {row["bench"].split(",")[0] for row in rows} >= {"trace sequence", "trace doc", "trace file"}
    for row in rows:
        assert 0 < row["ours"]["min"] <= row["ours"]["median"] <= row["ours"]["max"]
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]
