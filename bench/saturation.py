"""Verdicts of saturation on curves whose answer is known: how often they stop too early, how often they miss.

    python -m bench.saturation            the tables of docs/saturation.md, some five minutes on one core

A run is a curve with noise at every checkpoint; the verdict is asked for at each checkpoint from the third on. The
truth is the curve's own gain by the next doubling of tokens, in units of epsilon:

    false stop     "saturated", and the gain is epsilon or more
    miss           not "saturated", and the gain is under half of epsilon
    in between     neither is wrong

A curve that is flat and will rise later has both answers at once: its gain is over there and nothing shows it yet. It
has a row of its own.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats

from mixture.monitor.curves import Curve, Floats
from mixture.monitor.gains import DOUBLINGS, LAST
from mixture.monitor.saturation import judge
from mixture.monitor.verdicts import FEWEST, Epsilon

EPSILON = 0.02
_BILLION = 1e9

#: Tokens of the checkpoints of a run.
GRIDS: dict[str, Floats] = {
    "10 evenly": np.arange(1, 11) * 20 * _BILLION,
    "20 evenly": np.arange(1, 21) * 10 * _BILLION,
    "8 doublings": 2.0 ** np.arange(8) * _BILLION,
}


def _power(c: float) -> Callable[[Floats], Floats]:
    return lambda x: 0.9 - 0.6 * x**-c


#: Curves over tokens in units of the first checkpoint's. The doublings end at 128, the even grids at 10 and 20.
TRUTHS: dict[str, Callable[[Floats], Floats]] = {
    "flat": lambda x: np.full_like(x, 0.7),
    "power law, c .2": _power(0.2),
    "power law, c .5": _power(0.5),
    "power law, c 1": _power(1.0),
    "power law, c 2": _power(2.0),
    "line, 3 ε a doubling": lambda x: 0.2 + 3 * EPSILON * np.log2(x),
    "line, 1.25 ε": lambda x: 0.2 + 1.25 * EPSILON * np.log2(x),
    "step behind": lambda x: np.where(x < 2.5, 0.1, 0.8),
}
#: Rises after every look that is counted.
AHEAD = "step ahead"
#: Standard deviation of a checkpoint, in epsilons.
NOISES = (0.0, 0.125, 0.25, 0.5, 1.0)


@dataclass(frozen=True)
class Look:
    """One verdict.

    Attributes:
        run: number of the run.
        gain: the truth, in epsilons.
        state: what was said.
    """

    run: int
    gain: float
    state: str


@dataclass(frozen=True)
class Rates:
    """Rates of many verdicts, in percent; None where there was nothing to count.

    Attributes:
        looks: verdicts.
        false_stop: of those whose gain is epsilon or more, said to be saturated.
        stopped_runs: runs with at least one of these, of the runs that could have one.
        stopped_twice: runs with two of them in a row.
        miss: of those whose gain is under half of epsilon, not said to be saturated.
        moving: of those whose gain is epsilon or more, said to be moving.
    """

    looks: int
    false_stop: float | None
    stopped_runs: float | None
    stopped_twice: float | None
    miss: float | None
    moving: float | None


@dataclass(frozen=True)
class Method:
    """How verdicts are reached.

    Attributes:
        last: fewest points of a fit.
        doublings: of tokens that it looks back on.
        draws: behind an interval.
        declared: whether the verdict is told the noise, as errors of the values; else it sees residuals alone.
    """

    last: int = LAST
    doublings: float = DOUBLINGS
    draws: int = 400
    declared: bool = True


def looks(
    truth: Callable[[Floats], Floats], grid: Floats, noise: float, runs: int, seed: int, how: Method
) -> Iterator[Look]:
    """Yield the verdicts on runs of one truth.

    Args:
        truth: value over tokens in units of the first checkpoint's.
        grid: tokens of checkpoints, shape (n,).
        noise: standard deviation of a checkpoint, in the metric's unit.
        runs: how many.
        seed: of the noise.
        how: verdicts are reached.
    """
    x = grid / grid[0]
    clean, gains = truth(x), truth(2 * x) - truth(x)
    rng = np.random.default_rng(seed)
    for run in range(runs):
        values = clean + rng.normal(0, noise, len(x))
        errors = (noise if how.declared else 0.0,) * len(x)
        whole = Curve("generated", "behaviour", "niah", "", "score", tuple(grid), tuple(values), errors)
        for n in range(FEWEST, len(x) + 1):
            verdict = judge(
                whole.until(n),
                epsilon=Epsilon(EPSILON),
                last=how.last,
                doublings=how.doublings,
                draws=how.draws,
                seed=seed + run,
            )
            yield Look(run, float(gains[n - 1]) / EPSILON, verdict.state)


def rates(seen: Sequence[Look]) -> Rates:
    """Count verdicts that are wrong; a run's looks stand in order."""
    alive = [look for look in seen if look.gain >= 1]
    settled = [look for look in seen if look.gain < 0.5]
    by_run: dict[int, list[bool]] = {}
    for look in seen:
        by_run.setdefault(look.run, []).append(look.gain >= 1 and look.state == "saturated")
    could = {look.run for look in alive}
    once = [any(by_run[run]) for run in could]
    twice = [any(a and b for a, b in zip(by_run[run], by_run[run][1:], strict=False)) for run in could]
    return Rates(
        looks=len(seen),
        false_stop=_percent([look.state == "saturated" for look in alive]),
        stopped_runs=_percent(once),
        stopped_twice=_percent(twice),
        miss=_percent([look.state != "saturated" for look in settled]),
        moving=_percent([look.state == "moving" for look in alive]),
    )


def _percent(found: Sequence[bool]) -> float | None:
    return 100 * float(np.mean(found)) if found else None


def table(runs: int, how: Method, seed: int = 0, noises: Sequence[float] = NOISES) -> list[tuple[str, float, Rates]]:
    """Return rates by truth and noise, over all grids, and of all truths together by noise."""
    rows = []
    for noise in noises:
        together: list[Look] = []
        for name, truth in TRUTHS.items():
            seen = _over_grids(truth, noise, runs, seed, how)
            rows.append((name, noise, rates(seen)))
            together += [Look(look.run + len(rows) * 10_000, look.gain, look.state) for look in seen]
        rows.append(("all of them", noise, rates(together)))
    return rows


def _over_grids(truth: Callable[[Floats], Floats], noise: float, runs: int, seed: int, how: Method) -> list[Look]:
    seen: list[Look] = []
    for number, grid in enumerate(GRIDS.values()):
        found = looks(truth, grid, noise * EPSILON, runs, seed + 100_000 * number, how)
        seen += [Look(look.run + 1000 * number, look.gain, look.state) for look in found]
    return seen


def ahead(runs: int, noise: float, how: Method, seed: int = 0) -> float:
    """Return how often a curve that is flat, and rises later, is said to be saturated, in percent."""
    seen = _over_grids(TRUTHS["flat"], noise, runs, seed, how)
    return 100 * float(np.mean([look.state == "saturated" for look in seen]))


def same_probes(probes: int, runs: int, seed: int = 0, agreement: float = 0.9) -> dict[str, Rates]:
    """Return rates for scores of probes that are the same at every checkpoint: by their errors, and drawn together.

    A probe is solved when its difficulty, which it keeps, and a new accident fall under the curve's value; of their
    variance the difficulty has the share `agreement`.
    """
    seen: dict[str, list[Look]] = {"by errors": [], "by samples": []}
    rng = np.random.default_rng(seed)
    grid = GRIDS["10 evenly"]
    x = grid / grid[0]
    for number, truth in enumerate(TRUTHS.values()):
        bar, gains = stats.norm.ppf(truth(x)), truth(2 * x) - truth(x)
        for run in range(runs):
            hard = rng.normal(size=probes) * np.sqrt(agreement)
            accidents = rng.normal(size=(len(x), probes)) * np.sqrt(1 - agreement)
            solved = (hard + accidents < bar[:, None]).astype(float)
            errors = solved.std(axis=1) / np.sqrt(probes)
            whole = Curve(
                "generated", "behaviour", "niah", "", "score", tuple(grid), tuple(solved.mean(axis=1)), tuple(errors)
            )
            for n in range(FEWEST, len(x) + 1):
                for name, samples in (("by errors", None), ("by samples", list(solved[:n]))):
                    verdict = judge(whole.until(n), epsilon=Epsilon(EPSILON), samples=samples, draws=400, seed=run)
                    seen[name].append(Look(1000 * number + run, float(gains[n - 1]) / EPSILON, verdict.state))
    return {name: rates(found) for name, found in seen.items()}


def show(title: str, rows: Sequence[tuple[str, str, Rates]], console: Console) -> None:
    """Print rates."""
    out = Table(title=title)
    out.add_column("curve")
    out.add_column("noise / ε")
    for heading in ("verdicts", "false stop", "runs stopped", "… twice in a row", "moving", "miss"):
        out.add_column(heading, justify="right")
    for name, noise, found in rows:
        cells = (found.false_stop, found.stopped_runs, found.stopped_twice, found.moving, found.miss)
        out.add_row(name, noise, f"{found.looks:,}", *("" if cell is None else f"{cell:.1f} %" for cell in cells))
    console.print(out)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m bench.saturation", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--runs", type=int, default=30, help="of each curve, grid of checkpoints and noise (default 30)"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 160)
    begun = time.perf_counter()
    found = table(options.runs, Method(), options.seed)
    show("verdicts as they are by default", [(a, f"{b:g}", c) for a, b, c in found], console)
    few = max(1, options.runs // 3)
    others = {
        "default": Method(),
        "noise not told": Method(declared=False),
        "last 4": Method(last=4, doublings=0.0),
        "last 5": Method(last=5, doublings=0.0),
        "one doubling": Method(doublings=1.0),
        "three doublings": Method(doublings=3.0),
    }
    rows = []
    for name, how in others.items():
        together = [row for row in table(few, how, options.seed, (0.125, 0.5)) if row[0] == "all of them"]
        rows += [(name, f"{noise:g}", rate) for _, noise, rate in together]
    show("other ways, all curves", rows, console)
    paired = [
        (f"{name}, {probes} probes", "", found)
        for probes in (400, 2000)
        for name, found in same_probes(probes, few, options.seed).items()
    ]
    show("the same probes at every checkpoint, all curves", paired, console)
    for noise in (0.125, 0.5):
        console.print(
            f"{AHEAD}, noise {noise:g} ε: saturated in {ahead(few, noise, Method(), options.seed):.1f} % of looks"
        )
    console.print(f"ε {EPSILON:g}; {time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
