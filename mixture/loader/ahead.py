"""The next things of an iterator, made in a thread while the last ones are used.

    maker    a b c d …        two ahead: c and d are made while the loop works on b
    loop       a b …

Who leaves the loop in the middle closes it, or lets it be collected: the thread ends either way. What the maker raises
is raised where the loop asks for the next thing.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class _Box(Generic[T]):
    """What maker and loop share."""

    room: int
    ready: deque[T] = field(default_factory=deque)
    changed: threading.Condition = field(default_factory=threading.Condition)
    ended: bool = False
    closed: bool = False
    error: BaseException | None = None

    def close(self) -> None:
        with self.changed:
            self.closed = True
            self.ready.clear()
            self.changed.notify_all()


class Ahead(Iterator[T]):
    """An iterator whose next things are made in a thread.

    Args:
        things: what makes them; it is used in the thread alone.
        room: how many are made before they are asked for.
    """

    def __init__(self, things: Iterator[T], room: int) -> None:
        self._box: _Box[T] = _Box(room)
        # The thread does not know this object, so that it can be collected.
        self._thread = threading.Thread(target=_make, args=(things, self._box), daemon=True, name="mixture-ahead")
        self._end = weakref.finalize(self, self._box.close)
        self._thread.start()

    def __iter__(self) -> Ahead[T]:
        return self

    def __next__(self) -> T:
        box = self._box
        with box.changed:
            while not box.ready and not box.ended and not box.closed:
                box.changed.wait()
            if box.ready:
                thing = box.ready.popleft()
                box.changed.notify_all()
                return thing
            error, box.error = box.error, None
        if error is not None:
            raise error
        raise StopIteration

    def close(self) -> None:
        """End the thread, and wait for it."""
        self._end()
        self._thread.join()


def _make(things: Iterator[T], box: _Box[T]) -> None:
    try:
        for thing in things:
            with box.changed:
                while len(box.ready) >= box.room and not box.closed:
                    box.changed.wait()
                if box.closed:
                    return
                box.ready.append(thing)
                box.changed.notify_all()
            # Not held until the next one is made.
            del thing
    except BaseException as error:  # noqa: BLE001 - carried over to the loop, whatever it is
        box.error = error
    finally:
        with box.changed:
            box.ended = True
            box.changed.notify_all()
