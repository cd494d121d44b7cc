"""A plan's quotas without the plan: what `mixture plan --dry-run` shows.

Later phases draw from what earlier ones left, so all phases but the last are drawn as well, into a folder that is
removed at the end.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from mixture.errors import StoreError
from mixture.plan.pool import Threshold
from mixture.plan.solved import Solved
from mixture.storage import explain

if TYPE_CHECKING:
    from mixture.plan.make import Planner


def solve_phases(planner: Planner) -> list[Solved]:
    """Find the quotas of every phase; a shortage is told, not raised, and ends it.

    Raises:
        StoreError: the work directory cannot be written.
        PlanError: a phase cannot be planned, whatever the corpus holds.
    """
    found: list[Solved] = []
    work, progress = planner.workspace.work, planner.progress
    with ExitStack() as stack:
        try:
            work.mkdir(parents=True, exist_ok=True)
            aside = stack.enter_context(tempfile.TemporaryDirectory(dir=work, prefix=".dry-run-", suffix=".tmp"))
        except OSError as error:
            raise StoreError(explain(error, work)) from error
        thresholds: list[tuple[Threshold, ...]] = []
        phases = planner.phases()
        progress.start("plan", "a dry run", "documents", 3 * planner.index.documents * len(phases), 0)
        for phase in phases:
            folder = Path(aside) / str(len(found))
            folder.mkdir()
            pool, _, solved = planner.solved(phase, thresholds, folder)
            found.append(solved)
            if solved.shortage:
                break
            if len(found) < len(phases):
                thresholds.append(planner.draw(pool, solved, folder).thresholds)
        progress.finish()
    return found
