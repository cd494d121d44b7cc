"""Parquet: ranges of rows, cut by the sizes that the footer states for each row group's text.

Row groups of 1 GB (a common default elsewhere) are divided; the tiny ones of a streaming writer share a chunk. Only
the wanted columns are decoded, in batches of a few MB, so a row group never lies in memory whole. A reader that wants
every eighth chunk of one large row group still decodes the seven between: Parquet can be entered only at its groups.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from mixture.corpus import bytestream, documents, fields, spans, verdict
from mixture.corpus.documents import Chunk, InputFile, Reading
from mixture.storage import open_read
from mixture.storage.tables import open_parquet

_BATCH_BYTES = 1 << 22
_MAX_BATCH_ROWS = 1 << 16


def chunks(file: InputFile, reading: Reading) -> int | None:
    """Return the number of chunks, from the footer alone.

    Raises:
        InputError: not a whole Parquet file, or it has no such text field.
    """
    with bytestream.guard(file, "Parquet"), _open(file) as parquet:
        return len(_Groups(file, parquet, reading).chunks)


def read(file: InputFile, reading: Reading, start: int = 0, step: int = 1) -> Iterator[Chunk]:
    """Yield chunks start, start+step, … to the end of the file; see `verdict.chunk_of_batches`.

    Raises:
        InputError: the file is damaged, has no such text field, or (unless `reading.skip_bad`) has a bad row.
    """
    with bytestream.guard(file, "Parquet"), _open(file) as parquet:
        groups = _Groups(file, parquet, reading)
        for index in range(start, len(groups.chunks), step):
            stretches = groups.chunks[index]
            batches = [batch for stretch in stretches for batch in groups.take(*stretch)]
            yield verdict.chunk_of_batches(index, file, reading, groups.first_row(stretches[0]), batches)


def _open(file: InputFile) -> pq.ParquetFile:
    # Opened by Python first, for the operating system's own words where it refuses.
    with open_read(file.path) as raw:
        raw.read(1)
    return open_parquet(file.path, pre_buffer=False, memory_map=False)


class _Groups:
    """The row groups of one open file, their chunks, and a cursor that decodes a group once for all its chunks."""

    def __init__(self, file: InputFile, parquet: pq.ParquetFile, reading: Reading) -> None:
        schema = parquet.schema_arrow
        verdict.check_schema(file, schema, reading)
        names = dict.fromkeys((reading.text, *reading.columns))
        paths = [path for path in (fields.arrow_path(schema, name) for name in names) if path]
        self._columns = [".".join(path) for path in paths]
        self._parquet = parquet
        meta = parquet.metadata
        text = self._columns[0]
        self._sizes = [_size(meta.row_group(number), text) for number in range(meta.num_row_groups)]
        self.chunks = list(spans.cut(range(len(self._sizes)), self._sizes.__getitem__, documents.CHUNK_BYTES))
        self._group, self._next, self._held = -1, 0, pa.table({})
        self._batches: Iterator[pa.RecordBatch] = iter(())

    def first_row(self, stretch: spans.Stretch[int]) -> int:
        """Return the number in the file of a stretch's first row."""
        return sum(rows for rows, _ in self._sizes[: stretch[0]]) + stretch[1]

    def take(self, group: int, start: int, stop: int) -> Iterator[pa.RecordBatch]:
        """Yield rows start … stop-1 of a row group; calls must go forward through the file."""
        if group != self._group:
            self._enter(group)
        while self._next < stop:
            batch = self._held if self._held.num_rows else next(self._batches)
            here, there = self._next, min(self._next + batch.num_rows, stop)
            self._next, self._held = there, batch.slice(there - here)
            if there > start:
                yield batch.slice(max(start - here, 0), there - max(start, here))

    def _enter(self, group: int) -> None:
        rows, size = self._sizes[group]
        batch_rows = min(max(_BATCH_BYTES * rows // max(size, 1), 1), _MAX_BATCH_ROWS)
        self._batches = self._parquet.iter_batches(
            batch_rows, row_groups=[group], columns=self._columns, use_threads=False
        )
        self._group, self._next, self._held = group, 0, pa.table({})


def _size(group: pq.RowGroupMetaData, text: str) -> tuple[int, int]:
    """Return the rows of a row group and the bytes of its text, uncompressed."""
    columns = (group.column(number) for number in range(group.num_columns))
    size = sum(column.total_uncompressed_size for column in columns if column.path_in_schema == text)
    return group.num_rows, size or group.total_byte_size
