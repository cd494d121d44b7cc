"""Many rows, one document: the files of a repository, joined before they are tokenized.

    a.jsonl   {repo: x, path: b.py, text: B}    {repo: y, path: a.py, text: C}
    b.jsonl   {repo: x, path: a.py, text: A}    {repo: null, …}                   rejected: no join key
      └ by repo, order path  ──►  "A␤␤B", "C"

Rows of one key lie anywhere in the source, so they are brought together in two passes, on any engine:

    work/joined/<key>/staged/00003-00007.arrow   one chunk of the input, its rows dealt out to buckets by their keys
    work/joined/<key>/joined-00000.arrow         one bucket, joined: what the tokenize stage then reads
    work/joined/<key>/joined-00000.members.parquet   which rows its documents were joined from, by id
    work/joined/<key>/rows.parquet               which document each row went into, by file and row
    work/joined/<key>/joined.json                written last; `staged/` is swept away after it

A bucket is about 256 MB of text, one task's work and memory; how many there are follows from the files' sizes. The
result does not depend on files: rows follow each other by their order field, then by the id of their text; with
`order: {dependency: path}` a file also follows those of its document that it imports (`dependencies`).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mixture.corpus.documents import InputFile, Reading
from mixture.engine import Engine, Progress, Task
from mixture.errors import InputError
from mixture.hashing import fingerprint
from mixture.recipe import Recipe
from mixture.recipe.sources import Join, Source
from mixture.storage import as_place, exists, read_record, remove_folder, size_of, write_json
from mixture.tokens import join_rows, rejects
from mixture.tokens.inputs import COMPRESSED, EXPANSION, Unit, reading
from mixture.tokens.members import members_file, rows_file, write_rows
from mixture.tokens.shares import readers, write_reading
from mixture.workspace import Workspace

#: Text in a bucket, about; a key's rows are never divided.
BUCKET_BYTES = 256 << 20
#: Buckets of a data set whose size nobody knows before it is read.
_BUCKETS_OF_STREAM = 128
#: What the record of a source keeps of each bucket's.
_KEPT = ("name", "size", "hash", "files", "members")
_FORMAT_VERSION = 3
_FIELDS = ("key", "of", "rows", "documents", "rejected", "samples", "buckets", "rows_file", "chunks")


@dataclass(frozen=True)
class Joined:
    """A source's documents, joined.

    Attributes:
        units: files of joined documents; each knows in which input files its documents begin.
        rows: rows that were joined, into stored documents or into ones that are too large.
        documents: documents stored.
        rejected: rows that were not joined and documents that are too large, by reason.
        samples: a few of them.
    """

    units: tuple[Unit, ...]
    rows: int
    documents: int
    rejected: dict[str, int]
    samples: tuple[dict[str, Any], ...]


def join(
    recipe: Recipe, source: Source, units: Sequence[Unit], workspace: Workspace, engine: Engine, progress: Progress
) -> Joined:
    """Join the rows of a source's units, or find them joined.

    Raises:
        InputError: a file cannot be read, rows lack what they are joined by, or nothing is left.
    """
    if source.join is None:
        raise InputError(f"source {source.name!r} does not say what to join by; give it join: {{by: FIELD}}")
    stage = _Stage(recipe, source, source.join, [unit for unit in units if unit.source is source], workspace)
    record = stage.whole()
    if record is None:
        record = stage.make(engine, progress)
    remove_folder(stage.folder / "staged")
    rejected, found = record["rejected"], record["samples"]
    for sample in found:
        sample["file"] = stage.files[sample["input"]].name
    bad, most = sum(rejected.values()), rejects.allowed(recipe)
    if bad > most:
        raise InputError(rejects.too_many(bad, most, rejects.described(found)))
    if not record["documents"]:
        raise InputError(rejects.no_document(source.name, stage.files, record["rows"] + bad, rejects.described(found)))
    return Joined(tuple(stage.units(record)), record["rows"], record["documents"], rejected, tuple(found))


class _Stage:
    """One source's way from rows to documents."""

    def __init__(self, recipe: Recipe, source: Source, rule: Join, units: Sequence[Unit], workspace: Workspace) -> None:
        self._recipe, self._source, self._rule, self._units = recipe, source, rule, units
        self.files = [file for unit in units for file in unit.files]
        self._how = _reading(recipe, source, rule, workspace)
        self._buckets = _buckets(source, self.files)
        self._size = max(1, sum(file.size for file in self.files))
        names = [file.name for file in self.files] if rule.by.path else []
        self.folder = workspace.joined(
            fingerprint(
                {
                    "version": _FORMAT_VERSION,
                    "buckets": self._buckets,
                    "rule": rule.model_dump(mode="json"),
                    "columns": self._columns,
                    "units": [unit.key for unit in units],
                    "names": names,
                }
            )
        )

    @property
    def _columns(self) -> list[str]:
        """The fields that a joined document keeps of its first row."""
        field = [self._source.domain.field] if self._source.domain.field else []
        return list(dict.fromkeys([*field, *self._source.carry]))

    def whole(self) -> dict[str, Any] | None:
        """Return the record, or None if anything is missing."""
        record = read_record(self.folder / "joined.json", *_FIELDS)
        if record is None or not all(self._is_there(bucket) for bucket in record["buckets"]):
            return None
        reports = [join_rows.bucket_file(self.folder, number).with_suffix(".json") for number in range(record["of"])]
        beside = [rows_file(self.folder)]
        beside += [members_file(self.folder / bucket["name"]) for bucket in record["buckets"]]
        return record if all(exists(path) for path in [*reports, *beside]) else None

    def _is_there(self, bucket: dict[str, Any]) -> bool:
        path = self.folder / bucket["name"]
        return bool(size_of(path) == bucket["size"])

    def units(self, record: dict[str, Any]) -> Iterator[Unit]:
        """Yield the joined files as the tokenize stage reads them."""
        source = self._source.model_copy(
            update={"format": "arrow", "text": join_rows.TEXT, "join": None, "hub": None, "streaming": False}
        )
        for bucket in record["buckets"]:
            name = f"{self._source.name}, {bucket['name'].removesuffix('.arrow')}"
            file = InputFile(name, self.folder / bucket["name"], bucket["size"], bucket["hash"])
            key = fingerprint({"version": _FORMAT_VERSION, "joined": bucket["hash"]})
            yield Unit(source, (file,), key, tuple(self.files[number] for number in bucket["files"]))

    def make(self, engine: Engine, progress: Progress) -> dict[str, Any]:
        """Run what is missing of both passes, and write the record."""
        _check_names(self._source, self._rule, self.files)
        deal = list(self._deal())
        missing = [task for task in deal if self._dealt(task) is None]
        half = sum(task.weight for task in deal)
        done = half - sum(task.weight for task in missing)
        progress.start("join", f"source {self._source.name!r} is new or changed", "B", 2 * half, done)
        bad, most = 0, self._recipe.max_bad_rows
        for task, report in engine.run(missing, "tokenize"):
            progress.advance(task.weight)
            bad += sum(report["rejected"].values())
            if bad > most:
                found = [s | {"file": self.files[s["input"]].name} for s in report["samples"]]
                raise InputError(rejects.too_many(bad, most, rejects.described(found)))
        dealt = [self._dealt(task) or {} for task in deal]
        _check_kinds(self._source, self._rule, dealt)
        first = _first_rows(dealt)
        write_json(self.folder / "staged" / "staged.json", _staged(dealt, first))
        found = [s | {"row": s["row"] + first[r["unit"], s["chunk"]]} for r in dealt for s in r["samples"]]
        buckets: dict[int, dict[str, Any]] = {}
        for task, report in engine.run(list(self._join(half // self._buckets)), "tokenize"):
            progress.advance(task.weight)
            buckets[task.arguments["bucket"]] = report
        progress.finish()
        reports = [buckets[number] for number in sorted(buckets)]
        record = {
            "key": self.folder.name,
            "of": self._buckets,
            "rows": sum(report["rows"] for report in reports),
            "documents": sum(report["documents"] for report in reports),
            "rejected": rejects.total(report["rejected"] for report in [*dealt, *reports]),
            "samples": (found + [s for report in reports for s in report["samples"]])[: rejects.SAMPLES],
            "buckets": [{k: r[k] for k in _KEPT} for r in reports if r["documents"]],
        }
        record["chunks"] = self._chunks(first)
        record["rows_file"] = write_rows(self.folder, [bucket["name"] for bucket in record["buckets"]])
        write_json(self.folder / "joined.json", record)
        return record

    def _deal(self) -> Iterator[Task]:
        """Yield the tasks of the first pass; they read what those of the tokenize stage would read."""
        first = 0
        for number, unit in enumerate(self._units):
            step = readers(unit, self._how)
            for start in range(step):
                arguments = {
                    "format": unit.source.format,
                    "files": [[f.name, str(f.path), f.size, f.digest] for f in unit.files],
                    "first": first,
                    "reading": write_reading(self._how),
                    "rule": self._rule.model_dump(mode="json"),
                    "columns": self._columns,
                    "buckets": self._buckets,
                    "folder": str(self.folder / "staged"),
                    "unit": number,
                    "start": start,
                    "step": step,
                }
                label = unit.label + (f" ({start + 1} of {step})" if step > 1 else "")
                yield Task("mixture.tokens.join_rows:deal_rows", arguments, max(1, unit.size // step), label)
            first += len(unit.files)

    def _chunks(self, first: dict[tuple[int, int], int]) -> dict[str, list[int]]:
        """Return the first row of each chunk of the files that have several, by the file's number."""
        numbers = list(itertools.accumulate((len(unit.files) for unit in self._units), initial=0))
        rows: dict[int, list[int]] = {}
        for (unit, _), row in first.items():
            rows.setdefault(unit, []).append(row)
        return {str(numbers[unit]): found for unit, found in rows.items() if len(found) > 1}

    def _dealt(self, task: Task) -> dict[str, Any] | None:
        """Return the record of a task of the first pass, or None if it is not whole."""
        given = task.arguments
        folder = as_place(given["folder"])
        mark = join_rows.mark(folder, given["unit"], given["start"], given["step"])
        record = read_record(mark, "unit", "rejected", "samples", "kinds", "staged")
        whole = record and all(exists(folder / s["name"]) for s in record["staged"] if s["name"])
        return record if whole else None

    def _join(self, weight: int) -> Iterator[Task]:
        for bucket in range(self._buckets):
            arguments = {
                "folder": str(self.folder),
                "bucket": bucket,
                "columns": self._columns,
                "by": self._rule.by.field or "path",
                "separator": self._rule.separator,
                "most": self._recipe.max_document_bytes,
                "skip_bad": self._recipe.on_bad_row == "skip",
                "dependency": self._rule.order is not None and self._rule.order.dependency is not None,
            }
            label = f"{self._source.name}, bucket {bucket + 1} of {self._buckets}"
            yield Task("mixture.tokens.join_bucket:join_bucket", arguments, weight, label)


def _reading(recipe: Recipe, source: Source, rule: Join, workspace: Workspace) -> Reading:
    usual = reading(recipe, source, workspace)
    wanted = [name for name in (rule.by.field, rule.order.by if rule.order else None) if name]
    columns = tuple(dict.fromkeys([*wanted, *usual.columns]))
    return Reading(
        usual.text, columns, usual.skip_bad, usual.max_document_bytes, key=rule.by.field or "", options=usual.options
    )


def _buckets(source: Source, files: Sequence[InputFile]) -> int:
    if source.hub is not None:
        return _BUCKETS_OF_STREAM
    packed = source.format == "huggingface"
    size = sum(file.size * (EXPANSION if packed or file.name.endswith(COMPRESSED) else 1) for file in files)
    return max(1, -(-size // BUCKET_BYTES))


def _check_names(source: Source, rule: Join, files: Sequence[InputFile]) -> None:
    if rule.by.path is None:
        return
    pattern = re.compile(rule.by.path)
    for file in files:
        match = pattern.search(file.name)
        if match is None or not match[1]:
            raise InputError(
                f"source {source.name!r}: join path {rule.by.path!r} does not match the file name {file.name!r}"
            )


def _check_kinds(source: Source, rule: Join, dealt: Sequence[dict[str, Any]]) -> None:
    """Refuse fields that hold nothing, or numbers and text, whose order would depend on which rows share a file."""
    for what, field in (("by", rule.by.field), ("order", rule.order.by if rule.order else None)):
        kinds = {kind for record in dealt for kind in record["kinds"][what]}
        if field and len(kinds) > 1:
            raise InputError(
                f"source {source.name!r}: join {what} {field!r} is a number in some rows and text in others; make it "
                "one of both, or name another field"
            )
        if what == "order" and field and not kinds and any(s["name"] for record in dealt for s in record["staged"]):
            raise InputError(
                f"source {source.name!r}: no row has a value in {field!r}, by which join orders; name another field, "
                "or take order away"
            )


def _first_rows(dealt: Sequence[dict[str, Any]]) -> dict[tuple[int, int], int]:
    """Return the row of its file that each chunk begins with, by unit and chunk, rising."""
    chunks = sorted((record["unit"], s["chunk"], s["rows"]) for record in dealt for s in record["staged"])
    first: dict[tuple[int, int], int] = {}
    following: dict[int, int] = {}
    for unit, chunk, rows in chunks:
        first[unit, chunk] = following.get(unit, 0)
        following[unit] = first[unit, chunk] + rows
    return first


def _staged(dealt: Sequence[dict[str, Any]], first: dict[tuple[int, int], int]) -> list[list[Any]]:
    """Return each staged file with the row that its chunk begins with, by unit and chunk."""
    names = {(record["unit"], s["chunk"]): s["name"] for record in dealt for s in record["staged"]}
    return [[names[chunk], row] for chunk, row in first.items() if names[chunk]]
