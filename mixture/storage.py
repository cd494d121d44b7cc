"""Files in and out: write aside + rename, sealed records, one run at a time.

Nothing half-written ever bears its final name: `publish` writes to a sibling and renames it. A JSON record, written
after everything that it speaks of, is what makes an output *whole*.

Every record ends in a seal: the XXH3-128 of its name and of all its other bytes. White space and the case of a key are
bytes too, so no flipped bit passes, and neither do two records that changed places.

    {                                                      {"a": 1}, written to part-00003.json
     "a": 1,
     "seal": "52a93ab4ad8bc6d4dac8f5ae0e4a2a6f"
    }
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import filelock
import xxhash

from mixture.errors import BusyError, StoreError

_DISK_ERRORS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EROFS: "the file system is read-only",
    errno.EFBIG: "the file is over the size limit of this file system or shell",
}


#: What we call files and folders that are not whole yet. Other programs' temporary files are none of ours.
_ASIDE = re.compile(r"\.(.+[.-]\d+-[0-9a-f]+|dry-run-.+)\.tmp")


class HashingWriter:
    """A binary file that knows the XXH3-128 and the size of what went through it."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._state = xxhash.xxh3_128()
        self.size = 0
        self.closed = False

    def write(self, data: bytes | memoryview) -> int:
        """Write and hash one block; return its length in bytes."""
        view = memoryview(data).cast("B")
        self._state.update(view)
        self._raw.write(view)
        self.size += view.nbytes
        return view.nbytes

    def flush(self) -> None:
        """Hand buffered bytes to the operating system."""
        self._raw.flush()

    def tell(self) -> int:
        """Return the number of bytes written so far."""
        return self.size

    def writable(self) -> bool:
        """Say that this is an output file."""
        return True

    def readable(self) -> bool:
        """Say that nothing can be read back."""
        return False

    def seekable(self) -> bool:
        """Say that bytes are written once, in order."""
        return False

    def close(self) -> None:
        """Mark the end of the writes; `publish` closes the file itself."""
        self.closed = True

    @property
    def digest(self) -> str:
        """The XXH3-128 so far, as 32 hex digits."""
        return str(self._state.hexdigest())


def explain(error: OSError, path: Path) -> str:
    """Return one sentence for an operating system's refusal, with the next move."""
    code = error.errno or 0
    cause = _DISK_ERRORS.get(code) or error.strerror or str(error)
    place = Path(str(error.filename)) if error.filename else path
    if code in (errno.EEXIST, errno.ENOTDIR):
        return f"{place}: a file stands where a folder is needed; move it, or give another folder"
    if code == errno.EISDIR:
        return f"{place}: a folder stands where a file is needed; move it, or give another name"
    if code in (errno.ENOSPC, errno.EDQUOT):
        free = _free_bytes(path)
        left = f" ({free / 1e6:,.1f} MB free)" if free is not None else ""
        move = "free some space or give another place (--work, --out), then run the same command again"
        return f"{place}: {cause}{left}; {move}"
    moves = {errno.ENOENT: "check the name", errno.ENAMETOOLONG: "give a shorter one"}
    return f"{place}: {cause}; {moves.get(code, 'mend that, or give another place, then run the same command again')}"


def _free_bytes(path: Path) -> int | None:
    for folder in (path, *path.parents):
        with contextlib.suppress(OSError):
            stat = os.statvfs(folder)
            return stat.f_bavail * stat.f_frsize
    return None


@contextlib.contextmanager
def publish(path: Path) -> Iterator[HashingWriter]:
    """Open `path` for writing aside; it appears under its name, whole, when the block ends well.

    Raises:
        StoreError: the disk is full, or the folder cannot be written.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as raw:
            yield HashingWriter(raw)
        aside.replace(path)
    except OSError as error:
        if error.filename == str(aside):
            error.filename = str(path)
        raise StoreError(explain(error, path)) from error
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


def write_json(path: Path, value: Any, *, name: str | None = None) -> None:
    """Publish a sealed JSON record, keys in the order given, one field a line, ending in a newline.

    Args:
        path: the file.
        value: what it says; anything but a mapping is wrapped as `{"value": …}`.
        name: what the seal calls the file, by default its name; a file that people rename has a name of its own.
    """
    wrapped = {"value": value} if _is_wrapped(value) else value
    text = json.dumps(wrapped, indent=1, ensure_ascii=False, allow_nan=False)
    body = (text.removesuffix("\n}") if wrapped else "{").encode()
    with publish(path) as out:
        out.write(body + (b"," if wrapped else b"") + _seal_line(body, path.name if name is None else name))


def read_json(path: Path, *, name: str | None = None) -> Any:
    """Read a sealed JSON record, or return None where there is none.

    Args:
        path: the file.
        name: as it was sealed, see `write_json`.

    Raises:
        StoreError: the file is there but is not JSON, or is not what was written under this name.
    """
    try:
        whole = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StoreError(explain(error, path)) from error
    body = unsealed(whole, path.name if name is None else name)
    try:
        value = json.loads(whole if body is None else body)
    except (ValueError, RecursionError) as error:
        cause = " ".join(str(error).split())
        raise StoreError(f"{path}: damaged, not JSON ({cause}); remove it and run again") from error
    if body is None:
        why = "its seal does not fit its bytes" if SEAL in whole else "it has no seal, or is of an older version"
        raise StoreError(f"{path}: damaged, {why}; remove it and run again")
    return value["value"] if isinstance(value, dict) and value.keys() == {"value"} else value


#: What the last field of a record begins with.
SEAL = b'\n "seal": "'
_SEAL_BYTES = len(SEAL) + 32 + len(b'"\n}\n')


def unsealed(whole: bytes, name: str) -> bytes | None:
    """Return the JSON that a sealed file holds, without the seal; None if the seal does not fit.

    Args:
        whole: the file's bytes.
        name: what the seal calls it.
    """
    body = whole[:-_SEAL_BYTES].removesuffix(b",")
    comma = b"" if body == b"{" else b","
    return body + b"\n}" if whole == body + comma + _seal_line(body, name) else None


def _seal_line(body: bytes, name: str) -> bytes:
    seal = xxhash.xxh3_128_hexdigest(name.encode(errors="surrogateescape") + b"\n" + body)
    return SEAL + seal.encode() + b'"\n}\n'


def _is_wrapped(value: Any) -> bool:
    return not isinstance(value, dict) or value.keys() == {"value"}


def read_record(path: Path, *fields: str) -> dict[str, Any] | None:
    """Read a JSON record that has at least these fields, or return None where there is none.

    Raises:
        StoreError: the file is there but is no such record, or its seal does not fit.
    """
    value = read_json(path)
    if value is None and not path.exists():
        return None
    if not isinstance(value, dict) or not all(name in value for name in fields):
        raise StoreError(f"{path}: damaged, not a record of {', '.join(fields)}; remove it and run again")
    return value


@contextlib.contextmanager
def only_run(work: Path) -> Iterator[None]:
    """Hold the work directory for one run, and sweep away what a killed run left half-written.

    Raises:
        BusyError: another process holds it; the message names that process.
        StoreError: the directory cannot be made or written.
    """
    owner = work / ".run.json"
    lock = filelock.FileLock(work / ".run.lock", timeout=0)
    try:
        work.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except filelock.Timeout:
        with contextlib.suppress(StoreError):
            who = read_record(owner) or {}
            raise BusyError(
                f"{work} is in use by process {who.get('pid', '?')} ({who.get('command', 'another run')}); "
                "wait for it to end, stop it, or give another --work or --out"
            ) from None
        raise BusyError(f"{work} is in use by another run; wait for it to end, or give another folder") from None
    except OSError as error:
        raise StoreError(explain(error, work)) from error
    try:
        for stale in [path for path in work.rglob(".*.tmp") if _ASIDE.fullmatch(path.name)]:
            shutil.rmtree(stale) if stale.is_dir() else stale.unlink(missing_ok=True)
        write_json(owner, {"pid": os.getpid(), "command": " ".join(["mixture", *sys.argv[1:]])})
        yield
    finally:
        with contextlib.suppress(OSError):
            owner.unlink(missing_ok=True)
        lock.release()
