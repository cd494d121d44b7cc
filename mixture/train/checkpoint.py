"""Checkpoints: written aside by all ranks, renamed when whole, the newest few kept.

    checkpoints/.step-00000200.tmp/      being written, perhaps while training goes on
    checkpoints/step-00000100/           whole
        __0_0.distcp, …, .metadata       weights and moments (torch.distributed.checkpoint), for any number of ranks
        state.json                       where the run stood, and how large each file is; sealed
        ledger.json                      what had been trained on, for `mixture plan --consumed`

A save that is killed leaves its folder aside and nothing else; the next start removes it. Files are synced before the
rename, so a whole checkpoint stays whole when the machine loses power.
"""

from __future__ import annotations

import re
import shutil
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint import state_dict as states
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import AsyncSaveResponse, async_save
from torch.optim import Optimizer

from mixture.errors import StoreError, TrainError
from mixture.ledger import Ledger
from mixture.storage import explain, read_record, write_json
from mixture.train.world import World

_NAME = re.compile(r"step-(\d{8,})")
_STATE = "state.json"
LEDGER = "ledger.json"


@dataclass(frozen=True)
class Stand:
    """Where a run stands, between two steps.

    Attributes:
        step: steps done.
        phase: index of the phase that the next sequence is of.
        sequences: sequences of that phase that were trained on, by all ranks together.
        tokens: tokens of all phases that were trained on.
        lock: fingerprint of the lock.
        rope: how positions were encoded, as `mixture.train.rope` records it.
        what: what the config says of the training (`TrainConfig.what`).
    """

    step: int
    phase: int
    sequences: int
    tokens: int
    lock: str
    rope: dict[str, Any]
    what: dict[str, Any]


@dataclass(frozen=True)
class _Pending:
    stand: Stand
    ledger: Ledger
    aside: Path
    written: Future[Any]


class Checkpoints:
    """The checkpoints of a run.

    Args:
        folder: where they lie, on a file system that all ranks share.
        world: who writes them.
        keep: how many stay.
        asynchronous: whether training goes on while one is written.
    """

    def __init__(self, folder: Path, world: World, *, keep: int, asynchronous: bool) -> None:
        self._folder, self._world, self._keep, self._asynchronous = folder, world, keep, asynchronous
        self._pending: _Pending | None = None
        # What is on the disk is no measure: rank 0 publishes while the others go on.
        self._last: int | None = None

    def sweep(self) -> None:
        """Remove what a killed save left; nobody else may be at work in the folder."""
        if self._world.first:
            for left in self._folder.glob(".step-*.tmp"):
                shutil.rmtree(left, ignore_errors=True)

    def newest(self) -> Path | None:
        """Return the newest whole checkpoint, the same on all ranks."""
        found = whole(self._folder)[-1:] if self._world.first else []
        return next(iter(self._world.agreed(found)), None)

    def begun(self) -> Path | None:
        """Return the checkpoint that a run goes on from; one of step 0 is taken away, as it is where runs begin."""
        newest = self.newest()
        if newest is None or newest.name != "step-00000000":
            return newest
        if self._world.first:
            shutil.rmtree(newest.rename(newest.with_name(f".{newest.name}.tmp")))
        self._world.wait()
        return None

    def path_of(self, stand: Stand) -> Path:
        """Return the folder of a checkpoint."""
        return self._folder / folder_of(stand)

    def save(self, stand: Stand, ledger: Ledger, model: nn.Module, optimizer: Optimizer) -> None:
        """Write a checkpoint; with `asynchronous`, copy what it needs and write it while training goes on.

        One of step 0 has no moments: it is there to be looked at, and a run does not go on from it.

        Raises:
            TrainError: it, or the one before, could not be written.
        """
        if self._last == stand.step:
            return
        self.finish()
        self._last = stand.step
        aside = self._folder / f".{folder_of(stand)}.tmp"
        content: dict[str, Any] = {"model": states.get_model_state_dict(model)}
        if optimizer.state:
            # Asked for moments that are not there yet, torch takes a step of length 0 to make them, and counts it.
            content["optimizer"] = states.get_optimizer_state_dict(model, optimizer)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            writer = FileSystemWriter(aside, sync_files=True)
            written = async_save(content, storage_writer=writer, process_group=self._world.background)
        except (OSError, CheckpointException) as error:
            raise _unwritten(aside, error) from error
        if isinstance(written, AsyncSaveResponse):  # Where staging is asynchronous, too; this one copies at once.
            written = written.upload_completion
        self._pending = _Pending(stand, ledger, aside, written)
        if not self._asynchronous:
            self.finish()

    def poll(self) -> None:
        """Publish a checkpoint that was written in the meantime; see `save` for what may be wrong."""
        if self._pending is not None and self._pending.written.done():
            self.finish()

    def finish(self) -> None:
        """Wait for the checkpoint that is being written, and publish it; see `save` for what may be wrong."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        try:
            pending.written.result()
            # All ranks have written when rank 0 has: the metadata come last.
            if self._world.first:
                self._publish(pending)
        except (OSError, CheckpointException) as error:
            raise _unwritten(pending.aside, error) from error

    def end(self) -> None:
        """Wait until no rank writes any more: one that left earlier would take the others' group away."""
        self.finish()
        self._world.wait()

    def _publish(self, pending: _Pending) -> None:
        sizes = {path.name: path.stat().st_size for path in sorted(pending.aside.iterdir())}
        pending.ledger.write(pending.aside / LEDGER)
        write_json(pending.aside / _STATE, asdict(pending.stand) | {"files": sizes})
        pending.aside.rename(self._folder / folder_of(pending.stand))
        pending.ledger.write(self._folder.parent / LEDGER)
        for old in whole(self._folder)[: -self._keep]:
            # Renamed first: what is half removed must not look whole.
            shutil.rmtree(old.rename(old.with_name(f".{old.name}.tmp")))

    def load(self, checkpoint: Path, model: nn.Module, optimizer: Optimizer) -> None:
        """Read weights and moments of a checkpoint that any number of ranks wrote.

        Raises:
            StoreError: a file of it is missing, cut short, or cannot be read.
            TrainError: it is of another model.
        """
        weights, moments = states.get_state_dict(model, optimizer)
        try:
            load(
                {"model": weights, "optimizer": moments},
                storage_reader=FileSystemReader(checkpoint),
                process_group=self._world.background,
            )
        except (OSError, CheckpointException, RuntimeError, ValueError) as error:
            raise TrainError(
                f"{checkpoint}: its tensors do not fit this model ({_cause(cause_of(error))}); give the model that "
                "wrote it, or another --out to begin anew"
            ) from error
        states.set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=moments)


def whole(folder: Path) -> list[Path]:
    """Return the whole checkpoints in a folder, the newest last."""
    return sorted(path for path in folder.glob("step-*") if (path / _STATE).exists())


def folder_of(stand: Stand) -> str:
    """Return the name of the folder of a checkpoint."""
    return f"step-{stand.step:08d}"


def read_stand(checkpoint: Path) -> Stand:
    """Read where a run stood when it wrote a checkpoint.

    Raises:
        StoreError: its record is damaged, or a file of it is missing or cut short.
    """
    record = read_record(checkpoint / _STATE, "files", *Stand.__dataclass_fields__)
    if record is None:
        raise StoreError(f"{checkpoint}: no {_STATE} in it, so it is no whole checkpoint; remove the folder")
    for name, size in record.pop("files").items():
        path = checkpoint / name
        found = path.stat().st_size if path.exists() else None
        if found != size:
            what = "is missing" if found is None else f"has {found:,} bytes, its record says {size:,}"
            raise StoreError(f"{path}: {what}; remove {checkpoint} to go on from the checkpoint before it")
    return Stand(**record)


def full_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Gather all weights in rank 0's memory, by name; empty on the other ranks."""
    options = states.StateDictOptions(full_state_dict=True, cpu_offload=True)
    found = states.get_model_state_dict(model, options=options)
    return {name: value for name, value in found.items() if isinstance(value, torch.Tensor)}


def _unwritten(aside: Path, error: BaseException) -> TrainError:
    cause = cause_of(error)
    why = explain(cause, aside) if isinstance(cause, OSError) else f"{aside}: {_cause(cause)}"
    return TrainError(
        f"the checkpoint could not be written: {why}; earlier ones are whole: mend that and run the same command again"
    )


def cause_of(error: BaseException) -> BaseException:
    """Return what failed on the lowest rank that failed, where torch wraps that, else the error itself.

    Raises:
        KeyboardInterrupt: that is what failed: torch wraps Ctrl-C, too.
    """
    failures = error.failures if isinstance(error, CheckpointException) else {}
    cause = failures[min(failures)][0] if failures else error
    if isinstance(cause, KeyboardInterrupt):
        raise cause
    return cause


def _cause(error: BaseException) -> str:
    return " ".join(str(error).split())[:300].rstrip(". ")
