"""The second task of a join: the rows of one bucket, from all staged files, become documents.

    staged/00000-00000.arrow, batch 3   x b.py B │ y a.py C        ┐
    staged/00001-00000.arrow, batch 3   x a.py A                   ┘ ─▶  joined-00003.arrow   A␤␤B │ C

A document keeps the fields of its first row. Which rows it was made of is listed beside the file (`members`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mixture import schemas
from mixture.corpus import documents, fields, verdict
from mixture.errors import InputError, StoreError
from mixture.hashing import document_ids
from mixture.storage import Place, as_place, exists, publish, read_json, read_record, size_of, write_json
from mixture.storage.tables import mapped
from mixture.tokens import rejects
from mixture.tokens.dependencies import dependency_order
from mixture.tokens.join_rows import ID, KEY, ORDER, PLACE, TEXT, as_text, bucket_file, kept_name, one_chunk, options
from mixture.tokens.members import members_file, write_members
from mixture.tokens.shares import merged
from mixture.tokens.store import damaged


@dataclass(frozen=True)
class _Bucket:
    """The rows of one bucket.

    Attributes:
        rows: all but their texts, in the order in which they are joined.
        edges: first row of each document, and behind the last one; shape (documents + 1,).
        texts: of each staged file, where its texts begin, and their bytes.
        source: of each row, its staged file; and its number there, shape (rows, 2).
        sizes: bytes of each joined document, shape (documents,).
    """

    rows: pa.Table
    edges: npt.NDArray[np.int64]
    texts: list[tuple[npt.NDArray[np.int64], memoryview]]
    source: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]

    def text(self, document: int, separator: bytes) -> bytes:
        """Return a joined document."""
        return separator.join(self.parts(document))

    def parts(self, document: int) -> list[memoryview]:
        """Return the texts of a document's rows."""
        found = []
        for file, row in self.source[self.edges[document] : self.edges[document + 1]].tolist():
            offsets, whole = self.texts[file]
            found.append(whole[offsets[row] : offsets[row + 1]])
        return found

    def by_dependency(self) -> _Bucket:
        """Return the bucket with the rows of each document by what they import; their orders are paths."""
        if not len(self.rows):
            return self
        paths = as_text(self.rows[ORDER].combine_chunks()).to_pylist()
        order: npt.NDArray[np.int64] = np.arange(len(paths))
        for document, (first, stop) in enumerate(pairwise(self.edges.tolist())):
            # A row without a path imports nothing, and stays behind those that have one.
            named = first + sum(path is not None for path in paths[first:stop])
            texts = [str(part, "utf-8") for part in self.parts(document)[: named - first]]
            order[first:named] = first + np.array(dependency_order(paths[first:named], texts), np.int64)
        return replace(self, rows=self.rows.take(schemas.column(order)), source=self.source[order])


def join_bucket(
    folder: str,
    bucket: int,
    columns: list[str],
    by: str,
    separator: str,
    most: int,
    skip_bad: bool,
    dependency: bool,
) -> dict[str, Any]:
    """Task: join the rows of one bucket and publish the documents.

    Raises:
        InputError: a joined document is too large, and bad rows stop.
    """
    path = bucket_file(as_place(folder), bucket)
    aside = path.with_suffix(".json")
    record = read_record(aside, "name", "rows", "documents", "rejected", "samples", "files", "size", "hash", "members")
    listed = record is not None and (not record["members"] or exists(members_file(path)))
    if record is not None and listed and (size_of(path) or 0) == record["size"]:
        return record
    held = _load(as_place(folder) / "staged", bucket, len(separator.encode()), len(columns))
    held = held.by_dependency() if dependency else held
    kept = np.flatnonzero(held.sizes <= most)
    large = np.flatnonzero(held.sizes > most)
    samples = [_too_large(held, int(document), by, most, skip_bad=skip_bad) for document in large[: rejects.SAMPLES]]
    firsts = held.edges[kept]
    inputs = schemas.numbers(held.rows[PLACE[0]])[firsts] if len(held.rows) else np.zeros(0, np.int32)
    files, number = np.unique(inputs, return_inverse=True)
    record = {"name": path.name, "rows": len(held.rows), "documents": len(kept)}
    record |= {"rejected": {"over the size limit": len(large)} if len(large) else {}, "samples": samples}
    record |= {"files": files.tolist(), "size": 0, "hash": "", "members": []}
    if len(kept):
        rows = held.rows.take(schemas.column(firsts))
        kinds = [(TEXT, pa.large_string()), (PLACE[0], pa.int32()), (PLACE[1], pa.int64())]
        facts = {PLACE[0]: schemas.column(number.astype(np.int32)), PLACE[1]: rows[PLACE[1]]}
        facts |= {name: rows[kept_name(n)] for n, name in enumerate(columns)}
        kinds += [(name, rows.schema.field(kept_name(n)).type) for n, name in enumerate(columns)]
        ids = _write_joined(path, held, kept, pa.table(facts), pa.schema(kinds), separator.encode(), record)
        record["members"] = _write_members(path, held, kept, ids, len(separator.encode()))
    write_json(aside, record)
    return record


def _load(folder: Place, bucket: int, between: int, columns: int) -> _Bucket:
    tables: list[pa.Table] = []
    texts: list[tuple[npt.NDArray[np.int64], memoryview]] = []
    source = [np.zeros((0, 2), np.int64)]
    for name, first in read_json(folder / "staged.json"):
        try:
            with mapped(folder / name) as staged:
                batch = pa.ipc.open_file(staged, options=pa.ipc.IpcReadOptions(use_threads=False)).get_batch(bucket)
        except (pa.ArrowException, OSError) as error:
            raise StoreError(damaged(folder / name, error)) from error
        if not batch.num_rows:
            continue
        row = schemas.column(schemas.numbers(batch[PLACE[1]]) + np.int64(first))
        facts = pa.Table.from_batches([batch]).drop_columns([TEXT, PLACE[1]]).append_column(PLACE[1], row)
        here = np.full(batch.num_rows, len(texts), np.int64)
        source.append(np.stack([here, np.arange(batch.num_rows)], axis=1))
        tables.append(facts)
        texts.append(_pieces(batch[TEXT]))
    if not tables:
        return _Bucket(pa.table({}), np.zeros(1, np.int64), [], source[0], np.zeros(0, np.int64))
    rows, places_of = merged(tables), np.concatenate(source)
    lengths = np.concatenate([np.diff(offsets) for offsets, _ in texts])
    # Rows of the same text and order are told apart by what a document keeps of its first row, not by their files.
    by = [KEY, ORDER, ID, *(kept_name(n) for n in range(columns))]
    order = schemas.numbers(pc.sort_indices(rows, sort_keys=[(name, "ascending") for name in by]))
    rows = rows.take(schemas.column(order.astype(np.int64)))
    codes = schemas.numbers(rows[KEY].combine_chunks().dictionary_encode().indices)
    edges = np.concatenate([[0], np.flatnonzero(np.diff(codes)) + 1, [len(codes)]]).astype(np.int64)
    sizes = np.add.reduceat(lengths[order], edges[:-1]) + between * (np.diff(edges) - 1)
    return _Bucket(rows, edges, texts, places_of[order], sizes)


def _pieces(text: pa.LargeBinaryArray) -> tuple[npt.NDArray[np.int64], memoryview]:
    """Return where each text begins, shape (n + 1,), and the bytes that this counts in, still on the disk."""
    offsets = np.frombuffer(text.buffers()[1], np.int64, len(text) + 1, 8 * text.offset)
    return offsets, memoryview(text.buffers()[2] or b"")


def _too_large(held: _Bucket, document: int, by: str, most: int, *, skip_bad: bool) -> dict[str, Any]:
    at = int(held.edges[document])
    row = held.rows.slice(at, 1).to_pylist()[0]
    count, size = int(held.edges[document + 1]) - at, int(held.sizes[document])
    shown = verdict.shown(row[KEY].encode())
    if not skip_bad:
        raise InputError(
            f"the {count:,} rows of {by} {shown!r} make a document of {size:,} bytes, over the size limit of {most:,}; "
            "raise max_document_bytes, or let such documents be counted and left out with `on_bad_row: skip`"
        )
    sample = f"{by}: {shown}, {count:,} rows, {size:,} bytes"
    return {"input": row[PLACE[0]], "row": row[PLACE[1]], "reason": "over the size limit", "sample": sample}


def _write_joined(
    path: Place,
    held: _Bucket,
    kept: npt.NDArray[np.int64],
    facts: pa.Table,
    schema: pa.Schema,
    separator: bytes,
    record: dict[str, Any],
) -> bytes:
    """Write documents in batches of a chunk each, the file's size and hash into a record; return the documents' ids."""
    ids = []
    with publish(path) as out, pa.ipc.new_file(pa.PythonFile(out, "w"), schema, options=options()) as writer:
        begin = 0
        while begin < len(kept):
            filled = np.cumsum(held.sizes[kept[begin:]])
            end = begin + max(1, int(np.searchsorted(filled, documents.CHUNK_BYTES, side="right")))
            texts = [held.text(document, separator) for document in kept[begin:end].tolist()]
            ids.append(document_ids(texts))
            columns = [fields.from_bytes(texts).view(pa.large_string())]
            columns += [one_chunk(column) for column in facts.slice(begin, end - begin).columns]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
            begin = end
    record |= {"size": out.size, "hash": out.digest}
    return b"".join(ids)


def _write_members(path: Place, held: _Bucket, kept: npt.NDArray[np.int64], ids: bytes, between: int) -> list[Any]:
    """List the rows of the documents that were written; see `members.write_members`."""
    begin, count = held.edges[kept], np.diff(held.edges)[kept]
    row = np.arange(count.sum()) + np.repeat(begin - (np.cumsum(count) - count), count)
    before = np.cumsum([0] + [len(offsets) - 1 for offsets, _ in held.texts])
    size = np.concatenate([np.diff(offsets) for offsets, _ in held.texts])
    sizes = size[before[held.source[row, 0]] + held.source[row, 1]] + between
    origins = [schemas.numbers(held.rows[name])[row] for name in PLACE]
    return write_members(path, ids, count, sizes, (origins[0], origins[1]))
