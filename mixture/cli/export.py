"""`mixture export`."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mixture.cli.common import Debug, DryRun, Json, LockFile, Shards, Watch, named_lock, sentences, show
from mixture.cli.where import Asked, On, Where, Work, Workers, place

if TYPE_CHECKING:
    from mixture.cli.rehearsal import Told
    from mixture.export.make import Exported, Request

EXAMPLE = "Example:  mixture export manifests/quickstart.lock.json --format megatron --out exported"


def command(
    lock: LockFile,
    to: Annotated[
        str,
        typer.Option("--format", "-f", metavar="NAME", help="megatron, mds, olmo, fu or parquet.", show_default=False),
    ],
    out: Annotated[str, typer.Option("--out", "-o", metavar="DIR", help="A new folder.", show_default=False)],
    unit: Annotated[
        str, typer.Option("--unit", metavar="NAME", help="Megatron's documents: row (a sequence) or document (a span).")
    ] = "row",
    phase: Annotated[
        str | None, typer.Option("--phase", metavar="NAME", help="One phase only.", show_default="all of them")
    ] = None,
    shards: Shards = None,
    on: On = None,
    work: Work = None,
    workers: Workers = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write the shards in another trainer's format: same tokens, same boundaries; damaged shards are refused."""
    watch = Watch()
    with sentences(debug=debug, watch=watch):
        from mixture.export.make import export

        where = Asked(on, work, None, workers).where()
        request = _request(lock, to, unit, phase, shards, where)
        if dry_run:
            _rehearse(request, out, where).show(functools.partial(show, as_json), {})
            return
        with where.engine(watch.say) as engine:
            done = export(request, place(out), engine, watch)
        show(as_json, _summary(done), _sentence(done, out))


def _rehearse(request: Request, out: str, where: Where) -> Told:
    from mixture.cli.rehearsal import Told
    from mixture.engine.dry_run import jobs_of
    from mixture.export.make import missing_tasks

    missing, every = missing_tasks(request, place(out))
    why, labels = f"{len(missing)} of {len(every)} shards not whole yet", [task.label for task in missing]
    return Told(where, (jobs_of(where.profile, "export", len(missing), why, labels),) if missing else ())


def _request(path: Path, to: str, unit: str, phase: str | None, shards: str | None, where: Where) -> Request:
    from mixture.errors import nearest
    from mixture.export import FORMATS
    from mixture.export.make import Request, phase_numbers
    from mixture.shards.pack import shards_folder
    from mixture.workspace import Workspace

    if to not in FORMATS:
        raise typer.BadParameter(f"--format {to}: {nearest(to, FORMATS)}")
    if unit not in FORMATS[to].units:
        raise typer.BadParameter(f"--unit {unit}: {to} takes {' or '.join(FORMATS[to].units)}")
    lock = named_lock(path)
    usual = [shards_folder(Workspace(where.work, where.data), lock, n) for n in range(len(lock.phases))]
    folders = usual
    if shards is not None:
        given = place(shards)
        folders = [given] if len(usual) == 1 else [given / folder.name for folder in usual]
    return Request(lock, folders, phase_numbers(lock, phase), to, unit)


def _summary(done: Exported) -> dict[str, Any]:
    return {"out": str(done.out), "written_now": list(done.made)} | done.record


def _sentence(done: Exported, out: str) -> str:
    phases = done.record["phases"]
    files = [file for phase in phases for file in phase["files"]]
    sequences = sum(phase["sequences"] for phase in phases)
    size = sum(file["size"] for file in files)
    return f"{done.record['format']}: {sequences:,} sequences in {len(files)} files, {size / 1e6:,.1f} MB, in {out}"
