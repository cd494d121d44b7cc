"""Which files there are, and the content hash of each.

A file is hashed once for each (path, size, time of change, inode), as git does; `verify` can be asked to hash again.
The parts of the store are remembered in the same place, so that packing again does not read them all again.
Small files are gathered into *units* that one task reads; where one unit ends and the next begins follows from the
files' contents, so that a file added or changed disturbs only its own unit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mixture.corpus.documents import CHUNK_BYTES, InputFile, Reading
from mixture.engine import Engine, Task
from mixture.errors import InputError
from mixture.hashing import fingerprint
from mixture.patterns import Found, expand, locate
from mixture.recipe import Recipe
from mixture.recipe.sources import Source
from mixture.storage import (
    Place,
    as_place,
    below,
    each,
    explain,
    file_digest,
    in_order,
    is_refusal,
    is_remote,
    matches,
    read_record,
    stamp,
    write_json,
)
from mixture.workspace import Workspace

#: Files with less than this many bytes of text share units …
SMALL_FILE = 16 << 20
#: … which hold about this many bytes of text, and about this many files at most.
UNIT_BYTES = 32 << 20
_UNIT_FILES = 4096
#: Text is about this much larger than a compressed file.
EXPANSION = 4
COMPRESSED = (".gz", ".zst", ".zstd", ".parquet")
_HASH_TASK_BYTES = 1 << 30
_FORMAT_VERSION = 1


@dataclass(frozen=True)
class Unit:
    """Files of one source that are read together: one large file, or many small ones.

    `key` names their content and how it is read; it is the unit's folder in the store.
    `origins` are, where the documents were joined from rows of other files (see `join`), the files in which they begin.
    """

    source: Source
    files: tuple[InputFile, ...]
    key: str
    origins: tuple[InputFile, ...] = ()

    @property
    def named(self) -> tuple[InputFile, ...]:
        """The files of the corpus that a stored document's `input` counts."""
        return self.origins or self.files

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(file.size for file in self.files)

    @property
    def label(self) -> str:
        """Name for people."""
        more = f" and {len(self.files) - 1:,} more" if len(self.files) > 1 else ""
        return f"{self.files[0].name}{more}"


def reading(recipe: Recipe, source: Source, workspace: Workspace) -> Reading:
    """Return what to take of each row of a source."""
    options: dict[str, str] = {}
    if source.format == "huggingface":
        options = {"split": source.split, "streaming": "true" if source.streaming else "false"}
        options |= {
            k: v for k, v in (("hub", source.hub), ("revision", source.revision), ("config", source.config)) if v
        }
        if not is_remote(workspace.work):
            options["cache_dir"] = str(workspace.work / "huggingface")
    field = [source.domain.field] if source.domain.field else []
    return Reading(
        text=source.text,
        columns=tuple(dict.fromkeys([*field, *source.carry])),
        skip_bad=recipe.on_bad_row == "skip",
        max_document_bytes=recipe.max_document_bytes,
        options=tuple(sorted(options.items())),
    )


def find(recipe: Recipe, workspace: Workspace, engine: Engine) -> tuple[Unit, ...]:
    """Find, hash and group every input file of a recipe, in the order of its sources.

    Raises:
        InputError: a file is missing or unreadable, or a pattern matches nothing.
    """
    found = [(source, file) for source in recipe.sources for file in _files(source, workspace)]
    digests = content_hashes([file.path for source, file in found if source.hub is None], workspace, engine)
    units: list[Unit] = []
    for source in recipe.sources:
        files = [_input_file(source, file, digests) for owner, file in found if owner is source]
        units += [Unit(source, group, _key(recipe, source, group)) for group in _gather(source, files)]
    return tuple(units)


def _files(source: Source, workspace: Workspace) -> Sequence[Found]:
    if source.hub is not None:
        return [Found(f"hf://{source.hub}@{source.revision}", as_place(source.hub))]
    if source.format == "huggingface":
        folders = [Found(name, locate(name, workspace.data)) for name in source.paths]
        for folder in folders:
            if is_remote(folder.path):
                raise InputError(
                    f"{folder.path}: a Hugging Face data set cannot be read from an object store as such; name its "
                    "files with format: parquet or arrow, or copy the folder to a file system"
                )
            if not folder.path.is_dir():
                raise InputError(
                    f"{folder.path}: no such folder; a local Hugging Face data set is a folder made by save_to_disk, "
                    "or one of data files"
                )
        return folders
    return expand(source.paths, source.exclude, workspace.data)


def _input_file(source: Source, file: Found, digests: dict[Place, tuple[int, str]]) -> InputFile:
    if source.hub is not None:
        return InputFile(file.name, file.path, 0, fingerprint([source.hub, source.revision]))
    if _is_folder(file.path):
        inside = in_order(matches(file.path, "**/*"))
        digest = fingerprint([[below(p, file.path), digests[p][1]] for p in inside])
        return InputFile(file.name, file.path, sum(digests[p][0] for p in inside), digest)
    return InputFile(file.name, file.path, *digests[file.path])


def _is_folder(path: Place) -> bool:
    """Say whether an input is a folder: a local Hugging Face data set."""
    return not is_remote(path) and path.is_dir()


def _gather(source: Source, files: Sequence[InputFile]) -> Iterator[tuple[InputFile, ...]]:
    group: list[InputFile] = []
    size = 0
    for file in files:
        text = file.size * (EXPANSION if file.name.endswith(COMPRESSED) else 1)
        if source.format == "huggingface" or text >= SMALL_FILE:
            yield (file,)
            continue
        group.append(file)
        size += text
        ends_here = int(file.digest[:8], 16) % _UNIT_FILES == 0
        if size >= UNIT_BYTES or ends_here:
            yield tuple(group)
            group, size = [], 0
    if group:
        yield tuple(group)


def _key(recipe: Recipe, source: Source, files: Sequence[InputFile]) -> str:
    how: dict[str, Any] = {
        "format": source.format,
        "text": source.text,
        "max_bytes": recipe.max_document_bytes,
    }
    if source.format == "huggingface":
        how |= {"config": source.config, "split": source.split}
    contents = [file.digest for file in files]
    return fingerprint({"version": _FORMAT_VERSION, "chunk": CHUNK_BYTES, "how": how, "files": contents})


def hash_files(paths: Sequence[str], stamps: Sequence[Any]) -> list[str]:  # noqa: ARG001 - it makes another task
    """Task: return the content hash of each file.

    Args:
        paths: the files.
        stamps: what tells whether they changed; so that the record of a task is never taken for a file's later state.
    """
    digests: list[str] = []
    for name in paths:
        try:
            digests.append(file_digest(as_place(name)))
        except OSError as error:
            raise InputError(explain(error, as_place(name))) from error
    return digests


def content_hashes(places: Sequence[Place], workspace: Workspace, engine: Engine) -> dict[Place, tuple[int, str]]:
    """Return (bytes, content hash) of each file, and of each file inside each folder; ask each file once.

    Raises:
        InputError: a file is missing or unreadable.
    """
    seen: dict[str, list[Any]] = read_record(workspace.seen_inputs) or {}
    files: list[Place] = []
    for place in places:
        files += matches(place, "**/*") if _is_folder(place) else [place]
    stamps = dict(zip(files, each(_stamp, files, workspace.data), strict=True))
    new = [path for path, stamp in stamps.items() if seen.get(str(path), [None])[:-1] != stamp]
    for task, digests in engine.run(list(_hash_tasks(new, stamps)), "tokenize"):
        seen |= {p: [*stamps[as_place(p)], d] for p, d in zip(task.arguments["paths"], digests, strict=True)}
    if new:
        write_json(workspace.seen_inputs, seen)
    return {path: (stamp[0], seen[str(path)][-1]) for path, stamp in stamps.items()}


def remembered(workspace: Workspace, paths: Sequence[Place]) -> dict[Place, str]:
    """Return the content hash of those files that were hashed in the very state in which they are now."""
    seen: dict[str, list[Any]] = read_record(workspace.seen_inputs) or {}
    known = [path for path in paths if str(path) in seen]
    stamps = zip(known, each(_stamp, known, workspace.work), strict=True)
    return {path: seen[str(path)][-1] for path, stamp in stamps if seen[str(path)][:-1] == stamp}


def remember(workspace: Workspace, digests: dict[Place, str]) -> None:
    """Write down the content hash of files in the state in which they are now."""
    seen: dict[str, list[Any]] = read_record(workspace.seen_inputs) or {}
    stamps = each(_stamp, digests, workspace.work)
    new = {str(path): [*stamp, digests[path]] for path, stamp in zip(digests, stamps, strict=True)}
    if any(seen.get(name) != value for name, value in new.items()):
        write_json(workspace.seen_inputs, seen | new)


def _stamp(path: Place) -> list[Any]:
    try:
        return stamp(path)
    except Exception as error:
        if not is_refusal(error):
            raise
        raise InputError(explain(error, path)) from error


def _hash_tasks(paths: Sequence[Place], stamps: dict[Place, list[Any]]) -> Iterator[Task]:
    group: list[str] = []
    size = 0
    for number, path in enumerate(paths):
        group.append(str(path))
        size += stamps[path][0]
        if size >= _HASH_TASK_BYTES or number == len(paths) - 1:
            arguments = {"paths": group, "stamps": [stamps[as_place(name)] for name in group]}
            yield Task("mixture.tokens.inputs:hash_files", arguments, size, f"hash {as_place(group[0]).name}")
            group, size = [], 0
