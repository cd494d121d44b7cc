"""The score stage: corpora in, a table of scores for each column out.

A task reads the same chunks as one of tokenize does, and publishes a Parquet file for each chunk and column: an id and
a number, sorted by id, each id once. Columns are kept apart, so a new one reads the texts again but computes nothing
twice.

    work/scores/<column>/<unit>/part-00003.parquet     doc_id, gzip_ratio
    work/scores/<column>/<unit>/done-3-of-8.json       written last: what this task had to score is scored

The column's key holds its definition's version and its model's content; the unit's key holds the texts' content and
how they are read.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mixture import schemas
from mixture.corpus.documents import InputFile
from mixture.engine import Engine, Progress, Task
from mixture.errors import InputError, RecipeError, nearest, some
from mixture.hashing import document_ids, fingerprint, id_column, id_words
from mixture.patterns import expand, locate
from mixture.recipe import Recipe
from mixture.recipe.sources import Measure, Score
from mixture.scores import perplexity
from mixture.scores.contamination import Searched
from mixture.scores.definitions import DEFINITIONS
from mixture.scores.tables import ScoreTable
from mixture.storage import Place, as_place, exists, read_record, write_json
from mixture.tokens import rejects
from mixture.tokens.inputs import Unit, content_hashes, reading
from mixture.tokens.shares import read_reading, readers, texts_of, unit_chunks, write_reading
from mixture.tokens.store import write_parquet
from mixture.workspace import Workspace

_FORMAT_VERSION = 1


@dataclass(frozen=True)
class Scores:
    """What the stage leaves.

    Attributes:
        tables: a table for each score of the recipe, in its order.
        record: what they hold, by name, JSON-able and without a path: for keys and locks.
        documents: documents scored, duplicates included; 0 where all scores are tables of other tools.
        rejected: bad rows, by reason.
        made: units that this run had to read.
    """

    tables: tuple[ScoreTable, ...]
    record: dict[str, Any]
    documents: int
    rejected: dict[str, int]
    made: tuple[str, ...]


@dataclass(frozen=True)
class _Column:
    """A score that is computed here; travels in a task's arguments."""

    name: str
    kind: str
    folder: str
    model: str = ""
    pieces: str = ""

    def mark(self, unit: str, start: int, step: int) -> Place:
        """Return the record of one task's share of a unit."""
        return as_place(self.folder) / unit / f"done-{start}-of-{step}.json"

    def part(self, unit: str, chunk: int) -> Place:
        """Return the file of one chunk."""
        return as_place(self.folder) / unit / f"part-{chunk:05d}.parquet"

    def share(self, unit: str, start: int, step: int) -> dict[str, Any] | None:
        """Return the record of a share, or None if it is not whole."""
        record = read_record(self.mark(unit, start, step), "chunks", "documents", "rejected", "samples")
        return record if record and all(exists(self.part(unit, n)) for n in record["chunks"]) else None


def choose(recipe: Recipe, names: Sequence[str]) -> Recipe:
    """Return the recipe with these of its scores, or measures that it does not name; with its own where none is named.

    Raises:
        RecipeError: no such score, or the recipe has none.
    """
    known = {name: Score(measure=name) for name in get_args(Measure)} | {s.name: s for s in recipe.scores}
    for name in names:
        if name not in known:
            raise RecipeError(f"--columns {name}: no such score; {nearest(name, known)}")
    chosen = tuple(known[name] for name in dict.fromkeys(names)) or recipe.scores
    if not chosen:
        raise RecipeError(
            f"recipe {recipe.name!r} names no scores; write `scores: [{', '.join(known)}]` into it, or give "
            f"--columns {next(iter(known))}"
        )
    return recipe.model_copy(update={"scores": chosen})


def score(
    recipe: Recipe,
    units: Sequence[Unit],
    workspace: Workspace,
    engine: Engine,
    progress: Progress,
    gates: Sequence[Searched] = (),
) -> Scores:
    """Compute a recipe's scores of every document, find those that are whole, and gather tables of other tools.

    Args:
        recipe: its scores are wanted.
        units: the files that documents are read from; where sources join rows, those of the store (`Store.texts`).
        workspace: where scores go.
        engine: where tasks run.
        progress: who is told.
        gates: what was searched for every contamination of the recipe, see `contamination.search`.

    Raises:
        InputError: a corpus, a model or a table cannot be read, or there are more bad rows than the recipe allows.
    """
    record, columns, given = _sort_out(recipe, workspace, engine)
    shares = [
        _Share(unit, write_reading(replace(reading(recipe, unit.source, workspace), columns=())), start, step)
        for unit in (units if columns else ())
        for start, step in _cut(recipe, unit, workspace)
    ]
    tasks = [task for share in shares if (task := share.task(columns))]
    if any(column["kind"] == "perplexity" for task in tasks for column in task.arguments["columns"]):
        perplexity.require()
    made = tuple(dict.fromkeys(task.label for task in tasks))
    if columns:
        _compute(tasks, sum(share.weight for share in shares), f"{len(made)} of {len(units)}", engine, progress)
    documents, rejected = _judge(recipe, shares, columns)
    ours = {column.name: ScoreTable(column.name, tuple(_parts(column, shares)), ours=True) for column in columns}
    made += tuple(label for gate in gates for label in gate.made)
    documents = max([documents, *(gate.documents for gate in gates)])
    tables, record = _in_order(recipe, given | ours, record, gates)
    return Scores(tables, record, documents, rejected, tuple(dict.fromkeys(made)))


def _compute(tasks: Sequence[Task], total: int, lacking: str, engine: Engine, progress: Progress) -> None:
    why = f"{lacking} inputs not scored yet: {some(dict.fromkeys(task.label for task in tasks))}"
    progress.start("score", why, "B", total, total - sum(task.weight for task in tasks))
    for task, _ in engine.run(tasks, "score"):
        progress.advance(task.weight)
    progress.finish()


def _in_order(
    recipe: Recipe, tables: dict[str, ScoreTable], record: dict[str, Any], gates: Sequence[Searched]
) -> tuple[tuple[ScoreTable, ...], dict[str, Any]]:
    """Return the tables and what they hold, those of the gates too, in the order of the recipe."""
    every = tables | {gate.table.name: gate.table for gate in gates}
    held = record | {gate.table.name: gate.record for gate in gates}
    names = [s.name for s in recipe.scores]
    return tuple(every[name] for name in names), {name: held[name] for name in names}


def _sort_out(
    recipe: Recipe, workspace: Workspace, engine: Engine
) -> tuple[dict[str, Any], list[_Column], dict[str, ScoreTable]]:
    """Return what the scores are, those to compute, and the tables that are there."""
    models = [locate(name, workspace.data) for s in recipe.scores for name in (s.perplexity, s.sentencepiece) if name]
    found = {s.name: expand((s.table,), (), workspace.data) for s in recipe.scores if s.table}
    paths = [file.path for files in found.values() for file in files]
    hashes = {path: digest for path, (_, digest) in content_hashes([*models, *paths], workspace, engine).items()}
    record: dict[str, Any] = {}
    columns: list[_Column] = []
    for s in recipe.scores:
        if s.contamination:
            continue
        if s.table:
            contents = sorted(hashes[file.path] for file in found[s.name])
            record[s.name] = s.what() | {"content": fingerprint(contents)}
            continue
        places = {k: locate(v, workspace.data) for k, v in (("model", s.perplexity), ("pieces", s.sentencepiece)) if v}
        record[s.name] = s.what() | {"version": _version(s)} | {k: hashes[place] for k, place in places.items()}
        key = fingerprint([_FORMAT_VERSION, record[s.name]])
        where = {k: str(place) for k, place in places.items()}
        columns.append(_Column(s.name, s.kind, str(workspace.scores(key)), **where))
    given = {name: ScoreTable(name, tuple(file.path for file in files)) for name, files in found.items()}
    return record, columns, given


def _version(rule: Score) -> str:
    return perplexity.VERSION if rule.measure is None else DEFINITIONS[rule.measure].version


def _cut(recipe: Recipe, unit: Unit, workspace: Workspace) -> Iterator[tuple[int, int]]:
    step = readers(unit, reading(recipe, unit.source, workspace))
    for start in range(step):
        yield start, step


@dataclass(frozen=True)
class _Share:
    """What one task reads of a unit."""

    unit: Unit
    reading: str
    start: int
    step: int

    @property
    def weight(self) -> int:
        """Bytes on disk, about."""
        return max(1, self.unit.size // self.step)

    def task(self, columns: Sequence[_Column]) -> Task | None:
        """Return the task for the columns that this share still lacks, or None."""
        lacking = [c for c in columns if c.share(self.unit.key, self.start, self.step) is None]
        arguments = {
            "format": self.unit.source.format,
            "files": [[f.name, str(f.path), f.size, f.digest] for f in self.unit.files],
            "reading": self.reading,
            "unit": self.unit.key,
            "columns": [column.__dict__ for column in lacking],
            "start": self.start,
            "step": self.step,
        }
        label = self.unit.label + (f" ({self.start + 1} of {self.step})" if self.step > 1 else "")
        return Task("mixture.scores.compute:score_chunks", arguments, self.weight, label) if lacking else None


def score_chunks(
    format: str,  # noqa: A002
    files: list[tuple[str, str, int, str]],
    reading: str,
    unit: str,
    columns: list[dict[str, str]],
    start: int,
    step: int,
) -> None:
    """Task: score chunks start, start+step, … of a unit, and publish a part for each column that lacks one."""
    inputs = [InputFile(name, as_place(path), size, digest) for name, path, size, digest in files]
    wanted = [_Column(**column) for column in columns]
    record: dict[str, Any] = {"chunks": [], "documents": 0, "rejected": {}, "samples": []}
    for index, chunks in unit_chunks(format, inputs, read_reading(reading), start, step):
        _store(wanted, unit, index, texts_of(chunks))
        record["chunks"].append(index)
        record["documents"] += sum(len(chunk.texts) for _, chunk in chunks)
        record["rejected"] = rejects.total([record["rejected"], rejects.count(chunks)])
        within = {"within": f" of chunk {index}"} if index else {}
        found = [sample | within for sample in rejects.samples(chunks, inputs)]
        record["samples"] = (record["samples"] + found)[: rejects.SAMPLES]
    for column in wanted:
        write_json(column.mark(unit, start, step), record)


def _store(columns: Sequence[_Column], unit: str, index: int, texts: Sequence[bytes]) -> None:
    lacking = [column for column in columns if not exists(column.part(unit, index))]
    if not lacking:
        return
    doc_id = id_column(document_ids(texts))
    hi, lo = id_words(doc_id)
    order = np.lexsort((lo, hi))
    # Equal texts are scored once.
    first = np.r_[True, (np.diff(hi[order]) != 0) | (np.diff(lo[order]) != 0)][: len(order)]
    places = order[first]
    kept = doc_id.take(schemas.column(places))
    for column in lacking:
        of = _scorer(column)
        values = np.fromiter((of(texts[n]) for n in places.tolist()), np.float64, len(places))
        scores = schemas.column(values)
        scores = pc.if_else(pc.is_nan(scores), pa.scalar(None, pa.float64()), scores)
        write_parquet(column.part(unit, index), pa.table({"doc_id": kept, column.name: scores}))


def _scorer(column: _Column) -> Callable[[bytes], float]:
    if column.kind in DEFINITIONS:
        return DEFINITIONS[column.kind].of
    return _model(column.model, column.pieces).of


@functools.lru_cache(maxsize=4)
def _model(model: str, pieces: str) -> perplexity.Perplexity:
    return perplexity.Perplexity(as_place(model), as_place(pieces) if pieces else None)


def _parts(column: _Column, shares: Sequence[_Share]) -> Iterator[Place]:
    for share in shares:
        record = column.share(share.unit.key, share.start, share.step)
        yield from (column.part(share.unit.key, n) for n in (record or {"chunks": ()})["chunks"])


def _judge(recipe: Recipe, shares: Sequence[_Share], columns: Sequence[_Column]) -> tuple[int, dict[str, int]]:
    """Count documents and bad rows, also those of earlier runs; refuse more than the recipe allows."""
    found = (columns[0].share(share.unit.key, share.start, share.step) for share in shares)
    records = [record for record in found if record]
    rejected = rejects.total(record["rejected"] for record in records)
    bad, allowed = sum(rejected.values()), rejects.allowed(recipe)
    if bad > allowed:
        samples = [sample for record in records for sample in record["samples"]]
        raise InputError(rejects.too_many(bad, allowed, rejects.described(samples)))
    return sum(record["documents"] for record in records), dict(sorted(rejected.items()))
