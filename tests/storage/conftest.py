"""An object store for each test: a prefix of one bucket, behind a proxy of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.storage.objects import Store, environment, hurried


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with environment(tmp_path / "scratch") as store:
        yield store


@pytest.fixture
def quick() -> Iterator[None]:
    """Tests of what fails do not wait as a user's run does."""
    with hurried():
        yield
