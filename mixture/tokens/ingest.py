"""The tokenize stage: corpora in, token store out.

A task reads some chunks of one unit and publishes a part for each, so a killed task loses at most one part. A unit is
whole when each of its tasks has left its mark. What decides how a unit is cut into tasks is the unit alone.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from mixture import schemas
from mixture.corpus.documents import Chunk, InputFile
from mixture.engine import Engine, Progress, Task
from mixture.errors import EngineMismatchError, InputError, StoreError, some
from mixture.hashing import document_ids, fingerprint, id_words
from mixture.recipe import Recipe
from mixture.recipe.sources import Source, TokenizerSpec
from mixture.storage import read_json, write_json
from mixture.storage import read_record as read_json_record
from mixture.tokens import tokenizer as tokenizers
from mixture.tokens.inputs import Unit, find, reading
from mixture.tokens.separators import frame
from mixture.tokens.shares import read_reading, readers, unit_chunks, write_reading
from mixture.tokens.store import PartFiles, read_parquet, read_record, widest, write_parquet, write_part
from mixture.workspace import Workspace

_SAMPLES = 5


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
        return f"{self.unit.key}/{self.files.index:05d}"


@dataclass(frozen=True)
class Store:
    """What the tokenize stage leaves: every part of every unit of a recipe.

    Attributes:
        folder: the tokenizer's folder; a part's name leads from here to its file.
        tokenizer: the vocabulary, loaded.
        units: the input files, grouped.
        parts: all parts, in the order of units and chunks.
        made: units that this run had to read, with the reason.
        notices: sentences that the user must see.
    """

    folder: Path
    tokenizer: tokenizers.Tokenizer
    units: tuple[Unit, ...]
    parts: tuple[StoredPart, ...]
    made: tuple[str, ...]
    notices: tuple[str, ...]

    @property
    def rejected(self) -> dict[str, int]:
        """Bad rows, by reason."""
        total: dict[str, int] = {}
        for part in self.parts:
            for reason, count in part.record["rejected"].items():
                total[reason] = total.get(reason, 0) + count
        return dict(sorted(total.items()))

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
    # A separator that the vocabulary lacks is better found now than after the corpus is tokenized.
    for phase in recipe.all_phases():
        frame(tokenizer, phase.sequence.separator)
    if tokenizer.notice:
        progress.say(tokenizer.notice)
    mismatch = workspace.store(tokenizer.fingerprint) / "mismatch.json"
    if mismatch.exists() and tokenizer.engine != "reference":
        return _tokenize_with(recipe, workspace, engine, progress, units, "reference", str(read_json(mismatch)))
    try:
        return _tokenize_with(recipe, workspace, engine, progress, units, "auto", tokenizer.notice)
    except EngineMismatchError as error:
        notice = f"{error}; the whole store is made again with the reference tokenizer, which is slower"
        progress.say(notice)
        write_json(mismatch, notice)
        return _tokenize_with(recipe, workspace, engine, progress, units, "reference", notice)


def _tokenize_with(
    recipe: Recipe,
    workspace: Workspace,
    engine: Engine,
    progress: Progress,
    units: tuple[Unit, ...],
    choice: Literal["auto", "reference"],
    notice: str | None,
) -> Store:
    tokenizer = _load(recipe.tokenizer.model_dump_json(), str(workspace.data), choice)
    name = tokenizer.fingerprint + ("-reference" if choice == "reference" else "")
    folder = workspace.store(name)
    tasks = [task for unit in units for task in _tasks(recipe, workspace, unit, folder, choice)]
    missing = [task for task in tasks if not _is_done(task)]
    made = tuple(dict.fromkeys(task.label for task in missing))
    total = sum(task.weight for task in tasks)
    why = f"{len(made)} of {len(units)} inputs new or changed: {some(made)}"
    progress.start("tokenize", why, "B", total, total - sum(task.weight for task in missing))
    seen = 0
    for task, report in engine.run(missing):
        progress.advance(task.weight)
        seen += sum(report["rejected"].values())
        if seen > recipe.max_bad_rows:
            raise InputError(_too_many(seen, recipe.max_bad_rows, _place(report["samples"])))
    progress.finish()
    if missing:
        write_json(folder / "proof.json", asdict(tokenizer.proof))
    fresh = {(task.arguments["folder"], task.arguments["start"]) for task in missing}
    parts = tuple(part for unit in units for part in _parts(unit, workspace, recipe, folder, fresh))
    _judge(recipe, units, parts)
    return Store(folder, tokenizer, units, parts, made, (notice,) if notice else ())


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
            "folder": str(folder / unit.key),
            "start": start,
            "step": count,
        }
        label = unit.label + (f" ({start + 1} of {count})" if count > 1 else "")
        yield Task("mixture.tokens.ingest:tokenize_chunks", arguments, max(1, unit.size // count), label)


def _columns_key(columns: Sequence[str]) -> str:
    return fingerprint(list(columns))[:12] if columns else ""


def _mark(folder: Path, start: int, step: int, columns: str) -> Path:
    """Return the file that says: this task's share of a unit is whole (with these columns)."""
    return folder / (f"done-{start}-of-{step}" + (f".columns-{columns}" if columns else "") + ".json")


def _is_done(task: Task) -> bool:
    given = task.arguments
    folder, columns = Path(given["folder"]), _columns_key(json.loads(given["reading"])["columns"])
    mark = read_json_record(_mark(folder, given["start"], given["step"], columns), "chunks")
    return mark is not None and all(_is_whole(PartFiles(folder, index), columns) for index in mark["chunks"])


def _is_whole(part: PartFiles, columns: str) -> bool:
    return read_record(part) is not None and (not columns or part.columns(columns).exists())


def tokenize_chunks(  # noqa: PLR0913, PLR0917 - a task's whole world travels in its arguments
    spec: str,
    data: str,
    choice: Literal["auto", "reference"],
    format: str,  # noqa: A002
    files: list[tuple[str, str, int, str]],
    reading: str,
    folder: str,
    start: int,
    step: int,
) -> dict[str, Any]:
    """Task: read chunks start, start+step, … of a unit and publish a part for each that is not whole yet."""
    how = read_reading(reading)
    inputs = [InputFile(name, Path(path), size, digest) for name, path, size, digest in files]
    tokenizer = _load(spec, data, choice)
    columns = _columns_key(how.columns)
    report: dict[str, Any] = {"chunks": [], "rejected": {}, "samples": []}
    for index, chunks in unit_chunks(format, inputs, how, start, step):
        part = PartFiles(Path(folder), index)
        record = read_record(part) or _store_chunks(part, chunks, inputs, tokenizer)
        if columns and not part.columns(columns).exists():
            write_parquet(part.columns(columns), _align_columns(part, chunks))
        report["chunks"].append(index)
        for reason, count in record["rejected"].items():
            report["rejected"][reason] = report["rejected"].get(reason, 0) + count
        # Which row of the file a chunk begins with is known once all chunks before it are read.
        within = {"within": f" of chunk {index}"} if index else {}
        report["samples"] = (report["samples"] + [sample | within for sample in record["samples"]])[:_SAMPLES]
    for key in dict.fromkeys(["", columns]):
        write_json(_mark(Path(folder), start, step, key), {"chunks": report["chunks"]})
    return report


def _store_chunks(
    part: PartFiles,
    chunks: Sequence[tuple[int, Chunk]],
    inputs: Sequence[InputFile],
    tokenizer: tokenizers.Tokenizer,
) -> dict[str, Any]:
    texts = [chunk.text for _, chunk in chunks]
    # Joining copies, also one text alone.
    text = texts[0] if len(texts) == 1 else pa.concat_arrays([pa.nulls(0, pa.large_binary()), *texts])
    number = np.repeat([n for n, _ in chunks], [len(chunk.text) for _, chunk in chunks]).astype(np.int32)
    row = np.concatenate([np.empty(0, np.int64), *_rows_in_file(chunks)])
    offsets = (
        np.frombuffer(text.buffers()[1], np.int64, len(text) + 1, 8 * text.offset) if len(text) else np.zeros(1, int)
    )
    whole = memoryview(text.buffers()[2] or b"") if len(text) else memoryview(b"")
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
        "rejected": _count(reject.reason for _, chunk in chunks for reject in chunk.rejects),
        "samples": _samples(chunks, inputs),
        "engine": tokenizer.engine,
        "checked": checked,
    }
    return write_part(part, (hi, lo), tokens, starts, documents, schemas.token_type(tokenizer.n_vocab), facts)


def _rows_in_file(chunks: Sequence[tuple[int, Chunk]]) -> Iterator[np.ndarray[Any, Any]]:
    """Yield each chunk's rows, counted from the first row that this part holds of the chunk's file."""
    for _, first, chunk in _with_first_rows(chunks):
        yield chunk.row + first


def _with_first_rows(chunks: Sequence[tuple[int, Chunk]]) -> Iterator[tuple[int, int, Chunk]]:
    before: dict[int, int] = {}
    for number, chunk in chunks:
        yield number, before.get(number, 0), chunk
        before[number] = before.get(number, 0) + chunk.rows


def _rows_of_files(chunks: Sequence[tuple[int, Chunk]], files: int) -> list[int]:
    rows = [0] * files
    for number, chunk in chunks:
        rows[number] += chunk.rows
    return rows


def _count(reasons: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for reason in reasons:
        counts[reason] = counts.get(reason, 0) + 1
    return counts


def _samples(chunks: Sequence[tuple[int, Chunk]], inputs: Sequence[InputFile]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for number, first, chunk in _with_first_rows(chunks):
        for reject in chunk.rejects[: _SAMPLES - len(found)]:
            place = {"file": inputs[number].name, "row": reject.row + first}
            found.append(place | {"reason": reject.reason, "sample": reject.sample})
    return found


def _align_columns(part: PartFiles, chunks: Sequence[tuple[int, Chunk]]) -> pa.Table:
    """Return the chunks' columns in the order of the part's documents."""
    documents = read_parquet(part.documents, ["input", "input_row"])
    tables = [chunk.columns for _, chunk in chunks]
    # Files that share a part may disagree on a field's type; all have the same fields.
    fields = [(name, widest({table.schema.field(name).type for table in tables})) for name in tables[0].schema.names]
    table = pa.concat_tables([table.cast(pa.schema(fields)) for table in tables])
    number = np.repeat([n for n, _ in chunks], [len(chunk.text) for _, chunk in chunks])
    row = np.concatenate([np.empty(0, np.int64), *_rows_in_file(chunks)])
    place = np.lexsort((row, number))
    wanted = np.lexsort((schemas.numbers(documents["input_row"]), schemas.numbers(documents["input"])))
    order = np.empty(len(place), np.int64)
    order[wanted] = place
    return table.take(schemas.column(order))


def _parts(
    unit: Unit, workspace: Workspace, recipe: Recipe, folder: Path, fresh: Collection[tuple[str, int]]
) -> Iterator[StoredPart]:
    how = reading(recipe, unit.source, workspace)
    columns = _columns_key(how.columns)
    first = np.zeros(len(unit.files), np.int64)
    count = 0
    steps = readers(unit, how)
    for start in range(steps):
        mark = _mark(folder / unit.key, start, steps, columns)
        count += len((read_json_record(mark, "chunks") or {"chunks": ()})["chunks"])
    for index in range(count):
        files = PartFiles(folder / unit.key, index)
        record = read_record(files)
        if record is None:
            raise StoreError(f"{files.record}: this part's record is gone; remove {files.folder} and run again")
        is_fresh = (str(files.folder), index % steps) in fresh
        yield StoredPart(unit, files, record, tuple(first.tolist()), columns, is_fresh)
        first += record["rows"]


def _judge(recipe: Recipe, units: Sequence[Unit], parts: Sequence[StoredPart]) -> None:
    """Refuse a source without documents, and more bad rows than allowed, also those that an earlier run counted."""
    for source in recipe.sources:
        held = [part for part in parts if part.unit.source is source]
        if not sum(part.record["documents"] for part in held):
            raise InputError(
                _no_document(source, [file for unit in units if unit.source is source for file in unit.files], held)
            )
    allowed = recipe.max_bad_rows if recipe.on_bad_row == "skip" else 0
    bad = sum(sum(part.record["rejected"].values()) for part in parts)
    if bad > allowed:
        raise InputError(_too_many(bad, allowed, _placed(parts)))


def _no_document(source: Source, files: Sequence[InputFile], parts: Sequence[StoredPart]) -> str:
    rows, rejected = sum(sum(part.record["rows"]) for part in parts), _placed(parts)
    more = f" and {len(files) - 1:,} more" if len(files) > 1 else ""
    why = f", the first bad one {rejected[0]}" if rejected else ""
    return (
        f"source {source.name!r} holds no document: {rows:,} rows in {files[0].name}{more}{why}; check paths and the "
        "text field, or take the source out of the recipe"
    )


def _placed(parts: Sequence[StoredPart]) -> list[str]:
    """Say where the sampled bad rows of parts are, counted in their files, and what is wrong with them."""
    out = []
    for part in parts:
        first = dict(zip((file.name for file in part.unit.files), part.first_rows, strict=True))
        out += _place([s | {"row": s["row"] + first.get(s["file"], 0)} for s in part.record["samples"]])
    return out


def _place(samples: Sequence[dict[str, Any]]) -> list[str]:
    return [f"{s['file']}, row {s['row']:,}{s.get('within', '')}: {s['reason']} ({s['sample']!r})" for s in samples]


def _too_many(bad: int, allowed: int, places: Sequence[str]) -> str:
    return (
        f"{bad:,} bad rows, {allowed:,} allowed; one of them: {places[0]}; mend them, or raise max_bad_rows with "
        "on_bad_row: skip"
    )
