"""The bench runs at toy size and says what it must; its figures are nobody's test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import main
from bench.options import parser

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
    assert [row["corpus"] for row in rows] == ["code → disk", "code → disk, synced"]
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


@pytest.mark.slow
def test_one_document_is_held_to_the_reference(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    main([*TOY, "--only", "long", "--long", "0.2", "--out", str(out), "--temp", str(tmp_path)])
    (row,) = json.loads(out.read_text())["rows"]
    assert row["corpus"] == "equal to tokenizers in 1 windows"
    assert row["held"]["equal"] is True
    assert (row["megabytes"], row["other"]) == (pytest.approx(0.2, rel=0.01), "ours on code")
    check_spreads(row, "ours", "floor", "ratio")


@pytest.mark.slow
def test_fu_s_job_ends_whole_and_says_what_it_costs(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    main([*TOY, "--only", "fu", "--stream", "1500K", "--out", str(out), "--temp", str(tmp_path)])
    rows = json.loads(out.read_text())["rows"]
    assert [row["bench"].removeprefix("Fu's job").removeprefix(", ") for row in rows] == [
        "",
        "disk",
        "tokenize",
        "bucket",
        "plan",
        "pack",
        "verify",
        "sync",
    ]
    whole, disk = rows[:2]
    check_spreads(whole, "ours", "floor", "ratio", "cpu_minutes", "wall", "disk_share")
    assert whole["ours"]["median"] * whole["ratio"]["median"] == pytest.approx(2400)
    # What was written over the wall time, at the disk's rate: both say the same.
    assert disk["ours"]["median"] / disk["floor"]["median"] == pytest.approx(whole["disk_share"]["median"])
    assert sum(row["ours"]["median"] for row in rows[2:]) == pytest.approx(whole["wall"]["median"], rel=0.05)
    assert whole["corpus_made"]["documents"] > 1000


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (("--stream", "0"), "--stream: 0 is not above zero"),
        (("--documents", "lots"), "--documents: 'lots' is not a number of tokens"),
        (("--megabytes", "-3"), "--megabytes: '-3' is not a number above zero"),
        (("--slice", "x"), "--slice: 'x' is not a number above zero"),
    ],
)
def test_an_amount_that_is_none_is_named_with_its_option(
    said: tuple[str, str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parser(["tokenize"]).parse_args(said)
    assert caught.value.code == 2
    assert why in capsys.readouterr().err
