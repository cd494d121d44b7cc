"""Memory by hand, and what helps where it is too small."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixture.train.flops import Shape
from mixture.train.memory import Setting, estimate, missing

GIB = 1 << 30
LLAMA_8B = Shape(32, 4096, 32, 8, 128, 14336, 128256)
PLAIN = Setting(shards=8, cp=1, micro=1, length=8192, checkpointing=True, chunk=4096, bf16=True)
SMALL = Shape(layers=2, hidden=4, heads=2, kv_heads=1, head_dim=2, intermediate=8, vocabulary=10)


def test_a_small_model_by_hand() -> None:
    # A layer: 2·4·(2+1)·2 + 3·4·8 = 144 weights. All: 2·144 + 2·(4·10) + (2·2+1)·4 = 388.
    setting = Setting(shards=2, cp=1, micro=1, length=16, checkpointing=False, chunk=8, bf16=True)
    memory = estimate(SMALL, setting)
    assert (memory.parameters, memory.gradients, memory.moments) == (4 * 194, 4 * 194, 8 * 194)
    # Two layers and embedding, output and last norm: bf16, its gradient in bf16, and that in float32.
    assert memory.gathered == 8 * (2 * 144 + 4 * (2 * 10 + 1))
    # A layer keeps of a place: norms 2·8·4, attention 2·2·3·2 + 4·2, MLP 4·2·8; gradients under way 2·(3·8 + 2·4);
    # around the layers 12·4.
    layer = 64 + 24 + 8 + 64
    assert memory.activations == (2 * layer + 64 + 48) * 16
    assert memory.logits == 8 * 8 * 10 + 6 * 10 * 4
    assert memory.context == 0
    assert memory.total == sum(vars(memory).values())
    saved = estimate(SMALL, replace(setting, checkpointing=True))
    assert saved.activations == (2 * 2 * 4 + layer + 64 + 48) * 16


def test_context_parallelism_shares_places_and_gathers_keys_and_values() -> None:
    alone, shared = estimate(LLAMA_8B, PLAIN), estimate(LLAMA_8B, replace(PLAIN, cp=4))
    assert shared.activations * 4 == alone.activations
    # 1,024 keys and as many values of 2 bytes, and their gradients, for all 8,192 places.
    assert shared.context == 2 * 2 * 2 * 1024 * 8192
    assert shared.parameters == alone.parameters


@given(
    st.sampled_from([1, 2, 8, 64]),
    st.sampled_from([1, 2, 4]),
    st.integers(1, 8),
    st.sampled_from([512, 8192, 131072]),
    st.booleans(),
    st.sampled_from([256, 4096, 1 << 20]),
    st.booleans(),
)
def test_every_knob_helps_or_does_no_harm(
    shards: int, cp: int, micro: int, length: int, checkpointing: bool, chunk: int, bf16: bool
) -> None:
    setting = Setting(max(shards, cp), cp, micro, length, checkpointing, chunk, bf16)
    total = estimate(LLAMA_8B, setting).total
    for other in (
        replace(setting, shards=setting.shards * 2),
        replace(setting, checkpointing=True),
        replace(setting, chunk=chunk // 2),
        replace(setting, bf16=True),
    ):
        assert estimate(LLAMA_8B, other).total <= total
    assert estimate(LLAMA_8B, replace(setting, micro=micro + 1)).total > total
    assert estimate(LLAMA_8B, replace(setting, length=length * 2)).total > total


def test_what_fits_is_not_told() -> None:
    need = estimate(LLAMA_8B, PLAIN).total
    assert missing(LLAMA_8B, PLAIN, need) is None
    assert missing(LLAMA_8B, PLAIN, need - 1) is not None


def test_the_sentence_says_how_much_and_each_knob_that_suffices_alone() -> None:
    said = missing(LLAMA_8B, replace(PLAIN, checkpointing=False), 80 * 10**9)
    assert said is not None
    assert said.startswith(
        "a step with sequences of 8,192 needs about 85.1 GiB on each GPU, which has 74.5 GiB: 10.6 GiB are missing "
        "(activations 50.2 GiB, gathered 11.1 GiB, moments 7.48 GiB); what would fit: checkpointing: full (39.6 GiB)"
    )
    assert "parallel.cp: 2 (" in said
    assert "32 GPUs (" in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("changed", "capacity", "words"),
    [
        ({"micro": 16}, 80, "batch.micro: 8 ("),
        ({"chunk": 1 << 17, "length": 1 << 17}, 200, "loss.chunk: 65536 ("),
        ({"shards": 1, "length": 131072}, 80, "parallel.cp: 4 on 4 GPUs ("),
        ({"shards": 1, "length": 8192}, 139, "2 GPUs ("),
        # Before anyone is told to buy GPUs, what costs none.
        (
            {"checkpointing": False, "length": 131072},
            80,
            "checkpointing: full, batch.micro: 1 and loss.chunk: 512",
        ),
        ({"length": 1 << 20, "shards": 1}, 3, "nothing that can be set: take a smaller model or shorter sequences"),
    ],
)
def test_what_is_proposed_is_what_helps(changed: dict[str, int], capacity: int, words: str) -> None:
    said = missing(LLAMA_8B, replace(PLAIN, **changed), capacity * GIB)  # type: ignore[arg-type]
    assert said is not None
    assert words in said


def test_what_is_proposed_fits() -> None:
    for length in (8192, 32768, 131072, 1 << 20):
        for capacity in (24, 48, 80, 139):
            said = missing(LLAMA_8B, replace(PLAIN, length=length, checkpointing=False, micro=2), capacity * GIB) or ""
            proposed = said.partition("what would fit: ")[2]
            for size in re.findall(r"\(([\d.]+) GiB\)", proposed):
                assert float(size) <= capacity + 0.5


def test_context_parallelism_is_only_proposed_where_its_chunks_are_whole() -> None:
    odd = replace(PLAIN, length=131072 + 2, shards=8)
    said = missing(LLAMA_8B, odd, 60 * GIB) or ""
    assert said
    assert "parallel.cp" not in said
