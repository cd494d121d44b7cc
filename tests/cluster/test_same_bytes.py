"""The quick start's recipe on every engine that can be had here, and in an object store: the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.same_bytes import ROOT, WAYS, same_bytes

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


def test_every_way_to_build_the_quick_start_gives_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    found = same_bytes(ROOT / "manifests" / "quickstart.yaml", tmp_path / "data", tmp_path, list(WAYS))
    built = {way: hashes for way, hashes in found.items() if isinstance(hashes, list)}
    assert {"local", "s3"} <= built.keys()
    assert len(built["local"]) == 3
    assert {way: hashes for way, hashes in built.items() if hashes != built["local"]} == {}
