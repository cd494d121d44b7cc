"""A model spread over the ranks: parameters sharded (FSDP2), activations recomputed, layers compiled.

    outline (meta device) ─ compile ─ recompute ─ fully_shard ─▶ materialise fills each rank's part

Every decoder layer is a unit: it is gathered when its turn comes, and let go afterwards. Embedding, last norm and
output are one more, gathered from the first layer's turn to the last gradient. Parameters, gradients and moments are
float32; with `bf16` what is gathered, and so all arithmetic, is bfloat16, and gradients are summed in float32.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.optim import AdamW

from mixture.train.model import Trainee
from mixture.train.world import World


def spread(
    trainee: Trainee,
    world: World,
    *,
    precision: Literal["bf16", "float32"],
    checkpointing: Literal["full", "none"],
    compiled: bool,
) -> None:
    """Shard a model over the ranks, in place.

    Args:
        trainee: on the meta device; `materialise` fills it afterwards.
        world: the ranks.
        precision: of the arithmetic.
        checkpointing: "full": of each layer only the input is kept, the rest is computed again in the backward pass.
        compiled: compile each layer (`torch.compile`).
    """
    kept = torch.bfloat16 if precision == "bf16" else None
    policy = MixedPrecisionPolicy(param_dtype=kept, reduce_dtype=torch.float32)
    trainee.prepare_layers(compiled=compiled, recompute=checkpointing == "full")
    for layer in trainee.layers:
        fully_shard(layer, mesh=world.sharding, mp_policy=policy)
    fully_shard(trainee, mesh=world.sharding, mp_policy=policy, reshard_after_forward=False)


def optimizer(
    trainee: Trainee, device: torch.device, *, lr: float, betas: tuple[float, float], eps: float, weight_decay: float
) -> AdamW:
    """Return AdamW (Loshchilov and Hutter, arXiv 1711.05101); matrices decay, vectors (norms, biases) do not."""
    weights = [parameter for parameter in trainee.parameters() if parameter.requires_grad]
    parts = ((True, [w for w in weights if w.ndim > 1]), (False, [w for w in weights if w.ndim <= 1]))
    groups = [
        {"params": part, "weight_decay": weight_decay if decays else 0.0, "decays": decays}
        for decays, part in parts
        if part
    ]
    return AdamW(groups, lr=lr, betas=betas, eps=eps, fused=device.type == "cuda")
