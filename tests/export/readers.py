"""Readers of other formats, written from their published layouts and not from our writers."""

from __future__ import annotations

import csv
import gzip
import json
import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import xxhash


@dataclass(frozen=True)
class Indexed:
    """One pair of Megatron files: its sequences, and which of them make each document."""

    kind: np.dtype[Any]
    sequences: list[list[int]]
    documents: list[int]


def read_megatron(prefix: Path) -> Indexed:
    raw = prefix.with_name(f"{prefix.name}.idx").read_bytes()
    assert raw[:9] == b"MMIDIDX\x00\x00"
    version, code, sequences, documents = struct.unpack_from("<QBQQ", raw, 9)
    assert version == 1
    kind = np.dtype({8: np.uint16, 4: np.int32}[code])
    at = 9 + 8 + 1 + 16
    lengths = np.frombuffer(raw, np.int32, sequences, at)
    pointers = np.frombuffer(raw, np.int64, sequences, at + 4 * sequences)
    ends = np.frombuffer(raw, np.int64, documents, at + 12 * sequences)
    assert len(raw) == at + 12 * sequences + 8 * documents
    data = prefix.with_name(f"{prefix.name}.bin").read_bytes()
    found = [
        np.frombuffer(data, kind, length, pointer).tolist() for length, pointer in zip(lengths, pointers, strict=True)
    ]
    assert len(data) == int(lengths.sum()) * kind.itemsize
    return Indexed(kind, found, ends.tolist())


def read_mds(folder: Path) -> list[dict[str, Any]]:
    """Return all samples that an index names."""
    index = json.loads((folder / "index.json").read_bytes())
    assert index["version"] == 2
    return [sample for shard in index["shards"] for sample in _mds_samples(folder, shard)]


def _mds_samples(folder: Path, shard: dict[str, Any]) -> list[dict[str, Any]]:
    assert (shard["format"], shard["version"], shard["compression"]) == ("mds", 2, None)
    raw = (folder / shard["raw_data"]["basename"]).read_bytes()
    assert len(raw) == shard["raw_data"]["bytes"]
    assert shard["raw_data"]["hashes"] == {"xxh3_128": xxhash.xxh3_128_hexdigest(raw)}
    count = int(np.frombuffer(raw, np.uint32, 1)[0])
    assert count == shard["samples"]
    borders = np.frombuffer(raw, np.uint32, count + 1, 4).tolist()
    note = json.loads(raw[4 * (count + 2) : borders[0]])
    assert note["column_names"] == shard["column_names"] == sorted(shard["column_names"])
    assert borders[-1] == len(raw)
    return [_mds_sample(raw[low:high], shard) for low, high in pairwise(borders)]


def _mds_sample(raw: bytes, shard: dict[str, Any]) -> dict[str, Any]:
    sizes, at = [], 0
    for size in shard["column_sizes"]:
        sizes.append(size or struct.unpack_from("<I", raw, at)[0])
        at += 0 if size else 4
    out = {}
    for name, encoding, size in zip(shard["column_names"], shard["column_encodings"], sizes, strict=True):
        out[name] = _mds_value(encoding, raw[at : at + size])
        at += size
    assert at == len(raw)
    return out


def _mds_value(encoding: str, raw: bytes) -> Any:
    if encoding == "json":
        return json.loads(raw)
    _, kind, *shape = encoding.split(":")
    if shape:
        return np.frombuffer(raw, kind).reshape(int(shape[0])).tolist()
    dimensions, width = raw[0] >> 2, 1 << (raw[0] & 3)
    sizes = np.frombuffer(raw[1 : 1 + dimensions * width], f"<u{width}")
    return np.frombuffer(raw[1 + dimensions * width :], kind).reshape(sizes).tolist()


def read_olmo(path: Path, kind: str) -> tuple[list[int], list[list[str]]]:
    """Return an array and its table."""
    tokens = np.memmap(path, dtype=kind, mode="r").tolist()
    with gzip.open(path.with_name(path.name.replace(".npy", ".csv.gz")), "rt", encoding="utf-8", newline="") as lines:
        return tokens, list(csv.reader(lines))
