"""Being asked to stop: Ctrl-C, or SIGTERM as batch systems send it before they kill.

The first request lets the step under way end and its checkpoint be written; a second one ends the program at once.
Ranks are not asked at the same moment, so they stop after a step in which all of them learnt of it (`Result.stop`).
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Stop:
    """Whether a run is to end, and why."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._agreed = False

    def ask(self, number: int, _frame: FrameType | None) -> None:
        """Take a signal.

        Raises:
            KeyboardInterrupt: it is the second.
        """
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number

    def agree(self) -> None:
        """Stop, because some rank was asked to."""
        self._agreed = True
        self.signal = self.signal or signal.SIGTERM

    @property
    def asked(self) -> bool:
        """Whether this rank was asked."""
        return self.signal is not None

    @property
    def agreed(self) -> bool:
        """Whether all ranks stop here."""
        return self._agreed


@contextlib.contextmanager
def heeding() -> Iterator[Stop]:
    """Take Ctrl-C and SIGTERM as requests while the block lasts; elsewhere than in the main thread, take none."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop.ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
