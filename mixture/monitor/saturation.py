"""Has a level settled? By how much would another doubling of the tokens still better it, at most?

    tokens            25 G    50 G    100 G   200 G
    niah score        0.81    0.93    0.97    0.985        gain of 200 G → 400 G: 0.008 (0.002 … 0.014)
                                                           under 0.02 at its upper end: saturated

A fit through the last checkpoints, two doublings of tokens and five points at least, foretells the gain of the next
doubling: a power law, or a line over log N where there are fewer than five points. Values are drawn again by the errors
of their samples and by the wobble that the fit leaves, and every draw is fitted: the gain has an interval. It says

    saturated       its upper end is under ε, the least gain that is worth a doubling
    moving          its lower end is above 0 (and its upper not under ε)
    not yet known   neither, or fewer than three checkpoints: the interval is too wide; more samples, more checkpoints

Nobody has published a definition; how often this one is wrong on curves whose answer is known is in docs/saturation.md.
What it cannot foresee: a curve that is flat and will rise later. Hence the three levels: behaviour that is flat while
the needle's probability or the heads still move has settled in appearance only (arXiv 2604.02650).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy.typing as npt

from mixture.errors import MonitorError, nearest
from mixture.monitor.curves import Curve, curves
from mixture.monitor.gains import DOUBLINGS, DRAWS, LAST, next_gain
from mixture.monitor.measures import Measure
from mixture.monitor.verdicts import FEWEST, Epsilon, LevelVerdict, Saturation, State, Verdict

#: Levels that have verdicts, in the order in which a report shows them.
JUDGED = ("behaviour", "probability", "mechanism")

#: By metric. Two points of a score; 2 % of a perplexity, which is .02 nats of a loss; one head.
EPSILON: Mapping[str, Epsilon] = {
    "score": Epsilon(0.02),
    "rouge1": Epsilon(0.02),
    "perplexity": Epsilon(0.02, relative=True),
    "loss": Epsilon(0.02),
    "mean_score": Epsilon(0.01),
    "top_score": Epsilon(0.02),
    "first_set_score": Epsilon(0.02),
    "heads": Epsilon(1.0),
}
#: What is judged of each level unless told otherwise: (task, metric), the task empty for any. Of a level that has none
#: of them, all metrics that have an epsilon are.
WATCHED: Mapping[str, tuple[tuple[str, str], ...]] = {
    "behaviour": (("", "score"),),
    "probability": (("niah_ppl", "perplexity"), ("holdout", "loss"), ("longppl", "perplexity")),
    "mechanism": (("retrieval_heads", "top_score"), ("retrieval_heads", "first_set_score")),
}


def judge(
    curve: Curve,
    *,
    epsilon: Epsilon | None = None,
    samples: Sequence[npt.ArrayLike] | None = None,
    last: int = LAST,
    doublings: float = DOUBLINGS,
    draws: int = DRAWS,
    seed: int = 0,
) -> Verdict:
    """Judge a curve at its last checkpoint.

    Args:
        curve: of any length.
        epsilon: the least gain that counts; by default the metric's in `EPSILON`.
        samples: see `next_gain`, as the others.
        last: as there.
        doublings: as there.
        draws: as there.
        seed: as there.

    Raises:
        MonitorError: the metric has no epsilon, or the values have no logarithm.
    """
    least = epsilon or epsilon_of(curve.metric)
    if len(curve) < FEWEST:
        return Verdict(curve, "not yet known", None, None, None, least, len(curve))
    gain, low, high, points = next_gain(
        curve, relative=least.relative, samples=samples, last=last, doublings=doublings, draws=draws, seed=seed
    )
    state: State = "saturated" if high < least.value else "moving" if low > 0 else "not yet known"
    return Verdict(curve, state, gain, low, high, least, points)


def epsilon_of(metric: str) -> Epsilon:
    """Return the least gain that counts of a metric.

    Raises:
        MonitorError: there is none for it.
    """
    if metric not in EPSILON:
        raise MonitorError(f"metric {metric!r} has no epsilon: {nearest(metric, EPSILON)} give one for it")
    return EPSILON[metric]


def saturation(
    measures: Iterable[Measure],
    *,
    model: str | None = None,
    epsilon: Mapping[str, Epsilon] | None = None,
    watched: Mapping[str, Sequence[tuple[str, str]]] | None = None,
    seed: int = 0,
) -> Saturation:
    """Judge the three levels of a model at its last checkpoint.

    Args:
        measures: rows of the long table, of all checkpoints.
        model: whose; may be left out where they are of one.
        epsilon: by metric, instead of those of `EPSILON`.
        watched: what is judged of a level, instead of `WATCHED`.
        seed: of the draws.

    Raises:
        MonitorError: the measures are of several models, or of others.
    """
    rows = list(measures)
    name = _only_model(rows, model)
    epsilons = {**EPSILON, **(epsilon or {})}
    found = curves(rows, model=name)
    levels = []
    for level in JUDGED:
        those = _watched([curve for curve in found if curve.level == level], {**WATCHED, **(watched or {})}, epsilons)
        levels.append(_level(level, [_with_since(curve, epsilons[curve.metric], seed) for curve in those]))
    return Saturation(name, tuple(levels))


def _only_model(rows: Sequence[Measure], model: str | None) -> str:
    names = sorted({row.model for row in rows})
    if model is None and len(names) == 1:
        return names[0]
    if model not in names:
        raise MonitorError(
            f"model {model!r}: {nearest(model, names)}"
            if model is not None
            else f"measures of {len(names)} models ({', '.join(names[:3])}); name the one to judge"
        )
    return model


def _watched(
    found: list[Curve], watched: Mapping[str, Sequence[tuple[str, str]]], epsilons: Mapping[str, Epsilon]
) -> list[Curve]:
    """Choose what is judged of a level; of a task that is measured over all domains, only that."""
    known = [curve for curve in found if curve.metric in epsilons]
    wanted = watched[found[0].level] if found else ()
    chosen = [
        curve for curve in known if any(task in ("", curve.task) and metric == curve.metric for task, metric in wanted)
    ]
    chosen = chosen or known
    over_all = {(curve.task, curve.metric) for curve in chosen if not curve.domain}
    return [curve for curve in chosen if not curve.domain or (curve.task, curve.metric) not in over_all]


def _with_since(curve: Curve, epsilon: Epsilon, seed: int) -> Verdict:
    """Judge a curve, and look back for the checkpoint from which on it was saturated."""
    verdict = judge(curve, epsilon=epsilon, seed=seed)
    since = None
    checkpoints = len(curve)
    while checkpoints >= FEWEST and judge(curve.until(checkpoints), epsilon=epsilon, seed=seed).state == "saturated":
        since = curve.tokens[checkpoints - 1]
        checkpoints -= 1
    return replace(verdict, since=since)


def _level(level: str, verdicts: Sequence[Verdict]) -> LevelVerdict:
    states = {verdict.state for verdict in verdicts}
    state: State = "moving" if "moving" in states else "saturated" if states == {"saturated"} else "not yet known"
    sinces = [verdict.since for verdict in verdicts if verdict.since is not None]
    return LevelVerdict(level, state, max(sinces) if state == "saturated" else None, tuple(verdicts))
