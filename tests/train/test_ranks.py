"""Several ranks, started as torchrun starts them, on gloo: the same steps, whatever their number."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from tests.conftest import given_back
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
    two, three = gym.ranks(2, stop="4 steps"), gym.ranks(3)
    assert [said.code for said in (*two, *three)] == [0] * 5
    assert [said[0].json["begun"] for said in (two, three)] == [2, 4]
    assert [said.out for said in (*two[1:], *three[1:])] == [""] * 3  # one speaks for all
    close(gym.losses(), alone)
    ledgers = [json.loads((gym.root / out / "ledger.json").read_text())["phases"] for out in ("run", "alone")]
    assert ledgers[0] == ledgers[1]


@pytest.mark.parametrize("parallel", [{"cp": 2}, {"replicate": 2}])
def test_ranks_may_share_sequences_or_hold_all_parameters(
    gym: Gym, alone: list[float], parallel: dict[str, Any]
) -> None:
    assert gym.ranks(2, parallel=parallel)[0].code == 0
    close(gym.losses(), alone)
    for event, other in zip(gym.events(), gym.events("alone"), strict=True):
        told = [e["breakdown"] for e in (event, other)]
        assert told[0].keys() == told[1].keys()
        assert event["tokens"] == other["tokens"]


def test_a_killed_rank_is_replaced_and_the_run_goes_on(gym: Gym, alone: list[float]) -> None:
    gym.train(stop="2 steps")
    process = gym.torchrun(2, checkpoints={"every": "1 steps", "export": False})
    _when(lambda: len(gym.losses()) > 2, lambda: process.poll() is None)
    ranks = psutil.Process(process.pid).children()
    os.kill(ranks[-1].pid, signal.SIGKILL)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "goes on from run/checkpoints/step-" in err
    close(gym.losses(), alone)


def test_a_run_that_is_killed_at_any_moment_goes_on(gym: Gym, alone: list[float]) -> None:
    often = {"every": "1 steps", "export": False}
    for wanted in (1, 3):
        run = gym.start(1, checkpoints=often)
        _when(lambda: len(gym.losses()) > wanted, run.processes[0].is_alive)  # noqa: B023 it is called in this round
        run.processes[0].kill()
        run.processes[0].join()
    assert gym.train(checkpoints=often).code == 0
    assert gym.losses() == alone


def test_an_error_of_all_ranks_is_one_sentence(gym: Gym) -> None:
    first, second = gym.ranks(2, model={"path": str(gym.root / "nowhere")})
    assert (first.code, second.code, second.err) == (1, 1, "")
    assert "no such folder" in first.error


def test_an_error_of_one_rank_ends_all_and_is_told_once(gym: Gym) -> None:
    folder = next((gym.shop.root / "work" / "shards").glob("small-*"))
    shard = min(folder.glob("*.arrow"))
    with given_back(folder):
        tokens = pa.ipc.open_file(shard).get_batch(0).column("input_ids").values
        whole = bytearray(shard.read_bytes())
        # One byte of sequence 13, which one of the two ranks takes in the third step.
        at = whole.index(tokens.buffers()[1].to_pybytes()[:256]) + 13 * 64 * 2
        whole[at] ^= 1
        shard.write_bytes(whole)
        first, second = gym.ranks(2)
    assert (first.code, second.code, second.err) == (1, 1, "")
    assert shard.name in first.error
    assert len(gym.losses()) == 2
    assert gym.checkpoints() == ["step-00000002"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"parallel": {"cp": 3}}, "does not divide the 2 processes that were started"),
        ({"batch": {"sequences": 5}}, "a step of 5 sequences does not share out over 2 ranks"),
        ({"parallel": {"cp": 2}, "lock": "odd.lock.json", "batch": {"sequences": 4}}, "does not divide its 66 places"),
    ],
)
def test_ranks_that_do_not_divide_are_told(gym: Gym, changes: dict[str, Any], sentence: str) -> None:
    if "lock" in changes:
        text = (gym.shop.root / "small.yaml").read_text()
        text = text.replace("name: small", "name: odd").replace("length: 64", "length: 66")
        (gym.shop.root / "odd.yaml").write_text(text)
        assert gym.shop.run(recipe="odd.yaml").code == 0
    first, second = gym.ranks(2, **changes)
    assert (first.code, second.code) == (1, 1)
    assert sentence in first.error
    assert not (gym.root / "run").exists()


def _when(happened: Callable[[], bool], alive: Callable[[], bool]) -> None:
    """Wait for something that a run does, unless it ends before."""
    while alive():
        try:
            if happened():
                return
        except (FileNotFoundError, json.JSONDecodeError):
            pass
        time.sleep(0.02)
    pytest.fail("the run ended before")
