"""What a row of the scaling bench says of the limit follows from the gains."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import scaling


def test_a_gain_is_the_work_of_all_in_the_time_of_one() -> None:
    one = [{"seconds": 2.0, "bytes": 10.0}, {"seconds": 4.0, "bytes": 10.0}]
    two = [{"seconds": 1.0, "bytes": 10.0}, {"seconds": 4.0, "bytes": 20.0}]
    assert scaling.gain(one, two) == {"min": 2.0, "median": 2.0, "max": 2.0}


@pytest.mark.parametrize(
    ("gains", "said"),
    [
        ({"ours": 1.9, "memcpy": 1.2}, "1.90 ≥ 1.85 times"),
        ({"ours": 1.5, "memcpy": 1.2, "arithmetic": 1.9}, "the memory bus itself gives 1.20 (memcpy)"),
        ({"ours": 1.5, "memcpy": 1.7, "cp": 1.1, "arithmetic": 1.9}, "the disk itself gives 1.10 (cp)"),
        ({"ours": 1.5, "memcpy": 1.9, "arithmetic": 2.0}, "the loss is ours"),
    ],
)
def test_the_limit_is_the_one_that_itself_falls_short_most(gains: dict[str, float], said: str) -> None:
    assert scaling.limit(gains, 1.85).endswith(said)


def test_arithmetic_is_counted_by_the_process(tmp_path: Path) -> None:
    once = scaling.Rounds(1, 0, tmp_path)
    one, two = scaling.measured({"arithmetic": ("bench.floors:spin", {})}, 2, once).items()
    assert (one[0], two[0]) == (("arithmetic", 1), ("arithmetic", 2))
    assert two[1][0]["bytes"] == 2 * one[1][0]["bytes"]
