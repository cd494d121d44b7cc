"""Gates between the stages of a long-context training: measures in, a decision with its reason out.

    after each examination    advance(rows, length=32768)    stay: short context has not recovered: mmlu acc is 0.61, …
                                                             advance: short context has recovered and niah is solved …
                              stop(saturation(rows))         stop: behaviour, probability, mechanism are saturated, …

The first gate is that of Llama 3 (arXiv 2407.21783, section 3.4.2): no longer context before short-context scores are
back where they were and the needle is found at every length so far. Both are pure, so a trainer may ask at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from mixture.errors import some
from mixture.monitor.curves import falls
from mixture.monitor.measures import Measure
from mixture.monitor.verdicts import Saturation

#: What counts as short context of our own measures: hold-out loss on the shortest documents.
_SHORTEST = "length <"


@dataclass(frozen=True)
class Decision:
    """What to do next, and why.

    Attributes:
        action: `stay` at this length, `advance` to the next, or `stop`.
        reason: a sentence.
    """

    action: Literal["stay", "advance", "stop"]
    reason: str

    @property
    def words(self) -> str:
        """The decision as a sentence."""
        return f"{self.action}: {self.reason}"


def short_context(row: Measure) -> bool:
    """Say whether a measure is of short contexts: an evaluation harness's, or the loss on the shortest documents."""
    shortest = row.task == "holdout" and row.metric == "loss" and row.cell.startswith(_SHORTEST) and "," not in row.cell
    return (row.level == "harness" and row.whole) or (shortest and not row.domain)


def advance(
    measures: Iterable[Measure],
    *,
    length: int,
    margin: float = 0.01,
    perfect: float = 1.0,
    task: str = "niah",
    metric: str = "score",
    short: Callable[[Measure], bool] = short_context,
) -> Decision:
    """Decide whether to go on to the next length of context.

    Args:
        measures: rows of the long table, of one model, of step 0 and of the present checkpoint at least.
        length: tokens of context that are trained on now.
        margin: by how much a short-context score may stay under its value before training; for a metric that falls, as
            loss and perplexity, by which share of that value it may stay above.
        perfect: score that counts as solved, in every cell of length × depth up to `length`.
        task: the needle's.
        metric: of it.
        short: which rows are of short contexts.
    """
    rows = list(measures)
    if not rows:
        return Decision("stay", "nothing has been measured yet")
    needle = [row for row in rows if (row.task, row.metric) == (task, metric) and row.length and row.length <= length]
    for reason in (_not_recovered([row for row in rows if short(row)], margin), _not_solved(needle, length, perfect)):
        if reason:
            return Decision("stay", reason)
    return Decision("advance", f"short context has recovered and {task} is solved up to {length:,} tokens")


def _not_recovered(rows: Sequence[Measure], margin: float) -> str:
    """Return why short context has not recovered; nothing where it has."""
    before = {_key(row): row for row in rows if _when(row) == 0}
    if not before:
        return "no short-context measure of step 0 is there to compare with; examine the model before training, too"
    now = _present(row for row in rows if _when(row) > 0)
    if missing := [_named(before[key]) for key in before if key not in now]:
        return f"{some(missing)} was measured before training and not since; measure it again"
    worse = [
        f"{_named(row)} is {now[key].value:.4g}, before training it was {row.value:.4g}"
        for key, row in before.items()
        if not _recovered(row, now[key], margin)
    ]
    return f"short context has not recovered: {some(worse)}" if worse else ""


def _recovered(before: Measure, now: Measure, margin: float) -> bool:
    if falls(before.metric):
        return now.value <= before.value + margin * abs(before.value)
    return now.value >= before.value - margin


def _not_solved(rows: Sequence[Measure], length: int, perfect: float) -> str:
    """Return where the needle is not found; nothing where it is found everywhere."""
    now = list(_present(rows).values())
    longest = max((row.length or 0 for row in now), default=0)
    if longest < length:
        told = f"only up to {longest:,}" if longest else "at no length"
        return f"the needle was measured {told}, and {length:,} tokens are trained on; measure it there"
    lost = sorted((row for row in now if row.value < perfect), key=lambda row: row.value)
    if not lost:
        return ""
    worst = lost[0]
    depth = "" if worst.depth is None else f", depth {worst.depth:.2g}"
    return (
        f"the needle is not found everywhere: {len(lost)} of {len(now)} cells are under {perfect:g}, the worst is "
        f"{worst.value:.2g} at {worst.length:,} tokens{depth}"
    )


def _present(rows: Iterable[Measure]) -> dict[tuple[object, ...], Measure]:
    """Return the rows of the last checkpoint that each thing was measured at."""
    now: dict[tuple[object, ...], Measure] = {}
    for row in rows:
        key = _key(row)
        if key not in now or _when(row) >= _when(now[key]):
            now[key] = row
    return now


def _key(row: Measure) -> tuple[object, ...]:
    return row.level, row.task, row.domain, row.metric, row.length, row.depth, row.cell


def _when(row: Measure) -> int:
    return row.step if row.step is not None else row.tokens or 0


def _named(row: Measure) -> str:
    return " ".join(part for part in (row.task, row.metric, row.domain, row.cell) if part)


def stop(found: Saturation, *, twice: bool = True) -> Decision:
    """Decide whether to stop: when all three levels are saturated, and were at the checkpoint before, too.

    A trainer that asks at each checkpoint has many chances to be told wrongly; asking for the verdict twice in a row
    makes wrong stops several times rarer (docs/saturation.md).

    Args:
        found: the verdicts at the present checkpoint.
        twice: whether the checkpoint before must agree.
    """
    if found.deceptive:
        return Decision("stay", found.words[-1])
    if not found.all_saturated:
        open_ones = [f"{one.level} is {one.state}" for one in found.levels if one.state != "saturated"]
        return Decision("stay", " and ".join(open_ones))
    if twice and (new := [one.level for one in found.levels if one.since == one.last]):
        return Decision("stay", f"{' and '.join(new)} saturated at this checkpoint only; the next one confirms it")
    names = ", ".join(one.level for one in found.levels)
    return Decision("stop", f"{names} are saturated, {found.order[-1].level} last")
