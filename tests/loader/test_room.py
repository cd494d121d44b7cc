"""Memory is lent again only when nobody looks into it any more."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from numpy.lib.array_utils import byte_bounds

from mixture.loader import Ints, room
from mixture.loader.steps import Steps
from tests.loader.conftest import Shelf


@pytest.fixture(autouse=True)
def none_free() -> None:
    gc.collect()
    room._FREE.clear()


def address(array: Ints) -> int:
    return byte_bounds(array)[0]


def test_a_block_that_nobody_uses_is_lent_again() -> None:
    one = room.empty((3, 1000))
    assert (one.shape, one.dtype) == ((3, 1000), np.int64)
    first = address(one)
    del one
    assert address(room.empty((1000, 3))) == first


def test_a_block_of_another_size_is_not() -> None:
    one = room.empty((1000,))
    first = address(one)
    del one
    other = room.empty((999,))
    assert address(other) != first
    assert address(room.empty((1000,))) == first


def test_a_view_of_a_view_keeps_it() -> None:
    one = room.empty((4, 1000))
    one[:] = 7
    view = one[1:][:, 5:].reshape(-1)[3:]
    del one
    gc.collect()
    other = room.empty((4, 1000))
    other[:] = 0
    assert (view == 7).all()
    assert not np.shares_memory(view, other)


def test_a_tensor_keeps_it() -> None:
    torch = pytest.importorskip("torch")
    one = room.empty((4, 1000))
    one[:] = 7
    part = torch.from_numpy(one)[2:].view(-1)
    del one
    gc.collect()
    room.empty((4, 1000))[:] = 0
    assert bool((part == 7).all())


def test_only_some_blocks_wait() -> None:
    blocks = [room.empty((10,)) for _ in range(50)]
    del blocks
    assert len(room._FREE) == room._FREE.maxlen


def test_nothing_is_nothing() -> None:
    assert room.empty((0, 5)).shape == (0, 5)


def test_batches_that_are_kept_stay_as_they_were(shelf: Shelf) -> None:
    # Alike in size, so that memory given back too early would be filled again at once.
    kept = [arrays for step in Steps(shelf.stream(), batch=8, micro=2) for arrays in step]
    tokens = shelf.tokens()
    for arrays, again in zip(kept, [a for s in Steps(shelf.stream(), batch=8, micro=2) for a in s], strict=True):
        real = np.array(arrays.sequences) >= 0
        assert (arrays.input_ids[real] == tokens[np.array(arrays.sequences)[real]]).all()
        assert (arrays.labels == again.labels).all()
        assert (arrays.position_ids == again.position_ids).all()
