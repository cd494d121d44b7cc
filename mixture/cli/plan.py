"""`mixture plan`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mixture.cli.common import Show, on_recipe

if TYPE_CHECKING:
    from mixture.flow import Job
    from mixture.plan.make import Planner

EXAMPLE = "Example:  mixture plan manifests/quickstart.yaml --dry-run"

DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the cell table; write nothing.")]
Consumed = Annotated[
    list[str] | None,
    typer.Option(
        "--consumed",
        metavar="LOCK@SEQUENCE",
        help="What was trained on already: the sequences of an older lock before SEQUENCE (or @end, @PHASE:SEQUENCE), "
        "or the ledger.json of a training run.",
    ),
]
Like = Annotated[
    Path | None, typer.Option("--like", metavar="LOCK", help="Keep the documents and the order of another lock.")
]
Scale = Annotated[str, typer.Option("--scale", metavar="FRACTION", help="Plan a part of the budget, as 1/16.")]
Match = Annotated[
    bool,
    typer.Option("--match-repetition", help="With --scale: draw from as small a share of the documents."),
]


@on_recipe(stages=("tokenize", "bucket", "score", "plan"))
def command(
    job: "Job",
    show: Show,
    *,
    dry_run: DryRun = False,
    consumed: Consumed = None,
    like: Like = None,
    scale: Scale = "",
    match_repetition: Match = False,
) -> None:
    """Solve the quotas, draw and order the documents, write the lock. Reads no token."""
    if dry_run and like is not None:
        raise typer.BadParameter("--like follows a plan that is there; it has no quotas for --dry-run to show")
    given = job.given(consumed or (), like, scale, match_repetition=match_repetition)
    job = job.scaled(given)
    store = job.tokenize()
    planner = job.planner(store, job.bucket(store), given)
    if dry_run:
        _show_cells(job, show, planner)
        return
    from mixture.lockfile import read
    from mixture.plan.given import named_lock
    from mixture.report.changes import share_table
    from mixture.report.facts import lock_tables

    made = planner.plan(job.lock_path)
    summary = {
        "plans": [str(phase.folder) for phase in made.phases],
        "lock": str(job.lock_path),
        "fingerprint": made.lock.fingerprint,
    } | made.lock.made()
    followed = [like] if like is not None else [named_lock(text) for text in consumed or ()]
    changed = [share_table(str(path), str(job.lock_path), old, made.lock) for path in followed if (old := read(path))]
    where = f"lock in {job.lock_path}", f"next: mixture pack {job.path}{job.lock_option}"
    show(summary, *lock_tables(made.lock), *changed, *where)


def _show_cells(job: "Job", show: Show, planner: "Planner") -> None:
    from mixture.errors import ShortageError
    from mixture.report.tables import cell_table

    solved = planner.solve()
    tables, phases = [], []
    for found in solved:
        cells, phase = planner.cells(found), found.phase
        of_phase = f", phase {phase.name}" if phase.name else ""
        title = f"{job.recipe.name}{of_phase}: {phase.exact_budget:,} tokens wanted; a dry run, nothing is written"
        tables.append(cell_table(title, cells))
        phases.append({"name": phase.name, "tokens": phase.exact_budget, "cells": cells, "shortage": found.shortage})
    show({"phases": phases}, *tables)
    if solved[-1].shortage:
        raise ShortageError(solved[-1].shortage)
