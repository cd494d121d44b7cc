r"""Megatron's indexed dataset: a flat file of ids, and an index of the sequences and documents in it.

    shard.bin   ids of 2 or 4 bytes, nothing between them
    shard.idx   "MMIDIDX\0\0", version 1, type code | counts | tokens and first byte of each sequence | documents

Megatron's "sequence" is what its GPT dataset shuffles. With the unit `row` it is a sequence of ours, whole, padding and
marks included: trained on at our sequence length, each sample is one row (and the next one's first token, as its last
label). With `document` it is a span, and a Megatron document is a row: real tokens only, for who wants Megatron to lay
them out anew.

Layout: `megatron/core/datasets/indexed_dataset.py` of Megatron-LM. It has no unsigned 32-bit ids, so those go as int32.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mixture.export.format import File, Format, Options, put, signed, written
from mixture.shards.read import OpenShard
from mixture.shards.spans import real_of, spans_of, tokens_of
from mixture.storage import Place, publish

Ints = npt.NDArray[np.int64]

_MAGIC = b"MMIDIDX\x00\x00"
_VERSION = 1
_TYPE_CODES = {np.dtype(np.int32): 4, np.dtype(np.uint16): 8}


def write(shard: OpenShard, stem: Place, options: Options) -> list[File]:
    """Write one shard as a pair of `.bin` and `.idx`.

    Raises:
        StoreError: an id needs more than 31 bits.
    """
    kind = np.dtype(np.uint16) if shard.token == np.uint16 else np.dtype(np.int32)
    data, index = stem.with_name(f"{stem.name}.bin"), stem.with_name(f"{stem.name}.idx")
    sizes: list[Ints] = []
    counts: list[Ints] = []
    with publish(data) as out:
        for batch in shard.batches:
            tokens: npt.NDArray[Any] = tokens_of(batch)
            values = tokens if kind == np.uint16 else signed(tokens, shard.path)
            if options.unit == "row":
                put(out, values)
                sizes.append(np.full(len(batch), shard.length))
                counts.append(np.ones(len(batch), np.int64))
                continue
            spans = spans_of(batch)
            put(out, values[real_of(batch)])
            sizes.append(spans.stop - spans.start)
            counts.append(spans.per_row())
    lengths = np.concatenate(sizes)
    made = written(data, out, len(shard), int(lengths.sum()))
    with publish(index) as out:
        for part in index_parts(lengths, np.concatenate(counts), kind):
            put(out, np.frombuffer(part, np.uint8))
    return [made, written(index, out, len(shard))]


def index_parts(lengths: Ints, counts: Ints, kind: np.dtype[Any]) -> list[bytes]:
    """Return an index file, in parts.

    Args:
        lengths: ids in each sequence, shape (n,).
        counts: sequences in each document, shape (d,), their sum n.
        kind: type of the ids: uint16 or int32.
    """
    pointers = (np.cumsum(lengths) - lengths) * kind.itemsize
    documents = np.concatenate([[0], np.cumsum(counts)])
    return [
        _MAGIC + struct.pack("<QB", _VERSION, _TYPE_CODES[kind]),
        struct.pack("<QQ", len(lengths), len(documents)),
        lengths.astype("<i4").tobytes(),
        pointers.astype("<i8").tobytes(),
        documents.astype("<i8").tobytes(),
    ]


def finish(folder: Place, files: Sequence[File]) -> list[File]:
    """Write `blend.txt`: weight (ids) and prefix of each pair, a line each, as `--data-args-path` takes them.

    Prefixes are relative to the folder: an export says nothing of the machine that it was made on.
    """
    path = folder / "blend.txt"
    lines = [f"{file.tokens} {file.file.removesuffix('.bin')}\n" for file in files if file.file.endswith(".bin")]
    with publish(path) as out:
        out.write("".join(lines).encode())
    return [written(path, out)]


FORMAT = Format("Megatron-LM and NeMo: .bin, .idx, and a blend of them", write, finish, units=("row", "document"))
