"""Run tasks somewhere. What a task makes never depends on where, when, or how often it runs.

A task is a pure function of (arguments, files) to files with deterministic names; it reports a small JSON-able record.
An engine runs every task at least once and yields records as they come; nothing else travels.

    >>> from mixture.engine import Task
    >>> Task("mixture.shards.write:write_shard", {"shard": 3}, weight=256_000_000, label="shard 3").weight
    256000000
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Task:
    """One piece of work.

    Attributes:
        function: `module:name` of a function that takes the arguments as keywords and returns a JSON-able record.
        arguments: JSON-able keyword arguments.
        weight: how much work it is, in the unit that progress is shown in (bytes, tokens).
        label: names the task to people.
    """

    function: str
    arguments: dict[str, Any]
    weight: int
    label: str

    def run(self) -> Any:
        """Call the function here and now."""
        module, _, name = self.function.partition(":")
        return getattr(importlib.import_module(module), name)(**self.arguments)


class Engine(Protocol):
    """Where tasks run."""

    def run(self, tasks: Sequence[Task], stage: str) -> Iterator[tuple[Task, Any]]:
        """Run every task; yield each with its record as it ends, in any order.

        Args:
            tasks: what to run.
            stage: one of `profile.STAGES`; where tasks run, and with what, may differ by stage.

        Raises:
            EngineError: a task died again and again without an error of its own.
            MixtureError: a task's own error; the others are stopped, what they published stays.
        """
        ...


class Progress(Protocol):
    """Who is told how far a stage is."""

    def start(self, stage: str, why: str, unit: str, total: int, done: int) -> None:
        """Open a stage of `total` units, `done` of them whole from an earlier run, and say why the rest is made."""
        ...

    def advance(self, amount: int) -> None:
        """Count units done."""
        ...

    def finish(self) -> None:
        """Close the stage."""
        ...

    def say(self, message: str) -> None:
        """Tell the user one sentence."""
        ...


class Silence:
    """Progress that nobody watches."""

    def start(self, stage: str, why: str, unit: str, total: int, done: int) -> None:
        """Ignore."""

    def advance(self, amount: int) -> None:
        """Ignore."""

    def finish(self) -> None:
        """Ignore."""

    def say(self, message: str) -> None:
        """Ignore."""
