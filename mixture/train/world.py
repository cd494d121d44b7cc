"""The processes that train together: who they are, how they are laid out, and what they agree on.

    torchrun, 8 processes, parallel: {replicate: 2, cp: 2}

    replicate    0               1
    shard        0       1       0       1        ranks that hold a part of each parameter: shard × cp
    cp           0   1   0   1   0   1   0   1    ranks that hold a part of each sequence
    rank         0   1   2   3   4   5   6   7
    data rank    0   0   1   1   2   2   3   3    ranks of one data rank read the same sequences

One process is a world of one: the same code runs, with nobody to talk to, so there is no second path to test.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from mixture.errors import MixtureError, TrainError

#: How long a rank waits for the others before it takes them for lost. Loading a model from a slow disk is the longest.
_PATIENCE = timedelta(minutes=30)

T = TypeVar("T")
#: Who is told a sentence.
Say = Callable[[str], None]


@dataclass(frozen=True)
class World:
    """The processes of a run, as one of them sees them.

    Attributes:
        rank: this process.
        size: how many there are.
        device: where this one computes.
        parameters: all of them by replicate and fsdp: ranks along `fsdp` hold a part of each parameter.
        sequences: all of them by data and cp: ranks along `cp` hold a part of each sequence.
        background: a group for those who talk while training goes on (checkpoints).
    """

    rank: int
    size: int
    device: torch.device
    parameters: DeviceMesh
    sequences: DeviceMesh
    background: dist.ProcessGroup

    @property
    def first(self) -> bool:
        """Whether this process speaks for all."""
        return self.rank == 0

    @property
    def cp(self) -> int:
        """Ranks that share each sequence."""
        return int(self.sequences["cp"].size())

    @property
    def sequence_group(self) -> dist.ProcessGroup | None:
        """The ranks that share sequences with this one; None where each has its own."""
        return self.sequences.get_group("cp") if self.cp > 1 else None

    @property
    def data_rank(self) -> int:
        """Which of the `data_ranks` shares of a step this process takes."""
        return self.rank // self.cp

    @property
    def data_ranks(self) -> int:
        """Into how many shares a step is dealt."""
        return self.size // self.cp

    @property
    def sharding(self) -> DeviceMesh:
        """The mesh over which FSDP shards, and replicates where that is asked for: (fsdp), or (replicate, fsdp)."""
        return self.parameters if self.parameters["replicate"].size() > 1 else self.parameters["fsdp"]

    @property
    def sharders(self) -> int:
        """How many ranks hold a part of each parameter."""
        return int(self.parameters["fsdp"].size())

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum over all ranks of a tensor of equal shape, on this rank's device."""
        out = values.to(self.device)
        dist.all_reduce(out)
        return out

    def most(self, value: float) -> float:
        """Return the largest of the ranks' numbers."""
        out = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.all_reduce(out, dist.ReduceOp.MAX)
        return float(out)

    def agreed(self, value: T) -> T:
        """Return what rank 0 says, on every rank; anything that pickles."""
        said: list[Any] = [value]
        dist.broadcast_object_list(said, src=0, device=self.device)
        found: T = said[0]
        return found

    def together(self, problem: MixtureError | None, same: int = 0) -> None:
        """Go on if no rank has a problem; else end all of them, and let rank 0 tell.

        Args:
            problem: this rank's.
            same: a number that must be the same on all ranks: a digest of what they are about to do.

        Raises:
            MixtureError: on rank 0, of the first rank that has one.
            SystemExit: on the others.
        """
        if self.size == 1 and problem is None:
            return
        said: list[Any] = [None] * self.size
        dist.all_gather_object(said, (problem, same))
        found = next((error for error, _ in said if error is not None), None)
        if found is None and len({digest for _, digest in said}) > 1:
            found = TrainError(
                "the ranks do not agree on who takes which sequence, so shards differ between nodes: run "
                "`mixture verify` on each of them"
            )
        if found is None:
            return
        if self.first:
            raise found
        raise SystemExit(1)

    def peak_memory(self) -> int:
        """Return the most bytes of memory that this rank's device held since the last question; of a CPU, ever."""
        if self.device.type == "cuda":
            most = torch.cuda.max_memory_allocated(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            return most
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

    def wait(self) -> None:
        """Go on when all ranks are here."""
        dist.barrier()


@contextlib.contextmanager
def join(replicate: int = 1, cp: int = 1) -> Iterator[World]:
    """Meet the other processes that torchrun started, or stand alone, until the block ends.

    Args:
        replicate: groups of ranks that each hold all parameters between them.
        cp: ranks that share each sequence.

    Raises:
        TrainError: the processes do not divide so, or more of them are on this machine than it has GPUs.
    """
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    if size % (replicate * cp):
        raise TrainError(
            f"parallel: replicate {replicate} × cp {cp} does not divide the {size} processes that were started; start "
            f"a multiple of {replicate * cp}, as in `torchrun --nproc-per-node {replicate * cp} -m mixture train …`"
        )
    device = _device()
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
    _meet(backend, rank, size)
    try:
        # Two meshes over the same ranks: neighbours share sequences, and all of a replica's ranks share parameters.
        parameters = init_device_mesh(device.type, (replicate, size // replicate), mesh_dim_names=("replicate", "fsdp"))
        sequences = init_device_mesh(device.type, (size // cp, cp), mesh_dim_names=("data", "cp"))
        yield World(rank, size, device, parameters, sequences, dist.new_group(backend="gloo"))
    finally:
        dist.destroy_process_group()


def _meet(backend: str, rank: int, size: int) -> None:
    """Open the group of all ranks.

    Raises:
        TrainError: the others do not answer.
    """
    if "RANK" not in os.environ:
        alone = dist.HashStore()  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=alone, rank=0, world_size=1)
        return
    at = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    try:
        if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
            # torchrun's store outlives the ranks that it starts again, and holds the addresses of those that are gone.
            again = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
            host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
            agent = dist.TCPStore(host, port, is_master=False)  # type: ignore[attr-defined]
            store = dist.PrefixStore(f"mixture/{again}", agent)  # type: ignore[attr-defined]
            dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_PATIENCE)
        else:
            dist.init_process_group(backend, timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        cause = " ".join(str(error).split())[:200]
        raise TrainError(
            f"rank {rank}: could not meet the other ranks at {at} ({cause}); start all of them by torchrun, and see "
            "that this address can be reached from every node"
        ) from error


def _device() -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if local >= torch.cuda.device_count():
        raise TrainError(
            f"process {local} of this machine has no GPU of its own: there are {torch.cuda.device_count()}; start "
            f"`torchrun --nproc-per-node {torch.cuda.device_count()}`"
        )
    return torch.device("cuda", local)
