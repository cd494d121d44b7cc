"""The texts of a mixture, read once more for a set of pairs; what is found is kept, one file for each task.

    work/coverage/<pairs and matching>/pairs.json
                                      /hits-3fa9….parquet    doc_id, pair: both names of the pair stand in the document

A task's file is named by the contents of the inputs that it reads and by its share of them. So another plan over the
same corpus reads no text, and a changed input file is read alone.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mixture import corpus, schemas
from mixture.corpus.documents import Chunk, InputFile, Reading
from mixture.engine import Engine, Progress, Task
from mixture.errors import MonitorError, StoreError
from mixture.hashing import document_ids, fingerprint, id_column
from mixture.lockfile import Lock
from mixture.monitor.coverage_match import Finder, Matching
from mixture.monitor.coverage_pairs import Pair
from mixture.patterns import locate
from mixture.storage import Place, as_place, exists, is_remote, publish, read_record, size_of, write_json
from mixture.tokens.inputs import COMPRESSED, EXPANSION, UNIT_BYTES, content_hashes
from mixture.tokens.join_rows import TEXT
from mixture.tokens.shares import read_reading, write_reading
from mixture.tokens.store import parquet_options
from mixture.workspace import Workspace

_VERSION = 1
_HITS = pa.schema([("doc_id", schemas.DOC_ID), ("pair", pa.int32())])
#: Tasks that share one large file; of a compressed one, each decompresses all of it.
_MOST_SHARES = 64
_MOST_READERS = 8
_BYTES_PER_READER = 128 << 20


@dataclass(frozen=True)
class _Share:
    """What one task reads: some files of one source, or chunks start, start+step, … of a large one."""

    format: str
    reading: str
    files: tuple[InputFile, ...]
    start: int = 0
    step: int = 1

    @property
    def weight(self) -> int:
        return max(1, sum(file.size for file in self.files) // self.step)

    def target(self, folder: Place) -> Place:
        contents = [file.digest or file.name for file in self.files]
        how = [self.format, self.reading, contents, self.start, self.step]
        return folder / f"hits-{fingerprint(how)[:20]}.parquet"

    def task(self, folder: Place) -> Task:
        arguments = {
            "format": self.format,
            "reading": self.reading,
            "files": [[file.name, str(file.path), file.size, file.digest] for file in self.files],
            "start": self.start,
            "step": self.step,
            "folder": str(folder),
            "target": self.target(folder).name,
        }
        more = f" and {len(self.files) - 1:,} more" if len(self.files) > 1 else ""
        return Task("mixture.monitor.coverage_scan:scan_share", arguments, self.weight, self.files[0].name + more)


def scan(
    lock: Lock,
    how: dict[str, Any],
    workspace: Workspace,
    pairs: Sequence[Pair],
    matching: Matching,
    engine: Engine,
    progress: Progress,
) -> list[Place]:
    """Search every text that a mixture was made of; return the files of what was found, `doc_id, pair`.

    Args:
        lock: names the input files.
        how: how its index was read (`index.origins.how_read`).
        workspace: where input files and joined documents lie, and where hits go.
        pairs: what is searched for.
        matching: when a name stands in a text.
        engine: where tasks run, as those of the stage `score`.
        progress: who is told.

    Raises:
        MonitorError: an input file is not the one that the lock names, or the pairs cannot be searched for.
        InputError: an input file is gone or cannot be read.
        StoreError: joined documents are gone.
    """
    Finder(pairs, matching)  # An error of the pairs is told before the first task.
    told = {"pairs": [[pair.subject, pair.object] for pair in pairs], "matching": asdict(matching)}
    folder = workspace.work / "coverage" / fingerprint([_VERSION, told])
    if not exists(folder / "pairs.json"):
        write_json(folder / "pairs.json", told)
    shares = list(_shares(lock, how, workspace, engine))
    lacking = [share for share in shares if not exists(share.target(folder))]
    total = sum(share.weight for share in shares)
    why = f"{len(pairs):,} pairs, {len(lacking):,} of {len(shares):,} pieces of the corpora not searched for them yet"
    progress.start("coverage", why, "B", total, total - sum(share.weight for share in lacking))
    for task, _ in engine.run([share.task(folder) for share in lacking], "score"):
        progress.advance(task.weight)
    progress.finish()
    return [share.target(folder) for share in shares]


def scan_share(
    format: str,  # noqa: A002
    reading: str,
    files: list[tuple[str, str, int, str]],
    start: int,
    step: int,
    folder: str,
    target: str,
) -> dict[str, int]:
    """Task: search a share, and publish which pairs stand in which documents.

    Returns:
        documents read and hits found.
    """
    find = _finder(folder)
    inputs = [InputFile(name, as_place(path), size, digest) for name, path, size, digest in files]
    count = {"documents": 0, "hits": 0}
    with (
        publish(as_place(folder) / target) as out,
        pq.ParquetWriter(pa.PythonFile(out, "w"), _HITS, **parquet_options(_HITS.names)) as writer,
    ):
        for file in inputs:
            for chunk in corpus.read(format, file, read_reading(reading), start, step):
                table = _hits(chunk, find)
                writer.write_table(table)
                count["documents"] += len(chunk.texts)
                count["hits"] += len(table)
    return count


@functools.lru_cache(maxsize=2)
def _finder(folder: str) -> Finder:
    told = read_record(as_place(folder) / "pairs.json", "pairs", "matching")
    if told is None:
        raise StoreError(f"{folder}/pairs.json: gone while tasks were at work; run it again")
    return Finder([Pair(*names) for names in told["pairs"]], Matching(**told["matching"]))


def _hits(chunk: Chunk, find: Finder) -> pa.Table:
    found: list[int] = []
    ids: list[bytes] = []
    for text in chunk.texts:
        numbers = find.pairs(text)
        if numbers:
            ids += [document_ids([text])] * len(numbers)
            found += numbers
    return pa.table([id_column(b"".join(ids)), schemas.column(np.array(found, np.int32))], schema=_HITS)


def _shares(lock: Lock, how: dict[str, Any], workspace: Workspace, engine: Engine) -> Iterator[_Share]:
    """Cut the texts into shares, in the order of the lock; what decides is the files alone."""
    for source, told in how["sources"].items():
        if told["join"]:
            reading = write_reading(Reading(text=TEXT, skip_bad=True))
            yield from _cut("arrow", reading, _joined(told["join"]["folder"], how, workspace))
        else:
            files = _inputs(lock, source, told, workspace, engine)
            yield from _cut(told["format"], write_reading(_reading(told, workspace)), files)


def _reading(told: dict[str, Any], workspace: Workspace) -> Reading:
    reading = read_reading(json.dumps(told["reading"]))
    if told["format"] == "huggingface" and not is_remote(workspace.work):
        cache = ("cache_dir", str(workspace.work / "huggingface"))
        return replace(reading, options=(*reading.options, cache))
    return reading


def _inputs(lock: Lock, source: str, told: dict[str, Any], workspace: Workspace, engine: Engine) -> list[InputFile]:
    """Return a source's files, held to the lock by content.

    A data set of the Hugging Face library is not: of a text that changed nothing is counted, for its id is another.
    """
    entries = [entry for entry in lock.inputs if entry["source"] == source]
    hub = dict(told["reading"]["options"]).get("hub")
    if told["format"] == "huggingface":
        paths = [as_place(hub) if hub else locate(entry["name"], workspace.data) for entry in entries]
    else:
        paths = [locate(entry["name"], workspace.data) for entry in entries]
        found = content_hashes(paths, workspace, engine)
        for entry, path in zip(entries, paths, strict=True):
            if found[path][1] != entry["hash"]:
                raise MonitorError(
                    f"{entry['name']}: its content is {found[path][1]}, the lock says {entry['hash']}; restore the "
                    "file, or plan again"
                )
    return [InputFile(e["name"], path, e["bytes"], e["hash"]) for e, path in zip(entries, paths, strict=True)]


def _joined(folder: str, how: dict[str, Any], workspace: Workspace) -> list[InputFile]:
    files = []
    for unit, name in how["joined"].items():
        if name.partition("/")[0] != folder:
            continue
        path = workspace.work / "joined" / name
        size = size_of(path)
        if size is None:
            raise StoreError(
                f"{path}: joined documents are gone; run `mixture tokenize` of the recipe to join them again"
            )
        files.append(InputFile(path.name, path, size, unit))
    return files


def _cut(form: str, reading: str, files: Sequence[InputFile]) -> Iterator[_Share]:
    """Gather small files, and cut large ones."""
    group: list[InputFile] = []
    size = 0
    for file in files:
        text = file.size * (EXPANSION if file.name.endswith(COMPRESSED) else 1)
        if form == "huggingface" or text >= UNIT_BYTES:
            step = _readers(form, file, reading)
            yield from (_Share(form, reading, (file,), start, step) for start in range(step))
            continue
        group.append(file)
        size += text
        if size >= UNIT_BYTES:
            yield _Share(form, reading, tuple(group))
            group, size = [], 0
    if group:
        yield _Share(form, reading, tuple(group))


def _readers(form: str, file: InputFile, reading: str) -> int:
    chunks = corpus.chunks(form, file, read_reading(reading))
    most = min(_MOST_READERS, -(-file.size // _BYTES_PER_READER)) if chunks is None else min(_MOST_SHARES, chunks)
    return max(1, most)
