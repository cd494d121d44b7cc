"""A sequence too long for one GPU: its places are shared by the ranks of a group, its keys and values are not.

Two ranks share a micro-batch of 8 places, which holds documents of 3 and 5. It is cut into 2 · 2 chunks; rank r has
chunk r and the r-th from the end, so that each has a cheap early and a dear late one (zigzag):

    place       0 1 2 3 4 5 6 7
    document    a a a b b b b b
    chunk       0 0 1 1 2 2 3 3
    rank        0 0 1 1 1 1 0 0

Everything but attention treats places alone. For attention, each rank gathers the keys and values of all places and
takes for each of its chunks those from the beginning of the chunk's first document to the chunk's end:

    rank 0, chunk 3: queries 6 7, keys 3 4 5 6 7; the last query sees the last key, so its causal mask lies bottom-right

That is right for any documents, wherever they are cut; it was done so for Llama 3 (arXiv 2407.21783, §3.3.2). The
price: keys and values of the whole micro-batch on each rank while a layer runs, which with grouped heads is little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch.autograd.function import once_differentiable

from mixture.errors import TrainError

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Context:
    """The ranks that share a micro-batch.

    Attributes:
        group: the ranks.
        rank: of this process in the group.
        size: how many ranks there are.
    """

    group: dist.ProcessGroup
    rank: int
    size: int

    @classmethod
    def of(cls, group: dist.ProcessGroup) -> Context:
        """Return the context of a process group, as this process sees it."""
        return cls(group, dist.get_rank(group), dist.get_world_size(group))


@dataclass(frozen=True)
class Piece:
    """A stretch of queries and the stretch of keys that they may look at.

    Attributes:
        queries: first and last + 1 of a rank's own places, counted in the rank's order.
        keys: first and last + 1 place of the whole micro-batch.
        query_bounds: where each segment begins among the queries, and their number, int64, shape (segments + 1,).
        key_bounds: the same among the keys. In a segment the last query sees the last key: only the first segment may
            have more keys than queries.
    """

    queries: tuple[int, int]
    keys: tuple[int, int]
    query_bounds: Ints
    key_bounds: Ints


def check_length(length: int, size: int) -> None:
    """Refuse a micro-batch that cannot be shared.

    Args:
        length: places of the micro-batch, all rows together.
        size: ranks that share it.

    Raises:
        TrainError: 2 · size does not divide the length.
    """
    if length % (2 * size):
        near = [size_ for size_ in range(1, size * 2) if length % (2 * size_) == 0]
        best = min(near, key=lambda other: abs(other - size), default=None)
        advice = f"; the nearest that does is cp: {best}" if best else "; it must be even"
        raise TrainError(
            f"parallel.cp: {size} ranks share a sequence in 2 chunks each, and {2 * size} does not divide its "
            f"{length:,} places{advice}"
        )


def chunks(length: int, size: int, rank: int) -> tuple[tuple[int, int], ...]:
    """Return first and last + 1 of the places that a rank has, chunk by chunk, in the rank's order.

    Raises:
        TrainError: the length cannot be shared.
    """
    if size == 1:
        return ((0, length),)
    check_length(length, size)
    each = length // (2 * size)
    return tuple((number * each, (number + 1) * each) for number in (rank, 2 * size - 1 - rank))


def places(length: int, size: int, rank: int) -> Ints:
    """Return the places that a rank has, in its order, int64, shape (length / size,); see `chunks`."""
    return np.concatenate([np.arange(first, stop) for first, stop in chunks(length, size, rank)])


def pieces(bounds: Ints, size: int = 1, rank: int = 0) -> tuple[Piece, ...]:
    """Return what a rank computes: a piece for each of its chunks, one where nothing is shared.

    Args:
        bounds: cu_seqlens of the whole micro-batch, rising from 0 to its length, shape (segments + 1,).
        size: ranks that share it.
        rank: which of them.

    Raises:
        TrainError: the length cannot be shared.
    """
    out: list[Piece] = []
    before = 0
    for first, stop in chunks(int(bounds[-1]), size, rank):
        low = int(np.searchsorted(bounds, first, side="right")) - 1
        high = int(np.searchsorted(bounds, stop, side="left"))
        inside, start = bounds[low : high + 1], int(bounds[low])
        out.append(
            Piece(
                queries=(before, before + stop - first),
                keys=(start, stop),
                query_bounds=np.clip(inside, first, stop) - first,
                key_bounds=np.minimum(inside, stop) - start,
            )
        )
        before += stop - first
    return tuple(out)


def shard(whole: torch.Tensor, context: Context) -> torch.Tensor:
    """Return this rank's places of a tensor that all ranks of the group have whole.

    Args:
        whole: shape (1, places), any type.
        context: the ranks that share it.

    Returns:
        shape (1, places / size), in this rank's order.

    Raises:
        TrainError: the length cannot be shared.
    """
    parts = [whole[:, first:stop] for first, stop in chunks(whole.shape[1], context.size, context.rank)]
    return torch.cat(parts, dim=1)


@torch.no_grad()
def unshard(part: torch.Tensor, context: Context) -> torch.Tensor:
    """Put together what the ranks have, on each of them; no gradient flows back.

    Args:
        part: shape (1, places / size), in this rank's order.
        context: the ranks that share the places.

    Returns:
        shape (1, places), in the order of places.
    """
    return _in_order(_all_gather(part[0].contiguous(), context), context.size)[None]


def gather(part: torch.Tensor, context: Context) -> torch.Tensor:
    """Return what all ranks have at their places; the gradient of each goes back to the rank that has it, summed.

    Args:
        part: shape (places / size, …), in this rank's order.
        context: the ranks that share the places.

    Returns:
        shape (places, …), in the order of places.
    """
    out: torch.Tensor = _Gather.apply(part, context)  # type: ignore[no-untyped-call]
    return out


class _Gather(torch.autograd.Function):
    """All-gather in forward, reduce-scatter in backward."""

    @staticmethod
    def forward(ctx: Any, part: torch.Tensor, context: Context) -> torch.Tensor:
        ctx.context = context
        return _in_order(_all_gather(part.contiguous(), context), context.size)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        context: Context = ctx.context
        return _reduce_scatter(_by_rank(grad, context.size), context), None


def _in_order(gathered: torch.Tensor, size: int) -> torch.Tensor:
    """Turn rank by rank into place by place, along the first axis."""
    halves = gathered.reshape(size, 2, -1, *gathered.shape[1:])
    return torch.cat([halves[:, 0].flatten(0, 1), halves[:, 1].flip(0).flatten(0, 1)])


def _by_rank(whole: torch.Tensor, size: int) -> torch.Tensor:
    """Turn place by place into rank by rank: what `_in_order` does, undone."""
    early, late = whole.reshape(2, size, -1, *whole.shape[1:]).unbind()
    return torch.stack([early, late.flip(0)], dim=1).flatten(0, 2)


def _all_gather(part: torch.Tensor, context: Context) -> torch.Tensor:
    out = part.new_empty((part.shape[0] * context.size, *part.shape[1:]))
    dist.all_gather_into_tensor(out, part, group=context.group)
    return out


def _reduce_scatter(whole: torch.Tensor, context: Context) -> torch.Tensor:
    """Return this rank's share of the sum over ranks of a tensor whose first axis runs rank by rank."""
    each = whole.shape[0] // context.size
    if whole.device.type == "cpu":
        # gloo has had no reduce-scatter in all versions of torch that are good enough otherwise.
        dist.all_reduce(whole, group=context.group)
        return whole[context.rank * each : (context.rank + 1) * each].clone()
    out = whole.new_empty((each, *whole.shape[1:]))
    dist.reduce_scatter_tensor(out, whole, group=context.group)
    return out


def bounds_of(lengths: Sequence[int]) -> Ints:
    """Return where segments of these lengths begin and end when they are laid end to end, int64, (segments + 1,)."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
