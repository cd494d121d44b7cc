"""Cross-entropy of a long sequence over a large vocabulary, without its logits.

128K places × 128K words are 16G logits, 64 GB. Here they exist for `chunk` places at a time, and never again:

    hidden (tokens, H) ─ chunk ─▶ logits (chunk, V) ─▶ loss of each place
                                         │
                                         └─▶ softmax - one-hot ─▶ gradient of hidden (chunk, H), of weight (V, H)

The gradients are made while the logits are there, as Liger does (arXiv 2410.10989, §3.2): with z the logits of a place,
y its label and p = softmax(z), the loss is logsumexp(z) - z_y, and its gradient by z is p - onehot(y). Nothing is
computed twice, and backward only scales what is kept. The price: the weight's gradient, V × H in float32, exists from
the loss on; that is at the very end of forward.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

#: The label of a place that is not to be predicted.
IGNORED = -100


def cross_entropy(
    hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, chunk: int = 4096
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the summed cross-entropy of hidden @ weight.T, and that of each place.

    Logits are computed in the type of autocast where that is on, else in that of `weight`; the rest is float32.

    Args:
        hidden: last hidden states, shape (tokens, H).
        weight: of the output embedding, shape (V, H). May be tied to the input embedding.
        labels: int64, shape (tokens,); `IGNORED` where there is none.
        chunk: how many places have logits at the same time.

    Returns:
        the sum, a float32 scalar with gradients for `hidden` and `weight`; the loss of each place, float32, shape
        (tokens,), without: 0 where the label is ignored.
    """
    keep = torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad)
    total, tokens = _ChunkedCrossEntropy.apply(hidden, weight, labels, chunk, keep)  # type: ignore[no-untyped-call]
    return total, tokens


class _ChunkedCrossEntropy(torch.autograd.Function):
    """See the module."""

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, chunk: int, keep: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        kind = hidden.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
        matrix = weight.to(dtype)
        tokens = torch.zeros(labels.shape, dtype=torch.float32, device=hidden.device)
        by_hidden = torch.empty_like(hidden) if keep and ctx.needs_input_grad[0] else None
        by_weight = torch.zeros_like(weight, dtype=torch.float32) if keep and ctx.needs_input_grad[1] else None
        for first in range(0, hidden.shape[0], chunk):
            part = slice(first, first + chunk)
            states = hidden[part].to(dtype)
            logits = (states @ matrix.T).float()
            tokens[part], scale = _losses(logits, labels[part])
            if not keep:
                continue
            slope = _slopes(logits, scale, labels[part]).to(dtype)
            del logits
            if by_hidden is not None:
                by_hidden[part] = slope @ matrix
            if by_weight is not None:
                by_weight += slope.T @ states
        ctx.save_for_backward(by_hidden, by_weight)
        ctx.dtype = weight.dtype
        ctx.mark_non_differentiable(tokens)
        return tokens.sum(), tokens

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor, _: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        by_hidden, by_weight = ctx.saved_tensors
        # In place: these are the largest tensors about, and autograd refuses to come here twice.
        hidden = None if by_hidden is None else by_hidden.mul_(grad)
        weight = None if by_weight is None else by_weight.mul_(grad).to(ctx.dtype)
        return hidden, weight, None, None, None


def _losses(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logsumexp(z) - z_y of each place, 0 where the label is ignored, and logsumexp(z); (n, V), (n,) → (n,)."""
    ignored = labels == IGNORED
    chosen = logits.gather(1, labels.masked_fill(ignored, 0)[:, None])[:, 0]
    scale = torch.logsumexp(logits, dim=1)
    return (scale - chosen).masked_fill(ignored, 0.0), scale


def _slopes(logits: torch.Tensor, scale: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Turn logits, in place, into the losses' gradient by them: softmax - one-hot, 0 where the label is ignored."""
    ignored = labels == IGNORED
    logits.sub_(scale[:, None]).exp_()
    one = torch.ones_like(labels, dtype=logits.dtype)
    logits.scatter_add_(1, labels.masked_fill(ignored, 0)[:, None], -one[:, None])
    return logits.masked_fill_(ignored[:, None], 0.0)
