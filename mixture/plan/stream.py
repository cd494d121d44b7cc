"""From thresholds to the stream: every copy's place, slice after slice, cut into one file per shard.

Rows are numbers until they are written; only the rows of one slice and of one shard are held at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from mixture import schemas
from mixture.hashing import id_array, key
from mixture.index.rows import IndexReader, Rows
from mixture.plan.draw import CellMap, Threshold, appearances
from mixture.plan.order import id_ranges, place

_COLUMNS = ("source", "part", "row")


@dataclass(frozen=True)
class Drawn:
    """All that decides a stream, besides the index.

    Attributes:
        cells: the cells.
        found: each cell's threshold.
        domains: their names.
        seed: the recipe's.
        slices: number of slices.
        prefix: tokens before each document.
    """

    cells: CellMap
    found: tuple[Threshold, ...]
    domains: tuple[str, ...]
    seed: int
    slices: int
    prefix: int


def slice_rows(index: IndexReader, drawn: Drawn, number: int) -> pa.Table:
    """Return one slice's rows in stream order, without positions.

    Columns as `schemas.PLAN` less `position`; `doc_start` and `doc_stop` count the document's own tokens, so the
    opening separator lies below 0 and the closing one from `doc_length` on.
    """
    tables = [_copy_rows(index, drawn, number, copy) for copy in range(_most_copies(index, drawn))]
    joined = pa.concat_tables([table for found in tables for table in found] or [_empty()]).combine_chunks()
    # Rows come by copy, then by id and domain, so a stable sort leaves nothing to chance where places are equal.
    order = np.argsort(joined["place"].to_numpy(), kind="stable")
    return joined.take(pa.array(order)).drop_columns(["place"])


def _empty() -> pa.Table:
    fields = [field for field in schemas.PLAN if field.name != "position"]
    return pa.schema([*fields, pa.field("place", pa.uint64())]).empty_table()


def _most_copies(index: IndexReader, drawn: Drawn) -> int:
    epochs = max(threshold.epochs + (threshold.at is not None) for threshold in drawn.found)
    return epochs * index.most_occurrences


def _copy_rows(index: IndexReader, drawn: Drawn, number: int, copy: int) -> Iterator[pa.Table]:
    for first, stop in id_ranges(number, drawn.slices, copy, drawn.seed):
        for rows in index.between(first, stop, _COLUMNS):
            times, last = appearances(rows, drawn.cells, drawn.seed, drawn.found)
            # Equal texts that the recipe keeps share the numbers: copy = epoch · occurrences + occurrence.
            epoch = copy // rows.occurrences
            here = (copy % rows.occurrences == rows.occurrence) & (epoch < times)
            is_last = epoch == times - 1
            size = np.where(is_last, last, drawn.cells.written(rows))
            yield _table(rows, here, size, copy, drawn)


def _table(rows: Rows, here: npt.NDArray[np.bool_], size: npt.NDArray[np.int64], copy: int, drawn: Drawn) -> pa.Table:
    chosen, size = rows.take(here), size[here]
    count = len(chosen)
    keys = np.array([key(0, f"domain {name}") for name in drawn.domains], np.uint64)
    copies = np.full(count, copy, np.int64)
    columns: dict[str, Any] = {
        "doc_id": id_array(chosen.hi, chosen.lo),
        "source": chosen.table["source"],
        "domain": pa.DictionaryArray.from_arrays(pa.array(chosen.domain, pa.int32()), pa.array(drawn.domains)),
        "part": chosen.table["part"],
        "row": chosen.table["row"],
        "doc_start": np.full(count, -drawn.prefix, np.int64),
        "doc_stop": size - drawn.prefix,
        "doc_length": chosen.tokens,
        "copy": copies,
        "place": place(drawn.seed, chosen.hi, chosen.lo, keys[chosen.domain], copies),
    }
    return pa.table(columns).cast(_empty().schema)


def stream(index: IndexReader, drawn: Drawn, shard_tokens: int) -> Iterator[pa.Table]:
    """Yield the rows of each shard, `schemas.PLAN`, in stream order; documents are split at the shards' borders."""
    held: list[pa.Table] = []
    position, shard = 0, 0
    for number in range(drawn.slices):
        table = slice_rows(index, drawn, number)
        size = table["doc_stop"].to_numpy() - table["doc_start"].to_numpy()
        starts = position + np.cumsum(size) - size
        position += int(size.sum())
        split = _split(table, starts, size, shard_tokens)
        shards = split["position"].to_numpy() // shard_tokens
        while shard < position // shard_tokens:
            held.append(split.filter(pa.array(shards == shard)))
            yield pa.concat_tables(held).combine_chunks()
            held, shard = [], shard + 1
        held.append(split.filter(pa.array(shards == shard)))
    if position % shard_tokens:
        yield pa.concat_tables(held).combine_chunks()


def _split(table: pa.Table, starts: npt.NDArray[np.int64], size: npt.NDArray[np.int64], shard_tokens: int) -> pa.Table:
    """Add positions, and cut each row where it crosses a border between shards."""
    stops = starts + size
    pieces = np.where(size > 0, (stops - 1) // shard_tokens - starts // shard_tokens + 1, 0)
    row = np.repeat(np.arange(len(starts)), pieces)
    nth = np.arange(len(row)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    border = (starts[row] // shard_tokens + nth) * shard_tokens
    begin, end = np.maximum(starts[row], border), np.minimum(stops[row], border + shard_tokens)
    cut = table.take(pa.array(row))
    first = cut["doc_start"].to_numpy()
    made = {
        "position": begin,
        "doc_start": first + begin - starts[row],
        "doc_stop": first + end - starts[row],
    }
    for name, values in made.items():
        at = cut.schema.get_field_index(name)
        cut = cut.add_column(0, name, pa.array(values)) if at < 0 else cut.set_column(at, name, pa.array(values))
    return cut.select(schemas.PLAN.names).cast(schemas.PLAN)


def digest(shard: pa.Table, domains: Sequence[str]) -> str:
    """Hash what a shard's rows say, without where the tokens lie in the store: equal for equal streams."""
    state = xxhash.xxh3_128()
    ids = shard["doc_id"].combine_chunks()
    state.update(ids.buffers()[1][16 * ids.offset : 16 * (ids.offset + len(ids))])
    for name in ("position", "doc_start", "doc_stop", "doc_length", "copy"):
        state.update(shard[name].to_numpy().astype("<i8").tobytes())
    names = pa.array(domains, pa.string())
    codes = pc.index_in(shard["domain"].cast(pa.string()), names).to_numpy()
    state.update(codes.astype("<i8").tobytes())
    return str(state.hexdigest())
