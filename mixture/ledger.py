"""The consumption ledger: what a trainer has taken of a mixture, in one small file.

    lock          manifests/mix.lock.json, fingerprint 52a9…
    phase         order                        sequences
    short         as they were written         1,000 of 1,000
    long          windows of 64, seed 7          300 of 4,000     the first 300 in that order

Sequences are numbered over a phase and their order is arithmetic, so one integer a phase says which were seen. The
trainer writes a ledger with each checkpoint; `mixture plan NEW.yaml --consumed OUT/ledger.json` counts every document
that was begun in them.

A ledger names its lock by path and by fingerprint. The lock is looked for where that path leads from the current
directory, then under its own name beside the ledger; one whose content changed is not taken for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mixture import lockfile
from mixture.errors import LockError
from mixture.lockfile import Lock
from mixture.pack import Ints
from mixture.pack.shuffle import Shuffle, taken
from mixture.recipe.packing import Packing
from mixture.storage import Place, as_place, read_json, write_json

FORMAT = 1
#: What the seal calls a ledger: people copy it to other names.
_NAME = "ledger"


@dataclass(frozen=True)
class Consumed:
    """What was taken of one phase.

    Attributes:
        phase: its name; empty where the recipe has none.
        plan: digest of its plan.
        sequences: how many were taken, the first in their order.
        total: how many the phase has.
        window: sequences among which the order shuffles, 0 for none: see `mixture.pack.shuffle`.
        seed: of the shuffle.
        group: sequences that move together.
    """

    phase: str
    plan: str
    sequences: int
    total: int
    window: int = 0
    seed: int = 0
    group: int = 1

    @property
    def numbers(self) -> Ints:
        """Which sequences were taken, in their order, int64, shape (sequences,)."""
        return taken(self.total, self.window, self.seed, 0, self.sequences, self.group)


@dataclass(frozen=True)
class Ledger:
    """What was taken of a lock's phases.

    Attributes:
        lock: the lock's path, as the trainer was given it.
        fingerprint: of the lock.
        recipe: its name.
        phases: one entry a phase, in the lock's order.
    """

    lock: str
    fingerprint: str
    recipe: str
    phases: tuple[Consumed, ...]

    @staticmethod
    def of(lock: Lock, path: str, sequences: Sequence[int], shuffles: Sequence[Shuffle]) -> Ledger:
        """Return the ledger of a run.

        Args:
            lock: what is trained on, packed.
            path: its path, as it was given.
            sequences: how many sequences of each phase were taken, by all ranks together.
            shuffles: in which order, phase by phase.
        """
        group = Packing.of(lock.recipe["content"]["packing"]).together
        phases = []
        for phase, count, shuffle in zip(lock.phases, sequences, shuffles, strict=True):
            total = sum(shard["sequences"] for shard in phase["shards"])
            order = asdict(shuffle) | {"group": group} if shuffle.window else {}
            phases.append(Consumed(phase["name"], phase["stream"]["digest"], count, total, **order))
        return Ledger(path, lock.fingerprint, lock.name, tuple(phases))

    def write(self, path: Place) -> None:
        """Publish the ledger file.

        Raises:
            StoreError: it cannot be written there.
        """
        write_json(path, {"format": FORMAT} | asdict(self), name=_NAME)


def read(path: Place) -> Ledger:
    """Read a ledger file.

    Raises:
        LockError: there is none, it is none, or it is of another format.
        StoreError: it is damaged, or cannot be read.
    """
    value = read_json(path, name=_NAME)
    if value is None:
        raise LockError(f"{path}: no such ledger; a trainer writes ledger.json in its run folder")
    try:
        if value["format"] != FORMAT:
            raise LockError(
                f"{path}: ledger format {value['format']}, this version reads {FORMAT}; train with it again"
            )
        return _read(value)
    except (KeyError, TypeError) as error:
        raise LockError(f"{path}: not a ledger ({error}); name the ledger.json of a run or of a checkpoint") from error


def _read(value: dict[str, Any]) -> Ledger:
    phases = tuple(Consumed(**entry) for entry in value["phases"])
    return Ledger(value["lock"], value["fingerprint"], value["recipe"], phases)


def lock_of(ledger: Ledger, path: Place) -> tuple[Place, Lock]:
    """Find and read the lock that a ledger is of.

    Args:
        ledger: what it says.
        path: where it lies.

    Raises:
        LockError: the lock is not there, or its content is another by now.
    """
    named = as_place(ledger.lock)
    others = []
    for place in (named, path.parent / named.name):
        lock = lockfile.read(place)
        if lock is not None and lock.fingerprint == ledger.fingerprint:
            return place, lock
        if lock is not None:
            others.append(f"{place} is {lock.fingerprint} now")
    if others:
        raise LockError(
            f"{path}: its lock has changed since ({ledger.fingerprint} then, {'; '.join(others)}); put the one that "
            f"was trained on, from git, beside the ledger as {named.name}"
        )
    raise LockError(
        f"{path}: its lock {ledger.lock} is not there; run from the folder that this path begins in, or put the lock "
        "beside the ledger"
    )
