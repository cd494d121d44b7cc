"""A phase's quotas, and what they were made from: a survey in, a grant for each cell out.

phase, survey ─ solve_phase ─► Solved                          as the recipe says
full plan, survey of the pilot's documents ─ matched ─► Solved     as often as the full plan, from fewer documents
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mixture.errors import PlanError, ShortageError
from mixture.plan.draw import Survey
from mixture.plan.quota import wanted, whole
from mixture.plan.solve import Solution, limits, solve
from mixture.recipe import Phase


@dataclass(frozen=True)
class Solved:
    """A phase's quotas, and what they were made from.

    Attributes:
        phase: what the recipe says, scaled if asked.
        found: the survey of what may be drawn.
        solution: the quotas.
        shortage: why there are none; the quotas are then those wanted.
    """

    phase: Phase
    found: Survey
    solution: Solution
    shortage: str = ""


def solve_phase(phase: Phase, found: Survey) -> Solved:
    """Return the quotas of a phase; where there are none, those wanted, and why."""
    supply = found.supply()
    try:
        return Solved(phase, found, solve(phase.mix, supply, phase.exact_budget, phase.sequence.length))
    except ShortageError as error:
        goal, most = wanted(phase.mix, supply, phase.exact_budget), limits(phase.mix, supply)
        where = f"phase {phase.name!r}: " if phase.name else ""
        return Solved(phase, found, Solution(goal, goal, most, most), f"{where}{error}")


def matched(full: Solved, phase: Phase, narrow: Survey) -> Solved:
    """Return quotas of a pilot whose epochs in each cell are those of the full plan, but for the rounding.

    Args:
        full: the full plan, without a shortage.
        phase: the pilot's.
        narrow: what may be drawn of the pilot's documents.

    Raises:
        PlanError: those do not fill a sequence.
    """
    supply, length = narrow.supply(), phase.sequence.length
    most = limits(phase.mix, supply)
    epochs = full.solution.granted / np.maximum(full.found.supply().tokens, 1)
    ideal = np.minimum(epochs * supply.tokens, most.cells)
    total = int(ideal.sum()) // length * length
    if not total:
        raise PlanError(
            f"--scale with --match-repetition: the pilot's documents make {int(ideal.sum()):,} tokens, less than a "
            f"sequence of {length:,}; give a larger scale"
        )
    quota = whole(ideal * (total / ideal.sum()), total, most.cells)
    return Solved(replace(phase, budget=total), narrow, Solution(quota, quota, most, most))
