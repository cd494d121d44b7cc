"""What torch says of memory and of ranks is told as a sentence; all else passes as it is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from mixture.errors import MonitorError, TrainError  # noqa: E402
from mixture.train.failing import explained  # noqa: E402


def world(size: int = 2) -> Any:
    return SimpleNamespace(rank=1, size=size)


@pytest.mark.parametrize("size", [1, 2])
def test_memory_that_is_used_up_is_told_with_what_to_lower(size: int) -> None:
    with pytest.raises(TrainError) as told, explained(world(size)):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\n 62.6 GiB.")
    assert str(told.value).startswith("rank 1: the GPU's memory is used up (CUDA out of memory); lower batch.micro")


@pytest.mark.parametrize("said", ["[gloo/pair.cc:534] Connection closed by peer", "NCCL error", "wait timed out"])
def test_a_rank_that_is_gone_is_told_with_how_to_go_on(said: str) -> None:
    with pytest.raises(TrainError) as told, explained(world()):
        raise RuntimeError(said)
    assert str(told.value).startswith(f"rank 1: lost another rank ({said}); what was saved is whole: the same command")


@pytest.mark.parametrize(
    ("size", "error"),
    [
        (1, RuntimeError("Connection closed by peer")),  # nobody else is there
        (2, RuntimeError("mat1 and mat2 have other shapes")),
        (2, MonitorError("no such suite")),
        (2, SystemExit(1)),
    ],
)
def test_anything_else_passes(size: int, error: BaseException) -> None:
    with pytest.raises(type(error)) as told, explained(world(size)):
        raise error
    assert told.value is error
