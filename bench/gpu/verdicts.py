"""What figures mean: rates and MFU from seconds, whether losses agree, whether a resumed run is the same."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.gpu.contest import Ran
from bench.measure import spread
from mixture.train.flops import Shape, mfu, step_flops

#: How far apart, as a part of the loss, two computations of one step may be: rounding, which grows from step to step.
BOUNDS = {"float32": 1e-3, "bf16": 1e-2}


@dataclass(frozen=True)
class Work:
    """What the steps of a setting cost, whoever takes them.

    Attributes:
        shape: of the model.
        tokens: of a step.
        pairs: of a query and a key, of each step from the first.
        gpus: how many share them.
        peak: FLOP/s of one; None where that is not known.
    """

    shape: Shape
    tokens: int
    pairs: Sequence[int]
    gpus: int
    peak: float | None

    def flops(self, step: int) -> float:
        """Return the model FLOPs of a step, counted from 1."""
        return step_flops(self.shape, self.tokens, self.pairs[step - 1])


def rates(runs: Sequence[Ran], warm_up: int, work: Work) -> dict[str, Any]:
    """Return spreads over the steps of all runs: tokens/s, model TFLOP/s of a GPU, MFU; None where no step counts."""
    steps = [(step, seconds) for ran in runs for step, seconds in ran.counted(warm_up).items()]
    if not steps:
        return {"rate": None, "tflops": None, "mfu": None}
    used = None
    if work.peak is not None:
        used = spread([mfu(work.flops(step), seconds, work.gpus, work.peak) for step, seconds in steps])
    return {
        "rate": spread([work.tokens / seconds for _, seconds in steps]),
        "tflops": spread([work.flops(step) / seconds / work.gpus / 1e12 for step, seconds in steps]),
        "mfu": used,
    }


def ratio(ours: Sequence[Ran], other: Sequence[Ran], warm_up: int) -> dict[str, float] | None:
    """Return the spread of our rate over another's, step by step of one round: the same sequences on both sides."""
    found = []
    for mine, theirs in zip(ours, other, strict=False):
        first, second = mine.counted(warm_up), theirs.counted(warm_up)
        found += [second[step] / first[step] for step in first if step in second]
    return spread(found) if found else None


def apart(first: Mapping[int, float], second: Mapping[int, float]) -> float | None:
    """Return the largest difference of two losses of a step, as a part of the first; None where no step is in both.

    A loss that is no number is ∞ apart from everything, another of its kind included.
    """
    steps = sorted(first.keys() & second.keys())
    gaps = [abs(second[step] - first[step]) / abs(first[step]) for step in steps]
    return max((math.inf if math.isnan(gap) else gap for gap in gaps), default=None)


def agreement(first: Mapping[int, float], second: Mapping[int, float], precision: str) -> dict[str, Any]:
    """Say whether two curves of losses are one: how many steps, how far apart, how far they may be."""
    gap = apart(first, second)
    bound = BOUNDS[precision]
    steps = len(first.keys() & second.keys())
    return {"steps": steps, "apart": gap, "bound": bound, "agree": None if gap is None else gap <= bound}


def resumed(whole: Ran, parts: Sequence[Ran], again: Ran | None) -> dict[str, Any]:
    """Compare a run that was stopped and went on with one that was not.

    Args:
        whole: the run that was not stopped.
        parts: the same run in parts; the last has all losses.
        again: another run that was not stopped: what chance does.
    """
    failed = next((part.failed for part in parts if part.failed), None)
    if failed or whole.failed:
        return {"failed": failed or whole.failed}
    last = parts[-1].losses
    same = {step: whole.losses[step] for step in last if step in whole.losses}
    noise = None if again is None else apart(whole.losses, again.losses)
    return {"steps": len(last), "exact": same == last, "apart": apart(same, last), "noise": noise, "failed": None}
