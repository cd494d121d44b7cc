"""Documents in: one reader per format, all with the same two functions.

A file is read in *chunks*: stretches of about `CHUNK_BYTES` of text whose borders depend on the file alone, never on
who reads it. A chunk becomes one part of the token store, so it is also the most work that a killed task can lose.

    chunks(file, reading)               how many chunks the file has, or None where only reading it can tell
    read(file, reading, start, step)    yields chunks start, start+step, start+2·step, …

    format        module          what a chunk is
    jsonl         jsonl.py        the lines that begin in one stretch of bytes (of the decompressed ones)
      └ rows of one chunk         json_rows.py: a typed decoder, and an exact judge for whatever it refuses
    parquet       parquet.py      a range of rows, cut by the row groups' sizes
    arrow         arrow.py        a range of rows, cut by the record batches' sizes
    text          text.py         the file
    huggingface   huggingface.py  a fixed number of rows

    bytestream.py  bytes of a file, decompressed; every way in which a file can be broken, as one sentence
    fields.py      dotted names in JSON and in Arrow
    verdict.py     which rows are documents, and the sentence for one that is not
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Protocol, cast

from mixture.corpus.documents import Chunk, InputFile, Reading
from mixture.errors import InputError, nearest


class Format(Protocol):
    """What the module of a format offers."""

    def chunks(self, file: InputFile, reading: Reading) -> int | None:
        """Return the number of chunks, or None where only reading can tell."""

    def read(self, file: InputFile, reading: Reading, start: int = 0, step: int = 1) -> Iterator[Chunk]:
        """Yield chunks start, start+step, … in order."""


def _module(name: str) -> Callable[[], Format]:
    # Imported at first use: `datasets` alone takes longer to import than most commands take to answer.
    return lambda: cast("Format", import_module(f"mixture.corpus.{name}"))


#: Loader of each format's module, by the name that recipes use.
FORMATS: dict[str, Callable[[], Format]] = {
    name: _module(name) for name in ("arrow", "huggingface", "jsonl", "parquet", "text")
}


def chunks(name: str, file: InputFile, reading: Reading) -> int | None:
    """Return the number of chunks of a file of the format `name`, or None where only reading it can tell.

    Raises:
        InputError: no such format, or the file cannot be read as one.
    """
    return _format(name).chunks(file, reading)


def read(name: str, file: InputFile, reading: Reading, start: int = 0, step: int = 1) -> Iterator[Chunk]:
    """Yield chunks start, start+step, … of a file of the format `name`, in order, until the file ends.

    Raises:
        InputError: no such format, a damaged file, or (unless `reading.skip_bad`) a row that holds no document.
    """
    return _format(name).read(file, reading, start, step)


def _format(name: str) -> Format:
    if name not in FORMATS:
        raise InputError(f"no format is named {name!r}; {nearest(name, FORMATS)} (known: {', '.join(FORMATS)})")
    return FORMATS[name]()
