"""The index's rows, sorted by id: DuckDB brings equal texts together, within its memory limit and with room on disk.

    staging.parquet, any order   ─▶   numbered among equal texts   ─▶   index.parquet, by id, domain, number

The recipe says whether the first of equal texts stays or all. "First" is by the order of the sources, then by domain
and carried values, so renaming or splitting files does not matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from mixture import schemas
from mixture.hashing import fingerprint
from mixture.storage import Place, publish
from mixture.storage.tables import open_parquet
from mixture.tokens.store import parquet_options

_MEMORY_LIMIT = "2GB"
_ROWS_AT_ONCE = 1 << 17


def staged_name(number: int) -> str:
    """Name a carried column while it is sorted: the corpus's own names may be those of the index, or differ in case."""
    return f"carried_{number}"


def _indexed(name: str) -> str:
    """Name a carried column in the index: `source` is taken there, so a field of that name becomes `carry.source`."""
    return f"carry.{name}" if name in schemas.INDEX.names else name


def sort_index(
    staging: Path, target: Place, schema: pa.Schema, carried: Sequence[str], *, keep: bool
) -> dict[str, Any]:
    """Write the sorted index; return its record: documents, tokens, duplicates, digest, size and hash of the file.

    Args:
        staging: rows in any order, with `rank`, the number of their source.
        target: the index, `schemas.INDEX` and the carried columns.
        schema: of the staged rows.
        carried: names of the carried columns.
        keep: number equal texts; else only the first of them stays.
    """
    staged = [staged_name(number) for number in range(len(carried))]
    extra = "".join(f", {name}" for name in staged)
    ties = ", ".join(["domain", *staged, "input_file", "input_row"])
    # With `keep`, equal texts of one domain are numbered among themselves: another domain's do not disturb them.
    group = "doc_id, domain" if keep else "doc_id"
    which = "" if keep else "WHERE occurrence = 0"
    query = f"""
        WITH numbered AS (
            SELECT *, (row_number() OVER same - 1)::INTEGER AS occurrence,
                   (count(*) OVER (PARTITION BY {group}))::INTEGER AS equal
            FROM read_parquet(?)
            WINDOW same AS (PARTITION BY {group} ORDER BY rank, {ties})
        )
        SELECT doc_id, source, domain, n_tokens, n_bytes, part, row, token_offset, input_file, input_row,
               occurrence, {"equal" if keep else "1::INTEGER"} AS occurrences{extra}
        FROM numbered {which} ORDER BY doc_id, domain, occurrence"""  # noqa: S608 - names are ours, values bound
    extras = [schema.field(s).with_name(_indexed(name)) for s, name in zip(staged, carried, strict=True)]
    fields = [*schemas.INDEX, *extras]
    record: dict[str, Any] = {"documents": 0, "tokens": 0}
    digest = _Digest()
    with duckdb.connect(config={"memory_limit": _MEMORY_LIMIT, "temp_directory": str(staging.parent / "spill")}) as db:
        reader = db.sql(query, params=[str(staging)]).to_arrow_reader(_ROWS_AT_ONCE)
        with (
            publish(target) as out,
            pq.ParquetWriter(
                pa.PythonFile(out, "w"),
                pa.schema(fields),
                **parquet_options([field.name for field in fields]),
            ) as writer,
        ):
            for table in _tables(reader, pa.schema(fields)):
                writer.write_table(table)
                digest.add(table)
                record["documents"] += len(table)
                record["tokens"] += pc.sum(table["n_tokens"]).as_py() or 0
    repeats = digest.repeats if keep else open_parquet(staging).metadata.num_rows - record["documents"]
    return record | {"duplicates": repeats, "digest": digest.hexdigest(), "file": [out.size, out.digest]}


def _tables(reader: pa.RecordBatchReader, schema: pa.Schema) -> Iterator[pa.Table]:
    """Gather DuckDB's small batches into row groups of the index's schema."""
    held: list[pa.RecordBatch] = []
    rows = 0
    for batch in reader:
        held.append(batch)
        rows += len(batch)
        if rows >= _ROWS_AT_ONCE:
            yield pa.Table.from_batches(held).rename_columns(schema.names).cast(schema)
            held, rows = [], 0
    if held:
        yield pa.Table.from_batches(held).rename_columns(schema.names).cast(schema)


class _Digest:
    """Hash of the sorted (id, tokens, domain) rows; a column at a time, so that batch sizes do not matter."""

    def __init__(self) -> None:
        self._columns = (xxhash.xxh3_128(), xxhash.xxh3_128(), xxhash.xxh3_128())
        self.repeats = 0

    def add(self, table: pa.Table) -> None:
        """Take in the next rows, in their order."""
        ids, lengths, domains = self._columns
        column = table["doc_id"].combine_chunks()
        ids.update(column.buffers()[1][16 * column.offset : 16 * (column.offset + len(column))])
        lengths.update(schemas.numbers(table["n_tokens"]).astype("<i8").tobytes())
        domains.update("\0".join([*table["domain"].to_pylist(), ""]).encode())
        self.repeats += int((schemas.numbers(table["occurrence"]) > 0).sum())

    def hexdigest(self) -> str:
        return fingerprint([column.hexdigest() for column in self._columns])
