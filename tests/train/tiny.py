"""Tiny models and packed batches for tests of the trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from mixture.train.attention import Backend, Layout, lay_out
from mixture.train.context import bounds_of
from mixture.train.model import Source, Trainee
from mixture.train.rope import Rope
from mixture.train.weights import build, export

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
VOCABULARY = 257


def fields(family: str = "llama", **others: Any) -> dict[str, Any]:
    """Return a config of two layers, 4 heads of 8 over 2 of keys."""
    usual: dict[str, Any] = {
        "model_type": family,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 128,
        "initializer_range": 0.2,
    }
    if family == "qwen3":
        usual["head_dim"] = 8
    if family == "mistral":
        usual["sliding_window"] = None
    return usual | others


def trainee(
    family: str = "llama", *, length: int = 128, seed: int = 0, rope: Rope | None = None, chunk: int = 16, **others: Any
) -> Trainee:
    """Return a tiny model with random weights on the CPU."""
    torch.set_num_threads(1)
    return build(Source(fields=fields(family, **others), seed=seed), length=length, rope=rope, chunk=chunk)


def folder(path: Path, family: str = "llama", **others: Any) -> Path:
    """Write a tiny model in Hugging Face's layout."""
    model = trainee(family, **others)
    export(model, model.state_dict(), path)
    return path


def packed(lengths: tuple[int, ...], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return input_ids, labels, position_ids (1, tokens) and cu_seqlens of documents of these lengths."""
    rng = np.random.default_rng(seed)
    documents = [rng.integers(0, VOCABULARY, length) for length in lengths]
    ids = np.concatenate(documents)
    labels = np.concatenate([np.append(document[1:], -100) for document in documents])
    positions = np.concatenate([np.arange(length) for length in lengths])
    ids_, labels_, positions_ = (torch.from_numpy(x)[None] for x in (ids, labels, positions))
    return ids_, labels_, positions_, torch.from_numpy(bounds_of(lengths)).int()


def layout(model: Trainee, cu_seqlens: torch.Tensor, backend: Backend = "sdpa", **others: Any) -> Layout:
    """Lay out a micro-batch for a tiny model on the CPU."""
    return lay_out(cu_seqlens, backend=backend, device="cpu", windows=model.windows, **others)


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Take a model's gradients out of it."""
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found
