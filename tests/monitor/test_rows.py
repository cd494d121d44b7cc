"""Rows of attention: what is read without the matrix is what stands in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import torch.nn.functional as F  # noqa: E402, N812
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_leaves  # noqa: E402

from mixture.errors import MonitorError  # noqa: E402
from mixture.monitor import rows  # noqa: E402
from mixture.monitor.rows import largest, read_rows  # noqa: E402
from tests.train.tiny import fields  # noqa: E402

WINDOW = {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1}
MODELS: list[tuple[str, dict[str, Any]]] = [
    ("llama", {}),
    ("llama", {"num_key_value_heads": 4}),
    ("llama", {"num_key_value_heads": 1}),
    ("mistral", {}),
    ("mistral", {"sliding_window": 7}),
    ("qwen2", {}),
    ("qwen2", WINDOW),
    ("qwen3", {}),
    ("qwen3", WINDOW | {"head_dim": 16}),
]


def model(family: str = "llama", dtype: Any = torch.float32, **others: Any) -> Any:
    torch.set_num_threads(1)
    torch.manual_seed(3)
    given = fields(family, **others)
    config = transformers.CONFIG_MAPPING[given.pop("model_type")](**given)
    made = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", dtype=dtype)
    return made.eval().requires_grad_(requires_grad=False)


def question(length: int = 40, answer: int = 6, seed: int = 0) -> tuple[Any, Any]:
    tokens = np.random.default_rng(seed).integers(0, 257, length + answer)
    return tokens[:length], tokens[length:]


def whole_matrix(made: Any, prompt: Any, answer: Any) -> tuple[Any, Any]:
    """Let transformers compute all of the attention and all logits; return the answer's part of both."""
    made.set_attn_implementation("eager")
    tokens = torch.from_numpy(np.concatenate([prompt, answer]))[None]
    out = made(input_ids=tokens, output_attentions=True, use_cache=False)
    made.set_attn_implementation("sdpa")
    first, stop = len(prompt) - 1, len(prompt) + len(answer) - 1
    losses = F.cross_entropy(out.logits[0, first:stop], torch.from_numpy(answer), reduction="none")
    return torch.stack([layer[0, :, first:stop] for layer in out.attentions]).numpy(), losses.numpy()


@pytest.mark.parametrize(("family", "others"), MODELS, ids=str)
def test_rows_are_those_of_the_whole_matrix(family: str, others: dict[str, Any]) -> None:
    made = model(family, **others)
    prompt, answer = question()
    matrix, losses = whole_matrix(made, prompt, answer)
    found = read_rows(made, prompt, answer)
    assert found.positions.shape == (2, 4, 6)
    np.testing.assert_array_equal(found.positions, matrix.argmax(axis=-1))
    np.testing.assert_allclose(found.weights, matrix.max(axis=-1), rtol=1e-4)
    np.testing.assert_allclose(found.losses, losses, rtol=1e-4)


def test_a_window_hides_what_lies_before_it() -> None:
    prompt, answer = question()
    at = np.arange(len(prompt) - 1, len(prompt) + len(answer) - 1)
    wide, narrow = (read_rows(model("mistral", sliding_window=w), prompt, answer).positions for w in (None, 7))
    assert (narrow > at - 7).all()
    assert (wide <= at - 7).any()


def test_the_row_that_predicts_a_token_stands_before_it() -> None:
    made = model()
    prompt, answer = question()
    found = read_rows(made, prompt, answer)
    assert (found.positions <= np.arange(39, 45)).all()
    other = read_rows(made, prompt, np.append(answer[:-1], (answer[-1] + 1) % 257))
    # The last answer token is predicted, and looks at nothing.
    np.testing.assert_array_equal(found.positions, other.positions)
    assert found.losses[-1] != other.losses[-1]
    first = read_rows(made, prompt, np.append(answer[0] - 1, answer[1:]))
    np.testing.assert_array_equal(found.weights[..., 0], first.weights[..., 0])
    assert (found.weights[..., 1] != first.weights[..., 1]).any()


def test_the_largest_weight_by_hand() -> None:
    key = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]]])
    query = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[0.0, 3.0], [0.0, 3.0]]])
    positions, weights = largest(query, key, torch.tensor([1, 2]), 1.0)
    # Head 0 scores 1, 0, 2 and head 1 scores 0, 3, 0; the first row does not see place 2.
    assert positions.tolist() == [[0, 2], [1, 1]]
    e = np.exp
    by_hand = [[e(1) / (e(1) + 1), e(2) / (e(2) + e(1) + 1)], [e(3) / (e(3) + 1), e(3) / (e(3) + 2)]]
    np.testing.assert_allclose(weights, by_hand, rtol=1e-6)
    positions, weights = largest(query, key, torch.tensor([1, 2]), 1.0, window=1)
    assert positions.tolist() == [[1, 2], [1, 2]]
    assert weights.tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_scores_that_bfloat16_cannot_tell_apart_are_told_apart() -> None:
    key = torch.tensor([[[256.0, 0.0], [256.0, 0.5], [256.0, 1.0], [256.0, 0.25]]], dtype=torch.bfloat16)
    query = torch.ones(1, 1, 2, dtype=torch.bfloat16)
    assert (query[0] @ key[0].T).unique().numel() == 1
    assert largest(query, key, torch.tensor([3]), 1.0)[0].item() == 2


def test_a_model_in_bfloat16_is_read() -> None:
    found = read_rows(model(dtype=torch.bfloat16), *question())
    assert found.weights.dtype == np.float32
    assert np.isfinite(found.losses).all()


def test_an_answer_of_one_token_to_a_prompt_of_one() -> None:
    found = read_rows(model(), [5], [7])
    assert (found.positions == 0).all()
    assert (found.weights == 1).all()
    assert found.losses.shape == (1,)


class Sizes(TorchDispatchMode):
    """Notes the most elements of any tensor that is made."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        made = [leaf for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
        # A view counts as what it stands on.
        self.most = max([self.most, *(leaf.untyped_storage().nbytes() // leaf.element_size() for leaf in made)])
        return out


@pytest.mark.parametrize("window", [None, 64])
def test_no_tensor_grows_with_the_square_of_the_length(window: int | None) -> None:
    made = model("mistral", sliding_window=window, max_position_embeddings=8192)
    sizes = {}
    for length in (1000, 4000):
        with Sizes() as noted:
            read_rows(made, *question(length))
        sizes[length] = noted.most
    # The widest for each place is the feed-forward layer, 48; a window's masks have 512 rows. A matrix: 16 million.
    assert sizes[4000] <= max(4.1 * sizes[1000], 512 * (64 + 512))


def test_a_model_is_left_as_it_was() -> None:
    made = model()
    before = made(input_ids=torch.arange(9)[None]).logits
    read_rows(made, *question())
    assert made.config._attn_implementation == "sdpa"
    with pytest.raises(RuntimeError), rows.watched(made):
        raise RuntimeError
    assert made.config._attn_implementation == "sdpa"
    torch.testing.assert_close(made(input_ids=torch.arange(9)[None]).logits, before)


@pytest.mark.parametrize(
    ("prompt", "answer", "says"),
    [
        ([], [1], "prompt has no tokens"),
        ([1], [], "answer has no tokens"),
        ([1, 257], [1], "token 257, and the model's vocabulary is 257"),
        ([1], [-1], "token -1"),
    ],
)
def test_a_probe_that_is_none_is_refused(prompt: list[int], answer: list[int], says: str) -> None:
    with pytest.raises(MonitorError, match=says):
        read_rows(model(), prompt, answer)


def test_a_model_whose_layers_see_by_another_rule_is_refused() -> None:
    made = model()
    made.config.layer_types = ["full_attention", "chunked_attention"]
    with pytest.raises(MonitorError, match=r"'chunked_attention'\); give one of llama"):
        read_rows(made, *question())


def test_a_model_that_does_not_hand_on_the_watch_is_refused() -> None:
    made = model()
    handed = made.forward
    made.forward = lambda **given: handed(**{name: given[name] for name in given if name != "watch"})
    with pytest.raises(MonitorError, match=r"llama: its heads cannot be watched \(its layers do not hand on"):
        read_rows(made, *question())


def test_a_model_that_drops_what_it_reads_is_refused() -> None:
    made = model()
    with pytest.raises(MonitorError, match=r"call its eval\(\) first"):
        read_rows(made.train(), *question())
    made.eval().config.attention_chunk_size = 8
    with pytest.raises(MonitorError, match="cannot be replaced"):
        read_rows(made, *question())
