"""Following a training: its checkpoints are examined as they appear, until the run has come to its end.

    runs/tiny/checkpoints/   step-00000100  step-00000200  .step-00000300.tmp
                             examined       examined       not whole yet: the next look finds it
    runs/tiny/end.json       step 300: nothing comes after that

A run that was killed has no end; it may be started again, so it is waited for. The trainer keeps the newest few of its
checkpoints: one that was gone before its turn is told of.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from mixture.errors import MixtureError
from mixture.monitor.exam import Exam
from mixture.monitor.session import Session, examine_or_skip
from mixture.monitor.subject import checkpoints_of
from mixture.train.config import load as load_config
from mixture.train.ending import ended_at

Say = Callable[[str], None]

#: Between two looks at a folder.
SECONDS = 5.0


def follow(
    session: Session,
    run: Path,
    say: Say,
    *,
    examined: Callable[[Exam], None] = lambda _: None,
    seconds: float = SECONDS,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Examine the checkpoints of a run as they appear, until it has come to its end.

    Args:
        session: examines.
        run: the run's folder; it may not be there yet.
        say: is told what happens.
        examined: called after each checkpoint that was examined.
        seconds: between two looks.
        sleep: waits.

    Raises:
        MonitorError: see `Session.examine`, as the others.
        StoreError: as there.
    """
    done: list[str] = []
    waiting = False
    while True:
        # Asked first: what is there after the end is there for good.
        end = ended_at(run)
        new = [place for place in _there(run) if place.name not in done]
        if new:
            waiting = False
            for step in _lost(run, done[-1] if done else None, new[0]):
                say(f"step {step:,} was removed before it was examined; raise checkpoints.keep to keep more of them")
            exam = examine_or_skip(session, new[0], say)
            done.append(new[0].name)
            if exam is not None:
                examined(exam)
        elif end is not None:
            say(f"{run}: came to its end at step {end:,}")
            return
        else:
            if not waiting:
                say(f"{run}: waiting for the next checkpoint; Ctrl-C ends this")
            waiting = True
            sleep(seconds)


def wait_for_first(
    run: Path, say: Say, *, seconds: float = SECONDS, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Wait until a run has a checkpoint: only then is known what it is of, and what it is trained on."""
    said = False
    while not _there(run) and ended_at(run) is None:
        if not said:
            say(f"{run}: waiting for the first checkpoint; Ctrl-C ends this")
        said = True
        sleep(seconds)


def _there(run: Path) -> list[Path]:
    return checkpoints_of(run) if run.is_dir() else []


def _lost(run: Path, last: str | None, new: Path) -> list[int]:
    """Return the steps of checkpoints between two that are known, as the run's config says they come."""
    if last is None or not (run / "config.yaml").is_file():
        return []
    try:
        every = load_config(run / "config.yaml").checkpoints.every
    except MixtureError:
        return []
    if every.kind != "steps":
        return []
    size, (first, stop) = int(every.value), (int(name.removeprefix("step-")) for name in (last, new.name))
    return list(range((first // size + 1) * size, stop, size))
