"""Context parallelism: ranks that share a sequence compute what one rank would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch.distributed as dist  # noqa: E402

from mixture.errors import TrainError  # noqa: E402
from mixture.train.blocks import reach  # noqa: E402
from mixture.train.context import (  # noqa: E402
    Context,
    bounds_of,
    check_length,
    chunks,
    gather,
    pieces,
    places,
    shard,
    unshard,
)
from tests.train import tiny  # noqa: E402
from tests.train.ranks import together  # noqa: E402

shapes = st.tuples(st.lists(st.integers(1, 50), min_size=1, max_size=10), st.integers(1, 5))


def lengths_of(shape: tuple[list[int], int]) -> list[int]:
    """Make the last document longer until the ranks can share all."""
    lengths, size = shape
    return [*lengths[:-1], lengths[-1] + -sum(lengths) % (2 * size)]


def test_each_rank_has_an_early_and_a_late_chunk() -> None:
    assert chunks(8, 2, 0) == ((0, 2), (6, 8))
    assert chunks(8, 2, 1) == ((2, 4), (4, 6))
    assert chunks(8, 1, 0) == ((0, 8),)


def test_a_chunk_looks_back_to_where_its_first_document_begins() -> None:
    early, late = pieces(bounds_of([3, 5]), 2, 0)
    assert (early.queries, early.keys) == ((0, 2), (0, 2))
    assert (late.queries, late.keys) == ((2, 4), (3, 8))
    assert late.query_bounds.tolist() == [0, 2]
    assert late.key_bounds.tolist() == [0, 5]
    early, late = pieces(bounds_of([3, 5]), 2, 1)
    assert early.keys == (0, 4)
    assert early.query_bounds.tolist() == [0, 1, 2]
    assert early.key_bounds.tolist() == [0, 3, 4]
    assert late.keys == (3, 6)


@settings(deadline=None)
@given(shapes)
def test_every_place_is_one_ranks(shape: tuple[list[int], int]) -> None:
    length, size = sum(lengths_of(shape)), shape[1]
    taken = np.concatenate([places(length, size, rank) for rank in range(size)])
    assert sorted(taken.tolist()) == list(range(length))
    assert len({len(places(length, size, rank)) for rank in range(size)}) == 1


@settings(deadline=None)
@given(shapes, st.none() | st.integers(1, 60))
def test_all_ranks_together_see_what_one_would(shape: tuple[list[int], int], window: int | None) -> None:
    bounds, size = bounds_of(lengths_of(shape)), shape[1]
    first, last = reach(pieces(bounds)[0], window)
    for rank in range(size):
        mine = places(int(bounds[-1]), size, rank)
        for piece in pieces(bounds, size, rank):
            own_first, own_last = reach(piece, window)
            at = mine[piece.queries[0] : piece.queries[1]]
            assert (own_first + piece.keys[0]).tolist() == first[at].tolist()
            assert (own_last + piece.keys[0]).tolist() == last[at].tolist()
            assert piece.key_bounds[-1] == piece.keys[1] - piece.keys[0]
            same = np.diff(piece.key_bounds)[1:] == np.diff(piece.query_bounds)[1:]
            assert same.all()


@settings(deadline=None)
@given(st.integers(1, 64), st.integers(2, 8))
def test_zigzag_levels_the_work(each: int, size: int) -> None:
    length = each * 2 * size
    work = [int((places(length, size, rank) + 1).sum()) for rank in range(size)]
    assert len(set(work)) == 1


def test_a_length_that_cannot_be_shared_is_refused_with_the_nearest_that_can() -> None:
    check_length(24, 3)
    with pytest.raises(TrainError, match=r"cp: 3 ranks .* 6 does not divide its 32 places; the nearest .* is cp: 2"):
        check_length(32, 3)
    with pytest.raises(TrainError, match="it must be even"):
        check_length(33, 2)


def _shared() -> None:
    """Hold runs of 4 ranks that share a sequence, and of 2 pairs of them, to a run of one rank."""
    pairs = [dist.new_group([0, 1]), dist.new_group([2, 3])]
    for group, family, others in (
        (dist.group.WORLD, "llama", {}),
        (
            pairs[dist.get_rank() // 2],
            "qwen3",
            {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1},
        ),
    ):
        context = Context.of(group)  # type: ignore[arg-type]
        _moves(context)
        model = tiny.trainee(family, **others)
        # One document runs through three chunks, one is of one place, some end in a chunk's middle.
        batch = tiny.packed((5, 39, 1, 10, 9))
        alone, gradients = _run(model, batch, tiny.layout(model, batch[3]))
        model.prepare_layers(compiled=False, recompute=True)
        layout = tiny.layout(model, batch[3], context=context)
        losses, parts = _run(model, (*(shard(x, context) for x in batch[:3]), batch[3]), layout)
        torch.testing.assert_close(unshard(losses.tokens, context), alone.tokens, rtol=1e-4, atol=1e-4)
        total = losses.total.detach().clone()
        dist.all_reduce(total, group=group)
        torch.testing.assert_close(total, alone.total.detach())
        for name, part in parts.items():
            dist.all_reduce(part, group=group)
            torch.testing.assert_close(
                part, gradients[name], rtol=1e-3, atol=1e-4, msg=lambda m, name=name: f"{name} {m}"
            )


def _moves(context: Context) -> None:
    """Look at the moves alone: places out and back, and the gradient of a gather."""
    whole = torch.arange(24.0)[None]
    part = shard(whole, context)
    assert part[0].tolist() == places(24, context.size, context.rank).tolist()
    assert torch.equal(unshard(part, context), whole)
    mine = part[0].clone().requires_grad_()
    gathered = gather(mine, context)
    assert torch.equal(gathered, whole[0])
    (gathered * whole[0] * (context.rank + 1)).sum().backward()
    ranks = context.size * (context.size + 1) // 2
    assert torch.equal(mine.grad, part[0] * ranks)  # type: ignore[arg-type]


def _run(model: Any, batch: Any, layout: Any) -> tuple[Any, dict[str, Any]]:
    losses = model(*batch[:3], layout)
    losses.total.backward()
    return losses, tiny.gradients(model)


@pytest.mark.slow
def test_2_and_4_ranks_have_the_loss_and_the_gradients_of_one(tmp_path: Path) -> None:
    together(_shared, 4, tmp_path)
