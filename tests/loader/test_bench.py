"""The bench of the loader runs at toy size; its shards are real ones, and its figures are nobody's test."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from bench import loader, loader_shards, loader_sides
from bench.measure import Rounds
from mixture.loader.stream import Stream


@pytest.mark.slow
def test_every_side_has_its_row_and_missing_peers_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (loader_shards, loader_sides):
        monkeypatch.setattr(module, "LENGTH", 1 << 10)
    monkeypatch.setattr(loader, "_MANY", 5)
    # Contestants are processes of their own, which know nothing of this.
    monkeypatch.setattr(loader.measure, "run", _here)
    rows = loader.bench(16, Rounds(1, 0, tmp_path))
    assert [row["bench"].split(", ")[1] for row in rows] == [
        "batches",
        "rows",
        "tokens",
        "first 4 of 5 shards",
        "first 512 of 5 shards",
    ]
    for row in rows:
        assert row["ours"]["min"] > 0
        said = row["skipped"]
        assert ("streaming is not installed" in said) == (importlib.util.find_spec("streaming") is None)


def _here(contestant: loader.Contestant, temp: Path) -> dict[str, float]:
    name = contestant.function.partition(":")[2]
    if name in {"huggingface", "first_huggingface", "mds", "first_mds"}:
        raise loader.Failed(f"{contestant.name}: not in this test")
    return dict(getattr(loader_sides, name)(**contestant.arguments)) | {"peak_self": 0}


def test_shards_of_the_bench_are_held_to_their_hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader_shards, "LENGTH", 1 << 10)
    loader_shards.make(tmp_path, 8, 2, 128_000)
    stream = Stream.open(tmp_path / "bench.lock.json", shards=tmp_path / "shards")
    rows = stream.rows(np.arange(len(stream)))
    assert rows.tokens.shape == (16, 1 << 10)
    assert rows.spans.stop[rows.spans.borders[1:] - 1].tolist() == [1 << 10] * 16
