"""A lock's mixture, made again from its inputs in a place where nothing is.

    x.lock.json ─┬─ x.yaml beside it, of the lock's fingerprint ─┐
                 └─ what the plan was told (`given`) ────────────┴─►  tokenize ─ bucket ─ plan ─ pack  ─►  compare

A lock holds what a recipe makes, not where its corpora and vocabularies lie: so the recipe file is needed too. Plans
that it counts on (`--consumed`, `--like`) are named by digest; their locks are looked for beside it, and planned first.
Nothing of the work directory that the lock came from is read or changed.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from mixture import lockfile
from mixture.engine import Engine, Progress
from mixture.errors import LockError, MixtureError, PlanError, ShortageError, StoreError, VerifyError, some
from mixture.flow import Job, open_job
from mixture.lockfile import Lock, versions_here
from mixture.plan import given as given_stage
from mixture.plan.given import Given
from mixture.plan.records import inputs_of
from mixture.storage import Place, explain, is_folder, make_folder, remove_folder
from mixture.verify.rebuilt import Difference, Reproduced, compare_locks, newer
from mixture.workspace import Workspace

_PILOT = re.compile(r"\.scale-[0-9.-]+(-matched)?$")


@contextlib.contextmanager
def empty_place(work: Place | None, *, keep: bool = False) -> Iterator[Place]:
    """Give a folder without anything in it; one that nobody named is removed at the end.

    Args:
        work: the folder; None for a temporary one.
        keep: leave a temporary one, too.

    Raises:
        StoreError: there is something in it, or it cannot be made.
    """
    try:
        if work is None:
            place: Place = Path(tempfile.mkdtemp(prefix="mixture-reproduce-"))
        else:
            place = work.absolute()
            make_folder(place)
        # A prefix of an object store is a folder only while something lies under it.
        if is_folder(place) and any(place.iterdir()):
            raise StoreError(f"{work}: not empty, and nothing that is there may help; give a new folder with --work")
    except OSError as error:
        raise StoreError(explain(error, work or Path(tempfile.gettempdir()))) from error
    if work is not None or keep:
        yield place
        return
    try:
        yield place
    finally:
        remove_folder(place)


def recipe_of(lock: Path) -> Path:
    """Return the recipe beside a lock: `x.yaml` for `x.lock.json` and for `x.scale-1-16.lock.json`.

    Raises:
        LockError: there is none.
    """
    stem = lock.name.removesuffix(".lock.json")
    names = [f"{name}{suffix}" for name in (stem, _PILOT.sub("", stem)) for suffix in (".yaml", ".yml")]
    found = next((lock.with_name(name) for name in names if lock.with_name(name).is_file()), None)
    if found is None:
        raise LockError(f"{lock}: no recipe {names[0]} beside it; name it with --recipe")
    return found


@dataclass(frozen=True)
class Again:
    """Who makes a lock's mixture again, and where.

    Attributes:
        workspace: an empty work directory, and where the inputs are.
        engine: where tasks run.
        progress: who is told.
        others: locks that plans may count on, besides those that lie beside the lock.
    """

    workspace: Workspace
    engine: Engine
    progress: Progress
    others: tuple[Path, ...] = ()

    def reproduce(self, path: Path, recipe: Path | None = None) -> Reproduced:
        """Make a lock's mixture again, and compare every hash.

        Shards are made only of a plan that came out again: those of another one cannot be the lock's.

        Args:
            path: the lock file.
            recipe: the recipe file, if it is not beside the lock.

        Raises:
            LockError: no such lock, it is not packed, or the recipe is not the one that it was made from.
            PlanError: it counts on a plan whose lock is not there.
            MixtureError: a stage cannot be run.
        """
        lock = given_stage.require(path)
        if not lock.packed:
            raise LockError(f"{path}: lists no shards yet, so there is nothing to compare; run `mixture pack` first")
        job = self._job(lock, path, recipe or recipe_of(path), "reproduced")
        self._plan_needed(lock, path, set())
        store = job.tokenize()
        try:
            plan = job.plan(store, job.bucket(store), Given.from_json(lock.given))
        except ShortageError as error:
            # No plan came of the inputs, so they alone are compared.
            return self._result(path, lock, replace(lock, inputs=inputs_of(store)), error)
        found = self._result(path, lock, plan.lock)
        if any(d.stage == "stream" for d in found.differences):
            self.progress.say("reproduce: the plan came out differently, so no shards are made of it")
            return found
        return self._result(path, lock, job.pack(store, plan).lock)

    def _job(self, lock: Lock, path: Path, recipe: Path, name: str) -> Job:
        """Open the recipe of a lock; its new lock lies in the work directory."""
        job = open_job(recipe, self.workspace, self.engine, self.progress, self.workspace.work / f"{name}.lock.json")
        if job.recipe.fingerprint != lock.recipe["fingerprint"]:
            differs = some(lockfile.changes(lock.recipe["content"], job.recipe.what()))
            raise LockError(
                f"{path}: {recipe} is not the recipe that it was made from ({differs}); name another with --recipe"
            )
        return job

    def _plan_needed(self, lock: Lock, path: Path, done: set[str]) -> None:
        """Plan what a lock's plan counts on, and first what that counts on."""
        told = Given.from_json(lock.given)
        for digest, name in [
            *((seen.digest, seen.lock) for seen in told.consumed),
            *((d, "--like") for d in told.like),
        ]:
            if digest in done:
                continue
            where, old = self._find(digest, name, path)
            done.update(phase["stream"]["digest"] for phase in old.phases)
            job = self._job(old, where, recipe_of(where), f"needed-{digest[:12]}")
            self._plan_needed(old, where, done)
            store = job.tokenize()
            plan = job.plan(store, job.bucket(store), Given.from_json(old.given))
            if digest not in {planned.digest for planned in plan.phases}:
                raise VerifyError(
                    f"{path}: its plan counts on the plan {digest[:12]} of {where}, which did not come out again; run "
                    f"`mixture reproduce {where}` to see what differs"
                )

    def _find(self, digest: str, name: str, path: Path) -> tuple[Path, Lock]:
        for other in (*self.others, *sorted(path.parent.glob("*.lock.json"))):
            with contextlib.suppress(MixtureError):
                lock = given_stage.require(other)
                if digest in {phase["stream"]["digest"] for phase in lock.phases}:
                    # Another lock of the same plan may have its recipe beside it, where this one has none.
                    recipe_of(other)
                    return other, lock
        raise PlanError(
            f"{path}: its plan counts on the plan {digest[:12]} of {name}, whose lock is not beside it, or has no "
            "recipe beside it; name that lock with --with"
        )

    def _result(self, path: Path, was: Lock, now: Lock, error: ShortageError | None = None) -> Reproduced:
        differences, compared, notes = compare_locks(was, now)
        if error is not None:
            differences = [d for d in differences if d.stage == "inputs"]
            differences.append(Difference("stream", "plan", was.phases[0]["stream"]["digest"], f"none ({error})"))
        return Reproduced(
            lock=path,
            work=str(self.workspace.work),
            shards=len(now.shards),
            tokens=sum(shard["tokens"] for shard in now.shards),
            hashes=compared,
            differences=tuple(differences),
            versions=newer(was.versions, versions_here()),
            notes=tuple(notes),
        )
