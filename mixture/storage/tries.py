"""How often a store is asked, and for how long: the one place that bounds both.

A client tries each request a few times by itself: refused connections, time-outs, 5xx, "slow down". What it does not
see is an answer that ends too early, or an upload of many parts that failed in one; that is asked for again here, while
a store that is away for long is not: its client has waited already.

    answer cut short   ask, 0.25 s, ask, 0.5 s, ask …         `TRIES` times
    store away         ask (its client: `CLIENT_TRIES` times)  over `PATIENCE` seconds: no more, one sentence
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

from mixture.storage.faults import is_refusal

#: How often we ask, how long the first pause is, in seconds (each is twice the one before), and after how many seconds
#: we ask no more.
TRIES = 6
PAUSE = 0.25
PATIENCE = 45.0
#: How often the S3 client tries a request, and how long it waits for a connection and for an answer's next bytes.
CLIENT_TRIES = 5
CONNECT_SECONDS = 10
READ_SECONDS = 30

T = TypeVar("T")


class Turns:
    """Counts tries, and pauses between two."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._turn = 0

    def again(self) -> bool:
        """Pause and say yes, or say that it was tried often and long enough."""
        self._turn += 1
        if self._turn >= TRIES or time.monotonic() - self._begun > PATIENCE:
            return False
        # Processes that failed together do not come back together.
        time.sleep(PAUSE * 2 ** (self._turn - 1) * (1 + os.getpid() % 16 / 16))
        return True


def tried(ask: Callable[[], T]) -> T:
    """Call a function until the store does not refuse.

    Raises:
        Exception: the store's last refusal, as its client raised it.
    """
    turns = Turns()
    while True:
        try:
            return ask()
        except Exception as error:
            if not is_refusal(error) or is_final(error) or not turns.again():
                raise


def is_final(fault: BaseException) -> bool:
    """Say whether asking again cannot help."""
    if isinstance(fault, FileNotFoundError):
        # The end of an upload in parts was done and its answer lost: there is no such upload any more, and it is made
        # again.
        return "(NoSuchUpload)" not in str(fault.__cause__)
    refused = isinstance(fault, FileExistsError | IsADirectoryError | NotADirectoryError | PermissionError)
    return refused or "Credentials" in type(fault).__name__
