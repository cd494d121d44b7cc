"""The index's rows, sorted by id, within bounded memory and with room on disk.

    parts' rows   ─▶   sorted runs of about 128 MB   ─▶   a range of ids at a time   ─▶   index.parquet

Ids are hashes, so equal ranges of them hold about equally many rows, and a range of a sorted run is one stretch of it.
A single run stays in memory; several lie in a mapped file. What has to fit into memory besides is all that is equal
to one text.

The recipe says whether the first of equal texts stays or all. "First" is by the order of the sources, then by domain
and carried values, so renaming or splitting files does not matter.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from mixture import schemas
from mixture.hashing import U64, fingerprint, id_words
from mixture.storage import Place, publish
from mixture.storage.tables import mapped
from mixture.tokens.store import parquet_options

_RUN_BYTES = 128 << 20
#: Rows in a row group: twice the 122,880 that DuckDB sorts at once, so that an index is the file that it always was.
_ROWS_AT_ONCE = 245_760


def staged_name(number: int) -> str:
    """Name a carried column while it is sorted: the corpus's own names may be those of the index, or differ in case."""
    return f"carried_{number}"


def _indexed(name: str) -> str:
    """Name a carried column in the index: `source` is taken there, so a field of that name becomes `carry.source`."""
    return f"carry.{name}" if name in schemas.INDEX.names else name


def sort_index(
    tables: Iterable[pa.Table], target: Place, bench: Path, schema: pa.Schema, carried: Sequence[str], *, keep: bool
) -> dict[str, Any]:
    """Write the sorted index; return its record.

    Args:
        tables: rows in any order, with `rank`, the number of their source.
        target: the index, `schemas.INDEX` and the carried columns.
        bench: folder of this machine for what does not fit into memory.
        schema: of the staged rows.
        carried: names of the carried columns.
        keep: number equal texts; else only the first of them stays.

    Returns:
        Rows `staged`, documents, tokens, duplicates, digest, and size and hash of the file.

    Raises:
        StoreError: the disk is full.
    """
    extras = [schema.field(staged_name(n)).with_name(_indexed(name)) for n, name in enumerate(carried)]
    fields = pa.schema([*schemas.INDEX, *extras])
    record: dict[str, Any] = {"documents": 0, "tokens": 0}
    digest = _Digest()
    staging = bench / "staging.arrow"
    given = _Counted(tables)
    try:
        runs = _runs(given, staging, schema)
        with (
            publish(target) as out,
            pq.ParquetWriter(pa.PythonFile(out, "w"), fields, **parquet_options(fields.names)) as writer,
        ):
            staged = [*schemas.INDEX.names, *(staged_name(number) for number in range(len(carried)))]
            for rows in _row_groups(_sorted(runs, keep=keep)):
                table = rows.select(staged).rename_columns(fields.names)
                writer.write_table(table)
                digest.add(table)
                record["documents"] += len(table)
                record["tokens"] += int(schemas.numbers(table["n_tokens"]).sum())
    finally:
        staging.unlink(missing_ok=True)
    repeats = digest.repeats if keep else given.rows - record["documents"]
    return record | {
        "staged": given.rows,
        "duplicates": repeats,
        "digest": digest.hexdigest(),
        "file": [out.size, out.digest],
    }


class _Counted:
    """Passes tables on and counts their rows."""

    def __init__(self, tables: Iterable[pa.Table]) -> None:
        self._tables, self.rows = tables, 0

    def __iter__(self) -> Iterator[pa.Table]:
        for table in self._tables:
            self.rows += len(table)
            yield table


def _runs(tables: Iterable[pa.Table], staging: Path, schema: pa.Schema) -> list[pa.RecordBatch]:
    """Gather tables into runs; several are sorted and staged. A lone one is not: its order is found later, once."""
    gathered = _gathered(tables)
    first = list(itertools.islice(gathered, 2))
    if len(first) < 2:
        return [batch for table in first for batch in table.to_batches()]
    with publish(staging) as out, pa.ipc.new_file(pa.PythonFile(out, "w"), schema) as writer:
        for table in itertools.chain(first, gathered):
            writer.write_table(table.take(schemas.column(np.argsort(_leading(table)))))
    file = pa.ipc.open_file(mapped(staging))
    return [file.get_batch(number) for number in range(file.num_record_batches)]


def _gathered(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    held: list[pa.Table] = []
    size = 0
    for table in tables:
        held.append(table)
        size += table.nbytes
        if size >= _RUN_BYTES:
            yield pa.concat_tables(held).combine_chunks()
            held, size = [], 0
    if held:
        yield pa.concat_tables(held).combine_chunks()


def _leading(rows: pa.Table | pa.RecordBatch) -> U64:
    return id_words(rows["doc_id"])[0]


def _sorted(runs: Sequence[pa.RecordBatch], *, keep: bool) -> Iterator[pa.Table]:
    """Yield the rows by id, numbered among equal texts, a range of ids at a time."""
    count = -(-sum(run.nbytes for run in runs) // _RUN_BYTES) if len(runs) > 1 else 1
    borders = np.array([(number << 64) // count for number in range(1, count)], np.uint64)
    inner = [np.searchsorted(_leading(run), borders).tolist() if count > 1 else [] for run in runs]
    cuts = [[0, *cut, len(run)] for cut, run in zip(inner, runs, strict=True)]
    for number in range(count):
        parts = [run.slice(cut[number], cut[number + 1] - cut[number]) for run, cut in zip(runs, cuts, strict=True)]
        if any(len(part) for part in parts):
            yield _numbered(pa.Table.from_batches(parts).combine_chunks(), keep=keep)


def _numbered(table: pa.Table, *, keep: bool) -> pa.Table:
    """Sort rows by id, domain and number; number equal texts, or leave out all but the first."""
    words = _leading(table)
    order = np.argsort(words)
    words = words[order]
    alike = np.zeros(len(words) + 1, np.bool_)
    np.equal(words[1:], words[:-1], out=alike[1:-1])
    tied = np.flatnonzero(alike[1:] | alike[:-1])
    occurrence, equal = np.zeros(len(words), np.int32), np.ones(len(words), np.int32)
    if len(tied):
        among, occurrence[tied], equal[tied] = _among_equals(table.take(schemas.column(order[tied])), keep=keep)
        order[tied] = order[tied][among]
    if not keep and occurrence.any():
        order, equal = order[occurrence == 0], equal[occurrence == 0]
        occurrence = np.zeros_like(equal)
    laid = table.take(schemas.column(order)).append_column("occurrence", schemas.column(occurrence))
    return laid.append_column("occurrences", schemas.column(equal if keep else np.ones_like(equal)))


def _among_equals(
    rows: pa.Table, *, keep: bool
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Put rows that share their ids' leading words in order.

    With `keep`, equal texts of one domain are numbered among themselves: another domain's do not disturb them.

    Returns:
        The order; in that order, each row's number among its equals, and how many those are; shape (n,) each.
    """
    carried = [name for name in rows.column_names if name.startswith("carried_")]
    same = ["doc_id", "domain"] if keep else ["doc_id"]
    ties = ["rank", *([] if keep else ["domain"]), *carried, "input_file", "input_row"]
    keys = rows.select([*same, *ties])
    for number, field in enumerate(keys.schema):
        if pa.types.is_float16(field.type):  # Arrow does not sort these.
            keys = keys.set_column(number, field.name, keys.column(number).cast(pa.float32()))
    order = pc.sort_indices(keys, [(name, "ascending") for name in keys.column_names])
    laid = keys.select(same).take(order)
    other = np.ones(len(rows), np.bool_)
    other[1:] = False
    for name in same:
        values = laid[name].combine_chunks()
        differs = pc.not_equal(values.slice(1), values.slice(0, len(values) - 1))
        other[1:] |= schemas.numbers(differs.cast(pa.int8())).astype(np.bool_)
    group = np.cumsum(other) - 1
    starts = np.flatnonzero(other)
    occurrence = (np.arange(len(rows)) - starts[group]).astype(np.int32)
    return schemas.numbers(order).astype(np.int64), occurrence, np.bincount(group).astype(np.int32)[group]


def _row_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Cut rows into row groups."""
    held: list[pa.Table] = []
    for table in tables:
        held = [pa.concat_tables([*held, table])]
        while len(held[0]) >= _ROWS_AT_ONCE:
            yield held[0].slice(0, _ROWS_AT_ONCE).combine_chunks()
            held = [held[0].slice(_ROWS_AT_ONCE)]
    if held and len(held[0]):
        yield held[0].combine_chunks()


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
        coded = table["domain"].combine_chunks().dictionary_encode()
        ended = schemas.strings([f"{name}\0" for name in coded.dictionary.to_pylist()])
        domains.update(ended.take(coded.indices).buffers()[2])
        self.repeats += int((schemas.numbers(table["occurrence"]) > 0).sum())

    def hexdigest(self) -> str:
        return fingerprint([column.hexdigest() for column in self._columns])
