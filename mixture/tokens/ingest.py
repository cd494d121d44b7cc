"""The tokenize stage: corpora in, token store out.

A task reads some chunks of one unit and publishes a part for each, so a killed task loses at most one part. A unit is
whole when each of its tasks has left its mark. What decides how a unit is cut into tasks is the unit alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from mixture.engine import Engine, Progress, Task
from mixture.errors import EngineMismatchError, InputError, StoreError, some
from mixture.recipe import Recipe
from mixture.storage import Place, each, exists, read_json, write_json
from mixture.tokens import rejects
from mixture.tokens import tokenizer as tokenizers
from mixture.tokens.chunks import columns_key, load_tokenizer
from mixture.tokens.inputs import Unit, find, reading
from mixture.tokens.join import Joined, join
from mixture.tokens.look import Look
from mixture.tokens.separators import frame, knots
from mixture.tokens.shares import readers, write_reading
from mixture.tokens.store import PartFiles
from mixture.workspace import Workspace


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

    folder: Place
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


def tokenize(recipe: Recipe, workspace: Workspace, engine: Engine, progress: Progress) -> Store:
    """Bring every document of a recipe's sources into the token store; what is there stays.

    Raises:
        InputError: a corpus cannot be read, holds nothing, or has more bad rows than the recipe allows.
        TokenizerError: the vocabulary cannot be loaded.
    """
    units = find(recipe, workspace, engine)
    tokenizer = load_tokenizer(recipe.tokenizer.model_dump_json(), str(workspace.data), "auto")
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
    if exists(mismatch) and tokenizer.engine != "reference":
        return _tokenize_with(recipe, workspace, engine, progress, found, "reference", str(read_mismatch(mismatch)))
    try:
        return _tokenize_with(recipe, workspace, engine, progress, found, "auto", tokenizer.notice)
    except EngineMismatchError as error:
        notice = f"{error}; the whole store is made again with the reference tokenizer, which is slower"
        progress.say(notice)
        write_json(mismatch, notice, name=_mismatch_name(mismatch))
        return _tokenize_with(recipe, workspace, engine, progress, found, "reference", notice)


def read_mismatch(path: Place) -> Any:
    """Return the sentence that a store keeps of a fast engine that was wrong; None where there is none.

    Raises:
        StoreError: it is damaged.
    """
    return read_json(path, name=_mismatch_name(path))


def _mismatch_name(path: Place) -> str:
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
    tokenizer = load_tokenizer(recipe.tokenizer.model_dump_json(), str(workspace.data), choice)
    name = tokenizer.fingerprint + ("-reference" if choice == "reference" else "")
    folder = workspace.store(name)
    tasks = [task for unit in texts for task in _tasks(recipe, workspace, unit, folder, choice)]
    look = Look()
    done = each(look.is_done, tasks, folder)
    missing = [task for task, is_done in zip(tasks, done, strict=True) if not is_done]
    made = tuple(dict.fromkeys(task.label for task in missing))
    total = sum(task.weight for task in tasks)
    why = f"{len(made)} of {len(texts)} inputs new or changed: {some(made)}"
    progress.start("tokenize", why, "B", total, total - sum(task.weight for task in missing))
    seen = sum(sum(join.rejected.values()) for join in found.joins)
    for task, report in engine.run(missing, "tokenize"):
        progress.advance(task.weight)
        seen += sum(report["rejected"].values())
        if seen > recipe.max_bad_rows:
            raise InputError(rejects.too_many(seen, recipe.max_bad_rows, rejects.described(report["samples"])))
    progress.finish()
    if missing or not exists(folder / "proof.json"):
        write_json(folder / "proof.json", asdict(tokenizer.proof) | {"store": folder.name})
    fresh = {(task.arguments["folder"], task.arguments["start"]) for task in missing}
    look.forget({task.arguments["folder"] for task in missing})
    parts = tuple(part for unit in texts for part in _parts(unit, workspace, recipe, folder, fresh, look))
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


def _tasks(
    recipe: Recipe, workspace: Workspace, unit: Unit, folder: Place, choice: Literal["auto", "reference"]
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
        yield Task("mixture.tokens.chunks:tokenize_chunks", arguments, max(1, unit.size // count), label)


def _parts(
    unit: Unit,
    workspace: Workspace,
    recipe: Recipe,
    folder: Place,
    fresh: Collection[tuple[str, int]],
    look: Look,
) -> Iterator[StoredPart]:
    how = reading(recipe, unit.source, workspace)
    columns = columns_key(how.columns)
    first = np.zeros(len(unit.named), np.int64)
    count = 0
    steps = readers(unit, how)
    for start in range(steps):
        mark = look.mark(folder / unit.key, start, steps, columns)
        count += len((mark or {"chunks": ()})["chunks"])
    every = [PartFiles(folder / unit.key, index) for index in range(count)]
    for index, (files, record) in enumerate(zip(every, each(look.record, every, folder), strict=True)):
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
