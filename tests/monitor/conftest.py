"""Tiny models under examination, and the bytes tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.train.conftest import Gym, gym, shop

if TYPE_CHECKING:
    from mixture.monitor.subject import Subject


def tiny(family: str = "llama", *, length: int = 512, name: str = "tiny", **others: Any) -> Subject:
    """Return a model of two layers with random weights on the CPU, under examination."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from mixture.monitor.codec import open_codec
    from mixture.monitor.subject import Subject
    from tests.train.tiny import fields

    torch.set_num_threads(1)
    given = fields(family, max_position_embeddings=length, vocab_size=258) | others
    config = transformers.CONFIG_MAPPING[given.pop("model_type")](**given)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", dtype=torch.float32)
    model = model.eval().requires_grad_(requires_grad=False)
    return Subject(model, name, 100, 6_400, torch.device("cpu"), torch.float32, open_codec("bytes"))


__all__ = ["Gym", "gym", "shop", "tiny"]
