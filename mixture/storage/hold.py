"""One run at a time in a work directory.

On a file system a lock is held by the operating system. An object store has none: there a run leaves a note that it
renews, and a note that nobody renews any more is of a run that was killed.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from mixture.errors import BusyError, StoreError
from mixture.storage.faults import Place, explain, refusals
from mixture.storage.records import read_record, write_json
from mixture.storage.transfer import remove

if TYPE_CHECKING:
    from upath import UPath


#: What we call files and folders that are not whole yet. Other programs' temporary files are none of ours.
_ASIDE = re.compile(r"\.(.+[.-]\d+-[0-9a-f]+|dry-run-.+)\.tmp")
#: How often a note on an object store is renewed, and for how long one may stand still before it is nobody's.
_RENEW_SECONDS = 20.0
_DEAD_SECONDS = 70.0


@contextlib.contextmanager
def only_run(work: Place) -> Iterator[None]:
    """Hold the work directory for one run, and sweep away what a killed run left half-written.

    Raises:
        BusyError: another process holds it; the message names that process.
        StoreError: the directory cannot be made or written.
    """
    with _locked(work) if isinstance(work, Path) else _noted(work):
        yield


@contextlib.contextmanager
def _locked(work: Path) -> Iterator[None]:
    owner = work / ".run.json"
    lock = filelock.FileLock(work / ".run.lock", timeout=0)
    try:
        work.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except filelock.Timeout:
        with contextlib.suppress(StoreError):
            raise _busy(work, read_record(owner) or {}) from None
        raise BusyError(f"{work} is in use by another run; wait for it to end, or give another folder") from None
    except OSError as error:
        raise StoreError(explain(error, work)) from error
    try:
        for stale in [path for path in work.rglob(".*.tmp") if _ASIDE.fullmatch(path.name)]:
            shutil.rmtree(stale) if stale.is_dir() else stale.unlink(missing_ok=True)
        write_json(owner, _owner())
        yield
    finally:
        with contextlib.suppress(OSError):
            owner.unlink(missing_ok=True)
        lock.release()


@contextlib.contextmanager
def _noted(work: UPath) -> Iterator[None]:
    note = work / ".run.json"
    mine = _owner() | {"host": socket.gethostname(), "run": os.urandom(8).hex(), "renewed": 0}
    found = read_record(note, "run", "renewed")
    if found is not None and not _is_gone(found):
        _wait_out(work, note, found)
    write_json(note, mine)
    done = threading.Event()

    def renew() -> None:
        while not done.wait(_RENEW_SECONDS):
            mine["renewed"] += 1
            # A store that is away for a moment ends no run.
            with contextlib.suppress(StoreError):
                write_json(note, mine)

    renewing = threading.Thread(target=renew, daemon=True)
    renewing.start()
    # Two runs that found no note at the same moment: the one whose note stands goes on.
    standing = read_record(note, "run") or mine
    try:
        if standing["run"] != mine["run"]:
            raise _busy(work, standing)
        yield
    finally:
        done.set()
        renewing.join()
        if (read_record(note, "run") or {}).get("run") == mine["run"]:
            with refusals(note):
                remove(note)


def _is_gone(found: dict[str, Any]) -> bool:
    """Say whether a note is of a process of this machine that is no more."""
    if found.get("host") != socket.gethostname():
        return False
    try:
        os.kill(int(found["pid"]), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _wait_out(work: UPath, note: UPath, found: dict[str, Any]) -> None:
    """Wait until a note has stood still for so long that its run must be dead.

    Raises:
        BusyError: it was renewed.
    """
    until = time.monotonic() + _DEAD_SECONDS
    while time.monotonic() < until:
        now = read_record(note, "run", "renewed")
        if now is None:
            return
        if (now["run"], now["renewed"]) != (found["run"], found["renewed"]):
            raise _busy(work, now)
        time.sleep(_RENEW_SECONDS / 10)


def _owner() -> dict[str, Any]:
    return {"pid": os.getpid(), "command": " ".join(["mixture", *sys.argv[1:]])}


def _busy(work: Place, who: dict[str, Any]) -> BusyError:
    where = f" on {who['host']}" if "host" in who else ""
    return BusyError(
        f"{work} is in use by process {who.get('pid', '?')}{where} ({who.get('command', 'another run')}); "
        "wait for it to end, stop it, or give another --work or --out"
    )
