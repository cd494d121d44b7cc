"""What would be handed over, if this were no dry run: an engine that runs nothing, and a work directory that stays.

The stages run as they always do, with three stand-ins, and stop where the first of them would begin to work:

    DryRun     engine: takes a stage's missing tasks, notes them as `Jobs`, and raises `Stop`
    Watching   progress: raises `Stop` where the driver would begin to work by itself (the index)
    aside      workspace: what stages write before their tasks goes to another folder

Two kinds of tasks do not stop it, so that more can be told: inputs that are new need a hash (an address stands in for
it), and parts of the store are checked before shards are made from them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mixture.engine import Progress, Task
from mixture.hashing import fingerprint
from mixture.profile import Profile, Resources
from mixture.storage import Place
from mixture.workspace import Workspace

_HASH = "mixture.tokens.inputs:hash_files"
_CHECK = "mixture.tokens.store:check_parts"
#: What the driver does itself, by the names that its progress has.
_BY_THE_DRIVER = ("bucket", "weigh")
_LABELS = 3


class Stop(Exception):  # noqa: N818 - no error
    """Here the work would begin."""


@dataclass(frozen=True)
class Jobs:
    """Tasks that would be handed over in one go.

    Attributes:
        stage: whose they are.
        why: why they are run, as the stage says it; empty where it says nothing.
        tasks: how many.
        jobs: in how many jobs they run: with Slurm, elements of a job array; 0 where the driver works by itself.
        resources: what each job is given.
        labels: the first tasks.
    """

    stage: str
    why: str
    tasks: int
    jobs: int
    resources: Resources
    labels: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it for machines."""
        return {
            "stage": self.stage,
            "why": self.why,
            "tasks": self.tasks,
            "jobs": self.jobs,
            "resources": self.resources.model_dump(mode="json", exclude_none=True),
            "labels": list(self.labels),
        }


def jobs_of(profile: Profile, stage: str, tasks: int, why: str = "", labels: Sequence[str] = ()) -> Jobs:
    """Return in how many jobs tasks of a stage run, and with what."""
    given = profile.of(stage)
    # Dask and Ray are handed task by task; processes of this machine take one after the other.
    at_once = (given.tasks_per_job or 1) if profile.engine == "slurm" else 1
    count = min(profile.workers or 1, tasks) if profile.engine == "local" else -(-tasks // at_once)
    return Jobs(stage, why, tasks, count, given, tuple(labels[:_LABELS]))


class DryRun:
    """An engine that notes what it is given, and stops there.

    Args:
        profile: where it would run.

    Attributes:
        noted: what would have been handed over, in order.
        why: what the stage under way said of itself.
    """

    def __init__(self, profile: Profile) -> None:
        self.noted: list[Jobs] = []
        self.why = ""
        self._profile = profile

    def run(self, tasks: Sequence[Task], stage: str) -> Iterator[tuple[Task, Any]]:
        """See `Engine.run`; stops where there are tasks whose records matter.

        Raises:
            Stop: the tasks would be run now.
        """
        if not tasks:
            return
        labels = [task.label for task in tasks[:_LABELS]]
        functions = {task.function for task in tasks}
        why = {frozenset({_HASH}): "inputs that are new", frozenset({_CHECK}): "the store, before it is read"}
        self.noted.append(jobs_of(self._profile, stage, len(tasks), why.get(frozenset(functions), self.why), labels))
        if functions == {_HASH}:
            yield from ((task, [fingerprint([path]) for path in task.arguments["paths"]]) for task in tasks)
        elif functions != {_CHECK}:
            raise Stop

    def by_driver(self, stage: str) -> None:
        """Note that the driver would work now.

        Raises:
            Stop: always.
        """
        self.noted.append(replace(jobs_of(self._profile, "driver", 0, self.why), stage=stage))
        raise Stop


class Watching:
    """Progress that stops a dry run where the driver would begin to work by itself.

    Args:
        engine: the dry run.
        progress: who is told sentences.
    """

    def __init__(self, engine: DryRun, progress: Progress) -> None:
        self._engine, self._progress = engine, progress

    def start(self, stage: str, why: str, unit: str, total: int, done: int) -> None:
        """Say what is whole; note why the rest would be made.

        Raises:
            Stop: the driver would make it now.
        """
        if done >= total:
            self._progress.start(stage, why, unit, total, done)
            return
        self._engine.why = why
        if stage in _BY_THE_DRIVER:
            self._engine.by_driver(stage)

    def advance(self, amount: int) -> None:
        """Ignore: nothing is done."""

    def finish(self) -> None:
        """Close the stage."""
        self._progress.finish()

    def say(self, message: str) -> None:
        """Pass the sentence on."""
        self._progress.say(message)


@dataclass(frozen=True)
class _Aside(Workspace):
    """A workspace whose plans, scores and notes of inputs are written elsewhere where they are not whole.

    Attributes:
        aside: where.
    """

    aside: Path

    @property
    def seen_inputs(self) -> Place:
        """A copy of the hashes by path."""
        return self.aside / "inputs.json"

    def scores(self, key: str) -> Place:
        """Folder of one column of scores."""
        return self._there_or_aside(super().scores(key), "evaluation.json")

    def plan(self, name: str, key: str) -> Place:
        """Folder of one phase's plan."""
        return self._there_or_aside(super().plan(name, key), "plan.json")

    def related(self, key: str) -> Place:
        """Folder of the relations between documents."""
        return self._there_or_aside(super().related(key), "related.json")

    def _there_or_aside(self, there: Place, record: str) -> Place:
        return there if (there / record).exists() else self.aside / there.name


def aside(workspace: Workspace, folder: Path) -> Workspace:
    """Return a workspace like another one, in which a dry run may write to a folder of its own.

    Args:
        workspace: the real one; it is only read.
        folder: an empty folder of this machine.
    """
    if workspace.seen_inputs.exists():
        (folder / workspace.seen_inputs.name).write_bytes(workspace.seen_inputs.read_bytes())
    return _Aside(workspace.work, workspace.data, folder)


def lock_aside(lock: Place, folder: Path) -> Place:
    """Copy a lock file, if it is there, into a folder that a dry run may write to; return the copy's path."""
    copy = folder / lock.name
    if lock.exists():
        with lock.open("rb") as whole, copy.open("wb") as out:
            shutil.copyfileobj(whole, out)
    return copy
