"""A plan's quotas without the plan: what `mixture plan --dry-run` shows.

Later phases draw from what earlier ones left, so all phases but the last are drawn as well, into a folder that is
removed at the end.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

from mixture.plan.pool import Threshold
from mixture.plan.solved import Solved
from mixture.storage import make_folder, remove_folder

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
        aside = work / f".dry-run-{os.urandom(4).hex()}.tmp"
        stack.callback(remove_folder, aside)
        thresholds: list[tuple[Threshold, ...]] = []
        phases = planner.phases()
        progress.start("plan", "a dry run", "documents", 3 * planner.index.documents * len(phases), 0)
        for phase in phases:
            folder = aside / str(len(found))
            make_folder(folder)
            pool, _, solved = planner.solved(phase, thresholds, folder)
            found.append(solved)
            if solved.shortage:
                break
            if len(found) < len(phases):
                thresholds.append(planner.draw(pool, solved, folder).thresholds)
        progress.finish()
    return found
