"""What is asked of the trainer, held together before anything is built: config, lock, shards, and what they come to.

config, lock, shards ─ legs ─▶ one leg a phase: its own config, its stream, how many steps it goes
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mixture.errors import ConfigError
from mixture.loader.stream import Stream
from mixture.lockfile import Lock
from mixture.storage import Place, publish
from mixture.train.config import TrainConfig, check_phases
from mixture.train.schedule import Stretch, stretches


@dataclass(frozen=True)
class Run:
    """A run that is asked for.

    Attributes:
        config: how to train.
        lock: what to train on.
        lock_path: where the lock lies, for the ledger and for what is told.
        folders: where the shards of each phase lie.
        out: the run's folder.
        text: the config's file, which is kept with the run.
        options: what `mixture trace` must be told to find the same shards, as `--work /scratch/work`.
    """

    config: TrainConfig
    lock: Lock
    lock_path: str
    folders: Sequence[Place]
    out: Path
    text: str = ""
    options: str = ""

    def describe(self) -> None:
        """Write down in the run's folder what is asked: its config, and the lock, by which its ledger is read.

        Raises:
            StoreError: the folder cannot be written.
        """
        with publish(self.out / "config.yaml") as file:
            file.write(self.text.encode())
        self.lock.write(self.out / Path(self.lock_path).name)


@dataclass(frozen=True)
class Leg:
    """A phase of the recipe, as it is trained on.

    Attributes:
        config: what holds in this phase.
        stream: its sequences.
        stretch: how many steps, of how many sequences.
    """

    config: TrainConfig
    stream: Stream
    stretch: Stretch

    @property
    def name(self) -> str:
        """The phase's name; empty where the recipe has no phases."""
        return self.stream.name


def legs_of(run: Run) -> tuple[Leg, ...]:
    """Open the streams of a run's phases, and count their steps.

    Raises:
        ConfigError: the config does not fit the lock.
        LockError: nothing is packed.
        StoreError: shards are missing or cut short.
    """
    names = [str(phase["name"]) for phase in run.lock.phases]
    check_phases(run.config, names, run.lock_path)
    configs = [run.config.of(name) for name in names]
    streams = []
    for number, config in enumerate(configs):
        sequences = sum(shard["sequences"] for shard in run.lock.phases[number]["shards"])
        streams.append(Stream(run.lock, run.folders, number, shuffle=config.order.of(sequences)))
    long = stretches(run.config, [(stream.name, len(stream), stream.length) for stream in streams])
    legs = tuple(Leg(*parts) for parts in zip(configs, streams, long, strict=True))
    if not sum(leg.stretch.steps for leg in legs):
        raise ConfigError(
            f"{run.lock_path}: there is no step to train: its phases hold no sequence, or stop is below one"
        )
    return legs
