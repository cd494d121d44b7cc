"""Mosaic Data Shards, as MosaicML's `streaming` reads them: files of about 64 MB and an `index.json`.

    shard.00000.mds   rows n | first byte of each, and the end | a note of the columns | the rows
    a row             bytes of each column of no fixed size | documents | marks | spans | tokens

Columns: `tokens`, an array of the sequence's length; `spans`, int32 of shape (m, 2), first place and past the last;
`documents`, JSON, a mapping for each span; `marks`, JSON, places, where a transform writes some.

Layout: `streaming/base/format/mds` of mosaicml-streaming; written here, so that nobody needs it (and torch) to export.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from mixture.export.format import File, Format, Options, put, written
from mixture.shards.read import OpenShard
from mixture.shards.spans import Spans, spans_of, tokens_of
from mixture.storage import HashingWriter, Place, publish

#: Bytes of tokens in a file, about: what `streaming` writes by default, and a loader fetches at a time.
_FILE_BYTES = 1 << 26
_HASH = "xxh3_128"
_SHAPE_CODES = {1: 0, 2: 1, 4: 2}


def write(shard: OpenShard, stem: Place, options: Options) -> list[File]:  # noqa: ARG001
    """Write one shard as one or more `.mds` files."""
    columns = _columns(shard)
    rows = max(1, _FILE_BYTES // (shard.length * shard.token.itemsize))
    files = []
    for number, group in enumerate(_groups(shard, rows)):
        path = stem.with_name(f"{stem.name}.{number:05d}.mds")
        heads = [head for batch in group for head in _heads(batch, shard.marked)]
        with publish(path) as out:
            _write_file(out, group, heads, columns)
        count = len(heads)
        files.append(File(path.name, out.size, out.digest, count, count * shard.length, columns))
    return files


def finish(folder: Place, files: Sequence[File]) -> list[File]:
    """Write `index.json`, which names the files and their columns."""
    path = folder / "index.json"
    entries = [
        _header(file.columns)
        | {
            "hashes": [_HASH],
            "raw_data": {"basename": file.file, "bytes": file.size, "hashes": {_HASH: file.hash}},
            "samples": file.sequences,
            "zip_data": None,
        }
        for file in files
    ]
    with publish(path) as out:
        out.write(json.dumps({"shards": entries, "version": 2}, sort_keys=True).encode())
    return [written(path, out)]


def _columns(shard: OpenShard) -> dict[str, str]:
    """Return the columns in the order in which they are written, which is that of their names."""
    marks = {"marks": "json"} if shard.marked else {}
    tokens = {"tokens": f"ndarray:{shard.token.name}:{shard.length}"}
    return {"documents": "json"} | marks | {"spans": "ndarray:int32"} | tokens


def _header(columns: dict[str, str]) -> dict[str, Any]:
    return {
        "version": 2,
        "format": "mds",
        "compression": None,
        "hashes": [_HASH],
        "size_limit": None,
        "column_names": list(columns),
        "column_encodings": list(columns.values()),
        "column_sizes": [_fixed_size(encoding) for encoding in columns.values()],
    }


def _fixed_size(encoding: str) -> int | None:
    """Return the bytes of a column's values where all have the same: arrays of a stated shape."""
    _, _, details = encoding.partition(":")
    kind, _, length = details.partition(":")
    return np.dtype(kind).itemsize * int(length) if length else None


def _groups(shard: OpenShard, rows: int) -> Iterator[list[pa.RecordBatch]]:
    """Cut a shard into groups of batches with `rows` rows together, the last with fewer."""
    group: list[pa.RecordBatch] = []
    room = rows
    for batch in shard.batches:
        at = 0
        while at < len(batch):
            group.append(batch.slice(at, room))
            at += len(group[-1])
            room -= len(group[-1])
            if room == 0:
                yield group
                group, room = [], rows
    if group:
        yield group


def _heads(batch: pa.RecordBatch, marked: bool) -> list[bytes]:
    """Return what stands before the tokens of each row: the sizes of the other columns, and these."""
    spans = spans_of(batch)
    columns = [_documents(spans)]
    if marked:
        columns.append([orjson.dumps(places) for places in batch.column("marks").to_pylist()])
    pairs = np.stack([spans.start, spans.stop], axis=1).astype("<i4")
    columns.append([_array(pairs[low:high]) for low, high in pairwise(spans.borders.tolist())])
    heads = []
    for values in zip(*columns, strict=True):
        sizes = np.array([len(value) for value in values], "<u4")
        heads.append(b"".join([sizes.tobytes(), *values]))
    return heads


def _documents(spans: Spans) -> list[bytes]:
    """Return what is known of the spans of each row, as JSON."""
    names = ("domain", "doc_id", "doc_offset", "doc_length", "copy")
    numbers = (spans.numbers(name).tolist() for name in names[2:])
    values = zip(spans.domains(), spans.ids(), *numbers, strict=True)
    every = [dict(zip(names, value, strict=True)) for value in values]
    return [orjson.dumps(every[low:high]) for low, high in pairwise(spans.borders.tolist())]


def _array(values: npt.NDArray[Any]) -> bytes:
    """Encode an array of a known type and any shape: dimensions and the width of their sizes, these, the values."""
    most = max(values.shape)
    width = 1 if most < 1 << 8 else 2 if most < 1 << 16 else 4
    first = bytes([values.ndim << 2 | _SHAPE_CODES[width]])
    return first + np.array(values.shape, f"<u{width}").tobytes() + values.tobytes()


def _write_file(
    out: HashingWriter, group: Sequence[pa.RecordBatch], heads: Sequence[bytes], columns: dict[str, str]
) -> None:
    note = json.dumps(_header(columns), sort_keys=True).encode()
    tokens_size = _fixed_size(columns["tokens"]) or 0
    sizes = np.array([0] + [len(head) + tokens_size for head in heads], np.int64)
    begin = 4 * (1 + len(sizes)) + len(note)
    put(out, np.array([len(heads)], "<u4"))
    put(out, (begin + np.cumsum(sizes)).astype("<u4"))
    out.write(note)
    remaining = iter(heads)
    for batch in group:
        for row in tokens_of(batch):
            out.write(next(remaining))
            put(out, row)


FORMAT = Format("MosaicML streaming and LLM Foundry: .mds, index.json", write, finish)
