"""What the commands share: their options, the session around each, and how progress and errors are shown."""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mixture.cli.where import Asked, Data, On, Work, Workers

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mixture.flow import Job
    from mixture.lockfile import Lock

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="Recipe file.", show_default=False)]
LockPath = Annotated[
    Path | None, typer.Option("--lock", metavar="FILE", help="Lock file.", show_default="beside the recipe")
]
LockFile = Annotated[Path, typer.Argument(metavar="LOCK", help="Lock file of what was made.", show_default=False)]
Shards = Annotated[
    str | None,
    typer.Option("--shards", metavar="DIR", help="Where the shards are.", show_default="in the work directory"),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show the jobs that would be handed over; write and start nothing.")
]
Json = Annotated[bool, typer.Option("--json", help="Print a summary for machines on stdout.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]

#: Prints a command's one summary: a mapping for machines, pictures for people.
Show = Callable[..., None]

STOPPED = "stopped; what is whole is kept: run the same command to go on"


class Watch:
    """Progress on stderr: a bar with rate and time left on a terminal, plain sentences elsewhere."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False)
        self._bar: Any = None
        self._task: Any = None

    def start(self, stage: str, why: str, unit: str, total: int, done: int) -> None:
        """Say why a stage runs, or that it need not, and open its bar."""
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.finish()
        self.say(f"{stage}: {why if done < total else 'nothing to do, all is whole'}")
        if not self._console.is_terminal or done >= total:
            return
        columns = (
            TextColumn("{task.description:9}"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f}%  {task.fields[done]} {task.fields[unit]}  {task.fields[rate]}/s  left"),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=self._console, transient=True)
        self._task = self._bar.add_task(stage, total=total, completed=done, unit=unit, done="", rate="…")
        self._from, self._begun = done, time.monotonic()
        self._bar.start()

    def advance(self, amount: int) -> None:
        """Move the bar."""
        from mixture.report.tables import short

        if self._bar is None:
            return
        self._bar.advance(self._task, amount)
        done = self._bar.tasks[0].completed
        rate = (done - self._from) / max(time.monotonic() - self._begun, 1e-3)
        self._bar.update(self._task, done=short(done), rate=short(rate))

    def finish(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def say(self, message: str) -> None:
        """Print one sentence."""
        self._console.print(message, style="dim", markup=False, soft_wrap=True)


class _Terminated(KeyboardInterrupt):
    """SIGTERM, as batch systems send it before they kill: the same orderly end as Ctrl-C."""


@contextlib.contextmanager
def _heed_termination() -> Iterator[None]:
    def end(_number: int, _frame: object) -> None:
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def sentences(*, debug: bool, watch: Watch | None = None, stopped: str = STOPPED) -> Iterator[None]:
    """Turn our errors into one sentence and exit code 1, Ctrl-C into 130, SIGTERM into 143.

    Args:
        debug: show tracebacks.
        watch: shows progress.
        stopped: what is said after Ctrl-C.
    """
    from mixture.errors import MixtureError
    from mixture.storage import explain

    try:
        with _heed_termination():
            yield
    except MixtureError as error:
        _fail(str(error), debug=debug, watch=watch)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        _fail(explain(error, Path()), debug=debug, watch=watch)
    except MemoryError:
        _fail(
            "memory is used up; run again with fewer --workers: what is whole is kept",
            debug=debug,
            watch=watch,
        )
    except KeyboardInterrupt as error:
        if watch:
            watch.finish()
        typer.echo(stopped, err=True)
        raise typer.Exit(143 if isinstance(error, _Terminated) else 130) from None


def _fail(message: str, *, debug: bool, watch: Watch | None) -> None:
    if watch:
        watch.finish()
    if debug:
        import traceback

        traceback.print_exc()
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(1) from None


@contextlib.contextmanager
def session(
    recipe: Path, *, asked: Asked, lock: Path | None, debug: bool, alone: bool = True, tasks: bool = True
) -> Iterator[Job]:
    """Open a job: recipe, workspace, engine, progress; hold the work directory while it lasts.

    Args:
        recipe: the recipe file.
        asked: where it runs.
        lock: the lock file, or None for the one beside the recipe.
        debug: show tracebacks.
        alone: whether the command writes into the work directory, so that no other may at the same time.
        tasks: whether the command has any; without, no engine is started.
    """
    watch = Watch()
    with sentences(debug=debug, watch=watch):
        from mixture.engine.local import Local
        from mixture.flow import open_job
        from mixture.storage import only_run
        from mixture.workspace import Workspace

        where = asked.where()
        # A recipe that is none is told before a cluster is asked for anything.
        job = open_job(recipe, Workspace(where.work, where.data), Local(), watch, lock)
        with contextlib.ExitStack() as stack:
            if alone:
                stack.enter_context(only_run(where.work))
            yield replace(job, engine=stack.enter_context(where.engine(watch.say))) if tasks else job


def on_recipe(
    *, alone: bool = True, stages: Sequence[str] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a command of a function of (job, show) and its own options: those that all commands share come before.

    Args:
        alone: see `session`.
        stages: which stages it runs, if it has tasks; such a command has `--dry-run`, if not one of its own.
    """

    def wrap(body: Callable[..., None]) -> Callable[..., None]:
        mine = [p for p in inspect.signature(body).parameters.values() if p.kind is p.KEYWORD_ONLY]
        shows_itself = any(p.name == "dry_run" for p in mine)

        def command(
            recipe: RecipePath,
            on: On = None,
            work: Work = None,
            data: Data = None,
            workers: Workers = None,
            lock: LockPath = None,
            dry_run: DryRun = False,
            as_json: Json = False,
            debug: Debug = False,
            **own: Any,
        ) -> None:
            asked, tell = Asked(on, work, data, workers), functools.partial(show, as_json)
            if dry_run and (on is not None or not shows_itself):
                from mixture.cli.rehearsal import rehearse

                with sentences(debug=debug):
                    told = rehearse(body, recipe, asked, lock, own, stages)
                    tell = functools.partial(told.show, tell)
                    if not (shows_itself and told.reached("plan")):
                        tell({})
                        return
                asked = told.here
            if shows_itself:
                own["dry_run"] = dry_run
            with session(recipe, asked=asked, lock=lock, debug=debug, alone=alone, tasks=bool(stages)) as job:
                body(job, tell, **own)

        without = {"own"} if stages and not shows_itself else {"own", "dry_run"}
        return _with_options(command, mine, without, body.__doc__)

    return wrap


def _with_options(
    command: Callable[..., None], mine: Sequence[inspect.Parameter], without: Collection[str], doc: str | None
) -> Callable[..., None]:
    """Give a command the options of its body, after `--lock`, and take those away that it has not."""
    shared = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name not in without]
    place = [p.name for p in shared].index("lock") + 1
    whole = [p.replace(kind=p.KEYWORD_ONLY) for p in (*shared[:place], *mine, *shared[place:])]
    command.__signature__ = inspect.Signature(whole)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in whole}
    command.__doc__ = doc
    return command


def named_lock(path: Path) -> Lock:
    """Read the lock that a command is given.

    Raises:
        LockError: there is none, or it is a recipe.
    """
    from mixture.errors import LockError
    from mixture.plan.given import require

    if path.suffix in {".yaml", ".yml"}:
        raise LockError(f"{path}: a recipe; name its lock, {path.with_suffix('.lock.json')}")
    return require(path)


def show(as_json: bool, summary: dict[str, Any], *pictures: RenderableType) -> None:
    """Print a command's one summary: for machines on request, else for people."""
    if sys.stdout is None:  # Closed by the caller: nobody wants to know.
        return
    from mixture.errors import StoreError

    try:
        _print(as_json, summary, pictures)
        sys.stdout.flush()
    except (OSError, SystemExit) as error:
        # What is buffered goes nowhere now, or Python would complain of it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        # A reader that has seen enough (`| head`) is no error; rich leaves by SystemExit then.
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            raise StoreError(f"standard output cannot be written: {error.strerror}; what was made is whole") from error


def _print(as_json: bool, summary: dict[str, Any], pictures: Sequence[RenderableType]) -> None:
    if as_json:
        json.dump(summary, sys.stdout, indent=1, ensure_ascii=False)
        sys.stdout.write("\n")
        return
    from rich.console import Console

    # Into a file or a pipe nobody's window sets the width: tables keep their lines.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    for picture in pictures:
        console.print(picture, markup=False, soft_wrap=isinstance(picture, str))
