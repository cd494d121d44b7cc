"""What a run tells of itself: one event a step, to a file, to TensorBoard, to Weights & Biases, to a line of text.

    {"step": 200, "phase": "long", "sequences": 6400, "tokens": 838860800, "loss": 1.93, …}      OUT/events.jsonl

One line a step, in order, none twice, and one for each examination of a checkpoint (`monitor`): a run that goes on
from step 100 takes away the lines after it, which the steps that are done again write anew. A loss is a spike where it
stands further above the median of the last hundred than so many robust deviations (1.4826 · median |x - median|: the
standard deviation, where they are normally distributed); then the sequences of the step are named, and the command that
leads from them to documents.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from mixture.errors import StoreError
from mixture.storage import explain, publish
from mixture.train.breakdown import Table
from mixture.train.config import TrainConfig

#: Losses that a new one is compared with, and how few are too few.
_RECENT, _FEWEST = 100, 20
#: Standard deviation of a normal distribution over its median absolute deviation.
_SIGMA = 1.4826


@dataclass(frozen=True)
class Event:
    """What there is to tell after a step.

    Attributes:
        step: steps of the run that are done.
        phase: name of the phase that the step was of.
        sequences: sequences of that phase that were trained on.
        tokens: tokens that were trained on, in all phases.
        loss: mean cross-entropy of the step's labels, in nats.
        grad_norm: of the step's gradient, before it was clipped.
        lr: learning rate of the step.
        seconds: what the step took.
        tokens_per_second: of all ranks together.
        mfu: model FLOPs over what the GPUs could do, from 0 to 1; None where that is not known.
        memory: the most bytes that a GPU had in use; None without one.
        breakdown: loss and labels by domain and position (`mixture.train.breakdown`); empty for none.
    """

    step: int
    phase: str
    sequences: int
    tokens: int
    loss: float
    grad_norm: float
    lr: float
    seconds: float
    tokens_per_second: float
    mfu: float | None = None
    memory: int | None = None
    breakdown: Table | None = None

    def to_json(self) -> str:
        """Return one line of JSON, without what is not known; a number that is none (NaN, ∞) is null."""
        said = {name: value for name, value in asdict(self).items() if value is not None}
        finite = {n: None if isinstance(v, float) and not math.isfinite(v) else v for n, v in said.items()}
        return json.dumps(finite, ensure_ascii=False, allow_nan=False)

    def scalars(self) -> dict[str, float]:
        """Return every number by a name with its group, for boards: `train/loss`, `loss/books 4K-16K`."""
        named = ("loss", "grad_norm", "lr", "tokens_per_second", "mfu", "memory", "tokens", "seconds")
        found = {f"train/{name}": getattr(self, name) for name in named}
        for domain, buckets in (self.breakdown or {}).items():
            found |= {f"loss/{domain} {bucket}": cell["loss"] for bucket, cell in buckets.items()}
        return {name: float(value) for name, value in found.items() if value is not None}


@dataclass(frozen=True)
class Goal:
    """Where a run ends.

    Attributes:
        steps: of all phases.
        tokens: of all phases.
    """

    steps: int
    tokens: int


def line(event: Event, goal: Goal) -> str:
    """Return an event as a line of a terminal; what is not known is left out.

    `step 200/5,000 long · loss 1.9312 · grad 0.84 · lr 1.94e-05 · 1.21M tok/s · MFU 41.3 % · 61.2 GiB · ETA 3h12m`
    """
    rate = event.tokens_per_second
    left = (goal.tokens - event.tokens) / rate if rate > 0 else math.inf
    parts = [
        f"step {event.step:,}/{goal.steps:,} {event.phase}".rstrip(),
        f"loss {event.loss:.4f}",
        f"grad {event.grad_norm:.2f}",
        f"lr {event.lr:.2e}",
        f"{_short(rate)} tok/s",
        "" if event.mfu is None else f"MFU {100 * event.mfu:.1f} %",
        "" if event.memory is None else f"{event.memory / 2**30:.1f} GiB",
        f"ETA {duration(left)}" if left > 0 else "done",
    ]
    return " · ".join(part for part in parts if part)


def _short(value: float) -> str:
    """Write a number with three digits: 1234567 → 1.23M."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if value >= 0.9995 * size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def duration(seconds: float) -> str:
    """Write a duration by its two largest units: 45s, 3m05s, 3h12m, 2d04h."""
    if not math.isfinite(seconds):
        return "unknown"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours:02}h"
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"


def deviation(recent: Sequence[float], loss: float) -> float:
    """Return how many robust deviations a loss stands above the median of recent ones.

    Losses that are all but equal have a deviation of a thousandth of their median, so that no noise is a spike. With
    fewer than 20 of them nothing is: 0.
    """
    if len(recent) < _FEWEST:
        return 0.0
    middle = statistics.median(recent)
    spread = _SIGMA * statistics.median(abs(value - middle) for value in recent)
    return (loss - middle) / max(spread, 1e-3 * abs(middle), 1e-9)


@dataclass(frozen=True)
class Taken:
    """What a step was made of, for those who ask why its loss is what it is.

    Attributes:
        lock: the lock's path, as it was given.
        phase: name of the phase; empty where the recipe has none.
        step: number of the step in the phase, from 0.
        batch: sequences of a step.
        sequences: numbers of its sequences.
        shuffled: whether the order is not the stream's.
        options: what `mixture trace` must be told besides, as `--work /scratch/work`.
    """

    lock: str
    phase: str
    step: int
    batch: int
    sequences: tuple[int, ...]
    shuffled: bool = False
    options: str = ""

    @property
    def command(self) -> str:
        """The command that leads to the step's documents, or to those of its first sequence."""
        told = [f"--phase {self.phase}" if self.phase else "", self.options]
        # Steps of the stream's order are known to `trace`; those of a shuffled one are asked for sequence by sequence.
        if not self.shuffled and self.sequences[0] == self.step * self.batch:
            what = f"--step {self.step} --batch {self.batch}"
        else:
            what = f"--sequence {self.sequences[0]}"
        return " ".join(part for part in [f"mixture trace {self.lock} {what}", *told] if part)


def spike(event: Event, deviations: float, taken: Taken) -> str:
    """Say that a step's loss is a spike, of which sequences it was, and how their documents are found."""
    return (
        f"step {event.step:,}: loss {event.loss:.4f} is a spike, {deviations:.1f} deviations above the recent ones; it "
        f"was of sequences {ranges(taken.sequences)}: {taken.command}"
    )


def ranges(numbers: Iterable[int]) -> str:
    """Write numbers as ranges, the first eight of them: 0-3, 7, 9-12."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    shown = [str(a) if a == b else f"{a}-{b}" for a, b in runs[:8]]
    more = sum(b - a + 1 for a, b in runs[8:])
    return ", ".join(shown) + (f" and {more} more" if more else "")


class Board(Protocol):
    """Something that draws curves."""

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """Add a point to every curve."""

    def close(self) -> None:
        """Hand over what is held back."""


class Events:
    """Writes the events of a run; one process does.

    Args:
        out: the run's folder.
        boards: who else is told.
        step: steps that were done before; lines of later ones are of a run that is done again, and go.

    Raises:
        StoreError: the file cannot be read or written.
    """

    def __init__(self, out: Path, boards: Sequence[Board] = (), *, step: int = 0) -> None:
        self.path, self._boards = out / "events.jsonl", tuple(boards)
        #: Losses of the last steps.
        self.recent: deque[float] = deque(_kept(self.path, step), maxlen=_RECENT)
        try:
            self._file = self.path.open("a", encoding="utf-8")
        except OSError as error:
            raise StoreError(explain(error, self.path)) from error

    def write(self, event: Event) -> float:
        """Write an event; return how many robust deviations its loss stands above those before it.

        Raises:
            StoreError: the disk is full, or the file cannot be written.
        """
        try:
            self._file.write(event.to_json() + "\n")
            self._file.flush()
        except OSError as error:
            raise StoreError(explain(error, self.path)) from error
        for board in self._boards:
            board.write(event.step, event.scalars())
        above = deviation(self.recent, event.loss)
        if math.isfinite(event.loss):
            self.recent.append(event.loss)
        return above

    def examined(self, step: int, scalars: dict[str, float], action: str, reason: str) -> None:
        """Write what an examination after a step came to: a line of its own, and points of curves.

        Raises:
            StoreError: the disk is full, or the file cannot be written.
        """
        said = {"step": step, "monitor": scalars, "action": action} | ({"reason": reason} if reason else {})
        try:
            self._file.write(json.dumps(said, ensure_ascii=False, allow_nan=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise StoreError(explain(error, self.path)) from error
        for board in self._boards:
            board.write(step, {f"monitor/{name}": value for name, value in scalars.items()})

    def close(self) -> None:
        """Close the file and the boards."""
        self._file.close()
        for board in self._boards:
            board.close()


def _kept(path: Path, step: int) -> list[float]:
    """Take away the lines after a step, and what is no line; return the losses of those that stay."""
    try:
        whole = path.read_bytes() if path.exists() else b""
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(explain(error, path)) from error
    kept, losses = [], []
    for text in whole.splitlines(keepends=True):
        # A line that was being written when the run was killed has no end, and may have no meaning.
        event = _event(text)
        if event is None or event["step"] > step:
            continue
        kept.append(text)
        if isinstance(event.get("loss"), float):
            losses.append(event["loss"])
    if sum(map(len, kept)) != len(whole):
        with publish(path) as out:
            out.write(b"".join(kept))
    return losses


def _event(text: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(text) if text.endswith(b"\n") else None
    except ValueError:
        return None
    return value if isinstance(value, dict) and isinstance(value.get("step"), int) else None


def open_events(config: TrainConfig, out: Path, say: Callable[[str], None], *, step: int = 0) -> Events:
    """Open the events of a run, with the boards that its config asks for and this machine has.

    Args:
        config: of the run.
        out: its folder.
        say: is told once what is not there.
        step: steps that were done before, see `Events`.

    Raises:
        ConfigError: `wandb: true`, and it is not installed.
        StoreError: see `Events`.
    """
    from mixture.train.boards import tensorboard, wandb

    rule, found = config.events, list[Board | None]()
    if rule.tensorboard:
        found.append(tensorboard(out / "tensorboard", say, step=step))
    if rule.wandb is not False:
        shown = config.model_dump(mode="json", exclude_none=True)
        found.append(wandb(out, config.name, rule.project, shown, demanded=rule.wandb is True))
    return Events(out, [board for board in found if board is not None], step=step)
