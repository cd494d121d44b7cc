"""A thread makes the next things: in order, not too many, ended with the loop, its errors carried over."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator

import pytest

from mixture.loader.ahead import Ahead


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "mixture-ahead"]


def ended() -> bool:
    until = time.monotonic() + 10
    while threads() and time.monotonic() < until:
        time.sleep(0.001)
    return not threads()


def test_things_come_in_their_order() -> None:
    assert list(Ahead(iter(range(100)), 3)) == list(range(100))
    assert ended()


def test_no_more_are_made_than_there_is_room_for() -> None:
    made = []

    def things() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    ahead = Ahead(things(), 2)
    next(ahead)
    until = time.monotonic() + 0.2
    while time.monotonic() < until:
        time.sleep(0.01)
        # The one that was taken, two that wait, and one that finds no room.
        assert len(made) <= 4
    ahead.close()
    assert ended()


def test_an_error_is_raised_after_what_was_made_before_it() -> None:
    def things() -> Iterator[int]:
        yield 1
        yield 2
        raise KeyError("three")

    ahead = Ahead(things(), 5)
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(KeyError, match="three"):
        next(ahead)
    with pytest.raises(StopIteration):
        next(ahead)
    assert ended()


def test_closed_it_ends_its_thread_and_gives_nothing_more() -> None:
    ahead = Ahead(iter(range(10**9)), 2)
    next(ahead)
    ahead.close()
    assert not threads()
    with pytest.raises(StopIteration):
        next(ahead)


def test_left_alone_it_ends_its_thread() -> None:
    ahead = Ahead(iter(range(10**9)), 2)
    next(ahead)
    del ahead
    gc.collect()
    assert ended()
