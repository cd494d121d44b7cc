"""Greedy decoding of prompts of one length: one pass over the prompts fills the cache, then a token a step.

    prompts (b, n) ─ prefill: logits of the last place alone ─▶ token 0 ─ one step each ─▶ tokens (b, at most `most`)

A plain loop and not `generate`: prompts have equal lengths, so there is no padding and no mask (attention stays on its
fast path), and nothing of a model's generation settings may change what is measured. Memory is the cache's: logits of
all places, 128K times the vocabulary, are never made.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from mixture.errors import MonitorError
from mixture.monitor.probes import I64


def greedy(
    model: Callable[..., Any],
    prompts: I64,
    *,
    most: int,
    stop: Collection[int] = (),
    device: torch.device | str = "cpu",
) -> I64:
    """Return the likeliest next tokens of each prompt, one after the other.

    Args:
        model: a causal language model of transformers, in evaluation mode.
        prompts: of one length, int64, shape (b, n).
        most: tokens to decode.
        stop: tokens that end an answer; decoding ends when every prompt has met one.
        device: where the model lies.

    Returns:
        int64, shape (b, m), m at most `most`; what stands after a stop token is of no meaning.

    Raises:
        MonitorError: a token that the model has no embedding for.
    """
    _check_vocabulary(model, prompts)
    config = getattr(model, "config", None)
    ids = torch.as_tensor(prompts, device=device)
    stops = torch.tensor(sorted(stop), dtype=torch.long, device=device)
    over = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    cache = DynamicCache(config=config)
    found: list[torch.Tensor] = []
    with torch.inference_mode():
        while len(found) < most:
            out = model(input_ids=ids, cache=cache, use_cache=True, logits_to_keep=1)
            ids = out.logits[:, -1:].argmax(dim=-1)
            found.append(ids[:, 0])
            over |= torch.isin(ids[:, 0], stops)
            # Asking for the answer waits for the device: only where there is something to gain.
            if stops.numel() and bool(over.all()):
                break
    decoded: I64 = torch.stack(found, dim=1).cpu().numpy() if found else np.zeros((len(prompts), 0), np.int64)
    return decoded


def _check_vocabulary(model: Callable[..., Any], prompts: I64) -> None:
    size = getattr(getattr(model, "config", None), "vocab_size", None)
    if size is not None and prompts.size and int(prompts.max()) >= size:
        raise MonitorError(
            f"a prompt holds token {int(prompts.max()):,} and the model has {size:,}, so it was made with another "
            "tokenizer; give the model's own"
        )
