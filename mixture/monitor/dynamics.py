"""How abilities move over checkpoints: each task's law, tasks of a domain together, domains one after the other.

    long table ─ curves ─▶ every task      a power law and, of the last checkpoint, what the others foretold
                           a loss          a line over log N
                           a domain        rank correlation of its tasks; each task out of the others
                           two domains     which one's steps come first

Questions of The Fine Line (arXiv 2404.01204), which gives no formulas; these are ours, by scipy and statsmodels. Curves
of one training nearly all rise together, so a high correlation alone says little: what a task's neighbours tell of it
is held against what its own trend over log N tells. With six checkpoints hardly anything is significant; what has too
few of them is left out and said.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from mixture.errors import MonitorError
from mixture.monitor.curves import Curve, curves
from mixture.monitor.fits import Foretold, PowerLaw, held_out, power_law
from mixture.monitor.logfit import LogFit, log_fit
from mixture.monitor.measures import Measure
from mixture.monitor.trajectories import Lead, Neighbours, Together, lead, out_of_others, together

#: Of a task with several metrics, the one that stands for it where tasks are compared; else the alphabet's first.
MAIN = ("score", "acc_norm", "acc", "exact_match", "f1", "loss", "perplexity", "top_score")


@dataclass(frozen=True)
class Law:
    """A task's curve and what describes it; None where there are too few checkpoints.

    Attributes:
        curve: that is described.
        power: y = a - b·N^(-c).
        foretold: the last checkpoint by the power law of those before it.
        line: A·log N + B, of losses and perplexities.
    """

    curve: Curve
    power: PowerLaw | None
    foretold: Foretold | None
    line: LogFit | None


@dataclass(frozen=True)
class Dynamics:
    """What is found in the curves of a model.

    Attributes:
        model: its name.
        laws: of each curve.
        together: of each pair of a domain.
        neighbours: of each task of a domain.
        leads: of each pair of domains.
        notes: what was left out, and why, a sentence each.
    """

    model: str
    laws: tuple[Law, ...]
    together: tuple[Together, ...]
    neighbours: tuple[Neighbours, ...]
    leads: tuple[Lead, ...]
    notes: tuple[str, ...]


def dynamics(measures: Iterable[Measure], *, model: str | None = None, seed: int = 0) -> Dynamics:
    """Describe the curves of a model.

    A curve's domain is its own; of one that has none, its level: behaviour, say, leads probability or follows it.

    Args:
        measures: rows of the long table, of all checkpoints.
        model: whose; may be left out where they are of one.
        seed: of intervals and permutations.

    Raises:
        MonitorError: the measures are of several models, or of others, or hold no curve.
    """
    found = curves(measures, model=model)
    names = sorted({curve.model for curve in found})
    if len(names) != 1:
        told = f"of {len(names)} models ({', '.join(names[:3])}); name one" if names else "of no such model; check it"
        raise MonitorError(f"curves {told}")
    notes: list[str] = []
    laws = tuple(_law(curve, seed, notes) for curve in found)
    domains = by_domain(found)
    pairs, neighbours = [], []
    for domain, tasks in domains.items():
        pairs += _each([(domain, a, b) for a, b in combinations(tasks, 2)], lambda a: together(*a, seed=seed), notes)
        if len(tasks) > 1:
            neighbours += _each([(domain, n, tasks) for n in range(len(tasks))], lambda a: out_of_others(*a), notes)
    twos = [((a, domains[a]), (b, domains[b])) for a, b in combinations(domains, 2)]
    leads = _each(twos, lambda two: lead(*two, seed=seed), notes)
    return Dynamics(names[0], laws, tuple(pairs), tuple(neighbours), tuple(leads), tuple(notes))


def by_domain(found: Sequence[Curve]) -> dict[str, list[Curve]]:
    """Return curves by domain, or by level where they have none: one for each task, and none that never moves."""
    chosen: dict[tuple[str, str], Curve] = {}
    for curve in found:
        key = (curve.domain or curve.level, curve.task)
        if np.ptp(curve.values or (0.0,)) > 0 and (key not in chosen or _rank(curve) < _rank(chosen[key])):
            chosen[key] = curve
    out: dict[str, list[Curve]] = {}
    for (domain, _), curve in chosen.items():
        out.setdefault(domain, []).append(curve)
    return out


def _rank(curve: Curve) -> tuple[int, str]:
    plain = curve.metric.split(",", maxsplit=1)[0]
    return (MAIN.index(plain) if plain in MAIN else len(MAIN), curve.metric)


def _each(given: Sequence[Any], ask: Any, notes: list[str]) -> list[Any]:
    """Ask of each; what cannot be said becomes a note."""
    found = []
    for one in given:
        try:
            found.append(ask(one))
        except MonitorError as error:
            notes.append(str(error))
    return found


def _law(curve: Curve, seed: int, notes: list[str]) -> Law:
    logged = curve.metric.endswith(("perplexity", "loss"))
    (power,) = _each([curve], lambda one: power_law(one, seed=seed), notes) or [None]
    (foretold,) = (_each([curve], lambda one: held_out(one, seed=seed), notes) if power else []) or [None]
    (line,) = (_each([curve], lambda one: log_fit(one.tokens, one.values), notes) if logged else []) or [None]
    return Law(curve, power, foretold, line)
