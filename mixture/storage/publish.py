"""Files out: written aside, published whole.

Nothing half-written ever bears its final name. On a file system `publish` writes to a sibling and renames it; for an
object store it writes to the scratch folder and uploads, in parts where the file is large: an object appears when its
upload is complete, or not at all.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import xxhash

from mixture.errors import StoreError
from mixture.storage.faults import Place, explain
from mixture.storage.scratch import scratch
from mixture.storage.transfer import upload

_STEP_BYTES = 1 << 19


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
        # Step by step: what was hashed is still in the cache when it is written.
        for start in range(0, view.nbytes, _STEP_BYTES):
            step = view[start : start + _STEP_BYTES]
            self._state.update(step)
            self._raw.write(step)
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


@functools.cache
def machine() -> str:
    """Return 8 hex digits for this machine's name: half-written files say where their writer is to be found."""
    return xxhash.xxh32_hexdigest(socket.gethostname().encode())


@contextlib.contextmanager
def publish(path: Place) -> Iterator[HashingWriter]:
    """Open `path` for writing aside; it appears under its name, whole, when the block ends well.

    Raises:
        StoreError: the disk is full, or the folder cannot be written, or the object store refuses.
    """
    unique = f".{path.name}.{machine()}.{os.getpid()}-{os.urandom(4).hex()}.tmp"
    aside = path.with_name(unique) if isinstance(path, Path) else scratch() / unique
    try:
        aside.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as raw:
            yield HashingWriter(raw)
        if isinstance(path, Path):
            aside.replace(path)
        else:
            upload(aside, path)
    except OSError as error:
        if error.filename == str(aside) and isinstance(path, Path):
            error.filename = str(path)
        raise StoreError(explain(error, path if isinstance(path, Path) else aside)) from error
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
