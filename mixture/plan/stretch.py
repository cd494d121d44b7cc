"""Reading a planned stream: the rows of any stretch of it, from the slices that it crosses.

slices     | 0 …… 1000 | 1000 …… 2000 | 2000 …… 3000 |       `starts` 0, 1000, 2000, 3000
[1900, 2100)                     ·· ··                       rows of slices 1 and 2, split at both ends
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from mixture import schemas
from mixture.plan.cells import Counts
from mixture.storage import Place
from mixture.tokens.store import read_between


def slice_file(folder: Place, number: int) -> Place:
    """Return the Parquet file of one slice."""
    return folder / f"slice-{number:05d}.parquet"


def sizes(table: pa.Table) -> Counts:
    """Return the tokens of each row of a plan, shape (n,)."""
    return schemas.numbers(table["doc_stop"]) - schemas.numbers(table["doc_start"])  # type: ignore[no-any-return]


def crossed(starts: Sequence[int], first: int, stop: int) -> range:
    """Return the numbers of the slices that hold tokens [first, stop) of the stream, at least one token."""
    # Not numpy: it would copy the list, for each of many stretches.
    return range(bisect.bisect_right(starts, first) - 1, bisect.bisect_left(starts, stop))


def read_stretch(
    folder: Place, starts: Sequence[int], first: int, stop: int, *, whole: bool = False, skipped: int = 0
) -> pa.Table:
    """Read the rows of tokens [first, stop) of the stream, `schemas.PLAN`.

    Args:
        folder: the plan's.
        starts: where each slice begins in the stream, and behind the last one where that ends.
        first: position of the first token.
        stop: past the last.
        whole: documents that begin in the stretch, whole; else they are split at both its ends.
        skipped: how many slices there are before those that `starts` speaks of.

    Raises:
        StoreError: the plan is gone or damaged.
    """
    tables = []
    for number in crossed(starts, first, stop):
        file = slice_file(folder, skipped + number)
        table = read_between(file, first - starts[number], stop - 1 - starts[number])
        position = schemas.numbers(table["position"]) + starts[number]
        size = sizes(table)
        inside = np.flatnonzero((position < stop) & ((position >= first) if whole else (position + size > first)))
        table, position, size = table.take(schemas.column(inside)), position[inside], size[inside]
        begin, end = position, position + size
        if not whole:
            begin, end = np.maximum(begin, first), np.minimum(end, stop)
        opens = schemas.numbers(table["doc_start"])
        for name, values in (
            ("position", begin),
            ("doc_start", opens + begin - position),
            ("doc_stop", opens + end - position),
        ):
            table = table.set_column(table.schema.get_field_index(name), name, schemas.column(values))
        tables.append(table.cast(schemas.PLAN))
    return pa.concat_tables(tables).unify_dictionaries().combine_chunks()
