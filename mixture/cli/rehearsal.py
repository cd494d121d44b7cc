"""`--dry-run`: the stages as they are, with an engine that takes note and runs nothing; see `engine.dry_run`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixture.cli.common import Show, Watch
from mixture.cli.where import Asked, Where
from mixture.engine.dry_run import DryRun, Jobs, Stop, Watching, aside, jobs_of, lock_aside
from mixture.engine.slurm_script import script
from mixture.errors import MixtureError
from mixture.flow import open_job
from mixture.recipe import Recipe
from mixture.workspace import Workspace

if TYPE_CHECKING:
    from rich.console import RenderableType

_ORDER = ("tokenize", "bucket", "score", "weigh", "plan", "pack", "verify")


@dataclass(frozen=True)
class Told:
    """What a dry run found.

    Attributes:
        where: where it would run.
        jobs: what would be handed over now; the last is where it stopped.
        later: stages that come after.
    """

    where: Where
    jobs: tuple[Jobs, ...]
    later: tuple[Jobs, ...] = ()

    @property
    def here(self) -> Asked:
        """The same places, on this machine."""
        return Asked(work=str(self.where.work), data=str(self.where.data))

    def reached(self, stage: str) -> bool:
        """Say whether all before a stage is whole."""
        return not self.jobs or self.jobs[-1].stage == stage

    def script(self) -> str:
        """Return the batch script of the jobs where it stopped; empty where there is none."""
        if self.where.profile.engine != "slurm" or not self.jobs or not self.jobs[-1].jobs:
            return ""
        last = self.jobs[-1]
        return script(self.where.profile, last.stage, self.where.work / "jobs" / f"{last.stage}-dry-run", last.jobs)

    def show(self, show: Show, summary: Mapping[str, Any], *pictures: RenderableType) -> None:
        """Show the jobs, and what else is to be shown after them."""
        from mixture.report.jobs import jobs_tables

        text, engine = self.script(), self.where.profile.engine
        told = {
            "engine": engine,
            "work": str(self.where.work),
            "jobs": [jobs.to_json() for jobs in self.jobs],
            "later": [jobs.to_json() for jobs in self.later],
            "script": text or None,
        }
        show(told | dict(summary), *jobs_tables(engine, self.jobs, self.later, text), *pictures)


def rehearse(
    body: Callable[..., None],
    recipe: Path,
    asked: Asked,
    lock: Path | None,
    own: Mapping[str, Any],
    stages: Sequence[str],
) -> Told:
    """Run a command's body up to its first task.

    Args:
        body: the command, a function of (job, show) and its own options.
        recipe: the recipe file.
        asked: where it would run.
        lock: the lock file, or None for the one beside the recipe.
        own: the command's own options.
        stages: the stages that it runs.

    Raises:
        MixtureError: what the command itself would tell before its first task.
    """
    where = asked.where()
    watch, engine = Watch(), DryRun(where.profile)
    with tempfile.TemporaryDirectory(prefix="mixture-dry-run-") as folder:
        workspace = aside(Workspace(where.work, where.data), Path(folder))
        job = open_job(recipe, workspace, engine, Watching(engine, watch), lock)
        real = job.lock_path
        copy = lock_aside(real, Path(folder))
        try:
            body(replace(job, lock_path=copy), lambda *_: None, **own)
        except Stop:
            pass
        except MixtureError as error:
            # Its sentence is about the lock that is there.
            raise type(error)(str(error).replace(str(copy), str(real))) from error
    return Told(where, tuple(engine.noted), tuple(_later(where, engine.noted, job.recipe, stages)))


def _later(where: Where, noted: Sequence[Jobs], recipe: Recipe, stages: Sequence[str]) -> Iterator[Jobs]:
    if not noted:
        return
    shards = sum(-(-phase.sequences // phase.shard_sequences) for phase in recipe.all_phases())
    for stage in stages:
        if _ORDER.index(stage) <= _ORDER.index(noted[-1].stage) or (stage == "score" and not recipe.scores):
            continue
        if stage == "bucket":
            yield replace(jobs_of(where.profile, "driver", 0), stage=stage)
        else:
            yield jobs_of(where.profile, stage, shards if stage in ("pack", "verify") else 0)
