"""A small index and tables of scores, written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from mixture import schemas
from mixture.index.aligned import Aligned
from mixture.index.weights import weigh
from mixture.scores.tables import ScoreTable


def identity(number: int) -> bytes:
    return xxhash.xxh3_128_digest(str(number).encode())


def identities(count: int) -> list[bytes]:
    """As many ids, in the order of the index."""
    return sorted(identity(n) for n in range(count))


def write_index(path: Path, count: int = 10, **carried: Sequence[Any]) -> Path:
    """An index of documents 0 … count-1 tokens long, of domains books and code in turn."""
    rows = range(count)
    columns: dict[str, Any] = {
        "doc_id": pa.array(identities(count), schemas.DOC_ID),
        "source": ["all"] * count,
        "domain": [("books", "code")[n % 2] for n in rows],
        "n_tokens": list(rows),
        "n_bytes": [4 * n for n in rows],
        "part": [0] * count,
        "row": list(rows),
        "token_offset": list(rows),
        "input_file": ["a.jsonl"] * count,
        "input_row": [100 + n for n in rows],
        "occurrence": [0] * count,
        "occurrences": [1] * count,
    }
    table = pa.table(columns).cast(schemas.INDEX)
    for name, values in carried.items():
        table = table.append_column(name, pa.array(values))
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=max(4, count // 16))
    return path


def write_table(path: Path, ids: Sequence[bytes | str | None], **columns: Sequence[Any]) -> Path:
    kind = pa.string() if any(isinstance(i, str) for i in ids) else pa.binary()
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"doc_id": pa.array(ids, kind)} | {k: pa.array(v) for k, v in columns.items()}), path)
    return path


def weights(
    index: Path, where: str | None = None, weight: str | None = None, tables: Sequence[ScoreTable] = ()
) -> tuple[list[float], dict[str, Any]]:
    target = index.parent / "weights.arrow"
    record = weigh(index, where, weight, tables, target, index.parent / "spill")
    column = Aligned(target)
    return column.between(0, len(column)).tolist(), record
