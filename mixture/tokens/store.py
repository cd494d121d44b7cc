"""The token store: Arrow files of one record batch, documents sorted by id, each with a Parquet file of their lengths.

    part-00003.arrow              doc_id, tokens                       read by `pack` alone, by ranges
    part-00003.documents.parquet  doc_id, n_tokens, n_bytes, input …   read by `bucket`
    part-00003.json               written last: the part is whole; knows its name, the size and hash of both files

Ids are hashes, so a range of ids is one contiguous range of bytes in every part: whoever wants a slice of the stream
reads parts' ranges, not documents.
"""

from __future__ import annotations

import bisect
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from mixture import schemas
from mixture.errors import StoreError
from mixture.hashing import U64, id_array
from mixture.storage import (
    Place,
    as_place,
    file_digest,
    publish,
    read_json,
    size_of,
    write_json,
)
from mixture.storage import read_record as read_json_record
from mixture.storage.tables import open_parquet

Tokens = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]


@dataclass(frozen=True)
class PartFiles:
    """The files of one part of the store."""

    folder: Place
    index: int

    @property
    def name(self) -> str:
        """The part's name in its record and in the index: unit and number."""
        return f"{self.folder.name}/{self.index:05d}"

    @property
    def tokens(self) -> Place:
        """Arrow file of ids and tokens."""
        return self.folder / f"part-{self.index:05d}.arrow"

    @property
    def documents(self) -> Place:
        """Parquet file of ids and lengths."""
        return self.folder / f"part-{self.index:05d}.documents.parquet"

    @property
    def record(self) -> Place:
        """JSON record; its presence means that the part is whole."""
        return self.folder / f"part-{self.index:05d}.json"

    def columns(self, key: str) -> Place:
        """Parquet file of the columns that a recipe reads besides the text, aligned with `documents`."""
        return self.folder / f"part-{self.index:05d}.columns-{key}.parquet"


def part_path(folder: Place, name: str) -> Place:
    """Return the tokens of the part that an index or a plan names."""
    unit, _, index = name.partition("/")
    return PartFiles(folder / unit, int(index)).tokens


def part_names(path: Place) -> list[str]:
    """Read the names of the parts that an index numbers: `parts.json` beside it.

    Raises:
        StoreError: missing or damaged.
    """
    names = read_json(path)
    if not isinstance(names, list):
        raise StoreError(damaged(path, ValueError("no list of names")))
    return names


def write_part(
    files: PartFiles,
    ids: tuple[U64, U64],
    tokens: npt.NDArray[np.uint32],
    offsets: npt.NDArray[np.int64],
    documents: dict[str, npt.NDArray[Any]],
    token: pa.DataType,
    facts: dict[str, Any],
) -> dict[str, Any]:
    """Publish one part; return its record.

    Args:
        files: where it goes.
        ids: words of the documents' ids, sorted, shape (n,) each.
        tokens: all tokens, flat.
        offsets: where each document starts in `tokens`, shape (n + 1,).
        documents: `n_bytes, input, input_row`, shape (n,) each.
        token: the vocabulary's token type.
        facts: what else the record says.
    """
    doc_id = id_array(*ids)
    values = schemas.column(tokens.astype(token.to_pandas_dtype(), copy=False))
    lists = pa.LargeListArray.from_arrays(
        schemas.column(offsets), values, type=schemas.store_part(token).field("tokens").type
    )
    batch = pa.record_batch([doc_id, lists], schema=schemas.store_part(token))
    with publish(files.tokens) as out, pa.ipc.new_file(pa.PythonFile(out, "w"), batch.schema) as writer:
        writer.write_batch(batch)
    columns = {name: schemas.column(values) for name, values in ({"n_tokens": np.diff(offsets)} | documents).items()}
    table = pa.table({"doc_id": doc_id} | columns).cast(schemas.PART_DOCUMENTS)
    beside = write_parquet(files.documents, table)
    record: dict[str, Any] = {
        "part": files.name,
        "documents": len(doc_id),
        "tokens": int(offsets[-1]),
        "bytes": int(documents["n_bytes"].sum()),
    }
    record |= {"hash": out.digest, "size": out.size, "documents_file": beside} | facts
    write_json(files.record, record)
    return record


#: Columns in which hardly a value comes twice: a dictionary of them only costs time.
_DISTINCT = frozenset({"doc_id", "row", "token_offset", "input_row", "position", "doc_stop"})


def parquet_options(names: Sequence[str]) -> dict[str, Any]:
    """Return how tables of the work directory are written: a checksum of each page, ids as they are.

    Ids are hashes: compressing them saves nothing, and reading them back takes five times as long.
    """
    return {
        "compression": {name: "none" if name == "doc_id" else "zstd" for name in names},
        "compression_level": {name: 1 for name in names if name != "doc_id"},
        "use_dictionary": [name for name in names if name not in _DISTINCT],
        # Names of parts of a large corpus pass the usual megabyte; then each is written out.
        "dictionary_pagesize_limit": 8 << 20,
        "write_page_checksum": True,
    }


def write_parquet(path: Place, table: pa.Table, *, group_rows: int | None = None) -> list[Any]:
    """Publish a table as Parquet (see `parquet_options`); return the file's size and hash, for a record."""
    with publish(path) as out:
        options = parquet_options(table.column_names)
        pq.write_table(table, pa.PythonFile(out, "w"), row_group_size=group_rows, **options)
    return [out.size, out.digest]


def read_parquet(path: Place, columns: Sequence[str] | None = None) -> pa.Table:
    """Read what `write_parquet` published.

    Raises:
        StoreError: missing or damaged.
    """
    try:
        # `read_table` goes through data sets, and so through pandas (see `schemas.column`).
        with open_parquet(path) as file:
            return file.read(columns)
    except (pa.ArrowException, OSError) as error:
        raise StoreError(damaged(path, error)) from error


def groups_between(facts: pq.FileMetaData, first: Any, last: Any) -> range:
    """Return the row groups of a table, sorted by its first column, that may hold values from `first` to `last`."""
    groups = range(facts.num_row_groups if facts.num_rows else 0)
    begins = lambda group: facts.row_group(group).column(0).statistics.min  # noqa: E731
    low = max(0, bisect.bisect_left(groups, first, key=begins) - 1)
    return range(low, max(low, bisect.bisect_right(groups, last, key=begins)))


def read_between(path: Place, first: Any, last: Any, columns: Sequence[str] | None = None) -> pa.Table:
    """Read the row groups of a table, sorted by its first column, that may hold values from `first` to `last`.

    Raises:
        StoreError: missing or damaged.
    """
    try:
        with open_parquet(path) as file:
            return file.read_row_groups(list(groups_between(file.metadata, first, last)), columns)
    except (pa.ArrowException, OSError, AttributeError) as error:
        raise StoreError(damaged(path, error)) from error


def widest(kinds: Collection[pa.DataType]) -> pa.DataType:
    """Return the type that columns of several types fit: numbers for numbers, else text; nulls fit any."""
    found = {kind for kind in kinds if not pa.types.is_null(kind)}
    if len(found) <= 1:
        return next(iter(found), pa.null())
    numeric = all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in found)
    return pa.float64() if numeric else pa.large_string()


def damaged(path: Place, error: Exception) -> str:
    """Return the sentence for an unreadable file of the work directory; every stage makes again what is gone."""
    cause = " ".join(str(error).split()).rstrip(". ")
    return f"{path}: missing or damaged ({cause}); remove it if it is there, `mixture run` makes it again"


_FIELDS = ("part", "documents", "tokens", "bytes", "hash", "size", "documents_file", "rows", "rejected", "samples")


def read_record(files: PartFiles, listed: Mapping[str, int] | None = None) -> dict[str, Any] | None:
    """Return the record of a part, or None if the part is not whole: no record, or a file of it gone or cut short.

    Args:
        files: the part's.
        listed: names and sizes in its folder, if they were listed: then no file is looked at but the record.
    """
    names = (files.documents, files.tokens)
    record = read_json_record(files.record, *_FIELDS)
    if record is None:
        return None
    sizes = [size_of(path) if listed is None else listed.get(path.name) for path in names]
    return record if sizes[0] is not None and sizes[1] == record["size"] else None


def check_parts(parts: Sequence[tuple[str, str]]) -> None:
    """Task: hold the tokens of parts, given by path, to the hashes in their records.

    Raises:
        StoreError: a part's bytes have changed since it was written.
    """
    for path, expected in parts:
        try:
            found = file_digest(as_place(path))
        except OSError as error:
            raise StoreError(damaged(as_place(path), error)) from error
        if found != expected:
            raise StoreError(damaged(as_place(path), ValueError(f"hash {found}, its record says {expected}")))
