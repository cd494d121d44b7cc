"""Does the lock tell the truth? Every byte again, and the laws from the shards alone.

    lock ─► shards    hash of each file; rows, spans, padding, marks, ids; cells, caps and copies over all of them
         ─► plan, index, store    seals of the records, size and hash of every file, how they name each other
         ─► inputs    on request: the corpora's files, by content

All faults are collected (`Finding`), so that a damaged disk is seen as a whole. A share of shards and parts can be
looked at instead of all; what was not looked at is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mixture.engine import Engine, Progress, Task
from mixture.errors import VerifyError
from mixture.lockfile import Lock
from mixture.recipe import Recipe
from mixture.shards.pack import geometry, shards_folder, stream_key
from mixture.storage import Place, as_place, exists, matches
from mixture.verify import work
from mixture.verify.files import FileFact, pick, tasks
from mixture.verify.findings import Finding, Verified
from mixture.verify.inputs import Inputs, check_inputs
from mixture.verify.laws import check_cells, copies_tasks
from mixture.workspace import Workspace

__all__ = ["Checks", "Finding", "Verified", "verify"]


@dataclass(frozen=True)
class Checks:
    """What to look at.

    Attributes:
        shards: where they are, if not in the work directory; several phases each in a folder of its own there.
        work: whether to look at the store, the index and the plan too, where they are.
        sample: share of the shards, parts and slices to look at, above 0 and up to 1.
        seed: another seed picks another sample.
        inputs: whether to read the input files again.
    """

    shards: Place | None = None
    work: bool = True
    sample: float = 1.0
    seed: int = 0
    inputs: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.sample <= 1:
            raise VerifyError(f"--sample {self.sample}: give a share above 0 and up to 1, for example 0.1")


def verify(
    recipe: Recipe, lock: Lock, workspace: Workspace, engine: Engine, progress: Progress, checks: Checks | None = None
) -> Verified:
    """Check what a lock says; collect every fault.

    Args:
        recipe: as it was packed.
        lock: what came out.
        workspace: where the shards, and what they were made from, lie.
        engine: where tasks run.
        progress: told of bytes.
        checks: what to look at; by default all but the inputs.

    Raises:
        VerifyError: the lock lists no shards yet.
    """
    return _Verification(recipe, lock, workspace, checks or Checks()).run(engine, progress)


class _Verification:
    """One run of `verify`."""

    def __init__(self, recipe: Recipe, lock: Lock, workspace: Workspace, checks: Checks) -> None:
        if not lock.packed:
            raise VerifyError(f"the lock of {lock.name!r} lists no shards yet; run `mixture pack` first")
        self._recipe, self._lock, self._workspace, self._checks = recipe, lock, workspace, checks
        self._folders = _folders(lock, workspace, checks.shards)
        self._rooms = list(work.rooms(lock, workspace)) if checks.work else []
        self._not_checked = [room.absent for room in self._rooms if room.absent]

    def run(self, engine: Engine, progress: Progress) -> Verified:
        """Check all that was asked for, and gather what is wrong."""
        shards = list(self._shard_tasks())
        files = self._files()
        work_tasks = list(tasks(files))
        size = sum(task.weight for task in [*shards, *work_tasks])
        why = f"{len(shards)} shards" + (f" and {len(files)} files" if files else "") + " against the lock"
        progress.start("verify", why, "B", size, 0)
        reports: dict[str, dict[str, Any]] = {}
        of_files: list[tuple[str, list[dict[str, Any]]]] = []
        for task, report in engine.run([*shards, *work_tasks], "verify"):
            if task.function.endswith(":check_shard"):
                reports[task.label] = report
            else:
                of_files.append((str(task.arguments["files"][0][1]), report))
            progress.advance(task.weight)
        progress.finish()
        found = [Finding.from_json(f) for task in shards for f in reports[task.label]["findings"]]
        cells, documents, most, broken = self._laws(shards, reports, engine, sound=not found)
        found += broken
        in_work = [finding for room in self._rooms for finding in room.findings]
        in_work += [Finding.from_json(value) for _, values in sorted(of_files) for value in values]
        inputs = self._inputs(engine, progress, in_work)
        return Verified(
            shards=len(shards),
            tokens=sum(task.arguments["facts"]["tokens"] for task in shards),
            cells=cells,
            documents=documents,
            most_copies=most,
            files=len(files) + sum(room.records for room in self._rooms),
            bytes=size + sum(room.bytes for room in self._rooms) + inputs.bytes,
            inputs=inputs.read,
            findings=(*found, *in_work, *inputs.findings),
            not_checked=tuple(self._not_checked),
            notes=inputs.notes,
        )

    def _shard_tasks(self) -> Iterator[Task]:
        named = [(n, shard) for n, phase in enumerate(self._lock.phases) for shard in phase["shards"]]
        names = [f"{number} {shard['shard']}" for number, shard in named]
        chosen = self._chosen(names, "shards")
        for (number, shard), name in zip(named, names, strict=True):
            if name in chosen:
                arguments = {
                    "path": str(self._folders[number] / shard["shard"]),
                    "facts": shard,
                    "geometry": geometry(self._recipe, self._lock, number).to_json(),
                    "stream": stream_key(self._lock, number),
                    "needs_record": self._has_records(self._folders[number]),
                }
                yield Task("mixture.verify.shard:check_shard", arguments, shard["size"], name)

    def _has_records(self, folder: Place) -> bool:
        """Say whether shards must have records: in the work directory; elsewhere if any has one."""
        return self._checks.shards is None or bool(matches(folder, "shard-*.json"))

    def _files(self) -> list[FileFact]:
        found: list[FileFact] = []
        for room in self._rooms:
            groups = list(dict.fromkeys(file.group for file in room.files if file.group))
            chosen = self._chosen(groups, f"groups of files in the {room.files[0].kind}") if groups else set()
            found += [file for file in room.files if not file.group or file.group in chosen]
        return found

    def _chosen(self, names: Sequence[str], what: str) -> set[str]:
        chosen = pick(names, self._checks.sample, self._checks.seed)
        if len(chosen) < len(names):
            self._not_checked.append(f"{len(names) - len(chosen):,} of {len(names):,} {what}: not in the sample")
        return chosen

    def _laws(
        self, shards: Sequence[Task], reports: dict[str, dict[str, Any]], engine: Engine, *, sound: bool
    ) -> tuple[int, int, int, list[Finding]]:
        """Check the laws over all shards; return exact cells, documents, the most copies, and findings."""
        every = len(shards) == len(self._lock.shards)
        if not (sound and every):
            why = "shards are damaged" if every else "they need every shard"
            self._not_checked.append(f"quotas, caps and copies over all shards: {why}")
            return 0, 0, 0, []
        findings: list[Finding] = []
        for number, phase in enumerate(self._lock.phases):
            sums = [reports[task.label]["cells"] for task in shards if task.label.startswith(f"{number} ")]
            findings += check_cells(self._recipe, phase, sums)
        paths = [as_place(task.arguments["path"]) for task in shards]
        of_copies = [report for _, report in engine.run(list(copies_tasks(self._recipe, self._lock, paths)), "verify")]
        broken = sorted((f for report in of_copies for f in report["findings"]), key=lambda f: str(f["message"]))
        documents = sum(report["documents"] for report in of_copies)
        most = max((report["most"] for report in of_copies), default=0)
        wrong = {(cell["domain"], cell["bucket"]) for finding in findings for cell in finding.cells}
        cells = sum(len(phase["cells"]) for phase in self._lock.phases) - len(wrong)
        return cells, documents, most, [*findings, *(Finding.from_json(value) for value in broken)]

    def _inputs(self, engine: Engine, progress: Progress, in_work: Sequence[Finding]) -> Inputs:
        if not self._checks.inputs:
            return Inputs(0, 0, (), ())
        table = self._workspace.index(self._lock.work.get("index", "")) / "index.parquet"
        sound = exists(table) and str(table) not in {finding.file for finding in in_work}
        place = table if sound else None
        return check_inputs(self._recipe, self._lock, self._workspace, engine, progress, place)


def _folders(lock: Lock, workspace: Workspace, elsewhere: Place | None) -> list[Place]:
    """Return where the shards of each phase lie."""
    usual = [shards_folder(workspace, lock, n) for n in range(len(lock.phases))]
    if elsewhere is None:
        return usual
    return [elsewhere] if len(usual) == 1 else [elsewhere / folder.name for folder in usual]
