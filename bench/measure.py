"""Fresh processes run in turn (A B A B …), and what they report: times, spread, peak memory.

A contestant is a function `module:name` that is called in a process of its own, with nothing warm but the page cache
and Python's byte code; it returns a mapping with at least `seconds`, its own time without start-up. What counts as
start-up is the same for all: the interpreter, imports, loading the vocabulary, starting a pool.
"""

from __future__ import annotations

import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.peers._peak import peak_bytes


@dataclass(frozen=True)
class Contestant:
    """One side of a comparison.

    Attributes:
        name: what to call it in the table.
        function: `module:name`; of another program, which takes the arguments as JSON, its file.
        arguments: JSON-able keyword arguments.
        python: another environment's interpreter, to run that file.
    """

    name: str
    function: str
    arguments: Mapping[str, Any]
    python: str = ""

    @property
    def command(self) -> list[str]:
        """What to run."""
        told = json.dumps(dict(self.arguments))
        if self.python:
            return [self.python, self.function, told]
        return [sys.executable, "-m", "bench.measure", self.function, told]


class Failed(Exception):  # noqa: N818 - a contestant that cannot run is said and skipped
    """A contestant's process failed; the message is its last line."""


@dataclass(frozen=True)
class Rounds:
    """How often contestants run.

    Attributes:
        counted: rounds that enter the figures.
        warm_up: rounds before them that do not: they fill the page cache and the cache of byte code.
        temp: folder for that byte code.
    """

    counted: int
    warm_up: int
    temp: Path


def alternate(contestants: Sequence[Contestant], rounds: Rounds) -> dict[str, list[dict[str, Any]]]:
    """Run contestants in turn; return the reports that count, by name."""
    reports: dict[str, list[dict[str, Any]]] = {contestant.name: [] for contestant in contestants}
    for turn in range(rounds.warm_up + rounds.counted):
        for contestant in contestants:
            report = run(contestant, rounds.temp)
            if turn >= rounds.warm_up:
                reports[contestant.name].append(report)
    return reports


def run(contestant: Contestant, temp: Path) -> dict[str, Any]:
    """Run a contestant once in a fresh process; its report gains `wall` (seconds, start-up included) and peak memory.

    Raises:
        Failed: it did not end well.
    """
    environment = surroundings(temp)
    root = Path(__file__).resolve().parent.parent
    start = time.perf_counter()
    done = subprocess.run(contestant.command, env=environment, cwd=root, capture_output=True, text=True, check=False)
    wall = time.perf_counter() - start
    if done.returncode:
        raise Failed(f"{contestant.name}: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report | {"wall": wall}


def surroundings(temp: Path) -> dict[str, str]:
    """Return the environment of a contestant's process."""
    environment = dict(os.environ)
    if environment.pop("PYTHONDONTWRITEBYTECODE", None):
        # Else each start would compile every library anew.
        environment["PYTHONPYCACHEPREFIX"] = str(temp / "bytecode")
    return environment


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return min, median and max."""
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def ratios(ours: Sequence[float], other: Sequence[float]) -> dict[str, float]:
    """Return the spread of ours / other over rounds: neighbours in time share the machine's mood."""
    return spread([a / b for a, b in zip(ours, other, strict=True)])


def _main() -> None:
    module, _, name = sys.argv[1].partition(":")
    report = getattr(importlib.import_module(module), name)(**json.loads(sys.argv[2]))
    print(json.dumps(report | peak_bytes()))


if __name__ == "__main__":
    _main()
