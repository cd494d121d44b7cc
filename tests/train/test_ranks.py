"""Several ranks, started as torchrun starts them, on gloo: the same steps, whatever their number."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.train.conftest import Gym

pytest.importorskip("torch")
pytest.importorskip("transformers")
psutil = pytest.importorskip("psutil")
pytestmark = pytest.mark.slow


@pytest.fixture
def alone(gym: Gym) -> list[float]:
    """The losses of one rank."""
    gym.train(out="alone")
    return gym.losses("alone")


def close(losses: list[float], others: list[float]) -> None:
    assert losses == pytest.approx(others, rel=2e-4)


def test_one_rank_then_two_then_three_take_the_same_steps(gym: Gym, alone: list[float]) -> None:
    gym.train(stop="2 steps")
    assert gym.ranks(2, stop="4 steps")["begun"] == 2
    assert gym.ranks(3)["begun"] == 4
    close(gym.losses(), alone)
    ledgers = [json.loads((gym.root / out / "ledger.json").read_text())["phases"] for out in ("run", "alone")]
    assert ledgers[0] == ledgers[1]


@pytest.mark.parametrize("parallel", [{"cp": 2}, {"replicate": 2}])
def test_ranks_may_share_sequences_or_hold_all_parameters(
    gym: Gym, alone: list[float], parallel: dict[str, Any]
) -> None:
    gym.ranks(2, parallel=parallel)
    close(gym.losses(), alone)
    for event, other in zip(gym.events(), gym.events("alone"), strict=True):
        told = [e["breakdown"] for e in (event, other)]
        assert told[0].keys() == told[1].keys()
        assert event["tokens"] == other["tokens"]


def test_a_killed_rank_is_replaced_and_the_run_goes_on(gym: Gym, alone: list[float]) -> None:
    gym.ranks(2, stop="2 steps")
    process = gym.start(2, "run", "--restart", checkpoints={"every": "1 steps", "export": False})
    _when(lambda: len(gym.losses()) > 2, process)
    ranks = psutil.Process(process.pid).children()
    os.kill(ranks[-1].pid, signal.SIGKILL)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    close(gym.losses(), alone)


def test_a_run_that_is_killed_at_any_moment_goes_on(gym: Gym, alone: list[float]) -> None:
    for wanted in (1, 3):
        process = gym.start(1, "run", checkpoints={"every": "1 steps", "export": False})
        _when(lambda: len(gym.losses()) > wanted, process)  # noqa: B023 it is called in this round
        family = psutil.Process(process.pid).children(recursive=True)
        for member in family:
            member.kill()
        process.kill()
        process.communicate()
    assert gym.train(checkpoints={"every": "1 steps", "export": False}).code == 0
    assert gym.losses() == alone


def test_an_error_of_all_ranks_is_one_sentence(gym: Gym) -> None:
    process = gym.start(2, "run", model={"path": str(gym.root / "nowhere")})
    _, err = process.communicate(timeout=300)
    told = [line for line in err.splitlines() if line.startswith("error: ")]
    assert process.returncode == 1
    assert len(told) == 1, err
    assert "no such folder" in told[0]


def test_ranks_that_do_not_divide_are_told(gym: Gym) -> None:
    process = gym.start(2, "run", parallel={"cp": 3})
    _, err = process.communicate(timeout=300)
    assert "does not divide the 2 processes that were started" in err
    process = gym.start(2, "run", batch={"sequences": 5})
    _, err = process.communicate(timeout=300)
    assert sum(line.startswith("error: ") for line in err.splitlines()) == 1, err


def _when(happened: Callable[[], bool], process: Any) -> None:
    """Wait for something that a run does, unless it ends before."""
    import time

    while process.poll() is None:
        try:
            if happened():
                return
        except (FileNotFoundError, json.JSONDecodeError):
            pass
        time.sleep(0.02)
    pytest.fail(f"it ended before: {process.communicate()}")
