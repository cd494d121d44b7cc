"""Fitted curves for the pictures: the power law behind a verdict, drawn to the next doubling of tokens.

    verdict on niah_ppl perplexity, 5 checkpoints up to 200B
      └► Line from the first of them to 400B, "a power law, 1.08 at 400B tokens; …"

Only curves that are judged are fitted: of the others nobody asks where they lead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mixture.errors import MonitorError
from mixture.report import monitor_words as words
from mixture.report.monitor_figures import Line
from mixture.report.tables import short

if TYPE_CHECKING:
    from mixture.monitor.curves import Curve
    from mixture.monitor.verdicts import Saturation

_POINTS = 80


def fitted(verdicts: Sequence[Saturation]) -> list[Line]:
    """Return a power law through each curve that is judged and long enough for one."""
    every = (verdict.curve for model in verdicts for level in model.levels for verdict in level.curves)
    return [line for curve in every for line in _line(curve)]


def _line(curve: Curve) -> Iterator[Line]:
    from mixture.monitor.fits import FEWEST, held_out, power_law

    if len(curve) < FEWEST:
        return
    try:
        law = power_law(curve)
        told = held_out(curve) if len(curve) > FEWEST else None
    except MonitorError:
        # No law fits: the points stand for themselves.
        return
    x = np.geomspace(curve.tokens[0], 2 * curve.tokens[-1], _POINTS)
    y = law.at(x)
    label = f"a power law, {words.shown(float(y[-1]))} at {short(x[-1])} tokens"
    if told is not None:
        label += (
            f"; fitted without the last checkpoint it foretells {words.shown(told.expected)} there, "
            f"measured was {words.shown(told.measured)}"
        )
    yield Line(curve.model, curve.task, curve.domain, curve.metric, tuple(x.tolist()), tuple(y.tolist()), label)
