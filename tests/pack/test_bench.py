"""The bench of packings runs at toy size, with and without the packers of others; its figures are nobody's test."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from bench import packings
from bench.__main__ import main
from mixture.pack.best_fit import best_fit


@pytest.mark.slow
def test_every_packing_has_its_row_and_missing_packers_are_named(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    how = ["--window", "2M", "--repeat", "1", "--warm-up", "0", "--out", str(out), "--temp", str(tmp_path)]
    main(["--only", "packings", *how])
    rows = json.loads(out.read_text())["rows"]
    assert {row["bench"].split(" at ")[0] for row in rows} == set(packings.PACKINGS)
    for row in rows:
        assert 0 < row["ours"]["min"] <= row["ours"]["median"] <= row["ours"]["max"]
        assert 0 <= row["padding"] < 0.2
    absent = [name for name in ("trl", "grain", "prtpy", "binpacking") if importlib.util.find_spec(name) is None]
    said = " ".join(row["skipped"] for row in rows)
    assert all(f"{name} is not installed" in said for name in absent)


def test_a_window_holds_about_as_many_tokens_as_asked_for_and_is_the_same_each_time() -> None:
    lengths, domain = packings.window(3_000_000)
    again, _ = packings.window(3_000_000)
    assert (lengths == again).all()
    assert lengths.sum() - lengths[-1] < 3_000_000 <= lengths.sum()
    assert set(np.unique(domain)) <= set(range(7))
    assert len(packings.window(3_000_000, most=10)[0]) == 10


def test_facts_of_a_window_count_its_documents() -> None:
    lengths, domain = packings.window(1_000_000)
    made = packings.facts("best-fit", 1_000_000, 8192)
    assert made.tokens == lengths.sum()
    assert made.begun == tuple(np.bincount(domain, minlength=7).tolist())
    assert made.sequences == best_fit(lengths, 8192).sequences
    assert sum(made.truncated) == np.count_nonzero(lengths > 8192)
