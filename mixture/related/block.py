"""The task: the documents of one domain and one range of ids in, their places on its path out.

    doc_id, domain, related, before          sorted by doc_id; `related` = block · 2^32 + place on the block's path,
                                             `before` = tokens of the block's documents that stand before it there

A domain's documents are divided by their ids into a power of two of blocks of equal ranges, each of some 16K to 32K
documents. So a block does not hang on files, and takes bounded memory. The documents that a hash puts first start the
path and its stretches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from mixture import schemas
from mixture.hashing import U64, draw, id_array
from mixture.index.rows import IndexReader
from mixture.related import terms, walk
from mixture.related.terms import Ints, Terms
from mixture.related.vectors import ByVectors, as_vectors, read_vectors
from mixture.storage import Place, as_place, read_record, write_json
from mixture.tokens.parts import open_part
from mixture.tokens.store import part_names, part_path, write_parquet

#: Related documents, Parquet, one file for each block.
RELATED = pa.schema(
    [
        ("doc_id", schemas.DOC_ID),
        ("domain", pa.string()),
        ("related", pa.int64()),
        ("before", pa.int64()),
    ]
)
#: Tokens that are counted at once.
_TOKENS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Source:
    """All that the tasks read; travels as JSON.

    Attributes:
        index: the index file.
        parts: names of the parts that it numbers.
        store: folder of the token store.
        domains: names of the index's domains, sorted.
        by: `bm25`, `keywords` or `embeddings`.
        column: of the vectors; empty for none.
        tables: Parquet files that hold that column; empty where the index carries it.
    """

    index: str
    parts: str
    store: str
    domains: tuple[str, ...]
    by: str
    column: str = ""
    tables: tuple[str, ...] = ()

    def write(self, path: Place) -> None:
        """Publish it, for tasks."""
        write_json(path, asdict(self))

    @staticmethod
    def read(path: Place) -> Source:
        """Read what `write` published."""
        value = read_record(path, "index", "parts", "store", "domains", "by") or {}
        return Source(**value | {name: tuple(value[name]) for name in ("domains", "tables")})


@dataclass(frozen=True)
class _Documents:
    """A block's documents by rising hash, arrays of shape (n,)."""

    hi: U64
    lo: U64
    tokens: Ints
    part: Ints
    row: Ints
    table: pa.Table

    def __len__(self) -> int:
        return len(self.hi)


def relate_block(source: str, domain: int, first: int, stop: int, block: int, target: str) -> dict[str, Any]:
    """Task: put the documents of one block on a path and publish their places; return the block's record.

    Args:
        source: description of what is read.
        domain: number of the domain.
        first: leading word of the block's first id.
        stop: past the last.
        block: number of the block.
        target: the Parquet file.
    """
    here = Source.read(as_place(source))
    held = _documents(here, domain, first, stop)
    path, without = _path(here, held) if len(held) else (np.empty(0, np.int64), 0)
    place = np.empty(len(held), np.int64)
    place[path] = np.arange(len(held))
    sizes = held.tokens[path]
    before = (np.cumsum(sizes) - sizes)[place]
    order = np.lexsort([held.lo, held.hi])
    related = (np.int64(block) << 32) + place
    table = pa.table(
        [
            id_array(held.hi[order], held.lo[order]),
            schemas.repeated(here.domains[domain], len(held)),
            schemas.column(related[order]),
            schemas.column(before[order]),
        ],
        schema=RELATED,
    )
    size, digest = write_parquet(as_place(target), table)
    record = {
        "file": as_place(target).name,
        "documents": len(held),
        "without": without,
        "digest": _digest(table),
        "size": size,
        "hash": digest,
    }
    write_json(record_path(as_place(target)), record)
    return record


def record_path(target: Place) -> Place:
    """Return where a block's record lies."""
    return target.with_suffix(".json")


def _digest(table: pa.Table) -> str:
    """Hash what a block says: equal for equal paths, however the file is written."""
    state = xxhash.xxh3_128()
    ids = table["doc_id"].combine_chunks()
    if len(ids):
        state.update(ids.buffers()[1])
    for name in ("related", "before"):
        state.update(schemas.numbers(table[name]).astype("<i8").tobytes())
    return str(state.hexdigest())


def _documents(here: Source, domain: int, first: int, stop: int) -> _Documents:
    """Read which documents a block has; those without tokens are none, and equal texts are one."""
    columns = ("part", "row", *([here.column] if here.column and not here.tables else []))
    found = []
    for rows in IndexReader([as_place(here.index)], here.domains).between(first, stop, columns):
        chosen = rows.take((rows.domain == domain) & (rows.occurrence == 0) & (rows.tokens > 0))
        if len(chosen):
            found.append(chosen)
    if not found:
        none = np.empty(0, np.int64)
        return _Documents(none.view(np.uint64), none.view(np.uint64), none, none, none, pa.table({}))
    hi, lo = (np.concatenate([getattr(rows, name) for rows in found]) for name in ("hi", "lo"))
    order = np.lexsort([lo, hi, draw(0, "related", hi, lo)])
    table = pa.concat_tables([rows.table for rows in found]).take(schemas.column(order))
    tokens = np.concatenate([rows.tokens for rows in found])[order]
    part, row = (schemas.numbers(table[name]).astype(np.int64) for name in ("part", "row"))
    return _Documents(hi[order], lo[order], tokens, part, row, table)


def _path(here: Source, held: _Documents) -> tuple[Ints, int]:
    """Return the path, shape (n,), and how many documents relate to nothing."""
    if here.by == "embeddings":
        vectors = ByVectors(_vectors(here, held))
        return walk.walk(len(held), vectors), vectors.without
    found = document_terms(here, held.part, held.row)
    without = int((np.diff(found.borders) == 0).sum())
    path = walk.by_keyword(found) if here.by == "keywords" else walk.walk(len(held), walk.ByTerms(found))
    return path, without


def _vectors(here: Source, held: _Documents) -> npt.NDArray[np.float64]:
    if here.tables:
        order = np.lexsort([held.lo, held.hi])
        sorted_ = read_vectors([as_place(name) for name in here.tables], here.column, held.hi[order], held.lo[order])
        found = np.empty_like(sorted_)
        found[order] = sorted_
        return found
    column = held.table[here.column].combine_chunks()
    rows, values = as_vectors(column, f"the carried column {here.column!r}")
    found = np.full((len(held), values.shape[1]), np.nan)
    found[rows] = values
    return found


def document_terms(here: Source, part: Ints, row: Ints) -> Terms:
    """Return the terms of some documents: of their first tokens, `terms.MOST_TOKENS` of each.

    Args:
        here: where the store is.
        part: number of each document's part, shape (n,).
        row: its row there.

    Raises:
        StoreError: a part is missing or damaged.
    """
    names = part_names(as_place(here.parts))
    order = np.lexsort([row, part])
    edges = np.flatnonzero(np.diff(part[order], prepend=-1, append=-1))
    parts = [order[a:b] for a, b in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)]
    return terms.weigh(_counted(as_place(here.store), names, parts, part, row), len(part))


def _counted(store: Place, names: Sequence[str], parts: Sequence[Ints], part: Ints, row: Ints) -> Iterator[U64]:
    """Yield counts of some documents' tokens at a time; each of `parts` lists the documents of one part."""
    tokens: list[npt.NDArray[Any]] = []
    owners: list[Ints] = []
    held = 0
    for documents in parts:
        opened = open_part(part_path(store, names[int(part[documents[0]])]))
        starts = opened.offsets[row[documents]]
        sizes = np.minimum(opened.offsets[row[documents] + 1] - starts, terms.MOST_TOKENS)
        for document, start, size in zip(documents.tolist(), starts.tolist(), sizes.tolist(), strict=True):
            tokens.append(opened.tokens[start : start + size])
            owners.append(np.full(size, document, np.int64))
            held += size
            if held >= _TOKENS_AT_ONCE:
                yield terms.count(np.concatenate(tokens), np.concatenate(owners))
                tokens, owners, held = [], [], 0
    if held:
        yield terms.count(np.concatenate(tokens), np.concatenate(owners))
