"""The bench that kills builds finds nothing lost, and would find it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_few_kills_lose_nothing_that_was_whole(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.kills", "--kills", "3", "--builds", "2", "--temp", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    tally = json.loads(done.stdout)
    assert tally["builds"] >= 2
    assert tally["late"] == tally["builds"]
    assert tally["kills"] >= 3
    assert (tally["differ"], tally["remade"]) == (0, 0)
    assert tally["worst"] <= 1
    assert list(tmp_path.iterdir()) == []
