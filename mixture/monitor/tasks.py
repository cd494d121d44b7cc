"""The front door of probes: four tasks by name, and grids of them.

    probes("niah", codec, haystack, lengths=[4096, 8192], depths=[0, .5, 1], samples=5)   →   30 probes, shortest first

A new task is one plain function and one line in `TASKS`. Probes come one at a time: 1,000 of 128K tokens would take a
gigabyte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mixture.errors import MonitorError, nearest
from mixture.monitor import tasks_json_kv, tasks_many_shot, tasks_niah, tasks_variable_tracking
from mixture.monitor.codec import Codec
from mixture.monitor.haystack import Haystack
from mixture.monitor.probes import Probe

#: Columns and rows of a grid by default.
GRID = 10


@dataclass(frozen=True)
class Task:
    """A task.

    Attributes:
        probe: makes one probe of codec, haystack, length, depth, sample and seed.
        by_depth: whether the place of the needle is a coordinate; else there is one row, over all depths.
        haystack: whether it needs one.
    """

    probe: Callable[[Codec, Any, int, float, int, int], Probe]
    by_depth: bool
    haystack: bool


#: Task by name.
TASKS: dict[str, Task] = {
    tasks_niah.NAME: Task(tasks_niah.probe, by_depth=True, haystack=True),
    tasks_json_kv.NAME: Task(tasks_json_kv.probe, by_depth=True, haystack=False),
    tasks_variable_tracking.NAME: Task(tasks_variable_tracking.probe, by_depth=False, haystack=True),
    tasks_many_shot.NAME: Task(tasks_many_shot.probe, by_depth=False, haystack=False),
}


def task(name: str) -> Task:
    """Return a task.

    Raises:
        MonitorError: there is no such task.
    """
    if name not in TASKS:
        raise MonitorError(f"no task is named {name!r}; {nearest(name, TASKS)} (known: {', '.join(TASKS)})")
    return TASKS[name]


def lengths_to(longest: int, columns: int = GRID, *, shortest: int | None = None) -> tuple[int, ...]:
    """Return evenly spaced lengths, rising, the last one `longest`.

    Args:
        longest: tokens.
        columns: how many.
        shortest: the first one; by default as far from 0 as they are from each other.
    """
    first = longest / columns if shortest is None else shortest
    return tuple(dict.fromkeys(int(length) for length in np.linspace(first, longest, columns)))


def depths_of(rows: int = GRID) -> tuple[float, ...]:
    """Return evenly spaced depths from 0 to 1; the middle for one."""
    return tuple(float(depth) for depth in np.linspace(0, 1, rows).round(6)) if rows > 1 else (0.5,)


def probes(
    name: str,
    codec: Codec,
    haystack: Haystack | None = None,
    *,
    lengths: Sequence[int],
    depths: Sequence[float] = depths_of(),
    samples: int = 1,
    seed: int = 0,
) -> Iterator[Probe]:
    """Yield the probes of a grid, by length, depth and sample.

    Args:
        name: of the task.
        codec: the model's tokenizer.
        haystack: text to hide in; not needed by tasks that make their own.
        lengths: tokens of the prompts.
        depths: places of the needle, each in [0, 1]. A task without them has as many samples, at depth 0.
        samples: of each cell.
        seed: of all draws.

    Raises:
        MonitorError: no such task, no haystack, a length that holds nothing, or a depth outside [0, 1].
    """
    made = task(name)
    if made.haystack and haystack is None:
        raise MonitorError(f"{name}: it hides its needles in text and was given none; give a haystack")
    for depth in depths:
        if not 0 <= depth <= 1:
            raise MonitorError(
                f"{name}: depth {depth:g} is not a place; a depth is between 0, the start, and 1, the end"
            )
    places = [(depth, sample) for depth in depths for sample in range(samples)]
    if not made.by_depth:
        places = [(0.0, number) for number in range(len(places))]
    for length in sorted(set(lengths)):
        for depth, sample in places:
            yield made.probe(codec, haystack, length, depth, sample, seed)
