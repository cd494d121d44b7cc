"""How abilities moved over checkpoints, in words for the terminal and as JSON for machines.

niah_ppl perplexity    leads to 23.1 (21.0 to 25.2); the last checkpoint was foretold as 24.0, measured was 25.8
a doubling of tokens moves it by -4.93 (-6.10 to -3.76), by a line over log N
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from mixture.report.monitor_words import shown

if TYPE_CHECKING:
    from mixture.monitor.dynamics import Dynamics, Law


def dynamics_words(found: Dynamics, judged: Collection[str]) -> list[str]:
    """Return the laws of some curves, a line each; the others, and what tasks say of each other, are in the JSON.

    Args:
        found: of a model.
        judged: names of the curves.
    """
    return [line for law in found.laws if law.curve.name in judged for line in _law(law)]


def _law(law: Law) -> Iterator[str]:
    if len(set(law.curve.values)) < 2:
        return
    parts = []
    if law.power is not None:
        low, high = law.power.a_interval
        # A loss below 0, or an interval wider than all that was seen: the curve does not bend enough to tell.
        known = high - low <= np.ptp(law.curve.values) and not (law.curve.falls and low < 0)
        leads = f"leads to {shown(law.power.a)} ({shown(low)} to {shown(high)})"
        parts.append(leads if known else "where it leads cannot be told yet")
    if law.foretold is not None:
        parts.append(
            f"the last checkpoint was foretold as {shown(law.foretold.expected)}, measured was "
            f"{shown(law.foretold.measured)}"
        )
    if law.line is not None:
        value, low, high = law.line.doubling()
        parts.append(f"a doubling of tokens moves it by {shown(value)} ({shown(low)} to {shown(high)})")
    if parts:
        yield f"{law.curve.name}: {'; '.join(parts)}"


def dynamics_json(found: Dynamics) -> dict[str, Any]:
    """Return what is found in a model's curves, JSON-able."""
    return {
        "model": found.model,
        "laws": [_law_json(law) for law in found.laws],
        "together": [asdict(one) for one in found.together],
        "neighbours": [asdict(one) for one in found.neighbours],
        "leads": [asdict(one) for one in found.leads],
        "left_out": list(found.notes),
    }


def _law_json(law: Law) -> dict[str, Any]:
    curve, power, line = law.curve, law.power, law.line
    names = ("level", "task", "domain", "metric")
    found: dict[str, Any] = {name: getattr(curve, name) for name in names}
    if power is not None:
        found["power_law"] = {"a": power.a, "b": power.b, "c": power.c, "a_interval": list(power.a_interval)}
    if law.foretold is not None:
        found["last_checkpoint"] = asdict(law.foretold)
    if line is not None:
        found["log_line"] = {"a": line.a, "b": line.b, "a_interval": list(line.a_interval), "r2": line.r2}
    return found
