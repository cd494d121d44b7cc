"""What the bench of large jobs says adds up; its seconds are nobody's test."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench import scale, scale_bytes, scale_work
from bench.__main__ import main
from bench.measure import Rounds
from bench.scale_bytes import Case, Part, Window, fetched
from bench.scale_work import Asked, Laid, Size
from mixture.tokens.parts import HEAD_BYTES, OFFSETS_BLOCK

TOKEN = 4


@pytest.fixture
def laid(tmp_path: Path) -> Laid:
    laid = Laid(tmp_path, Size(parts=70, shards=9))
    laid.inputs()
    laid.parts()
    laid.shards(laid.store())
    return laid


def _arguments(laid: Laid) -> dict[str, object]:
    return {"root": str(laid.root), "parts": laid.size.parts, "shards": laid.size.shards}


def test_the_program_takes_the_laid_out_job_for_whole(laid: Laid) -> None:
    assert len(laid.store().parts) == 70
    assert scale.find(**_arguments(laid))["tasks"] == 0
    found = scale.pack(**_arguments(laid))
    assert found["tasks"] == 0
    assert found["lock_bytes"] > 0
    # Four files a part: tokens, lengths, record, mark; three a shard; the inputs' hashes, and what engines found.
    assert scale_work.files(laid)[0] == pytest.approx(4 * 70 + 3 * 9, abs=2)


def test_what_is_lost_is_what_is_asked_for_and_no_more(laid: Laid) -> None:
    scale_work.lose(laid, "pack", 4)
    assert scale.pack(**_arguments(laid))["tasks"] == 3
    scale_work.give_back(laid)
    scale_work.lose(laid, "find", 7)
    assert scale.find(**_arguments(laid))["tasks"] == 10
    with pytest.raises(Asked, match="10 tasks"):
        laid.store()


@pytest.mark.parametrize("shards", [4, 64, 512])
def test_what_a_task_carries_does_not_grow_with_the_job(tmp_path: Path, shards: int) -> None:
    laid = Laid(tmp_path, Size(parts=2, shards=shards))
    laid.inputs()
    laid.parts()
    found = scale.pack(**_arguments(laid))
    assert found["tasks"] == shards
    # A path or two, the rules, and where two or three slices begin.
    assert found["task_bytes"] / shards < 1500


def _rows(*rows: int) -> Window:
    return Window({0: np.array(rows, np.int64)}, 100 * len(rows))


def test_bytes_and_requests_of_a_part_can_be_reckoned_by_hand() -> None:
    offsets = [np.arange(1001, dtype=np.int64) * 100]
    # To open it: its size and its head. Then a block of offsets, and documents 3 and 4, which touch.
    found = fetched(offsets, [_rows(3, 4)], run=1, spare=0)
    assert found["requests"] == 2 + 1 + 1
    # Behind the header and 1,000 ids of 16 bytes, the block holds the first 240 offsets.
    assert found["read"] == (OFFSETS_BLOCK + HEAD_BYTES + 200 * TOKEN) / (200 * TOKEN)
    # A gap of one document between two is worth a request only to who may waste a third of what comes.
    assert fetched(offsets, [_rows(3, 5)], run=1, spare=0.49)["requests"] == 5
    assert fetched(offsets, [_rows(3, 5)], run=1, spare=0.5)["requests"] == 4


def test_a_node_that_makes_the_next_shard_too_fetches_what_is_there_only_once() -> None:
    offsets = [np.arange(1001, dtype=np.int64) * 100]
    apart = fetched(offsets, [_rows(3, 4), _rows(3, 4)], run=1, spare=0)
    together = fetched(offsets, [_rows(3, 4), _rows(3, 4)], run=2, spare=0)
    assert (apart["requests"], together["requests"]) == (4, 2)
    assert together["read"] == apart["read"] / 2


def test_a_part_s_bytes_lie_in_its_file_as_in_memory() -> None:
    part = Part(np.arange(11, dtype=np.int64) * 5, "part")
    opened = part.opened()
    first, behind = opened.bytes_of(opened.offsets, 0, 11)
    assert behind - first == 88
    assert opened.bytes_of(opened.tokens, 0, 50) == (behind, behind + 50 * TOKEN)
    assert part.size == behind + 50 * TOKEN


def test_more_consecutive_shards_of_a_node_read_fewer_bytes_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scale_bytes, "CASES", (Case("half", 0.5, {"lengths": "natural"}, 40, 2000),))
    monkeypatch.setattr(scale_bytes, "WINDOWS", 16)
    monkeypatch.setattr(scale_bytes, "RUNS", (1, 4, 16))
    rows = scale_bytes.bench(20_000, Rounds(1, 0, tmp_path))
    assert [row["run"] for row in rows] == [1, 4, 16]
    assert {row["parts"] for row in rows} == {10}
    read = [row["read"] for row in rows]
    assert read == sorted(read, reverse=True)
    # All that is written was read, and not much besides.
    assert 1 <= read[-1] < 1.3


@pytest.mark.slow
def test_the_bench_prints_both_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scale_bytes, "CASES", scale_bytes.CASES[:1])
    out = tmp_path / "out.json"
    job = ["--parts", "5", "--shards", "7", "--documents", "64K", "--tasks", "1K", "--repeat", "1", "--warm-up", "0"]
    main([*job, "--only", "scale", "--out", str(out), "--temp", str(tmp_path)])
    said = capsys.readouterr().out
    assert "5 parts, 7 shards" in said
    assert "bytes read per byte written" in said
    steps = [row for row in json.loads(out.read_text())["rows"] if "step" in row]
    assert {(row["step"], row["state"]) for row in steps} >= {("find", "all whole"), ("pack", "1 % lost")}
    assert next(row["tasks"] for row in steps if row["step"] == "tasks") == 1000
