"""Who reads what of a unit: how many tasks share it, which chunks each of them reads, and what a task then holds.

What decides is the unit alone, so a run that was killed and one on more machines cut it alike.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mixture import corpus
from mixture.corpus.documents import Chunk, InputFile, Reading
from mixture.tokens.inputs import Unit
from mixture.tokens.store import widest

#: Readers of one compressed file: each decompresses all of it, so more would only heat the room.
_MOST_READERS = 8
_BYTES_PER_READER = 128 << 20


def readers(unit: Unit, how: Reading) -> int:
    """Return how many tasks share a unit: one a chunk where chunks can be sought, else a few that all decompress."""
    if len(unit.files) > 1:
        return 1
    chunks = _chunks(unit.source.format, unit.files[0], how)
    if chunks is not None:
        return max(1, chunks)
    return max(1, min(_MOST_READERS, -(-unit.size // _BYTES_PER_READER)))


#: Counting the chunks of a Parquet file opens it; a run asks twice.
_chunks = functools.lru_cache(maxsize=1 << 16)(corpus.chunks)


def unit_chunks(
    format: str,  # noqa: A002
    files: Sequence[InputFile],
    how: Reading,
    start: int,
    step: int,
) -> Iterator[tuple[int, list[tuple[int, Chunk]]]]:
    """Yield (part, [(file, chunk), …]): a large file gives a part for each chunk, many small ones give one part."""
    if len(files) == 1:
        for chunk in corpus.read(format, files[0], how, start, step):
            yield chunk.index, [(0, chunk)]
    else:
        yield 0, [(n, chunk) for n, file in enumerate(files) for chunk in corpus.read(format, file, how)]


def write_reading(how: Reading) -> str:
    """Write what to take of each row as text, for a task's arguments."""
    return json.dumps(asdict(how))


def read_reading(text: str) -> Reading:
    """Read what `write_reading` wrote."""
    fields = json.loads(text)
    fields["columns"] = tuple(fields["columns"])
    fields["options"] = tuple((k, v) for k, v in fields["options"])
    return Reading(**fields)


def with_first_rows(chunks: Sequence[tuple[int, Chunk]]) -> Iterator[tuple[int, int, Chunk]]:
    """Yield (file, first row, chunk), the rows being counted from the first that these chunks hold of the file."""
    before: dict[int, int] = {}
    for number, chunk in chunks:
        yield number, before.get(number, 0), chunk
        before[number] = before.get(number, 0) + chunk.rows


def places(chunks: Sequence[tuple[int, Chunk]]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Return the file and the row of each document, shape (n,) each; rows as `with_first_rows` counts them."""
    number = np.repeat([n for n, _ in chunks], [len(chunk.texts) for _, chunk in chunks]).astype(np.int32)
    rows = [chunk.row + first for _, first, chunk in with_first_rows(chunks)]
    return number, np.concatenate([np.empty(0, np.int64), *rows])


def texts_of(chunks: Sequence[tuple[int, Chunk]]) -> list[bytes]:
    """Return the documents' texts, UTF-8."""
    return [text for _, chunk in chunks for text in chunk.texts]


def merged(tables: Sequence[pa.Table]) -> pa.Table:
    """Put tables of the same columns one behind the other; they may disagree on a column's type (see `widest`)."""
    names = tables[0].schema.names
    kinds = [(name, widest({table.schema.field(name).type for table in tables})) for name in names]
    return pa.concat_tables([table.cast(pa.schema(kinds)) for table in tables])
