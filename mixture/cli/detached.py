"""`--detach`: a command that goes on without this machine; and the same command again, which watches it."""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mixture.cli.common import Watch, sentences
from mixture.cli.where import Asked

if TYPE_CHECKING:
    from mixture.cli.where import Where
    from mixture.engine.slurm_detach import Command

Detach = Annotated[
    bool, typer.Option("--detach", help="With engine: slurm: hand all of it over; this machine may be switched off.")
]
_WATCHED = "no longer watching: the detached run goes on; `mixture status` shows it, `mixture cancel` ends it"


def detachable(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command of `on_recipe` the option `--detach`."""

    @functools.wraps(command)
    def detaching(*, detach: bool = False, **given: Any) -> None:
        asked = Asked(given["on"], given["work"], given["data"], given["workers"])
        if _is_elsewhere(asked, given, detach=detach):
            return
        command(**given)

    whole = list(inspect.signature(command).parameters.values())
    kind = inspect.Parameter.KEYWORD_ONLY
    option = inspect.Parameter("detach", kind, default=False, annotation=Detach)
    whole = [*(p.replace(kind=kind) for p in whole), option]
    detaching.__signature__ = inspect.Signature(whole)  # type: ignore[attr-defined]
    detaching.__annotations__ = {p.name: p.annotation for p in whole}
    return detaching


def _is_elsewhere(asked: Asked, given: dict[str, Any], *, detach: bool) -> bool:
    """Hand the command over, or watch it where it has been handed over; say whether there is nothing to do here."""
    from mixture.engine.slurm_detach import INSIDE, Command

    if INSIDE in os.environ or given["dry_run"] or (asked.on is None and not detach):
        return False
    watch = Watch()
    with sentences(debug=given["debug"], watch=watch, stopped=_WATCHED):
        where = asked.where()
        if where.profile.engine != "slurm":
            if detach:
                raise typer.BadParameter("--detach needs a profile with engine: slurm; name one with --on")
            return False
        words = tuple(word for word in sys.argv[1:] if word != "--detach")
        command = Command(words, str(Path.cwd()))
        return _hand_over(where, command, given, watch) if detach else _watch(where, command, watch)


def _hand_over(where: Where, command: Command, given: dict[str, Any], watch: Watch) -> bool:
    from mixture.engine.slurm_detach import detach
    from mixture.recipe.file import load

    # A recipe that is none is told here and now.
    load(given["recipe"])
    watch.say(detach(where.profile, where.work, command, watch.say))
    return True


def _watch(where: Where, command: Command, watch: Watch) -> bool:
    from mixture.engine.slurm_detach import follow, read_driver
    from mixture.errors import EngineError

    # Without a record nobody was ever detached here: Slurm need not be asked.
    if read_driver(where.work) is None:
        return False
    ended = follow(where.work, command, watch.say)
    if ended is None:
        return False
    if ended["state"] != "done":
        raise EngineError(ended["sentence"])
    typer.echo(ended["summary"], nl=False)
    return True
