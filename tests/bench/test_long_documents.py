"""One long document is held to the reference window by window, and no gap or swap gets through."""

from __future__ import annotations

import numpy as np
import pytest

from bench.long_documents import covers, windows

WHOLE = np.random.default_rng(0).integers(0, 50, 1000).astype(np.uint32)


def _windows(tokens: np.ndarray) -> list[np.ndarray]:
    """Windows of 300 tokens every 250, their outermost tokens spoilt as a border would spoil them."""
    found = [tokens[max(0, at - 50) : at + 250].copy() for at in range(0, 1000, 250)]
    for number, window in enumerate(found):
        if number > 0:
            window[0] += 1
        if number < len(found) - 1:
            window[-1] += 1
    return found


def test_windows_that_stand_in_the_whole_cover_it() -> None:
    assert covers(WHOLE, _windows(WHOLE), margin=10)
    assert covers(WHOLE, [WHOLE], margin=10)


@pytest.mark.parametrize("at", [0, 9, 123, 251, 500, 740, 999])
def test_one_wrong_token_anywhere_is_found(at: int) -> None:
    wrong = WHOLE.copy()
    wrong[at] += 1
    assert not covers(wrong, _windows(WHOLE), margin=10)


def test_tokens_too_many_or_too_few_are_found() -> None:
    found = _windows(WHOLE)
    assert not covers(WHOLE, found[:-1], margin=10)
    assert not covers(WHOLE, [found[0], *found[2:]], margin=10)
    assert not covers(np.append(WHOLE, 7).astype(np.uint32), found, margin=10)
    assert not covers(np.delete(WHOLE, 400), found, margin=10)


def test_margins_that_overlap_less_than_they_are_wide_leave_a_gap() -> None:
    assert not covers(WHOLE, _windows(WHOLE), margin=40)


def test_windows_begin_at_lines_and_overlap() -> None:
    lines = "".join(f"line {number:05d}\n" for number in range(1000))
    found = list(windows(lines, size=3000, overlap=100))
    assert len(found) == 4
    assert all(window.startswith("line ") for window in found)
    at = 0
    for window in found:
        start = lines.index(window)
        assert start == 0 or at - start >= 200
        at = start + len(window)
    assert at == len(lines)
