"""Claims about laying stretches of arrays into a new one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixture.errors import StoreError
from mixture.shards import gather as module
from mixture.shards.gather import Sources, gather

TYPES = (np.uint16, np.uint32)


def laid(arrays: list[Any], stretches: list[tuple[int, int, int, int]], total: int) -> Any:
    columns = np.array(stretches, np.int64).reshape(-1, 4).T
    return gather(Sources.of(arrays), *columns, total)


def one_by_one(arrays: list[Any], stretches: list[tuple[int, int, int, int]], total: int) -> Any:
    out = np.zeros(total, arrays[0].dtype)
    for which, start, size, place in stretches:
        out[place : place + size] = arrays[which][start : start + size]
    return out


@pytest.mark.parametrize("token", TYPES)
def test_stretches_stand_in_their_places_and_zeros_elsewhere(token: type) -> None:
    arrays = [np.array([1, 2, 3, 4, 5], token), np.array([6, 7, 8], token)]
    found = laid(arrays, [(0, 1, 3, 2), (1, 0, 1, 6)], 8)
    assert found.tolist() == [0, 0, 2, 3, 4, 0, 6, 0]
    assert found.dtype == token


def test_a_result_may_be_written_to_and_the_sources_stay_as_they_are() -> None:
    array = np.arange(100, dtype=np.uint32)
    found = laid([array], [(0, 0, 100, 0)], 100)
    found[:] = 7
    assert array.tolist() == list(range(100))


def test_nothing_but_zeros_is_laid_where_there_are_no_stretches() -> None:
    assert laid([np.ones(3, np.uint16)], [], 50).tolist() == [0] * 50


@pytest.mark.parametrize("start", [-1, 95])
def test_a_stretch_that_reaches_out_of_its_array_is_an_error_and_no_foreign_memory(start: int) -> None:
    with pytest.raises(StoreError, match=f"tokens {start} to {start + 6} are wanted .* that has 100"):
        laid([np.ones(100, np.uint32)], [(0, 0, 6, 0), (0, start, 6, 6)], 12)


@pytest.mark.parametrize("second", [5, 9])
def test_stretches_that_would_overlap_or_stand_past_the_end_are_an_error(second: int) -> None:
    with pytest.raises(ValueError, match="by 1 tokens"):
        laid([np.ones(9, np.uint32)], [(0, 0, 6, 0), (0, 0, 4, second)], 12)


@given(data=st.data(), token=st.sampled_from(TYPES), reach=st.sampled_from((16, 64, 1 << 30)))
def test_any_stretches_are_laid_as_one_by_one(data: st.DataObject, token: type, reach: int) -> None:
    lengths = data.draw(st.lists(st.integers(0, 90), min_size=1, max_size=4))
    ends = np.cumsum(lengths)
    arrays = [np.arange(end - length + 1, end + 1).astype(token) for end, length in zip(ends, lengths, strict=True)]
    stretches, place = [], 0
    for _ in range(data.draw(st.integers(0, 8))):
        which = data.draw(st.integers(0, len(arrays) - 1))
        start = data.draw(st.integers(0, lengths[which]))
        size = data.draw(st.integers(0, lengths[which] - start))
        place += data.draw(st.sampled_from((0, 1, 40)))
        stretches.append((which, start, size, place))
        place += size
    total = place + data.draw(st.sampled_from((0, 1, 40)))
    with pytest.MonkeyPatch.context() as patch:
        # Views of a gigabyte are cut; here views of a few tokens are.
        patch.setattr(module, "_REACH", reach)
        assert laid(arrays, stretches, total).tolist() == one_by_one(arrays, stretches, total).tolist()
