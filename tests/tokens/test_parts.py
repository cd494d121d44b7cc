"""What is asked of a disk before a shard is copied: the documents' bytes, near ones together, no others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mixture.hashing import id_words
from mixture.storage import read_ahead
from mixture.tokens import parts
from mixture.tokens.parts import fetch_rows, open_parts
from mixture.tokens.store import PartFiles, write_part

SIZES = [3, 100_000, 5, 0, 7]


@pytest.fixture
def part(tmp_path: Path) -> Path:
    files = PartFiles(tmp_path / "unit", 0)
    ids = np.arange(len(SIZES), dtype=np.uint64)
    offsets = np.concatenate([[0], np.cumsum(SIZES)]).astype(np.int64)
    tokens = np.arange(offsets[-1], dtype=np.uint32)
    facts = {
        name: np.ones(len(SIZES), kind) for name, kind in (("n_bytes", "i8"), ("input", "i4"), ("input_row", "i8"))
    }
    write_part(files, (ids, ids), tokens, offsets, facts, pa.uint32(), {})
    assert isinstance(files.tokens, Path)
    return files.tokens


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [([0, 2, 2, 4], [(0, 1), (2, 5)]), ([4, 1], [(1, 5)]), ([3], [(3, 4)]), ([], None)],
)
def test_a_disk_is_told_where_the_documents_lie(
    part: Path, monkeypatch: pytest.MonkeyPatch, rows: list[int], wanted: list[tuple[int, int]] | None
) -> None:
    told: list[tuple[Path, list[tuple[int, int]]]] = []
    monkeypatch.setattr(parts, "read_ahead", lambda path, stretches: told.append((path, stretches)))
    (opened,) = open_parts([part])
    assert fetch_rows([(opened, np.array(rows, np.int64))]) == 0
    if wanted is None:
        assert told == []
        return
    raw, ((path, stretches),) = part.read_bytes(), told
    assert path == part
    assert len(stretches) == len(wanted)
    for (start, stop), (first, last) in zip(stretches, wanted, strict=True):
        held = np.frombuffer(raw[start:stop], np.uint32)
        assert held.tolist() == opened.tokens[opened.offsets[first] : opened.offsets[last]].tolist()


def test_advice_changes_nothing(part: Path) -> None:
    before = part.read_bytes()
    read_ahead(part, [(0, 100), (200, 1 << 40)])
    read_ahead(part.with_name("gone"), [(0, 100)])
    assert part.read_bytes() == before
    assert id_words(pa.ipc.open_file(part).get_batch(0)["doc_id"])[0].tolist() == [0, 1, 2, 3, 4]
