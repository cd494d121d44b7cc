"""The tokenize stage: corpora in, token store out.

A task reads some chunks of one unit and publishes a part for each, so a killed task loses at most one part. A unit is
whole when each of its tasks has left its mark. What decides how a unit is cut into tasks is the unit alone.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mixture import schemas
from mixture.corpus.documents import Chunk, InputFile
from mixture.engine import Engine, Progress, Task
from mixture.errors import EngineMismatchError, InputError, StoreError, some
from mixture.hashing import document_ids, file_digest, fingerprint, id_words
from mixture.recipe import Recipe
from mixture.recipe.sources import TokenizerSpec
from mixture.storage import read_json, write_json
from mixture.storage import read_record as read_json_record
from mixture.tokens import rejects
from mixture.tokens import tokenizer as tokenizers
from mixture.tokens.inputs import Unit, find, reading
from mixture.tokens.join import Joined, join
from mixture.tokens.join_rows import PLACE
from mixture.tokens.separators import frame, knots
from mixture.tokens.shares import merged, pieces, places, read_reading, readers, texts_of, unit_chunks, write_reading
from mixture.tokens.store import PartFiles, read_parquet, read_record, write_parquet, write_part
from mixture.workspace import Workspace

Places: TypeAlias = tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]


@dataclass(frozen=True)
class StoredPart:
    """One whole part of the store, and where it came from.

    Attributes:
        unit: the files it was read from.
        files: where it lies.
        record: its counts, rejects and hash.
        first_rows: row at which the part's chunk starts, in each file of the unit.
        columns: key of its columns file, empty where the source needs none.
        fresh: whether this run wrote it.
    """

    unit: Unit
    files: PartFiles
    record: dict[str, Any]
    first_rows: tuple[int, ...]
    columns: str
    fresh: bool

    @property
    def name(self) -> str:
        """The part's name in the index: unit and number."""
        return self.files.name


@dataclass(frozen=True)
class Store:
    """What the tokenize stage leaves: every part of every unit of a recipe.

    Attributes:
        folder: the tokenizer's folder; a part's name leads from here to its file.
        tokenizer: the vocabulary, loaded.
        units: the input files, grouped.
        texts: the files that the documents were read from: the input files, or those that joined documents lie in.
        parts: all parts, in the order of texts and chunks.
        joins: what was joined, for each source that joins.
        made: units that this run had to read, with the reason.
        notices: sentences that the user must see.
    """

    folder: Path
    tokenizer: tokenizers.Tokenizer
    units: tuple[Unit, ...]
    texts: tuple[Unit, ...]
    parts: tuple[StoredPart, ...]
    joins: tuple[Joined, ...]
    made: tuple[str, ...]
    notices: tuple[str, ...]

    @property
    def rejected(self) -> dict[str, int]:
        """Bad rows, by reason; of a source that joins, also joined documents that are too large."""
        counts = [join.rejected for join in self.joins] + [part.record["rejected"] for part in self.parts]
        return dict(sorted(rejects.total(counts).items()))

    @property
    def joined_rows(self) -> int:
        """Rows that were joined into documents."""
        return sum(join.rows for join in self.joins)

    @property
    def documents(self) -> int:
        """Documents stored, duplicates included."""
        return sum(part.record["documents"] for part in self.parts)

    @property
    def tokens(self) -> int:
        """Tokens stored, duplicates included."""
        return sum(part.record["tokens"] for part in self.parts)

    @property
    def bytes(self) -> int:
        """Bytes of text stored, duplicates included."""
        return sum(part.record["bytes"] for part in self.parts)


def part_path(folder: Path, name: str) -> Path:
    """Return the tokens of the part that an index or a plan names."""
    unit, _, index = name.partition("/")
    return PartFiles(folder / unit, int(index)).tokens


def tokenize(recipe: Recipe, workspace: Workspace, engine: Engine, progress: Progress) -> Store:
    """Bring every document of a recipe's sources into the token store; what is there stays.

    Raises:
        InputError: a corpus cannot be read, holds nothing, or has more bad rows than the recipe allows.
        TokenizerError: the vocabulary cannot be loaded.
    """
    units = find(recipe, workspace, engine)
    tokenizer = _load(recipe.tokenizer.model_dump_json(), str(workspace.data), "auto")
    # A token that the vocabulary lacks is better found now than after the corpus is tokenized.
    for phase in recipe.all_phases():
        frame(tokenizer, phase.sequence.separator)
    if recipe.transforms.utk:
        knots(tokenizer, recipe.transforms.utk)
    if tokenizer.notice:
        progress.say(tokenizer.notice)
    found = _Texts(
        units,
        tuple(join(recipe, source, units, workspace, engine, progress) for source in recipe.sources if source.join),
    )
    mismatch = workspace.store(tokenizer.fingerprint) / "mismatch.json"
    if mismatch.exists() and tokenizer.engine != "reference":
        return _tokenize_with(recipe, workspace, engine, progress, found, "reference", str(read_mismatch(mismatch)))
    try:
        return _tokenize_with(recipe, workspace, engine, progress, found, "auto", tokenizer.notice)
    except EngineMismatchError as error:
        notice = f"{error}; the whole store is made again with the reference tokenizer, which is slower"
        progress.say(notice)
        write_json(mismatch, notice, name=_mismatch_name(mismatch))
        return _tokenize_with(recipe, workspace, engine, progress, found, "reference", notice)


def read_mismatch(path: Path) -> Any:
    """Return the sentence that a store keeps of a fast engine that was wrong; None where there is none.

    Raises:
        StoreError: it is damaged.
    """
    return read_json(path, name=_mismatch_name(path))


def _mismatch_name(path: Path) -> str:
    """Name the file in its seal: it holds a sentence alone, which does not say of which store it is."""
    return f"{path.parent.name}/{path.name}"


def _tokenize_with(
    recipe: Recipe,
    workspace: Workspace,
    engine: Engine,
    progress: Progress,
    found: _Texts,
    choice: Literal["auto", "reference"],
    notice: str | None,
) -> Store:
    texts = found.texts
    tokenizer = _load(recipe.tokenizer.model_dump_json(), str(workspace.data), choice)
    name = tokenizer.fingerprint + ("-reference" if choice == "reference" else "")
    folder = workspace.store(name)
    tasks = [task for unit in texts for task in _tasks(recipe, workspace, unit, folder, choice)]
    missing = [task for task in tasks if not _is_done(task)]
    made = tuple(dict.fromkeys(task.label for task in missing))
    total = sum(task.weight for task in tasks)
    why = f"{len(made)} of {len(texts)} inputs new or changed: {some(made)}"
    progress.start("tokenize", why, "B", total, total - sum(task.weight for task in missing))
    seen = sum(sum(join.rejected.values()) for join in found.joins)
    for task, report in engine.run(missing):
        progress.advance(task.weight)
        seen += sum(report["rejected"].values())
        if seen > recipe.max_bad_rows:
            raise InputError(rejects.too_many(seen, recipe.max_bad_rows, rejects.described(report["samples"])))
    progress.finish()
    if missing or not (folder / "proof.json").exists():
        write_json(folder / "proof.json", asdict(tokenizer.proof) | {"store": folder.name})
    fresh = {(task.arguments["folder"], task.arguments["start"]) for task in missing}
    parts = tuple(part for unit in texts for part in _parts(unit, workspace, recipe, folder, fresh))
    _judge(recipe, found, parts)
    return Store(folder, tokenizer, found.units, texts, parts, found.joins, made, (notice,) if notice else ())


@dataclass(frozen=True)
class _Texts:
    """The units of a recipe, and what takes their place where a source joins."""

    units: tuple[Unit, ...]
    joins: tuple[Joined, ...]

    @property
    def texts(self) -> tuple[Unit, ...]:
        """What the documents are read from."""
        joined = tuple(unit for join in self.joins for unit in join.units)
        return tuple(unit for unit in self.units if unit.source.join is None) + joined


@functools.lru_cache(maxsize=2)
def _load(spec: str, data: str, choice: Literal["auto", "reference"]) -> tokenizers.Tokenizer:
    return tokenizers.load(TokenizerSpec.model_validate_json(spec), Path(data), engine=choice)


def _tasks(
    recipe: Recipe, workspace: Workspace, unit: Unit, folder: Path, choice: Literal["auto", "reference"]
) -> Iterator[Task]:
    how = reading(recipe, unit.source, workspace)
    count = readers(unit, how)
    for start in range(count):
        arguments = {
            "spec": recipe.tokenizer.model_dump_json(),
            "data": str(workspace.data),
            "choice": choice,
            "format": unit.source.format,
            "files": [[f.name, str(f.path), f.size, f.digest] for f in unit.files],
            "reading": write_reading(how),
            "joined": bool(unit.origins),
            "folder": str(folder / unit.key),
            "start": start,
            "step": count,
        }
        label = unit.label + (f" ({start + 1} of {count})" if count > 1 else "")
        yield Task("mixture.tokens.ingest:tokenize_chunks", arguments, max(1, unit.size // count), label)


def columns_key(columns: Sequence[str]) -> str:
    """Name the columns that a source reads besides the text; empty for none."""
    return fingerprint(list(columns))[:12] if columns else ""


def done_mark(folder: Path, start: int, step: int, columns: str) -> Path:
    """Return the file that says: this task's share of a unit is whole (with these columns).

    It lists the chunks and, of the files of columns, size and hash.
    """
    return folder / (f"done-{start}-of-{step}" + (f".columns-{columns}" if columns else "") + ".json")


def _is_done(task: Task) -> bool:
    given = task.arguments
    folder, columns = Path(given["folder"]), columns_key(json.loads(given["reading"])["columns"])
    marks = [
        read_json_record(done_mark(folder, given["start"], given["step"], key), "unit", "chunks", "files")
        for key in dict.fromkeys(["", columns])
    ]
    return all(
        mark is not None and all(_is_whole(PartFiles(folder, index), columns) for index in mark["chunks"])
        for mark in marks
    )


def _is_whole(part: PartFiles, columns: str) -> bool:
    return read_record(part) is not None and (not columns or part.columns(columns).exists())


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
    how = read_reading(reading)
    inputs = [InputFile(name, Path(path), size, digest) for name, path, size, digest in files]
    tokenizer = _load(spec, data, choice)
    columns = columns_key(how.columns)
    report: dict[str, Any] = {"chunks": [], "rejected": {}, "samples": []}
    files_of: dict[str, list[Any]] = {}
    wanted = replace(how, columns=(*how.columns, *PLACE)) if joined else how
    for index, chunks in unit_chunks(format, inputs, wanted, start, step):
        part = PartFiles(Path(folder), index)
        where = _origins(chunks) if joined else places(chunks)
        record = read_record(part) or _store_chunks(part, chunks, where, inputs, tokenizer)
        if columns:
            beside = part.columns(columns)
            if not beside.exists():
                files_of[beside.name] = write_parquet(beside, _align_columns(part, chunks, where, how.columns))
            else:
                files_of[beside.name] = [beside.stat().st_size, file_digest(beside)]
        report["chunks"].append(index)
        report["rejected"] = rejects.total([report["rejected"], record["rejected"]])
        # Which row of the file a chunk begins with is known once all chunks before it are read.
        within = {"within": f" of chunk {index}"} if index else {}
        report["samples"] = (report["samples"] + [sample | within for sample in record["samples"]])[: rejects.SAMPLES]
    for key in dict.fromkeys(["", columns]):
        mark = {"unit": Path(folder).name, "chunks": report["chunks"], "files": files_of if key else {}}
        write_json(done_mark(Path(folder), start, step, key), mark)
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
    text = texts_of(chunks)
    number, row = places
    offsets, whole = pieces(text)
    ids = document_ids(whole[a:b] for a, b in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True))
    hi, lo = id_words(pa.FixedSizeBinaryArray.from_buffers(schemas.DOC_ID, len(text), [None, pa.py_buffer(ids)]))
    # Equal texts have equal ids: the place in the input then decides, so that a part is the same whoever makes it.
    order = np.lexsort((row, number, lo, hi))
    text = text.take(schemas.column(order))
    hi, lo = hi[order], lo[order]
    checked = tokenizer.check(text, hi, lo)
    tokens, starts = tokenizer.encode(text)
    documents = {"n_bytes": np.diff(offsets)[order], "input": number[order], "input_row": row[order]}
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


def _parts(
    unit: Unit, workspace: Workspace, recipe: Recipe, folder: Path, fresh: Collection[tuple[str, int]]
) -> Iterator[StoredPart]:
    how = reading(recipe, unit.source, workspace)
    columns = columns_key(how.columns)
    first = np.zeros(len(unit.named), np.int64)
    count = 0
    steps = readers(unit, how)
    for start in range(steps):
        mark = done_mark(folder / unit.key, start, steps, columns)
        count += len((read_json_record(mark, "chunks") or {"chunks": ()})["chunks"])
    for index in range(count):
        files = PartFiles(folder / unit.key, index)
        record = read_record(files)
        if record is None:
            raise StoreError(f"{files.record}: this part's record is gone; remove {files.folder} and run again")
        is_fresh = (str(files.folder), index % steps) in fresh
        yield StoredPart(unit, files, record, tuple(first.tolist()), columns, is_fresh)
        if not unit.origins:  # Joined documents say themselves which row they begin in.
            first += record["rows"]


def _judge(recipe: Recipe, found: _Texts, parts: Sequence[StoredPart]) -> None:
    """Refuse a source without documents, and more bad rows than allowed, also those that an earlier run counted."""
    for source in recipe.sources:
        held = [part for part in parts if part.unit.source.name == source.name]
        if source.join is None and not sum(part.record["documents"] for part in held):
            files = [file for unit in found.units if unit.source is source for file in unit.files]
            rows = sum(sum(part.record["rows"]) for part in held)
            raise InputError(rejects.no_document(source.name, files, rows, _placed(held)))
    most = rejects.allowed(recipe)
    counts = [join.rejected for join in found.joins] + [part.record["rejected"] for part in parts]
    bad = sum(rejects.total(counts).values())
    if bad > most:
        samples = [sample for join in found.joins for sample in join.samples]
        raise InputError(rejects.too_many(bad, most, rejects.described(samples) + _placed(parts)))


def _placed(parts: Sequence[StoredPart]) -> list[str]:
    """Say where the sampled bad rows of parts are, counted in their files, and what is wrong with them."""
    out = []
    for part in parts:
        first = dict(zip((file.name for file in part.unit.named), part.first_rows, strict=True))
        out += rejects.described([s | {"row": s["row"] + first.get(s["file"], 0)} for s in part.record["samples"]])
    return out
