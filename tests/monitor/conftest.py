"""Tiny models under examination, and the bytes tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.train.conftest import Gym, gym, shop

if TYPE_CHECKING:
    from mixture.monitor.subject import Subject


@dataclass(frozen=True)
class Bytes:
    """UTF-8 bytes are tokens; 256 ends a text."""

    n_vocab: int = 257
    bos_id: int | None = None
    eos_id: int | None = 256

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, tokens: list[int]) -> str:
        return bytes(token for token in tokens if token < 256).decode(errors="replace")


def tiny(family: str = "llama", *, length: int = 512, name: str = "tiny", **others: Any) -> Subject:
    """Return a model of two layers with random weights on the CPU, under examination."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from mixture.monitor.subject import Subject
    from tests.train.tiny import fields

    torch.set_num_threads(1)
    given = fields(family, max_position_embeddings=length) | others
    config = transformers.CONFIG_MAPPING[given.pop("model_type")](**given)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", dtype=torch.float32)
    model = model.eval().requires_grad_(requires_grad=False)
    return Subject(model, name, 100, 6_400, torch.device("cpu"), torch.float32, Bytes())


__all__ = ["Bytes", "Gym", "gym", "shop", "tiny"]
