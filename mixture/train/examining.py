"""A run that examines itself: when it does, and how its ranks wait; what comes of it is in `course`.

    steps … 400 ─ checkpoint, whole ─ rank 0 examines it, the others wait ─ stay, advance or stop ─ 401 …

How a checkpoint is examined is not known here: whoever starts the run gives a function. It sees the checkpoint and
nothing of the training, so a monitored run learns what it would have learnt: no random number is drawn from the run's.
An examination that fails is told of, and training goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal, Protocol

import torch
import torch.distributed as dist

from mixture.errors import MixtureError
from mixture.train.checkpoint import Stand
from mixture.train.run import Leg, Run
from mixture.train.schedule import due
from mixture.train.world import Say, World

#: What an examination wants done: nothing, the next phase, or the end of the run.
Action = Literal["stay", "advance", "stop"]
#: How long ranks wait for an examination.
_PATIENCE = timedelta(days=7)


@dataclass(frozen=True)
class Finding:
    """What an examination came to.

    Attributes:
        scalars: numbers by name, for events and boards.
        action: what is to be done.
        reason: why, as a sentence; empty where nothing is decided.
        abandoned: whether it was asked to end before its end.
    """

    scalars: dict[str, float]
    action: Action = "stay"
    reason: str = ""
    abandoned: bool = False


class Examine(Protocol):
    """What examines a checkpoint."""

    def __call__(self, checkpoint: Path, *, length: int, stop: Callable[[], bool]) -> Finding:
        """Return what it came to.

        Args:
            checkpoint: its folder, whole.
            length: places of a sequence that is trained on now.
            stop: whether it is to end early.
        """


#: Gets ready to examine: a run, the length of its longest sequences, a device; tells what is out of the ordinary.
Opening = Callable[[Run, int, torch.device, Say], Examine]


class Examining:
    """The examinations of a run.

    Args:
        run: the run; its config has a monitor.
        world: the ranks.
        say: is told what is out of the ordinary.
    """

    def __init__(self, run: Run, world: World, say: Say) -> None:
        self._run, self._world, self._say = run, world, say
        self._rule = run.config.monitor
        self._examine: Examine | None = None
        # Others wait for minutes while rank 0 is at work, which their usual group would take for its death.
        wanted = self._rule is not None and world.size > 1
        self._group = dist.new_group(backend="gloo", timeout=_PATIENCE) if wanted else None

    def open(self, opening: Opening | None, legs: Sequence[Leg]) -> None:
        """Get ready, on rank 0: what is wrong with suite or text is known before the first step.

        Raises:
            MixtureError: it cannot examine so.
        """
        if self._rule is not None and opening is not None and self._world.first:
            longest = max(leg.stretch.length for leg in legs if leg.stretch.steps)
            self._examine = opening(self._run, longest, self._world.device, self._say)

    def due(self, before: tuple[int, int], now: tuple[int, int]) -> bool:
        """Say whether one is due between two places of the run, each steps and tokens."""
        return self._rule is not None and due(self._rule.every, before, now)

    def due_at(self, stand: Stand, leg: Leg) -> bool:
        """Say whether one was due at the step that a run stands at."""
        if self._rule is None:
            return False
        if not stand.step:
            return self._rule.first
        last = leg.stretch.taken(max(0, -(-stand.sequences // leg.stretch.batch) - 1))
        took = (stand.sequences - last) * leg.stretch.length
        return self.due((stand.step - 1, stand.tokens - took), (stand.step, stand.tokens))

    def at(self, checkpoint: Path, leg: Leg, stop: Callable[[], bool]) -> Finding:
        """Examine a checkpoint on rank 0, while the others wait; return what it came to, on all."""
        found = Finding({})
        if self._examine is not None:
            found = self._found(self._examine, checkpoint, leg, stop)
        return self._agreed(found)

    def _found(self, examine: Examine, checkpoint: Path, leg: Leg, stop: Callable[[], bool]) -> Finding:
        device = self._world.device
        devices = [device] if device.type == "cuda" else []
        try:
            with torch.random.fork_rng(devices=devices, enabled=True):
                return examine(checkpoint, length=leg.stretch.length, stop=stop)
        except (MixtureError, torch.OutOfMemoryError) as error:
            why = " ".join(str(error).split())[:500].rstrip(".")
            self._say(f"{checkpoint.name} was not examined ({why}); training goes on")
            return Finding({})
        finally:
            if device.type == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats(device)

    def _agreed(self, found: Finding) -> Finding:
        if self._group is None:
            return found
        said: list[Finding] = [found]
        dist.broadcast_object_list(said, src=0, group=self._group)
        return said[0]
