"""Which rows joined documents were made of, listed beside them, so that a byte of one leads to its row and back.

    joined-00000.members.parquet   doc_id   byte_start   input   input_row       sorted by id and place in the text
                                   3fa9…             0       7          12
                                   3fa9…          5120       2           0
    rows.parquet                   place                doc_id                   sorted by file and row
                                   2 · 2^40 + 0         3fa9…
                                   7 · 2^40 + 12        3fa9…

`input` numbers the source's files, in the order in which the lock lists them. Both tables are sorted, so a lookup reads
one row group.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from mixture import schemas
from mixture.errors import StoreError
from mixture.hashing import id_array, id_column, id_words
from mixture.storage import Place, local, publish, spill
from mixture.tokens.store import parquet_options, read_between, write_parquet

Ints = npt.NDArray[np.int64]

_GROUP_ROWS = 1 << 16
#: Files have fewer than 2^40 rows, sources fewer than 2^23 files.
_PLACE_BITS = 40
_MEMORY_LIMIT = "2GB"


def members_file(joined: Place) -> Place:
    """Return where the rows of a file of joined documents are listed, `schemas.MEMBERS`."""
    return joined.with_suffix(".members.parquet")


def rows_file(folder: Place) -> Place:
    """Return where a folder of joined documents lists its source's rows, `schemas.ROWS`."""
    return folder / "rows.parquet"


def write_members(joined: Place, ids: bytes, counts: Ints, sizes: Ints, origins: tuple[Ints, Ints]) -> list[Any]:
    """Publish which rows the documents of a joined file are made of; return the file's size and hash.

    Args:
        joined: the file of documents.
        ids: of n documents, end to end.
        counts: rows of each, shape (n,).
        sizes: bytes that each row takes of its document, the separator behind it included, shape (rows,).
        origins: file and row that each came from, shape (rows,) each.
    """
    hi, lo = id_words(id_column(ids))
    order = np.lexsort((lo, hi))
    begin, count = (np.cumsum(counts) - counts)[order], counts[order]
    document = np.repeat(order, count)
    row = np.arange(len(document)) + np.repeat(begin - (np.cumsum(count) - count), count)
    start = np.cumsum(sizes) - sizes
    table = {
        "doc_id": id_array(hi[document], lo[document]),
        "byte_start": schemas.column((start[row] - np.repeat(start[begin], count)).astype(np.int64)),
        "input": schemas.column(origins[0][row], pa.int32()),
        "input_row": schemas.column(origins[1][row], pa.int64()),
    }
    return write_parquet(members_file(joined), pa.table(table).cast(schemas.MEMBERS), group_rows=_GROUP_ROWS)


def write_rows(folder: Place, names: Sequence[str]) -> list[Any]:
    """Publish which document each row of a source went into; return the file's size and hash.

    Args:
        folder: of the source's joined documents.
        names: of the files in it that hold documents.

    Raises:
        StoreError: the disk has no room to sort.
    """
    files = [str(local(members_file(folder / name))) for name in names]
    query = f"""SELECT (input::BIGINT << {_PLACE_BITS}) + input_row AS place, doc_id
                FROM read_parquet(?) ORDER BY place"""  # noqa: S608 - a number of ours
    try:
        with (
            duckdb.connect(config={"memory_limit": _MEMORY_LIMIT, "temp_directory": spill(folder / "staged")}) as db,
            publish(rows_file(folder)) as out,
            pq.ParquetWriter(pa.PythonFile(out, "w"), schemas.ROWS, **parquet_options(schemas.ROWS.names)) as writer,
        ):
            if files:
                for batch in db.sql(query, params=[files]).to_arrow_reader(_GROUP_ROWS):
                    writer.write_table(pa.Table.from_batches([batch]).cast(schemas.ROWS))
    except duckdb.Error as error:
        cause = " ".join(str(error).split())
        raise StoreError(
            f"{folder}: the rows that were joined cannot be sorted there ({cause}); free some space and run again"
        ) from error
    return [out.size, out.digest]


def document_of(folder: Place, number: int, row: int) -> bytes | None:
    """Return the id of the document that a row went into, or None: the row was rejected, or there is no such row.

    Args:
        folder: of the source's joined documents.
        number: of the file in its source.
        row: counted from 0.

    Raises:
        StoreError: the table is gone or damaged.
    """
    place = number << _PLACE_BITS | row
    found = read_between(rows_file(folder), place, place)
    at = np.flatnonzero(schemas.numbers(found["place"]) == place)
    return bytes(found["doc_id"][int(at[0])].as_py()) if len(at) else None


def members_of(joined: Place, doc_id: bytes) -> pa.Table:
    """Return the rows of one document, `schemas.MEMBERS`, in the order of its text.

    Args:
        joined: the file that holds it.
        doc_id: its id, 16 bytes.

    Raises:
        StoreError: the table is gone or damaged.
    """
    found = read_between(members_file(joined), doc_id, doc_id)
    words = np.frombuffer(doc_id, ">u8")
    hi, lo = id_words(found["doc_id"])
    return found.take(schemas.column(np.flatnonzero((hi == words[0]) & (lo == words[1]))))
