"""Files to read, and chunks small enough that a few documents make several."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mixture.corpus import documents
from mixture.corpus.documents import InputFile

Make = Callable[..., InputFile]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write bytes under a name and return the file."""

    def write(name: str, data: bytes) -> InputFile:
        path = tmp_path / name
        path.write_bytes(data)
        return InputFile(name, path, len(data), "0" * 32)

    return write


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Set the size of a chunk in bytes."""
    return lambda size: monkeypatch.setattr(documents, "CHUNK_BYTES", size)
