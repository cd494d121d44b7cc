"""What torch raises when memory is used up or a rank is gone, told as one sentence with the next move.

RuntimeError: [/pytorch/third_party/gloo/…] Connection closed by peer
▶ rank 0: lost another rank ([/pytorch/third_party/gloo/…] Connection closed by peer); what was saved is whole: …
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import torch

from mixture.errors import TrainError
from mixture.train.world import World

#: What torch says when a rank is gone.
_LOST = re.compile(r"gloo|nccl|connection|timed? ?out|peer|socket|store", re.IGNORECASE)


@contextlib.contextmanager
def explained(world: World) -> Iterator[None]:
    """Say what torch's errors mean while the block lasts; those that say nothing of memory or ranks pass.

    Raises:
        TrainError: the GPU's memory is used up, or another rank is gone.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TrainError(
            f"rank {world.rank}: the GPU's memory is used up ({_line(error)}); lower batch.micro or loss.chunk, "
            "say checkpointing: full, or take more GPUs (parallel.cp for longer sequences)"
        ) from error
    except RuntimeError as error:
        if world.size == 1 or not _LOST.search(str(error)):
            raise
        raise TrainError(
            f"rank {world.rank}: lost another rank ({_line(error)}); what was saved is whole: the same command "
            "goes on from there, and with --max-restarts torchrun gives it by itself"
        ) from error


def _line(error: BaseException) -> str:
    """Return the first sentence of what torch says."""
    return " ".join(str(error).split()).partition(". ")[0][:200].rstrip(".")
