"""The contamination gate: how many n-grams of each document stand in evaluation files; the token store in, scores out.

    eval/ruler-qa.jsonl, eval/needle.txt  ─ same tokenizer ─▶  n-grams   ┐
                                                                         ├─▶  doc_id, contamination
    work/store/<tokenizer>/<unit>/part-00003.arrow  ─▶  n-grams          ┘    doc_id, file, ngrams, longest, …

A task reads the tokens of one part of the store, which lie there already, and publishes

    work/scores/<column>/evaluation.arrow, .json         what is looked for; the record says what of each file
    work/scores/<column>/<unit>/part-00003.parquet       every document and how many n-grams it shares, sorted by id
    work/scores/<column>/<unit>/part-00003.hits.parquet  who shares what with which file, if anybody does
    work/scores/<column>/<unit>/part-00003.json          written last: the part is searched

The column's key holds the evaluation files' content, how they are read, n and the tokenizer: another evaluation file
makes another column.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mixture import schemas
from mixture.engine import Engine, Progress, Task
from mixture.errors import RecipeError, some
from mixture.hashing import fingerprint, id_words
from mixture.recipe import Recipe
from mixture.recipe.sources import Score
from mixture.scores.evaluation import find_evaluation, gather_evaluation, read_evaluation
from mixture.scores.ngrams import I64, Finder, Shared, least_whole, shared
from mixture.scores.tables import ScoreTable
from mixture.storage import Place, as_place, exists, read_record, write_json
from mixture.tokens.ingest import Store, StoredPart
from mixture.tokens.parts import open_part
from mixture.tokens.store import read_parquet, write_parquet
from mixture.workspace import Workspace

VERSION = "1"


@dataclass(frozen=True)
class Searched:
    """One gate, searched for in every part of a store.

    Attributes:
        table: the column, for the recipe's SQL.
        patterns: the evaluation files, as they were asked for.
        record: what was looked for, JSON-able and without a path of this machine: for keys and locks.
        evaluation: the Arrow file of what was looked for.
        hits: the Parquet files of who shares what with which file; none where nobody does.
        documents: documents searched, equal ones included.
        made: inputs that this run had to search.
    """

    table: ScoreTable
    patterns: tuple[str, ...]
    record: dict[str, Any]
    evaluation: Place
    hits: tuple[Place, ...]
    documents: int
    made: tuple[str, ...]


@dataclass(frozen=True)
class _Target:
    """Where the scores of one part of the store go."""

    folder: Place
    name: str

    @property
    def scores(self) -> Place:
        return self.folder / f"{self.name}.parquet"

    @property
    def hits(self) -> Place:
        return self.folder / f"{self.name}.hits.parquet"

    @property
    def mark(self) -> Place:
        return self.folder / f"{self.name}.json"

    def record(self) -> dict[str, Any] | None:
        """Return the record, or None if it is not whole."""
        record = read_record(self.mark, "documents", "contaminated")
        if record is None or not exists(self.scores):
            return None
        return record if exists(self.hits) or not record["contaminated"] else None


def gates(recipe: Recipe, against: Sequence[str] = (), ngram: int | None = None, text: str = "") -> tuple[Score, ...]:
    """Return the gates of a recipe, or one against other files; n and the field may be others too.

    Raises:
        RecipeError: there is none, or a path is absolute.
    """
    own = tuple(score for score in recipe.scores if score.contamination)
    changed = {name: value for name, value in (("ngram", ngram), ("text", text)) if value}
    if not against:
        if not own:
            raise RecipeError(
                f"recipe {recipe.name!r} names no evaluation files; write `scores: [{{contamination: "
                "[eval/*.jsonl]}]` into it, or give --against 'eval/*.jsonl'"
            )
        return tuple(score.model_copy(update=changed) for score in own)
    for pattern in against:
        if as_place(pattern).is_absolute():
            raise RecipeError(
                f"--against {pattern}: is absolute; write it relative to the data root and give that with --data"
            )
    return (Score(contamination=tuple(against), name="contamination", **changed),)


def search(
    recipe: Recipe, rule: Score, store: Store, workspace: Workspace, engine: Engine, progress: Progress
) -> Searched:
    """Search every part of a store for the n-grams of evaluation files, or find it searched.

    Args:
        recipe: says whether bad rows are skipped.
        rule: the evaluation files, n and their text field.
        store: the documents' tokens.
        workspace: where the files lie and scores go.
        engine: where tasks run.
        progress: who is told.

    Raises:
        InputError: no evaluation file is there, or one cannot be read or holds nothing to look for.
    """
    evaluation = find_evaluation(recipe, rule, workspace, engine)
    folder = workspace.scores(fingerprint([VERSION, rule.name, store.folder.name, evaluation.content]))
    files = gather_evaluation(evaluation, store.tokenizer, folder, progress)
    # A file that two sources read has its parts once in the store.
    parts = list({part.name: part for part in store.parts}.values())
    targets = [_Target(folder / part.unit.key, part.files.tokens.stem) for part in parts]
    missing = [pair for pair in zip(parts, targets, strict=True) if pair[1].record() is None]
    total, left = (sum(part.record["tokens"] for part in of) for of in (parts, [part for part, _ in missing]))
    labels = tuple(dict.fromkeys(part.unit.label for part, _ in missing))
    why = f"{len(missing)} of {len(parts)} parts not searched yet: {some(labels)}"
    progress.start(rule.name, why, "tokens", total, total - left)
    for task, _ in engine.run([_task(part, target, folder, rule.name) for part, target in missing], "score"):
        progress.advance(task.weight)
    progress.finish()
    about = {"least": least_whole(evaluation.ngram), "version": VERSION, "tokenizer": store.tokenizer.fingerprint}
    return Searched(
        ScoreTable(rule.name, tuple(target.scores for target in targets), ours=True),
        rule.contamination or (),
        rule.what() | about | {"files": files},
        folder / "evaluation.arrow",
        tuple(target.hits for target in targets if exists(target.hits)),
        sum(part.record["documents"] for part in parts),
        labels,
    )


def _task(part: StoredPart, target: _Target, folder: Place, name: str) -> Task:
    arguments = {
        "tokens": str(part.files.tokens),
        "documents": str(part.files.documents),
        "evaluation": str(folder / "evaluation.arrow"),
        "name": name,
        "target": [str(target.folder), target.name],
    }
    weight = max(1, part.record["tokens"])
    return Task("mixture.scores.contamination:search_part", arguments, weight, part.unit.label)


@functools.lru_cache(maxsize=1)
def _finder(path: str) -> tuple[Finder, I64]:
    wanted, files = read_evaluation(as_place(path))
    return Finder(wanted), files


def search_part(tokens: str, documents: str, evaluation: str, name: str, target: tuple[str, str]) -> None:
    """Task: search the documents of one part of the store, and publish what they share with the evaluation files."""
    finder, files = _finder(evaluation)
    part, into = open_part(as_place(tokens)), _Target(as_place(target[0]), target[1])
    ids = read_parquet(as_place(documents), ["doc_id"])["doc_id"].combine_chunks()
    hi, lo = id_words(ids)
    # Equal texts stand side by side, and count once.
    first = np.r_[True, (np.diff(hi) != 0) | (np.diff(lo) != 0)][: len(ids)]
    found = shared(finder.find(part.tokens, part.offsets), part.offsets, files)
    counts = np.bincount(found.document, found.ngrams, len(ids)).astype(np.int64)
    kept = np.flatnonzero(first)
    table = {"doc_id": ids.take(schemas.column(kept)), name: schemas.column(counts[kept])}
    write_parquet(into.scores, pa.table(table))
    _write_hits(into.hits, ids, found, first[found.document])
    contaminated = int(np.count_nonzero(counts[kept]))
    write_json(into.mark, {"documents": len(ids), "contaminated": contaminated})


def _write_hits(path: Place, ids: pa.Array, found: Shared, kept: npt.NDArray[np.bool_]) -> None:
    rows = np.flatnonzero(kept)
    if not len(rows):
        return
    columns = {name: getattr(found, name)[rows] for name in ("file", "ngrams", "longest", "place", "size")}
    doc_id = ids.take(schemas.column(found.document[rows]))
    write_parquet(path, pa.table({"doc_id": doc_id} | {k: schemas.column(v) for k, v in columns.items()}))
