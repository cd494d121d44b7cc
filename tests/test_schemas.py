"""Numbers between numpy and Arrow, without pandas."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from mixture import schemas


@pytest.mark.parametrize("kind", ["u1", "u2", "u4", "i4", "i8", "f8"])
def test_numbers_come_back(kind: str) -> None:
    values = np.arange(7).astype(kind)
    array = schemas.column(values)
    assert array.equals(pa.array(values))
    assert schemas.numbers(array[2:5]).tolist() == [2, 3, 4]
    assert schemas.numbers(pa.chunked_array([array[:1], array[1:]])).dtype == values.dtype


def test_what_is_strided_or_empty_is_taken_too() -> None:
    assert schemas.column(np.arange(9)[::3]).to_pylist() == [0, 3, 6]
    assert schemas.numbers(schemas.column(np.zeros(0, np.int64))).tolist() == []


def test_a_cast_never_loses() -> None:
    assert schemas.column(np.array([1, 2]), pa.int32()).type == pa.int32()
    with pytest.raises(pa.ArrowInvalid):
        schemas.column(np.array([1 << 40]), pa.int32())


def test_nulls_are_refused() -> None:
    with pytest.raises(ValueError, match="1 nulls"):
        schemas.numbers(pa.array([1, None]))


def test_neither_store_nor_shards_import_pandas() -> None:
    code = """
import sys, tempfile
from pathlib import Path
import numpy as np, pyarrow as pa
import mixture.shards.write
from mixture.tokens import parts, store
part = store.PartFiles(Path(tempfile.mkdtemp()), 0)
ids = np.arange(2, dtype=np.uint64)
facts = {"rows": [2], "rejected": {}, "samples": []}
columns = {name: np.arange(2) for name in ("n_bytes", "input", "input_row")}
store.write_part(part, (ids, ids), np.arange(5, dtype=np.uint32), np.array([0, 2, 5]), columns, pa.uint16(), facts)
assert parts.open_part(part.tokens).tokens.tolist() == [0, 1, 2, 3, 4]
assert len(store.read_parquet(part.documents)) == 2
assert "pandas" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
