"""An export from start to end: one task per shard, then what lists them, and `export.json` last.

OUT/shard-00000-of-00002.bin …     the files; in OUT/PHASE/ where the recipe has phases
OUT/.export/what.json              what this folder is an export of, written first
OUT/.export/0/shard-….json         a record of each whole shard: a killed export goes on after them
OUT/export.json                    all files with their hashes
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mixture.engine import Engine, Progress, Task
from mixture.errors import LockError, StoreError, nearest, some
from mixture.export import FORMATS
from mixture.export.format import File, Options
from mixture.lockfile import Lock
from mixture.shards.read import check_shard, open_shard
from mixture.storage import (
    Place,
    as_place,
    each,
    exists,
    explain,
    is_folder,
    is_remote,
    only_run,
    read_json,
    read_record,
    remove,
    size_of,
    write_json,
)

RECORD = "export.json"
_OWN = ".export"
#: What a run leaves in a folder before it has made anything there.
_NOTHING = {".run.lock", ".run.json"}


@dataclass(frozen=True)
class Exported:
    """A whole export.

    Attributes:
        out: its folder.
        record: what `export.json` says.
        made: names of the shards that this run wrote.
    """

    out: Place
    record: dict[str, Any]
    made: tuple[str, ...]


@dataclass(frozen=True)
class Request:
    """What is to be exported.

    Attributes:
        lock: what was packed.
        folders: where the shards of each phase lie.
        phases: numbers of the phases wanted.
        format: a name in `FORMATS`.
        unit: see `Options`.
    """

    lock: Lock
    folders: Sequence[Place]
    phases: Sequence[int]
    format: str
    unit: str

    def options(self, phase: int) -> Options:
        """Return how one phase is written."""
        found = self.lock.phases[phase]
        length = found["stream"]["sequence_length"]
        places = sum(shard["sequences"] for shard in found["shards"]) * length
        return Options(self.unit, places > sum(shard["tokens"] for shard in found["shards"]))

    def what(self) -> dict[str, Any]:
        """Return what two runs must have in common to go on with each other's work."""
        names = [self.lock.phases[phase]["name"] for phase in self.phases]
        made_of = {"name": self.lock.name, "fingerprint": self.lock.fingerprint}
        return {"format": self.format, "unit": self.unit, "lock": made_of, "phases": names}

    def target(self, out: Place, phase: int) -> Place:
        """Return the folder of one phase."""
        name = self.lock.phases[phase]["name"]
        return out / name if name else out


def phase_numbers(lock: Lock, name: str | None) -> list[int]:
    """Return the numbers of the phases that a name means: one, or all for None.

    Raises:
        LockError: the lock has no such phase.
    """
    names = [phase["name"] for phase in lock.phases]
    if name is None:
        return list(range(len(names)))
    if not name or name not in names:
        known = nearest(name, names) if all(names) else "it has none: leave the option out"
        raise LockError(f"--phase {name}: the lock of {lock.name!r} has no such phase; {known}")
    return [names.index(name)]


def export(request: Request, out: Place, engine: Engine, progress: Progress) -> Exported:
    """Write shards in another format; what is whole is skipped.

    Args:
        request: what, and how.
        out: a folder that is empty, not there, or holds part of the same export.
        engine: where tasks run.
        progress: told of tokens.

    Raises:
        LockError: the lock is not packed.
        StoreError: a shard is missing or damaged, or the folder holds something else.
    """
    if not request.lock.packed:
        raise LockError(f"the lock of {request.lock.name!r} lists no shards yet; run `mixture pack` first")
    tasks = {phase: _tasks(request, out, phase) for phase in request.phases}
    every = [task for of_phase in tasks.values() for task in of_phase]
    _check_folder(request, out)
    with only_run(out):
        whole = each(_is_whole, every, out)
        missing = [task for task, is_whole in zip(every, whole, strict=True) if not is_whole]
        _check_there(missing)
        if missing:
            remove(out / RECORD)
        write_json(out / _OWN / "what.json", request.what())
        _run(missing, every, engine, progress)
        phases = [_finish(request, out, phase, of_phase) for phase, of_phase in tasks.items()]
        record = request.what() | {"phases": phases}
        write_json(out / RECORD, record)
    return Exported(out, record, tuple(task.arguments["facts"]["shard"] for task in missing))


def missing_tasks(request: Request, out: Place) -> tuple[list[Task], list[Task]]:
    """Return the tasks that an export lacks yet, and all of them; nothing is written.

    Args:
        request: what, and how.
        out: the folder.

    Raises:
        LockError: the lock is not packed.
        StoreError: a shard is missing, or the folder holds something else.
    """
    if not request.lock.packed:
        raise LockError(f"the lock of {request.lock.name!r} lists no shards yet; run `mixture pack` first")
    every = [task for phase in request.phases for task in _tasks(request, out, phase)]
    _check_folder(request, out)
    whole = each(_is_whole, every, out)
    missing = [task for task, is_whole in zip(every, whole, strict=True) if not is_whole]
    _check_there(missing)
    return missing, every


def _tasks(request: Request, out: Place, phase: int) -> list[Task]:
    folder, target = request.folders[phase], request.target(out, phase)
    options = asdict(request.options(phase))
    return [
        Task(
            "mixture.export.make:export_shard",
            {
                "path": str(folder / facts["shard"]),
                "facts": facts,
                "stem": str(target / as_place(facts["shard"]).stem),
                "name": request.format,
                "options": options,
                "record": str(out / _OWN / str(phase) / f"{as_place(facts['shard']).stem}.json"),
            },
            facts["tokens"],
            facts["shard"],
        )
        for facts in request.lock.phases[phase]["shards"]
    ]


def export_shard(
    path: str, facts: dict[str, Any], stem: str, name: str, options: dict[str, Any], record: str
) -> dict[str, Any]:
    """Task: write one shard in another format, and a record of it.

    Args:
        path: the shard.
        facts: what the lock says of it.
        stem: its files without their suffixes.
        name: of the format.
        options: `Options` as a mapping.
        record: the record's file.

    Raises:
        StoreError: the shard is missing or damaged.
    """
    check_shard(as_place(path), facts)
    shard = open_shard(as_place(path), facts)
    # Readers refuse files of no sequences, so a shard without any gives none.
    files = FORMATS[name].write(shard, as_place(stem), Options(**options)) if len(shard) else []
    made = {"shard": facts["shard"], "hash": facts["hash"], "files": [file.to_json() for file in files]}
    write_json(as_place(record), made)
    return made


def _check_folder(request: Request, out: Place) -> None:
    """Refuse a folder that holds anything but a part of this export."""
    if is_remote(out) and not is_folder(out):
        return
    try:
        names = {path.name for path in out.iterdir()} - _NOTHING
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(explain(error, out)) from error
    if not names:
        return
    before = read_json(out / _OWN / "what.json")
    if before is None:
        raise StoreError(f"{out}: this folder is not empty ({some(sorted(names))}); give a new one with --out")
    if before != request.what():
        raise StoreError(
            f"{out}: this folder holds another export ({_describe(before)}), not {_describe(request.what())}; give a "
            "new one with --out"
        )


def _describe(what: dict[str, Any]) -> str:
    phases = f", phase {some(what['phases'])}" if any(what["phases"]) else ""
    unit = f" by {what['unit']}" if what["unit"] != "row" else ""
    return f"{what['format']}{unit} of {what['lock']['name']} {what['lock']['fingerprint'][:12]}{phases}"


def _is_whole(task: Task) -> bool:
    record = read_record(as_place(task.arguments["record"]), "hash", "files")
    if record is None or record["hash"] != task.arguments["facts"]["hash"]:
        return False
    folder = as_place(task.arguments["stem"]).parent
    paths = [(folder / file["file"], file["size"]) for file in record["files"]]
    return all(size_of(path) == size for path, size in paths)


def _check_there(tasks: Sequence[Task]) -> None:
    """Look for all shards before the first is written: hours may pass between them."""
    gone = [task.arguments["path"] for task in tasks if not exists(as_place(task.arguments["path"]))]
    if gone:
        raise StoreError(
            f"{gone[0]}: this shard is missing ({len(gone)} of {len(tasks)} are); run `mixture pack` to write it "
            "again, or say with --work or --shards where it is"
        )


def _run(missing: Sequence[Task], every: Sequence[Task], engine: Engine, progress: Progress) -> None:
    total, left = sum(task.weight for task in every), sum(task.weight for task in missing)
    why = f"{len(missing)} of {len(every)} shards not whole yet"
    progress.start("export", why, "tokens", total, total - left)
    for task, _ in engine.run(missing, "export"):
        progress.advance(task.weight)
    progress.finish()


def _finish(request: Request, out: Place, phase: int, tasks: Sequence[Task]) -> dict[str, Any]:
    """Write what lists the files of one phase; return what the record says of it."""
    found, folder = request.lock.phases[phase], request.target(out, phase)
    records = [read_json(as_place(task.arguments["record"])) for task in tasks]
    files = [File(**file) for record in records for file in record["files"]]
    last = FORMATS[request.format].finish
    files += last(folder, files) if last else []
    return {
        "name": found["name"],
        "sequences": sum(shard["sequences"] for shard in found["shards"]),
        "sequence_length": found["stream"]["sequence_length"],
        "tokens": sum(shard["tokens"] for shard in found["shards"]),
        "padded": request.options(phase).padded,
        "files": [file.to_json() for file in files],
    }
