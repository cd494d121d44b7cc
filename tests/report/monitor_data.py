"""Measures as a run of 200B tokens might leave them: the needle settles early, its perplexity later, heads last.

    python -m tests.report.monitor_data FOLDER      writes the page over them, to be looked at

Shapes and sizes follow arXiv 2604.02650; the numbers are made up, from a seed.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mixture.monitor.measures import Measure

PNG = b"\x89PNG\r\n\x1a\n"
BILLIONS = (0, 20, 50, 100, 150, 200)
LENGTHS = (4096, 8192, 16384, 32768, 65536)
DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
DOMAINS = ("books", "code", "web")
POSITIONS = ("0-4K", "4K-16K", "16K-32K", "32K-64K")


def measure(at: int | None, value: float, **where: Any) -> Measure:
    """Return a measure of the needle's score at so many tokens, or of what `where` says."""
    usual: dict[str, Any] = {
        "model": "tiny",
        "step": None if at is None else at // 1000,
        "tokens": at,
        "level": "behaviour",
        "task": "niah",
        "domain": "",
        "metric": "score",
        "length": None,
        "depth": None,
        "cell": "",
        "value": value,
        "low": value,
        "high": value,
        "n": 20,
    }
    return Measure(**usual | where)


def grid(at: int, values: Sequence[Sequence[float]], **where: Any) -> Iterator[Measure]:
    """Return a measure a cell: rows are depths 0, 0.5, 1; columns lengths 4096, 8192, …"""
    for depth, row in zip((0.0, 0.5, 1.0), values, strict=False):
        for column, value in enumerate(row):
            if not math.isnan(value):
                yield measure(at, value, depth=depth, length=4096 << column, **where)


def measured(billions: float, level: str, task: str, metric: str, value: float, **where: Any) -> Measure:
    """Return a measure with an interval of so much on both sides."""
    spread, n, model = where.pop("spread", 0.0), where.pop("n", 20), where.pop("model", "moe-13b")
    low, high = where.pop("bounds", (-np.inf, np.inf))
    place = {"domain": "", "length": None, "depth": None, "cell": ""} | where
    return Measure(
        model=model,
        step=int(billions * 250),
        tokens=int(billions * 1e9),
        level=level,
        task=task,
        metric=metric,
        value=value,
        low=max(low, value - spread),
        high=min(high, value + spread),
        n=n,
        **place,
    )


def behaviour(draw: np.random.Generator, at: int) -> Iterator[Measure]:
    share = {"bounds": (0.0, 1.0)}
    cells = []
    for length in LENGTHS:
        for depth in DEPTHS:
            hard = np.log2(length / 4096) * 0.14 * (1.2 - abs(depth - 0.45))
            value = float(np.clip(round(20 * (1 - hard * np.exp(-at / 12) - 0.02 * draw.random())) / 20, 0, 1))
            cells.append(value)
            yield measured(at, "behaviour", "niah", "score", value, length=length, depth=depth, spread=0.12, **share)
    mean = float(np.mean(cells))
    yield measured(at, "behaviour", "niah", "score", mean, n=500, spread=0.03, **share)
    yield measured(at, "behaviour", "niah", "rouge1", min(1.0, mean + 0.01), n=500, spread=0.02, **share)
    for task, ease in (("json_kv", 0.3), ("variable_tracking", 0.5)):
        found = [float(np.clip(1 - ease * np.log2(n / 2048) / 5 * np.exp(-at / 20), 0, 1)) for n in LENGTHS]
        for length, value in zip(LENGTHS, found, strict=True):
            yield measured(at, "behaviour", task, "score", value, length=length, spread=0.06, n=100, **share)
        yield measured(at, "behaviour", task, "score", float(np.mean(found)), spread=0.03, n=500, **share)


def probability(draw: np.random.Generator, at: int) -> Iterator[Measure]:
    cells = []
    for length in LENGTHS:
        for depth in DEPTHS:
            value = float(1.02 + 0.5 * np.log2(length / 2048) * np.exp(-at / 80) * (1.1 - abs(depth - 0.4)))
            cells.append(value)
            yield measured(
                at, "probability", "niah_ppl", "perplexity", value, length=length, depth=depth, spread=0.02 * value
            )
    yield measured(at, "probability", "niah_ppl", "perplexity", float(np.mean(cells)), n=500, spread=0.03)
    for number, domain in enumerate(DOMAINS):
        losses = []
        for place, name in enumerate(POSITIONS):
            late = 0.22 * place * np.exp(-at / 70)
            value = float(2.3 - 0.55 * number - 0.06 * place * (1 - np.exp(-at / 60)) + late + 0.01 * draw.random())
            losses.append(value)
            cell = f"position {name}"
            yield measured(
                at, "probability", "holdout", "loss", value, domain=domain, cell=cell, spread=0.03, n=180 - 40 * place
            )
        yield measured(at, "probability", "holdout", "loss", float(np.mean(losses)), domain=domain, spread=0.015, n=180)
    value = float(2.1 + 1.4 * np.exp(-at / 70))
    yield measured(at, "probability", "longppl", "perplexity", value, n=64, spread=0.08)
    for number in range(6):
        cell, value = f"prefix {64 << number if number else 0}", 0.4 + 0.08 * number * float(np.exp(-at / 80))
        yield measured(at, "probability", "interference", "loss", value, cell=cell, n=40, spread=0.04)
    yield measured(at, "probability", "interference", "slope", 0.08 * float(np.exp(-at / 80)), n=40, spread=0.01)


def mechanism(draw: np.random.Generator, at: int) -> Iterator[Measure]:
    base = np.random.default_rng(3)
    layers, heads = 24, 16
    scores = base.beta(0.08, 2.2, (layers, heads))
    scores[8:20] += (base.random((12, heads)) > 0.93) * base.uniform(0.2, 0.7, (12, heads))
    grown = np.clip(scores * (0.5 + 0.5 * (1 - np.exp(-at / 120))) + 0.005 * draw.random(scores.shape), 0, 1)
    grown[base.random(scores.shape) < 0.6] = 0
    for layer, head in np.ndindex(layers, heads):
        cell = f"layer {layer} head {head}"
        yield measured(
            at, "mechanism", "retrieval_heads", "retrieval_score", float(grown[layer, head]), cell=cell, n=50
        )
    aggregates = {
        "heads": (float((grown >= 0.1).sum()), 2.0),
        "mean_score": (float(grown.mean()), 0.002),
        "top_score": (float(np.sort(grown.ravel())[-30:].mean()), 0.02),
        "first_set_score": (float(grown[scores > 0.1].mean()), 0.015),
    }
    for metric, (value, spread) in aggregates.items():
        yield measured(at, "mechanism", "retrieval_heads", metric, value, n=50, spread=spread)
    for cell, cost in (("all heads", 0.0), ("without the best 30", 14.0), ("without 30 others", 0.04)):
        place = {"cell": cell, "n": 50, "spread": 0.02 + 0.1 * cost}
        yield measured(at, "mechanism", "causal_masking", "perplexity", 1.1 + cost, bounds=(1.0, np.inf), **place)
    yield measured(at, "mechanism", "causal_masking", "loss_gap", 2.6, n=50, spread=0.2)
    if at:
        yield measured(at, "mechanism", "retrieval_heads", "top_overlap", 0.8 + 0.0007 * at, n=50, spread=0.04)


def run(seed: int = 1) -> list[Measure]:
    """Return all measures of the run, checkpoint by checkpoint."""
    draw = np.random.default_rng(seed)
    found = []
    for at in BILLIONS:
        found += [*behaviour(draw, at), *probability(draw, at), *mechanism(draw, at)]
        hard = float(0.3 + 0.25 * (1 - np.exp(-at / 90)))
        found += [measured(at, "harness", "hellaswag", "acc_norm", hard, n=10042, spread=0.01)]
    return found


def main(folder: Path) -> None:
    """Write the page over the run."""
    from mixture.monitor.saturation import saturation
    from mixture.report.monitor_page import render

    found = run()
    page = render(found, [saturation(found)], folder, title="moe-13b, 32K to 64K")
    sys.stdout.write(f"{page}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
