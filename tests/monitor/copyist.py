"""A model that copies, made by hand: one head fetches the next token of a chain, and nothing else speaks.

Tokens 0 … 31. The needle is s+1 s+2 … s+5, the prompt ends with s, the haystack is of tokens 16 and up. Head 2 of layer
1 asks, at token t, for a place that holds t + 1, and writes what stands there into the dimensions that the output
embedding reads. The other seven heads look anywhere and write a little noise. Queries and keys meet in dimensions that
the rotary embedding hardly turns, so the head finds its token at any distance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel

from tests.monitor.asked import Asked

VOCABULARY, HEADS, KEY_HEADS, SIZE = 32, 4, 2, 64
#: Layer and head of the one that copies.
COPYIST = (1, 2)
NEEDLE = 5
#: Dimensions of a head whose rotary frequency is under 1e-15: the slow half of each half.
SLOW = [*range(16, 32), *range(48, 64)]


@dataclass(frozen=True)
class Patient:
    """A subject, as far as the mechanistic level looks."""

    model: PreTrainedModel
    name: str = "copyist"
    step: int | None = 7
    tokens: int | None = 700


def chain(length: int, depth: float, seed: int = 0) -> Asked:
    """Return a prompt of filler with a chain of five tokens at a depth."""
    rng = np.random.default_rng([length, round(depth * 100), seed])
    start = int(rng.integers(0, 16 - NEEDLE - 1))
    answer = np.arange(start + 1, start + 1 + NEEDLE)
    first = round(depth * (length - 1 - NEEDLE))
    prompt = rng.integers(16, VOCABULARY, length)
    prompt[first : first + NEEDLE] = answer
    prompt[-1] = start
    return Asked(prompt, answer, (first, first + NEEDLE), length, depth, seed)


def grid(lengths: tuple[int, ...] = (40, 64), depths: tuple[float, ...] = (0, 0.5, 1), samples: int = 1) -> list[Asked]:
    return [chain(n, d, s) for n in lengths for d in depths for s in range(samples)]


def copyist(family: str = "llama", *, speaks: bool = True, **others: Any) -> PreTrainedModel:
    """Return the model; one that does not speak looks as it does and says token 31."""
    torch.set_num_threads(1)
    hidden = HEADS * SIZE
    given: dict[str, Any] = {
        "hidden_size": hidden,
        "intermediate_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_HEADS,
        "head_dim": SIZE,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 512,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e30},
        "tie_word_embeddings": False,
    }
    if family == "mistral":
        given["sliding_window"] = None
    if family == "qwen2":
        del given["head_dim"]
    torch.manual_seed(0)
    config = CONFIG_MAPPING[family](**given | others)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", dtype=torch.float32)
    with torch.no_grad():
        _write(model, speaks)
    return model.eval().requires_grad_(requires_grad=False)


def _write(model: Any, speaks: bool) -> None:
    tokens = torch.arange(VOCABULARY)
    model.model.embed_tokens.weight.zero_()[tokens, tokens] = 1.0
    for layer in model.model.layers:
        layer.mlp.down_proj.weight.zero_()
        layer.self_attn.o_proj.weight.mul_(0.2)
    attention = model.model.layers[COPYIST[0]].self_attn
    head = COPYIST[1]
    group = head // (HEADS // KEY_HEADS)
    query = attention.q_proj.weight[head * SIZE : (head + 1) * SIZE].zero_()
    key = attention.k_proj.weight[group * SIZE : (group + 1) * SIZE].zero_()
    value = attention.v_proj.weight[group * SIZE : (group + 1) * SIZE].zero_()
    slow = torch.tensor(SLOW)
    # After the norm a token's own dimension is 16: queries and keys of 16 meet at 16 × 16 / √64 = 32.
    query[slow[(tokens + 1) % VOCABULARY], tokens] = 1.0
    key[slow[tokens], tokens] = 1.0
    value[tokens, tokens] = 0.1
    if hasattr(attention, "q_norm"):
        # The norm of a head leaves 8 there: 32 needs a factor of 4.
        attention.q_norm.weight.mul_(4.0)
    output = attention.o_proj.weight[:, head * SIZE : (head + 1) * SIZE].zero_()
    output[VOCABULARY + tokens, tokens] = 1.0
    model.lm_head.weight.zero_()
    if speaks:
        model.lm_head.weight[tokens, VOCABULARY + tokens] = 1.0
    else:
        model.lm_head.weight[VOCABULARY - 1] = 1.0
