"""What workers are asked to do in these tests."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

from mixture.errors import InputError

_inside = threading.Semaphore(1)


def square(number: int) -> int:
    return number * number


def bad(number: int) -> int:
    raise InputError(f"row {number} is bad")


def crash(number: int) -> int:
    return {}[number]  # type: ignore[no-any-return]


def full(path: str) -> int:
    raise OSError(28, "No space left on device", path)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_once(flag: str) -> str:
    """SIGKILL of the worker in the middle of a task, the first time."""
    try:
        os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return "lived"
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


def wait_for(flag: str, mark: str) -> int:
    """Say that it runs, and on which process; go on when the flag is there."""
    Path(mark).write_text(str(os.getpid()), encoding="ascii")
    while not Path(flag).exists():
        time.sleep(0.05)
    return os.getpid()


def alone(seconds: float) -> bool:
    """Say whether no other task ran in this process meanwhile."""
    if not _inside.acquire(blocking=False):
        return False
    time.sleep(seconds)
    _inside.release()
    return True


def count_and_wait(number: int, folder: str, flag: str) -> int:
    """Count how often this is begun; end when the flag is there."""
    name = f"{number}-{os.getpid()}-{time.monotonic_ns()}"
    (Path(folder) / name).touch()
    while not Path(flag).exists():
        time.sleep(0.05)
    return number
