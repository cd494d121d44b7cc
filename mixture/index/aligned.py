"""A column of numbers beside the index, one per row in its order: weights, or how often each document was seen.

An uncompressed Arrow file, mapped and not read: a stretch of rows costs what it holds.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mixture import schemas
from mixture.errors import StoreError
from mixture.storage import Place, publish
from mixture.storage.tables import mapped
from mixture.tokens.store import damaged


def write_aligned(path: Place, name: str, kind: pa.DataType, values: Iterable[npt.NDArray[Any]]) -> int:
    """Publish a column; return its number of rows.

    Args:
        path: the file.
        name: of the column.
        kind: of its numbers.
        values: its numbers, some rows at a time.
    """
    rows = 0
    schema = pa.schema([pa.field(name, kind, nullable=False)])
    with publish(path) as out, pa.ipc.new_file(pa.PythonFile(out, "w"), schema) as writer:
        for part in values:
            writer.write_batch(pa.record_batch([schemas.column(part, kind)], schema=schema))
            rows += len(part)
    return rows


class Aligned:
    """Reads such a column by ranges of rows."""

    def __init__(self, path: Place) -> None:
        self._path = path
        try:
            self._file = pa.ipc.open_file(mapped(path))
            counts = [self._file.get_batch(n).num_rows for n in range(self._file.num_record_batches)]
        except (pa.ArrowException, OSError) as error:
            raise StoreError(damaged(path, error)) from error
        self._starts = np.cumsum([0, *counts])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def between(self, first: int, stop: int) -> npt.NDArray[Any]:
        """Return the numbers of rows [first, stop), read-only."""
        low = int(np.searchsorted(self._starts, first, "right")) - 1
        parts = []
        while first < stop and low < len(self._starts) - 1:
            start, end = int(self._starts[low]), int(self._starts[low + 1])
            values = schemas.numbers(self._file.get_batch(low).column(0))
            parts.append(values[first - start : min(stop, end) - start])
            first, low = min(stop, end), low + 1
        if first < stop:
            raise StoreError(damaged(self._path, ValueError(f"it ends before row {stop:,}")))
        return np.concatenate(parts) if len(parts) > 1 else parts[0] if parts else np.empty(0, np.int64)
