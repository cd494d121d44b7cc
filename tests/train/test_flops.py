"""Model FLOPs by hand, by counting a real model's matrix products, and what GPUs can do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixture.train.flops import PEAKS, Shape, attended, mfu, peak_flops, step_flops

LLAMA_8B = Shape(32, 4096, 32, 8, 128, 14336, 128256)


def test_the_module_s_own_example() -> None:
    shape = Shape(layers=1, hidden=2, heads=1, kv_heads=1, head_dim=2, intermediate=4, vocabulary=8)
    pairs = attended(np.array([0, 3, 4], np.int32))
    assert (shape.matrices, pairs) == (56, 6 + 1)
    assert step_flops(shape, 4, pairs) == 6 * 56 * 4 + 12 * 1 * 1 * 2 * 7 == 1512


def test_the_parameters_of_llama_3_8b_are_its_makers() -> None:
    assert LLAMA_8B.parameters == 8_030_261_248
    assert LLAMA_8B.matrices == 8_030_261_248 - 128256 * 4096 - 65 * 4096


def test_grouped_queries_change_the_weights_and_not_the_pairs() -> None:
    whole = Shape(2, 64, 8, 8, 8, 128, 256)
    grouped = Shape(2, 64, 8, 2, 8, 128, 256)
    assert step_flops(whole, 0, 1000) == step_flops(grouped, 0, 1000) == 12 * 2 * 8 * 8 * 1000
    assert whole.matrices - grouped.matrices == 2 * 2 * 64 * 6 * 8


def test_tied_embeddings_are_used_as_often_and_held_once() -> None:
    apart, tied = Shape(2, 64, 8, 2, 8, 128, 256), Shape(2, 64, 8, 2, 8, 128, 256, tied=True)
    assert apart.matrices == tied.matrices
    assert apart.parameters - tied.parameters == 64 * 256


@given(st.lists(st.integers(0, 300), max_size=30))
def test_pairs_are_what_a_causal_mask_inside_segments_leaves(sizes: list[int]) -> None:
    boundaries = np.cumsum([0, *sizes]).astype(np.int32)
    assert attended(boundaries) == sum(sum(range(1, size + 1)) for size in sizes)


def test_pairs_of_a_million_places_do_not_overflow() -> None:
    assert attended(np.array([0, 1 << 30], np.int32)) == (1 << 30) * ((1 << 30) + 1) // 2


@pytest.mark.parametrize("family", ["llama", "qwen3", "mistral"])
def test_a_hugging_face_config_has_the_shape_of_its_model(family: str) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = transformers.AutoConfig.for_model(
        family,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        vocab_size=100,
        tie_word_embeddings=family == "qwen3",
    )
    shape = Shape.of(config)
    assert shape == Shape(3, 32, 4, 2, 16, 48, 100, tied=family == "qwen3")
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    # Qwen 3 norms each query and key, too: that is not counted.
    weights = {name: weight.numel() for name, weight in model.named_parameters()}
    counted = [size for name, size in weights.items() if "q_norm" not in name and "k_norm" not in name]
    assert sum(counted) == shape.parameters


def test_the_flops_of_a_model_are_those_that_torch_counts() -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from torch.utils.flop_counter import FlopCounterMode

    config = transformers.LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=100,
        attn_implementation="eager",
    )
    model, tokens = transformers.LlamaForCausalLM(config), 24
    ids = torch.randint(0, 100, (1, tokens))
    with FlopCounterMode(display=False) as counter:
        model(ids).logits.sum().backward()
    # It counts every pair of a sequence, for a mask is no business of a matrix product.
    assert counter.get_total_flops() == step_flops(Shape.of(config), tokens, tokens * tokens)


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H100 NVL", 835e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA H20", 148e12),
        ("NVIDIA GH200 480GB", 989e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA B200", 2250e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA GeForce RTX 4090", 165e12),
        ("NVIDIA A40", 150e12),
        ("NVIDIA RTX A4000", None),
        ("NVIDIA A1000", None),
        ("Tesla T4", None),
        ("", None),
    ],
)
def test_a_gpu_is_known_by_whole_words_of_its_name(name: str, peak: float | None) -> None:
    assert peak_flops(name) == peak


def test_of_two_names_that_fit_the_longer_one_counts() -> None:
    names = list(PEAKS)
    for number, name in enumerate(names):
        assert not any(other in name.split() for other in names[:number])


def test_mfu_is_what_was_needed_over_what_could_have_been_done() -> None:
    # 8 GPUs for 10 s could do 7.912e16; 8B at 400,000 tokens without attention needs 6 · 7.5e9 · 4e5 = 1.8e16.
    flops = step_flops(LLAMA_8B, 400_000, 0)
    assert mfu(flops, 10.0, 8, 989e12) == pytest.approx(6 * 7_504_658_432 * 400_000 / 7.912e16)
