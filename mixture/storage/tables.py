"""Parquet and Arrow files, opened by the same call here and in an object store.

Of an object only what is asked for is fetched: a Parquet file's footer, then the column chunks of the row groups that
are read. An Arrow file that is mapped is fetched whole (but see `tokens.store` for the token store's parts).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from mixture.storage.faults import Place
from mixture.storage.mirror import Mirror, local, mirror, need

if TYPE_CHECKING:
    from upath import UPath

#: Most footers fit into so many bytes at a file's end.
_FOOTER_BYTES = 64 << 10


def open_parquet(path: Place, **options: Any) -> pq.ParquetFile:
    """Open a Parquet file.

    Args:
        path: the file or object.
        options: of `pyarrow.parquet.ParquetFile`; checksums of pages are held to where there are any.

    Raises:
        OSError: it is not there, or cannot be read.
        StoreError: the object store refuses.
        pyarrow.ArrowException: it is no Parquet file, or damaged.
    """
    options = {"page_checksum_verification": True} | options
    return pq.ParquetFile(path, **options) if isinstance(path, Path) else _Fetching(path, **options)


def mapped(path: Place) -> pa.MemoryMappedFile:
    """Map an Arrow file into memory; an object is fetched, once.

    Raises:
        OSError: it is not there, or cannot be read.
        StoreError: the object store refuses.
    """
    return pa.memory_map(str(local(path)))


class _Fetching(pq.ParquetFile):  # type: ignore[misc] # pyarrow has no types
    """A Parquet file in an object store: fetches what it reads into the object's mirror, and reads that."""

    def __init__(self, path: UPath, **options: Any) -> None:
        self._mirror = _with_footer(path)
        super().__init__(self._mirror.file, **options)

    def read(self, columns: Sequence[str] | None = None, **options: Any) -> pa.Table:
        self._fetch(range(self.metadata.num_row_groups), columns)
        return super().read(columns, **options)

    def read_row_group(self, i: int, columns: Sequence[str] | None = None, **options: Any) -> pa.Table:
        self._fetch([i], columns)
        return super().read_row_group(i, columns, **options)

    def read_row_groups(self, row_groups: Sequence[int], columns: Sequence[str] | None = None, **o: Any) -> pa.Table:
        self._fetch(row_groups, columns)
        return super().read_row_groups(row_groups, columns, **o)

    def iter_batches(
        self,
        batch_size: int = 65536,
        row_groups: Sequence[int] | None = None,
        columns: Sequence[str] | None = None,
        **options: Any,
    ) -> Iterator[pa.RecordBatch]:
        self._fetch(range(self.metadata.num_row_groups) if row_groups is None else row_groups, columns)
        yield from super().iter_batches(batch_size, row_groups, columns, **options)

    def _fetch(self, groups: Iterable[int], columns: Sequence[str] | None) -> None:
        need([(self._mirror, [piece for group in groups for piece in self._pieces(group, columns)])])

    def _pieces(self, group: int, columns: Sequence[str] | None) -> Iterator[tuple[int, int]]:
        facts = self.metadata.row_group(group)
        for number in range(facts.num_columns):
            chunk = facts.column(number)
            name = chunk.path_in_schema
            if columns is None or any(name == column or name.startswith(f"{column}.") for column in columns):
                start = chunk.data_page_offset
                if chunk.has_dictionary_page:
                    start = min(start, chunk.dictionary_page_offset)
                yield start, start + chunk.total_compressed_size


def _with_footer(path: UPath) -> Mirror:
    found = mirror(path)
    need([(found, [(found.size - _FOOTER_BYTES, found.size)])])
    with found.file.open("rb") as handle:
        handle.seek(max(0, found.size - 8))
        end = handle.read(8)
    if len(end) == 8:
        need([(found, [(found.size - 8 - struct.unpack("<I", end[:4])[0], found.size)])])
    return found
