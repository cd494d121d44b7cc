"""Attention that stays inside documents, whatever computes it.

A micro-batch is one long row. Where its segments begin (documents, or whole sequences where document masks are off) is
all that attention needs to know; no mask of places × places is ever made:

    cu_seqlens [0 3 8] ─ lay_out ─▶ Layout ─ model(…, layout=…) ─▶ attend, in each layer

Transformers hands whatever its models do not know down to the attention function, so the layout arrives there as an
argument; and when a layer is computed again for its backward, it comes again. There are three ways to compute:

    varlen  torch.nn.attention.varlen: flash attention over cu_seqlens; GPU, bf16 or fp16
    flex    torch.nn.attention.flex_attention: compiled from a rule, skips blocks of 128 × 128; GPU, any type
    sdpa    scaled_dot_product_attention, segment by segment; anywhere, and the reference for the others

The rule in all three: a query sees the keys of its own segment up to itself, at most `window` of them. Its place among
the keys follows from the segments' ends: the last query of a segment sees its last key ("bottom-right"), which matters
where a rank has only a part of the queries (mixture.train.context).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 the field's name for it
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from transformers import AttentionInterface

from mixture.errors import TrainError
from mixture.train.blocks import block_mask
from mixture.train.context import Context, Piece, gather, pieces

Backend = Literal["varlen", "flex", "sdpa"]
#: The name under which transformers knows `attend`.
NAME = "mixture"
#: Queries that have a mask at the same time in the sdpa backend, where one is needed.
_ROWS = 512


@dataclass(frozen=True)
class Stretch:
    """A piece of the work (`context.Piece`), ready for a device.

    Attributes:
        queries: first and last + 1 of this rank's places.
        keys: first and last + 1 place of the whole micro-batch.
        segments: of each segment: first and last + 1 query, first and last + 1 key, counted from 0 in the stretch.
        cu_queries: int32 on the device, shape (segments + 1,).
        cu_keys: the same of the keys.
        longest: no segment has more keys than this.
        masks: by window, the blocks that the flex backend visits; empty with the others.
    """

    queries: tuple[int, int]
    keys: tuple[int, int]
    segments: tuple[tuple[int, int, int, int], ...]
    cu_queries: torch.Tensor
    cu_keys: torch.Tensor
    longest: int
    masks: Mapping[int | None, BlockMask]


@dataclass(frozen=True)
class Layout:
    """Which place may look at which, for one micro-batch.

    Attributes:
        backend: what computes attention.
        stretches: the work of this rank; one, or with context parallelism one for each chunk.
        context: the ranks that share the micro-batch; None where it is this rank's alone.
    """

    backend: Backend
    stretches: tuple[Stretch, ...]
    context: Context | None


def lay_out(
    cu_seqlens: torch.Tensor,
    *,
    backend: Backend,
    device: torch.device | str,
    windows: Iterable[int | None] = (None,),
    longest: int | None = None,
    context: Context | None = None,
) -> Layout:
    """Lay out a micro-batch.

    Args:
        cu_seqlens: int32, rising from 0 to the places of the micro-batch, all ranks of the context together, shape
            (segments + 1,). Best on the CPU: it is read there.
        backend: what will compute attention.
        device: where.
        windows: the sliding windows of the model's layers, None for layers that see all.
        longest: a bound on the keys of a segment that stays the same from step to step (the length of a row), which
            keeps compiled layers compiled; by default the longest segment here.
        context: the ranks that share the micro-batch.

    Raises:
        TrainError: the ranks cannot share a micro-batch of this length.
    """
    bounds = cu_seqlens.detach().cpu().numpy().astype(np.int64)
    size, rank = (context.size, context.rank) if context else (1, 0)
    bound = longest or int(np.diff(bounds).max())
    kinds = tuple(windows) if backend == "flex" else ()
    work = tuple(_stretch(piece, bound, torch.device(device), kinds) for piece in pieces(bounds, size, rank))
    return Layout(backend, work, context)


def _stretch(piece: Piece, longest: int, device: torch.device, windows: tuple[int | None, ...]) -> Stretch:
    q, k = piece.query_bounds.tolist(), piece.key_bounds.tolist()
    return Stretch(
        queries=piece.queries,
        keys=piece.keys,
        segments=tuple(zip(q[:-1], q[1:], k[:-1], k[1:], strict=True)),
        cu_queries=torch.tensor(q, dtype=torch.int32, device=device),
        cu_keys=torch.tensor(k, dtype=torch.int32, device=device),
        longest=longest,
        masks={window: block_mask(piece, window, device) for window in windows},
    )


def choose(device: torch.device, dtype: torch.dtype, head: int = 64) -> Backend:
    """Return what computes attention best on a device, for queries and keys of a type and a size."""
    if device.type != "cuda":
        return "sdpa"
    flash = dtype in (torch.bfloat16, torch.float16) and head % 8 == 0 and head <= 256
    able = torch.cuda.get_device_capability(device) >= (8, 0)
    return "varlen" if flash and able and _varlen() is not None else "flex"


@functools.cache
def _varlen() -> Callable[..., Any] | None:
    """Return torch's variable-length attention, if it can do what models need of it."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    known = inspect.signature(varlen_attn).parameters
    return varlen_attn if {"window_size", "scale", "enable_gqa"} <= known.keys() else None


def attend(  # noqa: PLR0913 transformers says what it is called with
    module: torch.nn.Module,  # noqa: ARG001
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    layout: Layout | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **others: object,
) -> tuple[torch.Tensor, None]:
    """Compute the attention of one layer, as transformers calls it.

    Args:
        module: the layer's attention.
        query: shape (1, heads, places, head size).
        key: shape (1, key heads, places, head size); key heads divide heads.
        value: as key.
        attention_mask: None.
        layout: of this micro-batch.
        scaling: of the scores; by default 1/√(head size).
        dropout: 0.
        sliding_window: how many keys a query sees at most, itself among them.
        others: what other attentions know.

    Returns:
        shape (1, places, heads, head size), and no weights.

    Raises:
        TrainError: the model wants what is not done here.
    """
    layout = _checked(layout, attention_mask, dropout, others)
    # Rotation may have left queries and keys in the type of the residual stream, which autocast keeps in float32.
    query, key = query.to(value.dtype), key.to(value.dtype)
    if layout.backend == "varlen" and layout.context is None:
        return _by_varlen(query, key, value, layout.stretches[0], scaling, sliding_window).transpose(1, 2), None
    return _apart(query, key, value, layout, scaling, sliding_window).transpose(1, 2), None


AttentionInterface.register(NAME, attend)


def _checked(layout: Layout | None, mask: torch.Tensor | None, dropout: float, others: Mapping[str, object]) -> Layout:
    """Refuse what would be computed wrongly."""
    if layout is None:
        raise TrainError("this model's layers do not hand on `layout` to their attention; train one of another family")
    if mask is not None:
        raise TrainError("attention masks are made from cu_seqlens here; give none")
    if dropout:
        raise TrainError(f"attention_dropout: {dropout} is not done here; set it to 0 in the model's config")
    extra = [name for name in ("softcap", "s_aux", "position_bias") if others.get(name) is not None]
    if extra or others.get("is_causal") is False:
        raise TrainError(
            f"this model's attention wants {', '.join(extra) or 'to look ahead'}, which is not done here; train one of "
            "another family"
        )
    return layout


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _apart(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: Layout,
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    """Compute outside of compiled layers: segments and places here differ from step to step, and ranks meet."""
    compute = _WAYS[layout.backend]
    if layout.context is not None:
        key, value = _everyones(key, value, layout.context)
    parts = []
    for stretch in layout.stretches:
        (first, stop), (low, high) = stretch.queries, stretch.keys
        part = query[:, :, first:stop], key[:, :, low:high], value[:, :, low:high]
        parts.append(compute(*part, stretch, scaling, window))
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


def _everyones(key: torch.Tensor, value: torch.Tensor, context: Context) -> tuple[torch.Tensor, torch.Tensor]:
    """Gather keys and values of all places, in one message; (1, heads, places / size, d) → (1, heads, places, d)."""
    both = torch.cat([key, value], dim=-1)[0].transpose(0, 1)
    whole = gather(both, context).transpose(0, 1)[None]
    return whole[..., : key.shape[-1]], whole[..., key.shape[-1] :]


def _by_varlen(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    stretch: Stretch,
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    """Flash attention over cu_seqlens; (1, heads, places, d) in and out.

    A window of (n, 0) looks at n keys before the query's own, and (-1, 0) at all of them; both count from the
    bottom-right corner of a segment, as flash attention does since its version 2.1.
    """
    varlen = _varlen()
    if varlen is None:
        raise TrainError("this torch has no variable-length attention that fits; install torch 2.13 or later")
    out: torch.Tensor = varlen(
        query[0].transpose(0, 1),
        key[0].transpose(0, 1),
        value[0].transpose(0, 1),
        stretch.cu_queries,
        stretch.cu_keys,
        stretch.longest,
        stretch.longest,
        scale=scaling,
        window_size=(-1 if window is None else window - 1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return out.transpose(0, 1)[None]


def _by_flex(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    stretch: Stretch,
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    """FlexAttention; (1, heads, places, d) in and out. Compiled on a GPU; elsewhere slow, for tests."""
    out: torch.Tensor = _flex(query.device.type)(
        query,
        key,
        value,
        block_mask=stretch.masks[window],
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return out


@functools.cache
def _flex(kind: str) -> Callable[..., Any]:
    plain: Any = flex_attention
    return torch.compile(plain) if kind == "cuda" else plain


def _by_sdpa(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    stretch: Stretch,
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    """Segment by segment; (1, heads, places, d) in and out."""
    if query.device.type != "cpu" and query.shape[1] != key.shape[1]:
        # On a GPU, only flash attention knows grouped heads; what stands in for it would make all scores at once.
        each = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(each, dim=1), value.repeat_interleave(each, dim=1)
    grouped = query.shape[1] != key.shape[1]
    parts: list[torch.Tensor] = []
    for first, stop, low, high in stretch.segments:
        part = query[:, :, first:stop], key[:, :, low:high], value[:, :, low:high]
        if stop - first == high - low and (window is None or window >= high - low):
            parts.append(F.scaled_dot_product_attention(*part, is_causal=True, scale=scaling, enable_gqa=grouped))
        else:
            parts += _band(*part, scaling, window, grouped)
    return torch.cat(parts, dim=2)


def _band(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    window: int | None,
    grouped: bool,
) -> Iterable[torch.Tensor]:
    """Yield the attention of one segment that has more keys than queries, or a window, some queries at a time."""
    ahead = key.shape[2] - query.shape[2]
    for first in range(0, query.shape[2], _ROWS):
        part = query[:, :, first : first + _ROWS]
        at = torch.arange(first, first + part.shape[2], device=query.device) + ahead
        low = 0 if window is None else max(0, first + ahead - window + 1)
        high = first + part.shape[2] + ahead
        seen = torch.arange(low, high, device=query.device)
        mask = seen[None] <= at[:, None]
        if window is not None:
            mask &= seen[None] > at[:, None] - window
        yield F.scaled_dot_product_attention(
            part, key[:, :, low:high], value[:, :, low:high], attn_mask=mask, scale=scaling, enable_gqa=grouped
        )


_WAYS: Mapping[Backend, Callable[..., torch.Tensor]] = {"varlen": _by_varlen, "flex": _by_flex, "sdpa": _by_sdpa}
