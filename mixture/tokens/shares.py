"""Who reads what of a unit: how many tasks share it, and which chunks each of them reads.

What decides is the unit alone, so a run that was killed and one on more machines cut it alike.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from mixture import corpus
from mixture.corpus.documents import Chunk, InputFile, Reading
from mixture.tokens.inputs import Unit

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
