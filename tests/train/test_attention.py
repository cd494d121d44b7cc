"""Attention: nothing crosses a document, whatever computes it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch.nn.functional as F  # noqa: E402, N812
from torch._dynamo.testing import CompileCounterWithBackend  # noqa: E402
from torch.nn.attention.flex_attention import create_block_mask  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_leaves  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402

from mixture.errors import TrainError  # noqa: E402
from mixture.train import attention  # noqa: E402
from mixture.train.attention import attend, choose, lay_out  # noqa: E402
from mixture.train.blocks import block_mask, reach  # noqa: E402
from mixture.train.context import Context, Piece, bounds_of, pieces  # noqa: E402
from mixture.train.model import Trainee  # noqa: E402
from tests.train import tiny  # noqa: E402

LENGTHS = (5, 40, 1, 18)


def theirs(model: Trainee) -> Any:
    """Return the same model with transformers' own plain attention."""
    config = type(model.config).from_dict(model.config.to_dict())
    plain = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    plain.load_state_dict(model.model.state_dict())
    return plain


def one_by_one(model: Any, lengths: tuple[int, ...], ids: Any, labels: Any) -> tuple[Any, dict[str, Any]]:
    """Run documents through transformers, each alone; return the loss of each token and the gradients of their sum."""
    losses = []
    for first, stop in zip(bounds_of(lengths)[:-1], bounds_of(lengths)[1:], strict=True):
        logits = model(input_ids=ids[:, first:stop], use_cache=False).logits
        losses.append(F.cross_entropy(logits[0], labels[0, first:stop], ignore_index=-100, reduction="none"))
    tokens = torch.cat(losses)
    tokens.sum().backward()
    return tokens.detach(), {f"model.{name}": gradient for name, gradient in tiny.gradients(model).items()}


def assert_equal(ours: dict[str, Any], others: dict[str, Any]) -> None:
    assert ours.keys() == others.keys()
    for name, gradient in ours.items():
        torch.testing.assert_close(
            gradient, others[name], rtol=1e-4, atol=1e-4, msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_packed_batch_costs_what_its_documents_cost_alone(family: str) -> None:
    model = tiny.trainee(family)
    ids, labels, positions, cu_seqlens = tiny.packed(LENGTHS)
    losses = model(ids, labels, positions, tiny.layout(model, cu_seqlens))
    losses.total.backward()
    tokens, gradients = one_by_one(theirs(model), LENGTHS, ids, labels)
    torch.testing.assert_close(losses.tokens[0], tokens, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(losses.total.detach(), tokens.sum())
    assert_equal(tiny.gradients(model), gradients)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_with_masks_off_a_row_is_one_document(family: str) -> None:
    model = tiny.trainee(family)
    ids, labels, _, _ = tiny.packed(LENGTHS)
    losses = model(ids, labels, torch.arange(64)[None], tiny.layout(model, torch.tensor([0, 64])))
    losses.total.backward()
    tokens, gradients = one_by_one(theirs(model), (64,), ids, labels)
    torch.testing.assert_close(losses.tokens[0], tokens, rtol=1e-4, atol=1e-4)
    assert_equal(tiny.gradients(model), gradients)


def test_masks_are_not_idle() -> None:
    model = tiny.trainee()
    ids, labels, positions, cu_seqlens = tiny.packed(LENGTHS)
    masked = model(ids, labels, positions, tiny.layout(model, cu_seqlens)).tokens[0]
    unmasked = model(ids, labels, positions, tiny.layout(model, torch.tensor([0, 64]))).tokens[0]
    torch.testing.assert_close(masked[:5], unmasked[:5])
    assert not torch.isclose(masked[6:44], unmasked[6:44]).any()


def test_positions_that_go_on_through_a_document_are_another_model() -> None:
    model = tiny.trainee()
    ids, labels, positions, cu_seqlens = tiny.packed(LENGTHS)
    where = tiny.layout(model, cu_seqlens)
    reset, running = (model(ids, labels, p, where).tokens for p in (positions, torch.arange(64)[None]))
    # Rotary positions are relative, so within a document nothing depends on where it begins.
    torch.testing.assert_close(reset, running, rtol=1e-3, atol=1e-3)
    stretched = model(ids, labels, positions * 2, where).tokens
    assert not torch.allclose(reset, stretched, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("family", "others"),
    [
        ("mistral", {"sliding_window": 7}),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1}),
        ("qwen3", {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1}),
    ],
)
def test_sliding_windows_are_the_models_own(family: str, others: dict[str, Any]) -> None:
    model = tiny.trainee(family, **others)
    assert 7 in model.windows
    ids, labels, positions, cu_seqlens = tiny.packed(LENGTHS)
    losses = model(ids, labels, positions, tiny.layout(model, cu_seqlens))
    losses.total.backward()
    tokens, gradients = one_by_one(theirs(model), LENGTHS, ids, labels)
    torch.testing.assert_close(losses.tokens[0], tokens, rtol=1e-4, atol=1e-4)
    assert_equal(tiny.gradients(model), gradients)
    whole = tiny.trainee(family)(ids, labels, positions, tiny.layout(model, cu_seqlens)).tokens[0]
    assert not torch.allclose(whole, tokens, rtol=1e-3, atol=1e-3)


class Largest(TorchDispatchMode):
    """Keeps the size of the largest tensor that is made."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
        self.elements = max([self.elements, *sizes])
        return out


def test_no_tensor_of_places_by_places_is_made() -> None:
    model = tiny.trainee(length=2048, vocab_size=64)
    ids = torch.zeros((1, 2048), dtype=torch.int64)
    with Largest() as largest:
        where = tiny.layout(model, torch.tensor([0, 1000, 2048]))
        model(ids, ids, torch.arange(2048)[None], where).total.backward()
    assert largest.elements <= 2048 * 48


def heads(places: int, keys: int | None = None, dtype: Any = None, device: str = "cpu") -> tuple[Any, Any, Any]:
    """Return queries of 4 heads, keys and values of 2."""
    torch.manual_seed(0)
    shapes = [(1, 4, places, 16), (1, 2, keys or places, 16), (1, 2, keys or places, 16)]
    return tuple(torch.randn(shape, device=device, dtype=dtype).requires_grad_() for shape in shapes)  # type: ignore[return-value]


def outcome(compute: Callable[[Any, Any, Any], Any], inputs: tuple[Any, Any, Any]) -> list[Any]:
    """Return a result and the gradients of a sum over it."""
    out = compute(*inputs)
    weights = torch.arange(out.numel(), device=out.device).reshape(out.shape).sin()
    return [out.detach(), *torch.autograd.grad((out.float() * weights).sum(), inputs)]


def stepwise(query: Any, key: Any, value: Any, piece: Piece, window: int | None, scale: float) -> Any:
    """Attention as it is written in books, with a mask made by looking at every pair of places."""
    rows = []
    for segment in range(len(piece.query_bounds) - 1):
        q0, q1 = piece.query_bounds[segment : segment + 2]
        k0, k1 = piece.key_bounds[segment : segment + 2]
        for place in range(q0, q1):
            at = k1 - (q1 - place)
            row = np.zeros(key.shape[2], dtype=bool)
            row[max(k0, 0 if window is None else at - window + 1) : at + 1] = True
            rows.append(row)
    mask = torch.from_numpy(np.stack(rows))
    keys, values = key.repeat_interleave(2, 1), value.repeat_interleave(2, 1)
    scores = (query @ keys.transpose(2, 3) * scale).masked_fill(~mask, -torch.inf)
    return torch.softmax(scores, dim=-1) @ values


def stretch(piece: Piece, window: int | None = None) -> attention.Stretch:
    return attention._stretch(piece, 300, torch.device("cpu"), (window,))


CASES = [
    (piece, window)
    for lengths, size in [((5, 40, 1, 18), 1), ((64,), 1), ((5, 130, 1, 120), 2), ((7, 250, 43), 3)]
    for rank in range(size)
    for piece in pieces(bounds_of(lengths), size, rank)
    for window in (None, 9, 300)
]


@pytest.mark.parametrize(("piece", "window"), CASES)
def test_sdpa_is_attention_as_it_is_written(piece: Piece, window: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_ROWS", 16)
    inputs = heads(piece.query_bounds[-1], piece.key_bounds[-1])
    ours = outcome(lambda q, k, v: attention._by_sdpa(q, k, v, stretch(piece), 0.3, window), inputs)
    written = outcome(lambda q, k, v: stepwise(q, k, v, piece, window, 0.3), inputs)
    for one, other in zip(ours, written, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*flex_attention called without torch.compile.*")
@pytest.mark.parametrize(("piece", "window"), CASES)
def test_flex_is_sdpa(piece: Piece, window: int | None) -> None:
    with torch.no_grad():  # on a CPU it has no backward
        inputs = tuple(part.detach() for part in heads(piece.query_bounds[-1], piece.key_bounds[-1]))
        ours = attention._by_flex(*inputs, stretch(piece, window), 0.3, window)
        torch.testing.assert_close(ours, stepwise(*inputs, piece, window, 0.3), rtol=1e-4, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 300), min_size=1, max_size=12),
    st.integers(1, 3),
    st.data(),
    st.none() | st.integers(1, 400),
)
def test_blocks_are_those_that_torch_finds_by_looking_at_every_pair(
    lengths: list[int], size: int, data: st.DataObject, window: int | None
) -> None:
    lengths[-1] += -sum(lengths) % (2 * size)
    piece = data.draw(st.sampled_from(pieces(bounds_of(lengths), size, data.draw(st.integers(0, size - 1)))))
    assert_blocks(piece, window)


def test_a_block_that_ends_where_the_first_query_stands_is_seen_whole() -> None:
    piece = pieces(bounds_of([257, 255]), 2, 0)[1]
    assert reach(piece, None)[1][0] == 127
    assert_blocks(piece, None)


def assert_blocks(piece: Piece, window: int | None) -> None:
    ours = block_mask(piece, window, torch.device("cpu"))
    places = (int(piece.query_bounds[-1]), int(piece.key_bounds[-1]))
    found = create_block_mask(ours.mask_mod, None, None, *places, device="cpu")
    assert ours.seq_lengths == found.seq_lengths
    dense = [blocks_of(mask) for mask in (ours, found)]
    for one, other in zip(*dense, strict=True):
        assert one == other


def blocks_of(mask: Any) -> tuple[set[tuple[int, int]], set[tuple[int, int]]]:
    """Return which (block of queries, block of keys) are partly, and wholly, seen.

    Blocks that stick out over the last query are whole to us and partial to torch; both are right.
    """
    whole, part = set(), set()
    for counts, indices, into in (
        (mask.kv_num_blocks, mask.kv_indices, part),
        (mask.full_kv_num_blocks, mask.full_kv_indices, whole),
    ):
        for row, count in enumerate(counts[0, 0].tolist()):
            into.update((row, block) for block in indices[0, 0, row, :count].tolist())
    queries = mask.seq_lengths[0]
    ragged = {at for at in whole if (at[0] + 1) * 128 > queries}
    return part | ragged, whole - ragged


def test_each_query_reaches_from_its_segments_first_key_to_itself() -> None:
    first, last = reach(pieces(bounds_of([3, 5]))[0], None)
    assert first.tolist() == [0, 0, 0, 3, 3, 3, 3, 3]
    assert last.tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    first, last = reach(pieces(bounds_of([3, 5]), 2, 0)[1], 2)
    assert first.tolist() == [2, 3]
    assert last.tolist() == [3, 4]


def documented(query: Any, key: Any, value: Any, cu_q: Any, cu_k: Any, max_q: int, max_k: int, **others: Any) -> Any:
    """Variable-length attention as torch documents it and flash attention does it: aligned bottom-right."""
    assert query.dim() == key.dim() == 3
    assert cu_q.dtype == cu_k.dtype == torch.int32
    assert max_q >= int(cu_q.diff().max())
    assert max_k >= int(cu_k.diff().max())
    left, right = others["window_size"]
    assert right == 0
    piece = Piece((0, 0), (0, 0), cu_q.numpy().astype(np.int64), cu_k.numpy().astype(np.int64))
    assert others["enable_gqa"]
    parts = [part.transpose(0, 1)[None] for part in (query, key, value)]
    return stepwise(*parts, piece, None if left == -1 else left + 1, others["scale"])[0].transpose(0, 1)


@pytest.mark.parametrize(("piece", "window"), CASES)
def test_varlen_is_asked_for_what_sdpa_does(piece: Piece, window: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_varlen", lambda: documented)
    inputs = heads(piece.query_bounds[-1], piece.key_bounds[-1])
    ours = outcome(lambda q, k, v: attention._by_varlen(q, k, v, stretch(piece), 0.3, window), inputs)
    other = outcome(lambda q, k, v: attention._by_sdpa(q, k, v, stretch(piece), 0.3, window), inputs)
    for one, two in zip(ours, other, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


def test_torchs_varlen_takes_what_it_is_asked() -> None:
    real = attention._varlen()
    assert real is not None
    inspect.signature(real).bind(0, 0, 0, 0, 0, 0, 0, scale=0.3, window_size=(-1, 0), enable_gqa=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("backend", ["varlen", "flex", "sdpa"])
@pytest.mark.parametrize(("piece", "window"), CASES)
def test_on_a_gpu_all_backends_agree(piece: Piece, window: int | None, backend: str) -> None:
    dtype = torch.bfloat16 if backend == "varlen" else torch.float32
    inputs = heads(piece.query_bounds[-1], piece.key_bounds[-1], dtype, "cuda")
    device = torch.device("cuda")
    work = attention._stretch(piece, 300, device, (window,))
    ours = outcome(lambda q, k, v: attention._WAYS[backend](q, k, v, work, 0.3, window), inputs)  # type: ignore[index]
    cpu = tuple(part.detach().cpu().float().requires_grad_() for part in inputs)
    written = outcome(lambda q, k, v: stepwise(q, k, v, piece, window, 0.3), cpu)  # type: ignore[arg-type]
    bound = 3e-2 if dtype == torch.bfloat16 else 5e-3
    for one, other in zip(ours, written, strict=True):
        torch.testing.assert_close(one.cpu().float(), other, rtol=bound, atol=bound)


def test_the_device_chooses_the_backend() -> None:
    assert choose(torch.device("cpu"), torch.bfloat16) == "sdpa"
    assert choose(torch.device("cpu"), torch.float32) == "sdpa"


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("compiled", [False, True])
def test_recomputed_layers_see_the_same_layout(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.trainee()
    ids, labels, positions, cu_seqlens = tiny.packed(LENGTHS)
    where = tiny.layout(model, cu_seqlens)
    kept = model(ids, labels, positions, where)
    kept.total.backward()
    gradients = tiny.gradients(model)
    monkeypatch.setattr("torch.compile", functools.partial(torch.compile, backend="eager"))
    model.prepare_layers(compiled=compiled, recompute=True)
    calls = count(monkeypatch)
    again = model(ids, labels, positions, where)
    # Another micro-batch comes before the first one's backward.
    model(ids, labels, positions, tiny.layout(model, torch.tensor([0, 64])))
    assert len(calls) == 4
    again.total.backward()
    assert len(calls) == 6
    torch.testing.assert_close(kept.total, again.total)
    assert_equal(tiny.gradients(model), gradients)


def count(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Let a list grow with each call of attention."""
    calls: list[None] = []
    real = attention._by_sdpa

    def counted(*parts: Any) -> Any:
        calls.append(None)
        return real(*parts)

    monkeypatch.setattr(attention, "_WAYS", {"sdpa": counted})
    return calls


@torch.library.custom_op("mixture_tests::varlen", mutates_args={})
def opaque(query: torch.Tensor, cu_seqlens: torch.Tensor, longest: int) -> torch.Tensor:
    """Stand in for the kernel, which a CPU has not: something that depends on the segments."""
    return query * cu_seqlens.float().mean() + longest


@opaque.register_fake
def _(query: Any, cu_seqlens: Any, longest: Any) -> Any:
    return torch.empty_like(query)


def keep(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(inputs[1])


opaque.register_autograd(lambda ctx, grad: (grad * ctx.saved_tensors[0].float().mean(), None, None), setup_context=keep)


def kernel(query: Any, key: Any, value: Any, cu_q: Any, cu_k: Any, max_q: int, max_k: int, **others: Any) -> Any:
    return opaque(query, cu_q, max_q)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("recompute", [False, True])
def test_other_documents_do_not_compile_layers_again(recompute: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch._dynamo.reset()
    compiled = CompileCounterWithBackend("eager")
    monkeypatch.setattr("torch.compile", functools.partial(torch.compile, backend=compiled))
    monkeypatch.setattr(attention, "_varlen", lambda: kernel)
    plain, model = tiny.trainee(), tiny.trainee()
    model.prepare_layers(compiled=True, recompute=recompute)
    graphs = []
    for lengths in (LENGTHS, (30, 34), (1, 2, 3, 4, 5, 49), (7, 7, 50)):
        ids, labels, positions, cu_seqlens = tiny.packed(lengths)
        where = tiny.layout(model, cu_seqlens, "varlen", longest=64)
        outs = [either(ids, labels, positions, where).total for either in (model, plain)]
        for out in outs:
            out.backward()
        torch.testing.assert_close(*outs)
        assert_equal(tiny.gradients(model), tiny.gradients(plain))
        graphs.append(compiled.frame_count)
    # One graph for both layers, and a second when the number of segments was seen to vary.
    assert graphs == [1, 2, 2, 2]


def test_autocast_computes_attention_in_its_own_type(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.trainee()
    ids, labels, positions, cu_seqlens = tiny.packed(LENGTHS)
    where = tiny.layout(model, cu_seqlens)
    exact = model(ids, labels, positions, where).total
    seen = []
    real = attention._WAYS["sdpa"]
    watch = {"sdpa": lambda q, k, v, *others: (seen.extend([q.dtype, k.dtype, v.dtype]), real(q, k, v, *others))[1]}
    monkeypatch.setattr(attention, "_WAYS", watch)
    with torch.autocast("cpu", torch.bfloat16):
        near = model(ids, labels, positions, where).total
    assert set(seen) == {torch.bfloat16}
    assert near.dtype == torch.float32
    torch.testing.assert_close(near, exact, rtol=2e-2, atol=0)


@pytest.mark.parametrize(
    ("given_", "says"),
    [
        ({"layout": None}, "do not hand on `layout`"),
        ({"dropout": 0.1}, "attention_dropout: 0.1"),
        ({"softcap": 30.0}, "wants softcap"),
        ({"is_causal": False}, "wants to look ahead"),
    ],
)
def test_what_would_be_computed_wrongly_is_refused(given_: dict[str, Any], says: str) -> None:
    where = lay_out(torch.tensor([0, 8]), backend="sdpa", device="cpu")
    with pytest.raises(TrainError, match=says):
        attend(torch.nn.Identity(), *heads(8), None, **({"layout": where} | given_))


def test_a_mask_is_refused() -> None:
    where = lay_out(torch.tensor([0, 8]), backend="sdpa", device="cpu")
    with pytest.raises(TrainError, match="made from cu_seqlens"):
        attend(torch.nn.Identity(), *heads(8), torch.ones(1, 1, 8, 8), layout=where)


def test_a_length_that_ranks_cannot_share_is_refused_with_the_nearest() -> None:
    context = Context(None, 0, 4)  # type: ignore[arg-type]
    with pytest.raises(TrainError, match="does not divide its 36 places; the nearest that does is cp: 3"):
        lay_out(torch.tensor([0, 36]), backend="sdpa", device="cpu", context=context)
