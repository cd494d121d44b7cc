"""Shards by hand: full, padded or marked, with the lock that they belong to, and the truth about every sequence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mixture import schemas
from mixture.engine import Silence
from mixture.engine.local import Local
from mixture.export.make import Exported, Request, export, phase_numbers
from mixture.lockfile import Lock
from mixture.shards.pack import shards_folder
from mixture.storage import file_digest
from mixture.workspace import Workspace

KINDS = ("full", "padded", "marked")
LENGTH = 64


@dataclass(frozen=True)
class Sequence:
    """What one sequence holds."""

    tokens: list[int]
    spans: list[dict[str, Any]]
    marks: list[int]

    @property
    def borders(self) -> list[tuple[int, int]]:
        return [(span["start"], span["stop"]) for span in self.spans]

    @property
    def real(self) -> list[bool]:
        covered = np.zeros(len(self.tokens), bool)
        for start, stop in self.borders:
            covered[start:stop] = True
        return covered.tolist()

    def pieces(self) -> list[list[int]]:
        return [self.tokens[start:stop] for start, stop in self.borders]


def sequence(draw: np.random.Generator, kind: str, most: int) -> Sequence:
    """A sequence of a few documents; between them padding or marks, where `kind` says so."""
    tokens, spans, marks, at = [0] * LENGTH, [], [], 0
    while at < LENGTH and not (kind != "full" and spans and draw.random() < 0.2):
        size = int(min(draw.integers(1, 30), LENGTH - at))
        number = int(draw.integers(1 << 40))
        tokens[at : at + size] = draw.integers(1, most, size).tolist()
        spans.append(
            {
                "start": at,
                "stop": at + size,
                "domain": ("books", 'say "hi", ünï', "code")[number % 3],
                "doc_id": number.to_bytes(16, "big"),
                "doc_offset": number % 7 - 1,
                "doc_length": size + number % 9,
                "copy": number % 2,
            }
        )
        at += size
        if kind == "marked" and at < LENGTH and draw.random() < 0.7:
            tokens[at] = most - 1
            marks.append(at)
            at += 1
        elif kind != "full":
            at += int(draw.integers(0, 3))
    return Sequence(tokens, spans, marks)


def write_shard(path: Path, rows: list[Sequence], token: pa.DataType, *, marks: bool) -> dict[str, Any]:
    """Write a shard in record batches of three rows; return what a lock says of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = schemas.shard(token, LENGTH, prefix=1, suffix=1, marks=marks)
    columns = [[row.tokens for row in rows], [row.spans for row in rows], [row.marks for row in rows]]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=False)]
    with pa.OSFile(str(path), "wb") as out, pa.ipc.new_file(out, schema) as writer:
        writer.write_table(pa.table(arrays, schema=schema), max_chunksize=3)
    real = sum(sum(row.real) for row in rows)
    facts = {"shard": path.name, "sequences": len(rows), "tokens": real, "size": path.stat().st_size}
    return facts | {"hash": file_digest(path)}


@dataclass
class Shelf:
    """Packed phases, by hand."""

    root: Path
    lock: Lock
    folders: list[Path]
    truth: list[list[Sequence]]
    engine: Local = field(default_factory=Local)

    def request(self, name: str, *, unit: str = "row", phase: str | None = None) -> Request:
        return Request(self.lock, self.folders, phase_numbers(self.lock, phase), name, unit)

    def export(self, name: str, out: str = "out", *, unit: str = "row", phase: str | None = None) -> Exported:
        return export(self.request(name, unit=unit, phase=phase), self.root / out, self.engine, Silence())

    def shard(self, number: int, phase: int = 0) -> Path:
        return self.folders[phase] / str(self.lock.phases[phase]["shards"][number]["shard"])


Stock = Callable[..., Shelf]


@pytest.fixture
def stock(tmp_path: Path) -> Stock:
    """Make a shelf: what kind of sequences, of which type, how many in each shard, in which phases."""

    def make(
        kind: str = "full",
        token: pa.DataType | None = None,
        counts: tuple[int, ...] = (7, 0, 4),
        phases: tuple[str, ...] = ("",),
    ) -> Shelf:
        token = pa.uint32() if token is None else token
        most = 1 << 16 if token == pa.uint16() else 1 << 30
        draw = np.random.default_rng(5)
        empty: dict[str, Any] = {"cells": [], "context": {}, "top": {}, "shards": []}
        stream = {"sequence_length": LENGTH, "align": 1, "digest": "0" * 32}
        recipe = {"fingerprint": "f", "content": {"packing": "concat", "seed": 0}}
        made = [{"name": name, "stream": stream} | empty for name in phases]
        lock = Lock("hand", recipe, {}, [], {"fingerprint": "made by hand", "vocabulary": most}, {}, made)
        folders = [shards_folder(Workspace(tmp_path / "work", tmp_path), lock, n) for n in range(len(phases))]
        truth = []
        for phase, folder in zip(made, folders, strict=True):
            rows = [[sequence(draw, kind, most) for _ in range(count)] for count in counts]
            names = [f"shard-{number:05d}-of-{len(counts):05d}.arrow" for number in range(len(counts))]
            phase["shards"] = [
                write_shard(folder / path, part, token, marks=kind == "marked")
                for path, part in zip(names, rows, strict=True)
            ]
            truth.append([row for part in rows for row in part])
        return Shelf(tmp_path, lock, folders, truth)

    return make
