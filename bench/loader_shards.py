"""Shards as `pack` writes them, filled with random tokens, and the same as MDS shards: what the loader's bench reads.

Documents of SlimPajama's shape lie end to end in sequences of 32K, with spans and hashes of rows, and a lock names all.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bench.packings import window
from bench.slimpajama import DOMAINS
from mixture import schemas
from mixture.hashing import id_array
from mixture.lockfile import Lock
from mixture.pack.concat import concat
from mixture.shards.record import hash_rows, record_path, rows_path, shard_name
from mixture.storage import file_digest, write_json

LENGTH = 32 << 10
#: Tokens in a record batch, as `pack` writes them.
_BATCH_TOKENS = 8 << 20
_SEED = 1


def make(work: Path, sequences: int, shards: int, vocabulary: int) -> Lock:
    """Write shards of so many sequences each, and their lock."""
    folder = work / "shards"
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(_SEED)
    facts = [_write(folder / shard_name(number, shards), sequences, vocabulary, draw) for number in range(shards)]
    cells = [{"domain": name, "bucket": ""} for name in DOMAINS]
    stream = {"sequence_length": LENGTH, "align": 1, "digest": "0" * 32}
    phase = {"name": "", "stream": stream, "cells": cells, "context": {}, "top": {}, "packing": {}, "shards": facts}
    recipe = {"fingerprint": "bench", "content": {"packing": "concat", "seed": 0}}
    lock = Lock("bench", recipe, {}, [], {"fingerprint": "bench", "vocabulary": vocabulary}, {}, [phase])
    lock.write(work / "bench.lock.json")
    return lock


def _write(path: Path, sequences: int, vocabulary: int, draw: np.random.Generator) -> dict[str, Any]:
    token = schemas.token_type(vocabulary)
    schema = schemas.shard(token, LENGTH, prefix=0, suffix=0)
    lengths, domain = window(sequences * LENGTH, seed=int(draw.integers(1 << 30)))
    pieces = concat(lengths, LENGTH).of_sequences(0, sequences)
    ids = draw.integers(0, 1 << 62, (2, len(lengths)), np.uint64)
    names = schemas.strings(DOMAINS)
    hashes: list[str] = []
    with pa.ipc.new_file(str(path), schema) as writer:
        per_batch = _BATCH_TOKENS // LENGTH
        for low in range(0, sequences, per_batch):
            part = pieces.of_sequences(low, min(low + per_batch, sequences))
            count = min(per_batch, sequences - low)
            tokens = draw.integers(0, vocabulary, count * LENGTH, token.to_pandas_dtype())
            spans = pa.StructArray.from_arrays(
                [
                    schemas.column(part.start, pa.int32()),
                    schemas.column(part.start + part.size, pa.int32()),
                    names.take(schemas.column(domain[part.row])),
                    id_array(ids[0][part.row], ids[1][part.row]),
                    schemas.column(part.offset),
                    schemas.column(lengths[part.row]),
                    schemas.column(np.zeros(len(part.row), np.int32)),
                ],
                fields=list(schemas.SPAN),
            )
            borders = np.searchsorted(part.sequence, np.arange(count + 1)).astype(np.int32)
            batch = pa.record_batch(
                [
                    pa.FixedSizeListArray.from_arrays(schemas.column(tokens), type=schema.field("input_ids").type),
                    pa.ListArray.from_arrays(schemas.column(borders), spans, type=schema.field("spans").type),
                ],
                schema=schema,
            )
            writer.write_batch(batch)
            hashes += hash_rows(batch)
    size, tokens_here = path.stat().st_size, sequences * LENGTH
    facts = {"shard": path.name, "sequences": sequences, "tokens": tokens_here, "size": size, "hash": file_digest(path)}
    write_json(record_path(path), facts | {"rows": write_json(rows_path(path), hashes)})
    return facts


def exported(work: Path) -> Path:
    """Write the shards as MDS, once; return the folder."""
    from mixture import lockfile
    from mixture.engine import Silence
    from mixture.engine.local import Local
    from mixture.export.make import Request, export

    lock = lockfile.read(work / "bench.lock.json")
    if lock is None:
        raise FileNotFoundError(work)
    out = work / "mds"
    if not (out / "export.json").exists():
        export(Request(lock, [work / "shards"], [0], "mds", "row"), out, Local(1), Silence())
    return out
