"""One step: the gradient of a global batch, summed over its micro-batches and over ranks, and what it moves.

    micro-batches of this rank ─ forward, backward ─▶ gradient ─ clip ─ AdamW ─▶ weights
                                        └──────────▶ Result: loss, norm, loss by cell, what it cost

The loss is the mean over all labelled tokens of the step, wherever they lie. Their number is known before the first
forward, so each micro-batch adds its share and nothing is averaged twice, however documents are dealt to ranks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from mixture.loader.batch import IGNORED, Batch
from mixture.train.attention import Backend, choose, lay_out
from mixture.train.breakdown import Cells, tally
from mixture.train.context import Context, shard
from mixture.train.flops import Shape, attended
from mixture.train.model import Trainee
from mixture.train.world import World


@dataclass(frozen=True)
class Result:
    """What a step came to, over all ranks.

    Attributes:
        loss: mean cross-entropy of its labelled tokens, nats.
        grad_norm: of the gradient before it was clipped.
        tokens: places of its sequences.
        attended: pairs of places of which one looks at the other.
        cells: sums of losses and numbers of tokens by cell, float64, shape (2, cells).
        stop: whether a rank was asked to stop.
    """

    loss: float
    grad_norm: float
    tokens: int
    attended: int
    cells: torch.Tensor
    stop: bool

    @property
    def finite(self) -> bool:
        """Whether the step may be taken."""
        return math.isfinite(self.loss) and math.isfinite(self.grad_norm)


class Stepper:
    """Takes steps with a model.

    Args:
        trainee: the model, spread over the ranks.
        optimizer: what moves its weights.
        world: the ranks.
        clip: the largest norm of a gradient; None where it is not clipped.
        cells: by what losses are told.
        precision: "bf16" or "float32".
    """

    def __init__(
        self, trainee: Trainee, optimizer: Optimizer, world: World, *, clip: float | None, cells: Cells, precision: str
    ) -> None:
        self._trainee, self._optimizer, self._world = trainee, optimizer, world
        self._clip, self._cells = clip, cells
        group = world.sequence_group
        self._context = None if group is None else Context.of(group)
        kind = torch.bfloat16 if precision == "bf16" else torch.float32
        self._backend: Backend = choose(world.device, kind, Shape.of(trainee.config).head_dim)

    def gradient(self, batches: Sequence[Batch], *, stop: bool) -> Result:
        """Compute the gradient of a step, and clip it.

        Args:
            batches: this rank's micro-batches, as many as any other rank's.
            stop: whether this rank was asked to stop.
        """
        labelled = torch.tensor([sum(int((b.labels != IGNORED).sum()) for b in batches)], dtype=torch.float64)
        # Ranks that share a sequence have all counted it.
        count = float(self._world.sum(labelled)) / self._world.cp
        cells = torch.zeros(2, self._cells.size, dtype=torch.float64, device=self._world.device)
        total = torch.zeros((), dtype=torch.float64, device=self._world.device)
        for batch in batches:
            total += self._one(batch, count, cells)
        norm = self._clipped()
        places = sum(sum(number >= 0 for number in b.sequences) * b.input_ids.shape[1] for b in batches)
        pairs = sum(attended(b.cu_seqlens.numpy()) for b in batches)
        own = torch.tensor([places / self._world.cp, pairs / self._world.cp, float(stop)], dtype=torch.float64)
        sums = self._world.sum(torch.cat([total[None], own.to(total.device), cells.flatten()]))
        loss, tokens, pairs_all, stops = sums[:4].tolist()
        return Result(
            loss=loss / max(count, 1.0),
            grad_norm=norm,
            tokens=round(tokens),
            attended=round(pairs_all),
            cells=sums[4:].reshape(2, -1).cpu(),
            stop=stops > 0,
        )

    def _one(self, batch: Batch, count: float, cells: torch.Tensor) -> torch.Tensor:
        """Add the gradient of a micro-batch; return its sum of losses."""
        device, context = self._world.device, self._context
        layout = lay_out(
            batch.cu_seqlens,
            backend=self._backend,
            device=device,
            windows=self._trainee.windows,
            longest=batch.input_ids.shape[1],
            context=context,
        )
        where = torch.from_numpy(self._cells.of(batch.spans, batch.input_ids.shape[1]))
        flat = [part.reshape(1, -1) for part in (batch.input_ids, batch.labels, batch.position_ids, where)]
        if context is not None:
            flat = [shard(part, context) for part in flat]
        ids, labels, positions, where = (part.to(device, non_blocking=True) for part in flat)
        losses = self._trainee(ids, labels, positions, layout)
        # FSDP takes the mean over ranks, and ours is a sum already divided.
        (losses.total * (self._world.size / max(count, 1.0))).backward()
        cells += tally(where, losses.tokens, labels, self._cells.size)
        added: torch.Tensor = losses.total.detach().double()
        return added

    def _clipped(self) -> float:
        most = math.inf if self._clip is None else self._clip
        norm = torch.nn.utils.clip_grad_norm_(self._trainee.parameters(), most)
        whole = norm.full_tensor() if isinstance(norm, DTensor) else norm
        return float(whole)

    def take(self, lr: float) -> None:
        """Move the weights along the gradient, and forget it."""
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
