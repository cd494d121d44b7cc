"""Cross-entropy in chunks: as F.cross_entropy, without the logits."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402, N812
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_leaves  # noqa: E402

from mixture.train.loss import IGNORED, cross_entropy  # noqa: E402


def problem(tokens: int, *, hidden: int = 8, vocabulary: int = 19, seed: int = 0, dtype: Any = None) -> tuple[Any, ...]:
    """Return hidden states, weight, labels: half of them ignored."""
    maker = torch.Generator().manual_seed(seed)
    states = torch.randn(tokens, hidden, generator=maker).to(dtype).requires_grad_()
    weight = torch.randn(vocabulary, hidden, generator=maker).to(dtype).requires_grad_()
    labels = torch.randint(0, vocabulary, (tokens,), generator=maker)
    labels[torch.rand(tokens, generator=maker) < 0.5] = IGNORED
    return states, weight, labels


def plainly(states: Any, weight: Any, labels: Any) -> tuple[Any, Any]:
    tokens = F.cross_entropy((states @ weight.T).float(), labels, ignore_index=IGNORED, reduction="none")
    return tokens.sum(), tokens.detach()


def assert_equal_to_plain(states: Any, weight: Any, labels: Any, chunk: int, factor: float = 1.0) -> None:
    ours, tokens = cross_entropy(states, weight, labels, chunk)
    ours_by = torch.autograd.grad(ours * factor, (states, weight))
    plain, plain_tokens = plainly(states, weight, labels)
    plain_by = torch.autograd.grad(plain * factor, (states, weight))
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(tokens, plain_tokens, rtol=1e-5, atol=1e-5)
    assert not tokens.requires_grad
    assert (tokens[labels == IGNORED] == 0).all()
    for one, other in zip(ours_by, plain_by, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 99), st.sampled_from([1.0, -0.5, 1e-3]))
def test_loss_and_gradients_are_those_of_all_logits_at_once(tokens: int, chunk: int, seed: int, factor: float) -> None:
    assert_equal_to_plain(*problem(tokens, seed=seed), chunk, factor)


def test_nothing_to_predict_costs_nothing_and_moves_nothing() -> None:
    states, weight, labels = problem(10)
    total, tokens = cross_entropy(states, weight, torch.full_like(labels, IGNORED), 4)
    total.backward()
    assert total == 0
    assert not tokens.any()
    assert not states.grad.any()
    assert not weight.grad.any()


def test_a_single_token() -> None:
    states, weight, _ = problem(1)
    assert_equal_to_plain(states, weight, torch.tensor([3]), 4096)


def test_logits_of_hundreds_overflow_nothing() -> None:
    states, weight, labels = problem(12)
    assert_equal_to_plain((states * 100).detach().requires_grad_(), weight, labels, 5)


def test_tied_weights_get_both_gradients() -> None:
    _, weight, labels = problem(10)
    ids = torch.arange(10)

    def gradient(loss: Any) -> Any:
        return torch.autograd.grad(loss(F.embedding(ids, weight).tanh(), weight, labels)[0], weight)[0]

    ours, plain = gradient(lambda *parts: cross_entropy(*parts, 3)), gradient(plainly)
    torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("frozen", [0, 1])
def test_what_is_frozen_gets_no_gradient_and_the_other_its_own(frozen: int) -> None:
    parts = problem(10)
    parts[frozen].requires_grad_(False)
    other = parts[1 - frozen]
    ours = torch.autograd.grad(cross_entropy(*parts, 3)[0], other)[0]
    torch.testing.assert_close(ours, torch.autograd.grad(plainly(*parts)[0], other)[0], rtol=1e-4, atol=1e-5)


def test_bf16_weights_get_bf16_gradients_summed_in_float32() -> None:
    states, weight, labels = problem(2048, dtype=torch.bfloat16)
    total, tokens = cross_entropy(states, weight, labels, 2)
    total.backward()
    assert total.dtype == tokens.dtype == torch.float32
    assert weight.grad.dtype == states.grad.dtype == torch.bfloat16
    exact = [part.detach().double().requires_grad_() for part in (states, weight)]
    by_states, by_weight = torch.autograd.grad(plainly(*exact, labels)[0], exact)
    torch.testing.assert_close(total, plainly(*exact, labels)[0], rtol=1e-3, atol=0)
    for one, other in ((states.grad, by_states), (weight.grad, by_weight)):
        assert (one.double() - other).norm() < 4e-3 * other.norm()  # bf16 has 8 bits, and a sum of 1024 in it has 3


def test_under_autocast_logits_are_bf16_and_gradients_as_the_weights() -> None:
    states, weight, labels = problem(64)
    with torch.autocast("cpu", torch.bfloat16):
        total, _ = cross_entropy(states, weight, labels, 16)
        plain, _ = plainly(states, weight, labels)
    total.backward()
    assert weight.grad.dtype == states.grad.dtype == torch.float32
    assert total.dtype == torch.float32
    torch.testing.assert_close(total, plain, rtol=1e-5, atol=1e-5)


def test_without_gradients_none_are_made() -> None:
    states, weight, labels = problem(16, hidden=2)
    with torch.no_grad(), Largest() as watch:
        total, _ = cross_entropy(states, weight, labels, 1)
    assert not total.requires_grad
    assert watch.elements == 2 * 19  # the weight, looked at from the other side
    assert "aten.exp_.default" not in watch.called
    with Largest() as watch:
        cross_entropy(states, weight, labels, 1)
    assert "aten.exp_.default" in watch.called
    torch.testing.assert_close(total, plainly(states, weight, labels)[0].detach())


def test_a_second_backward_is_refused_and_not_wrong() -> None:
    total, _ = cross_entropy(*problem(16), 4)
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total.backward()


class Largest(TorchDispatchMode):
    """Keeps the size of the largest tensor that is made, and what was called."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0
        self.called: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.called.add(str(func))
        self.elements = max([self.elements, *(x.numel() for x in tree_leaves(out) if isinstance(x, torch.Tensor))])
        return out


def test_no_more_logits_exist_than_those_of_a_chunk() -> None:
    states, weight, labels = problem(2000, hidden=4, vocabulary=500)
    with Largest() as watch:
        cross_entropy(states, weight, labels, 100)[0].backward()
    assert watch.elements == 100 * 500
    with Largest() as watch:
        plainly(states, weight, labels)[0].backward()
    assert watch.elements == 2000 * 500
