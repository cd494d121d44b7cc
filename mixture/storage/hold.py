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
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from mixture.errors import BusyError, StoreError
from mixture.storage.faults import Place, explain, is_refusal, refusals
from mixture.storage.publish import machine
from mixture.storage.records import read_record, write_json
from mixture.storage.scratch import scratch
from mixture.storage.transfer import remove
from mixture.storage.tries import tried

if TYPE_CHECKING:
    from upath import UPath


#: What we call files and folders that are not whole yet. Other programs' temporary files are none of ours.
_ASIDE = re.compile(r"\.(.+[.-]\d+-[0-9a-f]+|dry-run-.+)\.tmp")
#: Those that say whose they are: the machine and the process. Jobs of a cluster outlive the run that submitted them.
_OWNED = re.compile(r"\..+\.([0-9a-f]{8})\.(\d+)-[0-9a-f]+\.tmp")
#: After so long a file of another machine is nobody's.
_ABANDONED_SECONDS = 24 * 3600
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
        for stale in _left_behind(work):
            shutil.rmtree(stale) if stale.is_dir() else stale.unlink(missing_ok=True)
        write_json(owner, _owner())
        yield
    finally:
        with contextlib.suppress(OSError):
            owner.unlink(missing_ok=True)
        lock.release()


def _left_behind(work: Path) -> list[Path]:
    """List what a killed run left half-written: a million files are looked at in about a second."""
    found: list[Path] = []
    for folder, folders, files in os.walk(work):
        # A look at one letter first: patterns cost ten times as much.
        stale = [name for name in (*folders, *files) if name.startswith(".") and _ASIDE.fullmatch(name)]
        found += [path for path in (Path(folder, name) for name in stale) if not _is_being_written(path)]
        folders[:] = [name for name in folders if name not in stale]
    return found


def _is_being_written(path: Path) -> bool:
    """Say whether a half-written file may be of a process that lives, on this machine or another."""
    owner = _OWNED.fullmatch(path.name)
    if owner is None:
        return False
    if owner[1] != machine():
        with contextlib.suppress(OSError):
            return time.time() - path.stat().st_mtime < _ABANDONED_SECONDS
        return False
    return not _is_gone({"host": socket.gethostname(), "pid": owner[2]})


@contextlib.contextmanager
def _noted(work: UPath) -> Iterator[None]:
    note = work / ".run.json"
    mine = _owner() | {"host": socket.gethostname(), "run": os.urandom(8).hex(), "renewed": 0}
    found = read_record(note, "run", "renewed")
    if found is not None:
        if not _is_gone(found):
            _wait_out(work, note, found)
        with refusals(note):
            remove(note)
    if not _claimed(note, mine):
        raise _busy(work, read_record(note, "run") or {})
    done = threading.Event()

    def renew() -> None:
        while not done.wait(_RENEW_SECONDS):
            mine["renewed"] += 1
            # A store that is away for a moment ends no run.
            with contextlib.suppress(StoreError):
                write_json(note, mine)

    renewing = threading.Thread(target=renew, daemon=True)
    renewing.start()
    try:
        yield
    finally:
        done.set()
        renewing.join()
        if (read_record(note, "run") or {}).get("run") == mine["run"]:
            with refusals(note):
                remove(note)


def _claimed(note: UPath, mine: dict[str, Any]) -> bool:
    """Leave a note; False if another run did so at the same moment."""
    if note.protocol in ("s3", "s3a"):
        with tempfile.TemporaryDirectory(dir=scratch()) as aside:
            file = Path(aside) / note.name
            write_json(file, mine)
            try:
                tried(lambda: note.fs.put_file(str(file), note.path, mode="create"))
                return True
            except FileExistsError:
                # Ours, if it was left by a request whose answer was lost.
                return bool((read_record(note, "run") or mine)["run"] == mine["run"])
            except Exception as error:
                if not is_refusal(error):
                    raise
                # Some stores know no conditions: there two runs may start together, and write the same bytes.
    write_json(note, mine)
    return True


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
