"""`mixture reproduce`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mixture.cli.common import Debug, Json, LockFile, Watch, named_lock, sentences, show
from mixture.cli.where import Asked, Data, On, Workers

if TYPE_CHECKING:
    from mixture.verify.rebuilt import Reproduced

EXAMPLE = "Example:  mixture reproduce manifests/quickstart.lock.json"

Work = Annotated[
    str | None,
    typer.Option("--work", metavar="DIR", help="An empty folder to build in; it stays.", show_default="temporary"),
]
Recipe = Annotated[
    Path | None, typer.Option("--recipe", metavar="FILE", help="Recipe file.", show_default="beside the lock")
]
Others = Annotated[
    list[Path] | None,
    typer.Option("--with", metavar="LOCK", help="A lock whose plan this one counts on, if not beside it; repeatable."),
]
Keep = Annotated[bool, typer.Option("--keep", help="Leave what was built where it is.")]
#: Half a build proves nothing, and the next one wants an empty folder again.
_STOPPED = "stopped, and nothing is compared; run it again, in an empty folder"


def command(
    lock: LockFile,
    on: On = None,
    data: Data = None,
    work: Work = None,
    recipe: Recipe = None,
    others: Others = None,
    keep: Keep = False,
    workers: Workers = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Make a lock's mixture again from its inputs, in an empty place, and compare every hash."""
    watch = Watch()
    with sentences(debug=debug, watch=watch, stopped=_STOPPED):
        from mixture.reproduce import Again, empty_place
        from mixture.storage import only_run
        from mixture.workspace import Workspace

        for given in (lock, *(others or ())):
            named_lock(given)
        where = Asked(on, work, data, workers).where()
        if work is None and where.profile.engine != "local":
            raise typer.BadParameter(f"--work: name an empty folder that the nodes see, too; {on} runs tasks there")
        stays = keep or work is not None
        with (
            empty_place(None if work is None else where.work, keep=keep) as place,
            only_run(place),
            replace(where, work=place).engine(watch.say) as engine,
        ):
            if stays:
                watch.say(f"reproduce: in {place}, which stays")
            again = Again(Workspace(place, where.data), engine, watch, tuple(others or ()))
            found = again.reproduce(lock, recipe)
        found = found if stays else replace(found, work="")
        for difference in found.differences[1:]:
            watch.say(f"{difference.stage}: {difference}")
        show(as_json, found.to_json(), *([] if found.differences else _sentences(found)))
        found.demand()


def _sentences(found: Reproduced) -> list[str]:
    where = f", in {found.work}" if found.work else ""
    what = f"{found.shards} shards, {found.tokens:,} tokens, {found.hashes:,} hashes and counts"
    told = [f"the same: {what} as in {found.lock}{where}"]
    told += [f"note: {note}" for note in found.notes]
    return told + [f"note: made with another version: {version}" for version in found.versions]
