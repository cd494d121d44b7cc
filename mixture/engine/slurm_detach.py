"""A run without the machine that began it: a job drives it, and a chain of such jobs outlives any one of them.

    mixture run R --on slurm.yaml --detach   ─▶  driver job 1 ── runs `mixture run R --on slurm.yaml` on a node
                                                  └─ afterany ─▶  driver job 2, which starts if job 1 ends in any way,
                                                                  finds what is whole, and goes on

A driver that comes to an end, good or bad, leaves it in `work/jobs/driver.json` and cancels its successor:

    {"state": "done", "command": ["run", "R", …], "folder": "/home/me", "link": 2, "sentence": "", "summary": "…", …}
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixture.engine.batch import jobs_folder
from mixture.engine.slurm_attach import spelled
from mixture.engine.slurm_calls import Queued, QueueFullError, Slurmctl
from mixture.engine.slurm_script import driver_script, job_name, logs_of
from mixture.errors import BusyError, EngineError
from mixture.profile import Profile
from mixture.storage import Place, read_record, remove, write_json

#: States of a driver that will not go on.
ENDED = ("done", "failed", "cancelled")
#: Set in the environment of what a driver runs, so that it does not wait for itself.
INSIDE = "MIXTURE_DRIVER"
_FIELDS = ("state", "command", "folder", "script", "log", "link", "sentence", "summary")
#: Looks at an empty queue after which a driver without an end is lost: a job that is requeued leaves it for a moment.
_LOOKS = 3


@dataclass(frozen=True)
class Command:
    """A command line and where it was given.

    Attributes:
        words: after `mixture`, without `--detach`.
        folder: the current directory.
    """

    words: tuple[str, ...]
    folder: str

    def __str__(self) -> str:
        return " ".join(["mixture", *self.words])


def record_of(work: Place) -> Place:
    """Return where a detached run leaves what becomes of it."""
    return jobs_folder(work) / "driver.json"


def read_driver(work: Place) -> dict[str, Any] | None:
    """Read what became of the last detached run, or return None if there was none."""
    return read_record(record_of(work), *_FIELDS)


def note(work: Place, driver: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Change what is recorded of a detached run, and return it."""
    changed = driver | changes
    write_json(record_of(work), changed)
    return changed


def queued(work: Place, cluster: Slurmctl) -> list[Queued]:
    """List the jobs in the queue that drive a work directory: the one that is at work, then the one that waits."""
    return in_turn(cluster.queue([job_name(work, "driver")]))


def in_turn(jobs: Sequence[Queued]) -> list[Queued]:
    """Return the jobs of a chain in their order."""
    return sorted(jobs, key=lambda line: (len(line.job), line.job))


def detach(profile: Profile, work: Place, command: Command, say: Callable[[str], None]) -> str:
    """Hand a command over to a driver job; return what the user is told.

    Args:
        profile: resources of `driver`, set-up.
        work: the work directory.
        command: what to run there.
        say: tells the user one sentence.

    Raises:
        BusyError: a driver is at work there on another command.
        EngineError: Slurm refuses the job.
    """
    cluster = Slurmctl(say)
    look = "`mixture status` shows how far it is; the same command without --detach watches it"
    there = queued(work, cluster)
    if there:
        demand_same(work, command)
        return f"already under way as job {there[0].job}; {look}"
    log = _log(profile, work)
    log.parent.mkdir(parents=True, exist_ok=True)
    remove(log)
    script = driver_script(profile, work, log)
    about = {"state": "waiting", "command": list(command.words), "folder": command.folder, "script": script}
    note(work, about, log=str(log), link=0, parent="", successor="", node="", sentence="", summary="")
    try:
        job = cluster.submit(script, "driver", profile.of("driver").partition)
    except QueueFullError as error:
        remove(record_of(work))
        raise EngineError(
            f"driver: your limit of jobs in Slurm's queue is reached ({error}); wait, or cancel some"
        ) from error
    except EngineError:
        remove(record_of(work))
        raise
    return f"handed over as job {job}, this machine is not needed any more; {look}; its log: {log}"


def _log(profile: Profile, work: Place) -> Path:
    if isinstance(work, Path) and not profile.slurm.logs:
        return work.absolute() / "jobs" / "driver.log"
    return logs_of(profile, jobs_folder(work) / "driver", work).with_name("driver.log")


def demand_same(work: Place, command: Command) -> None:
    """Check that the driver at work runs this command.

    Raises:
        BusyError: it runs another.
    """
    driver = read_driver(work)
    theirs = Command(tuple(driver["command"]), driver["folder"]) if driver else None
    if theirs != command:
        raise BusyError(
            f"{work} is in use by a detached run ({theirs or 'of which nothing is recorded'}); wait for it to end, "
            "stop it with `mixture cancel`, or give another --work"
        )


def follow(work: Place, command: Command, say: Callable[[str], None]) -> dict[str, Any] | None:
    """Watch a detached run to its end; return what it left, or None if there is none at work.

    Args:
        work: the work directory.
        command: what it must be running.
        say: tells the user each line that it says.

    Raises:
        BusyError: it runs another command.
    """
    cluster = Slurmctl(say)
    if not (there := queued(work, cluster)):
        return None
    demand_same(work, command)
    say(f"watching the detached run of job {there[0].job}; Ctrl-C ends the watching, `mixture cancel` the run")
    shown, empty, pause = 0, 0, 0.5
    while empty < _LOOKS:
        driver = read_driver(work)
        if driver is None:
            return None
        shown = _show(Path(driver["log"]), shown, say)
        if driver["state"] in ENDED:
            return driver
        empty = 0 if queued(work, cluster) else empty + 1
        time.sleep(pause)
        pause = min(1.2 * pause, 5.0)
    say("the detached run ended without a word; going on here")
    return None


def _show(log: Path, shown: int, say: Callable[[str], None]) -> int:
    """Say the lines that a log has got since; return how many of its bytes are said."""
    try:
        with log.open("rb") as handle:
            handle.seek(shown)
            new = handle.read()
    except OSError:
        return shown
    whole = new[: new.rfind(b"\n") + 1]
    for line in whole.decode(errors="replace").splitlines():
        say(line)
    return shown + len(whole)


def cancel_others(work: Place, cluster: Slurmctl, mine: str) -> None:
    """Take the other jobs of a chain out of the queue."""
    others: Sequence[Queued] = [line for line in queued(work, cluster) if line.job != mine]
    cluster.cancel([spelled(line) for line in others])
