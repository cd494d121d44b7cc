"""The corpora again: every input file is read and held, by content, to the lock.

    lock    data/a.jsonl 46bf…   data/b.jsonl 9c01…   data/c.jsonl 77aa…
    here    data/a.jsonl 46bf…   data/b.jsonl 0e5d…   data/d.jsonl 77aa…
      └►    b changed, with the cells of what came from it;  c is called d now, which is fine

What is remembered of files (`inputs.json`: path, size, time of change) is not believed here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from mixture.engine import Engine, Progress, Task
from mixture.errors import InputError
from mixture.lockfile import Lock
from mixture.patterns import expand, locate
from mixture.recipe import Recipe, bucket_names
from mixture.recipe.sources import Source
from mixture.storage import Place, as_place, local
from mixture.tokens.inputs import find
from mixture.verify.findings import Finding
from mixture.workspace import Workspace

#: Source, name, content hash.
_Input = tuple[str, str, str]


@dataclass(frozen=True)
class Inputs:
    """What became of the input files.

    Attributes:
        read: how many were read.
        bytes: how many bytes.
        findings: files that changed, are gone, are new or cannot be read.
        notes: files that have another name.
    """

    read: int
    bytes: int
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]


class _Told:
    """An engine that tells how far it is."""

    def __init__(self, engine: Engine, progress: Progress) -> None:
        self._engine, self._progress = engine, progress

    def run(self, tasks: Sequence[Task], stage: str) -> Iterator[tuple[Task, Any]]:  # noqa: ARG002 - whoever asks
        """See `Engine.run`."""
        for task, record in self._engine.run(tasks, "verify"):
            self._progress.advance(task.weight)
            yield task, record


def check_inputs(
    recipe: Recipe, lock: Lock, workspace: Workspace, engine: Engine, progress: Progress, index: Place | None
) -> Inputs:
    """Read every input file, and compare it with the lock.

    Args:
        recipe: says where the files are.
        lock: says what they were.
        workspace: where they are looked for.
        engine: where tasks run.
        progress: told of bytes.
        index: the document index, for the cells; None where it is not here or damaged.
    """
    total = sum(file["bytes"] for file in lock.inputs)
    progress.start("inputs", f"{len(lock.inputs):,} files against the lock", "B", total, 0)
    here, size, unread = _read(recipe, workspace, _Told(engine, progress))
    progress.finish()
    was = [(file["source"], file["name"], file["hash"]) for file in lock.inputs]
    changed, gone, new, renamed = compare_inputs(was, here)
    cells = _cells(recipe, index, sorted({name for _, name, _ in [*changed, *gone]}))
    findings = list(unread)
    findings += [_finding("changed since the lock was made", file, cells) for file in changed]
    findings += [_finding("is gone", file, cells) for file in gone]
    findings += [_finding("is new, the lock does not know it", file, None) for file in new]
    notes = tuple(f"{old} is called {name} now; its content is the same" for old, name in renamed)
    return Inputs(len(here), size, tuple(findings), notes)


def compare_inputs(
    was: Sequence[_Input], now: Sequence[_Input]
) -> tuple[list[_Input], list[_Input], list[_Input], list[tuple[str, str]]]:
    """Tell apart what changed, is gone, is new, or has another name; files are given by source, name and content.

    Returns:
        files that changed (as they were), that are gone, that are new, and pairs of an old and a new name.
    """
    left, fresh = dict.fromkeys(was), dict.fromkeys(file for file in now if file not in set(was))
    for file in now:
        left.pop(file, None)
    renamed: list[tuple[str, str]] = []
    for file in list(left):
        alike = [other for other in fresh if (other[0], other[2]) == (file[0], file[2])]
        if alike:
            renamed.append((file[1], alike[0][1]))
            del left[file], fresh[alike[0]]
    names = {(source, name) for source, name, _ in fresh}
    changed = [file for file in left if file[:2] in names]
    gone = [file for file in left if file[:2] not in names]
    before = {file[:2] for file in changed}
    return changed, gone, [file for file in fresh if file[:2] not in before], renamed


def _read(recipe: Recipe, workspace: Workspace, engine: Engine) -> tuple[list[_Input], int, list[Finding]]:
    """Return every input file as it is now, their bytes, and what could not be read."""
    sources = [source for source in (_found(source, workspace) for source in recipe.sources) if source is not None]
    if not sources:
        return [], 0, []
    # An empty folder remembers nothing: every file is hashed.
    with tempfile.TemporaryDirectory() as aside:
        try:
            units = find(
                recipe.model_copy(update={"sources": tuple(sources)}),
                Workspace(as_place(aside), workspace.data),
                engine,
            )
        except InputError as error:
            return [], 0, [Finding("input", str(error))]
    files = [(unit.source.name, file) for unit in units for file in unit.files]
    return [(source, file.name, file.digest) for source, file in files], sum(file.size for _, file in files), []


def _found(source: Source, workspace: Workspace) -> Source | None:
    """Return a source with those of its paths that are there; None if none is. What is lacking shows as gone."""
    if source.hub is not None:
        return source
    paths = []
    for pattern in source.paths:
        try:
            if source.format == "huggingface":
                there = locate(pattern, workspace.data).is_dir()
            else:
                there = bool(expand([pattern], source.exclude, workspace.data))
        except InputError:
            there = False
        if there:
            paths.append(pattern)
    return source.model_copy(update={"paths": tuple(paths)}) if paths else None


def _finding(what: str, file: _Input, cells: dict[str, list[dict[str, Any]]] | None) -> Finding:
    source, name, digest = file
    came: tuple[dict[str, Any], ...] = ()
    if cells is None:
        more = ""
    elif not cells:
        more = "; which cells it fed is not known: there is no sound index here"
    else:
        came = tuple(cells.get(name, ()))
        shown = [f"{c['domain']} {c['bucket']} ({c['documents']:,} documents, {c['tokens']:,} tokens)" for c in came]
        more = f"; it fed {', '.join(shown)}" if shown else "; no document of the index came from it"
    move = "plan and pack again, or restore the file"
    return Finding("input", f"{name} of source {source!r} {what} ({digest}){more}; {move}", name, cells=came)


def _cells(recipe: Recipe, index: Place | None, names: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Return documents and tokens that came from each file, by domain and bucket; nothing where there is no index."""
    if index is None or not names:
        return {}
    rows = (
        pl.scan_parquet(local(index))
        .filter(pl.col("input_file").is_in(list(names)))
        .group_by("input_file", "domain", "n_tokens")
        .agg(pl.len().alias("documents"))
        .collect()
    )
    sums: dict[tuple[str, str, int], list[int]] = {}
    for file, domain, tokens, count in rows.iter_rows():
        bucket = recipe.buckets.number(domain, tokens)
        held = sums.setdefault((file, domain, bucket), [0, 0])
        held[0] += count
        held[1] += count * tokens
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for file, domain, bucket in sorted(sums):
        documents, tokens = sums[file, domain, bucket]
        name = bucket_names(recipe.buckets.of(domain))[bucket]
        found[file].append({"domain": domain, "bucket": name, "documents": documents, "tokens": tokens})
    return found
