"""Where the documents of an index come from: from a row of an input file to a part of the store, and how to read it.

    stretches.parquet, beside the index, sorted by file and row:

    input_file      source   part   input   first_row    rows
    a.jsonl         all         0       0           0   51234
    a.jsonl         all         1       0       51234   49876      the second chunk of a large file
    small/1.jsonl   all         2       0           0      12      many small files share a part
    small/2.jsonl   all         2       1           0       7

Row 60,000 of a.jsonl is row 8,766 of part 1, whose own table of documents names its id: no scan of the index. Sources
that join have no rows here; their documents' rows are listed beside the joined files (`tokens.join`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from mixture import schemas
from mixture.recipe import Recipe
from mixture.storage import Place
from mixture.tokens.ingest import Store
from mixture.tokens.inputs import reading
from mixture.tokens.shares import write_reading
from mixture.tokens.store import write_parquet
from mixture.workspace import Workspace

#: Rows in a row group: a name finds its group by the statistics.
_GROUP_ROWS = 1 << 14


def write_stretches(path: Place, store: Store) -> list[Any]:
    """Publish which rows of which input file lie in which part; return the file's size and hash.

    Args:
        path: the file.
        store: its parts, numbered as the index numbers them.
    """
    rows = sorted(_rows(store), key=lambda row: (row[0], row[4], row[1]))
    columns = [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in schemas.STRETCHES.names]
    made = {
        field.name: schemas.strings(values)
        if pa.types.is_string(field.type)
        else schemas.column(np.array(values, field.type.to_pandas_dtype()))
        for field, values in zip(schemas.STRETCHES, columns, strict=True)
    }
    return write_parquet(path, pa.table(made, schema=schemas.STRETCHES), group_rows=_GROUP_ROWS)


def _rows(store: Store) -> Iterator[tuple[str, str, int, int, int, int]]:
    for number, part in enumerate(store.parts):
        if part.unit.origins:
            continue
        counts = zip(part.unit.files, part.first_rows, part.record["rows"], strict=True)
        for which, (file, first, rows) in enumerate(counts):
            if rows:
                yield file.name, part.unit.source.name, number, which, first, rows


def how_read(recipe: Recipe, store: Store, workspace: Workspace) -> dict[str, Any]:
    """Return what it takes to find the documents' tokens and texts again, JSON-able, without a path of this machine.

    Returns:
        store: the token store's folder.
        tokenizer: what the recipe says of it.
        sources: of each, its format, what to take of a row, and, where it joins, the folder of the joined documents and
            what stands between two rows.
        joined: the file that each unit of joined documents was read from.
    """
    sources = {}
    for source in recipe.sources:
        how = json.loads(write_reading(reading(recipe, source, workspace)))
        options = [[name, value] for name, value in how["options"] if name != "cache_dir"]
        how |= {"columns": [], "skip_bad": True, "options": options}
        sources[source.name] = {"format": source.format, "reading": how, "join": None}
    joined = [unit for unit in store.texts if unit.origins]
    for source in recipe.sources:
        folders = {unit.files[0].path.parent.name for unit in joined if unit.source.name == source.name}
        if source.join and folders:
            sources[source.name]["join"] = {"folder": folders.pop(), "separator": source.join.separator}
    return {
        "store": store.folder.name,
        "tokenizer": recipe.tokenizer.model_dump(mode="json", exclude_none=True),
        "sources": sources,
        "joined": {unit.key: f"{unit.files[0].path.parent.name}/{unit.files[0].path.name}" for unit in joined},
    }
