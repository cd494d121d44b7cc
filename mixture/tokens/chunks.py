"""The task of the tokenize stage: chunks of a unit's files in, parts of the token store out.

chunk 3 of a.jsonl   ─ texts, ids, tokens, sorted by id ─▶   part-00003.arrow, .documents.parquet, .json
─ fields that the recipe reads     ─▶   part-00003.columns-<key>.parquet
done-1-of-2.json     the mark, written last: this task's share of the unit is whole
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mixture import schemas
from mixture.corpus.documents import Chunk, InputFile
from mixture.engine.memory import keep_freed
from mixture.hashing import document_ids, fingerprint, id_column, id_words
from mixture.recipe.sources import TokenizerSpec
from mixture.storage import Place, as_place, exists, file_digest, size_of, write_json
from mixture.tokens import rejects
from mixture.tokens import tokenizer as tokenizers
from mixture.tokens.backends import offsets_of
from mixture.tokens.join_rows import PLACE
from mixture.tokens.shares import merged, places, read_reading, texts_of, unit_chunks
from mixture.tokens.store import PartFiles, read_parquet, read_record, write_parquet, write_part

Places: TypeAlias = tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]


@functools.lru_cache(maxsize=2)
def load_tokenizer(spec: str, data: str, choice: Literal["auto", "reference"]) -> tokenizers.Tokenizer:
    """Load a vocabulary, given as JSON of its `TokenizerSpec`, once for all tasks of a process."""
    return tokenizers.load(TokenizerSpec.model_validate_json(spec), as_place(data), engine=choice)


def columns_key(columns: Sequence[str]) -> str:
    """Name the columns that a source reads besides the text; empty for none."""
    return fingerprint(list(columns))[:12] if columns else ""


def done_mark(folder: Place, start: int, step: int, columns: str) -> Place:
    """Return the file that says: this task's share of a unit is whole (with these columns).

    It lists the chunks and, of the files of columns, size and hash.
    """
    return folder / (f"done-{start}-of-{step}" + (f".columns-{columns}" if columns else "") + ".json")


def tokenize_chunks(  # noqa: PLR0913, PLR0917 - a task's whole world travels in its arguments
    spec: str,
    data: str,
    choice: Literal["auto", "reference"],
    format: str,  # noqa: A002
    files: list[tuple[str, str, int, str]],
    reading: str,
    joined: bool,
    folder: str,
    start: int,
    step: int,
) -> dict[str, Any]:
    """Task: read chunks start, start+step, … of a unit and publish a part for each that is not whole yet."""
    keep_freed()
    how = read_reading(reading)
    inputs = [InputFile(name, as_place(path), size, digest) for name, path, size, digest in files]
    tokenizer = load_tokenizer(spec, data, choice)
    columns = columns_key(how.columns)
    report: dict[str, Any] = {"chunks": [], "rejected": {}, "samples": []}
    files_of: dict[str, list[Any]] = {}
    wanted = replace(how, columns=(*how.columns, *PLACE)) if joined else how
    for index, chunks in unit_chunks(format, inputs, wanted, start, step):
        part = PartFiles(as_place(folder), index)
        where = _origins(chunks) if joined else places(chunks)
        record = read_record(part) or _store_chunks(part, chunks, where, inputs, tokenizer)
        if columns:
            beside = part.columns(columns)
            if not exists(beside):
                files_of[beside.name] = write_parquet(beside, _align_columns(part, chunks, where, how.columns))
            else:
                files_of[beside.name] = [size_of(beside), file_digest(beside)]
        report["chunks"].append(index)
        report["rejected"] = rejects.total([report["rejected"], record["rejected"]])
        # Which row of the file a chunk begins with is known once all chunks before it are read.
        within = {"within": f" of chunk {index}"} if index else {}
        report["samples"] = (report["samples"] + [sample | within for sample in record["samples"]])[: rejects.SAMPLES]
    for key in dict.fromkeys(["", columns]):
        mark = {"unit": as_place(folder).name, "chunks": report["chunks"], "files": files_of if key else {}}
        write_json(done_mark(as_place(folder), start, step, key), mark)
    return report


def _origins(chunks: Sequence[tuple[int, Chunk]]) -> Places:
    """Return where the first row of each joined document lies."""
    number, row = (np.concatenate([schemas.numbers(chunk.columns[name]) for _, chunk in chunks]) for name in PLACE)
    return number.astype(np.int32), row.astype(np.int64)


def _store_chunks(
    part: PartFiles,
    chunks: Sequence[tuple[int, Chunk]],
    places: Places,
    inputs: Sequence[InputFile],
    tokenizer: tokenizers.Tokenizer,
) -> dict[str, Any]:
    texts = texts_of(chunks)
    number, row = places
    hi, lo = id_words(id_column(document_ids(texts)))
    # Equal texts have equal ids: the place in the input then decides, so that a part is the same whoever makes it.
    order = np.lexsort((row, number, lo, hi))
    texts = [texts[place] for place in order.tolist()]
    hi, lo = hi[order], lo[order]
    checked = tokenizer.check(texts, hi, lo)
    tokens, starts = tokenizer.encode(texts)
    documents = {"n_bytes": np.diff(offsets_of(texts)), "input": number[order], "input_row": row[order]}
    facts = {
        "rows": _rows_of_files(chunks, len(inputs)),
        "rejected": rejects.count(chunks),
        "samples": rejects.samples(chunks, inputs),
        "engine": tokenizer.engine,
        "checked": checked,
    }
    return write_part(part, (hi, lo), tokens, starts, documents, schemas.token_type(tokenizer.n_vocab), facts)


def _rows_of_files(chunks: Sequence[tuple[int, Chunk]], files: int) -> list[int]:
    rows = [0] * files
    for number, chunk in chunks:
        rows[number] += chunk.rows
    return rows


def _align_columns(
    part: PartFiles, chunks: Sequence[tuple[int, Chunk]], places: Places, names: Sequence[str]
) -> pa.Table:
    """Return the chunks' columns in the order of the part's documents."""
    documents = read_parquet(part.documents, ["input", "input_row"])
    tables = [chunk.columns.select(list(names)) for _, chunk in chunks]
    table = merged(tables or [pa.table({name: pa.nulls(0) for name in names})])
    number, row = places
    place = np.lexsort((row, number))
    wanted = np.lexsort((schemas.numbers(documents["input_row"]), schemas.numbers(documents["input"])))
    order = np.empty(len(place), np.int64)
    order[wanted] = place
    return table.take(schemas.column(order))
