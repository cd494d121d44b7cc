"""Tensors for every kind of loop: ours, DataLoader, StatefulDataLoader; workers and ranks may change at a resume."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.utils.data import DataLoader  # noqa: E402

from mixture.errors import LockError, MixtureError, StoreError  # noqa: E402
from mixture.loader import steps as arrays_of  # noqa: E402
from mixture.loader.batch import Batch, Batches, Counted, Steps  # noqa: E402
from mixture.loader.state import State  # noqa: E402
from mixture.loader.stream import Stream  # noqa: E402
from mixture.pack.shuffle import Shuffle  # noqa: E402
from tests.loader.conftest import Shelf  # noqa: E402

Shelves = Callable[[str], Shelf]
pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning"),
]
BATCH = 12


@pytest.fixture
def stream(shelf: Shelf) -> Stream:
    return shelf.stream(shuffle=Shuffle(1 << 40, 6))


def loader(data: Batches, workers: int, kind: Any = DataLoader) -> Any:
    # Forked: these workers only read, and starting them anew takes seconds each.
    more = {"multiprocessing_context": "fork"} if workers else {}
    return kind(data, batch_size=None, num_workers=workers, **more)


def real(batches: Any) -> list[int]:
    return [sequence for batch in batches for sequence in batch.sequences if sequence >= 0]


def test_tensors_are_the_arrays(stream: Stream) -> None:
    pairs = zip(Steps(stream, batch=BATCH, micro=3), arrays_of.Steps(stream, batch=BATCH, micro=3), strict=True)
    for step, same in pairs:
        for batch, arrays in zip(step, same, strict=True):
            for name, dtype in (
                ("input_ids", torch.int64),
                ("labels", torch.int64),
                ("position_ids", torch.int64),
                ("cu_seqlens", torch.int32),
            ):
                assert getattr(batch, name).dtype == dtype
                assert (getattr(batch, name).numpy() == getattr(arrays, name)).all()
            assert (batch.max_seqlen, batch.sequences, batch.state) == (
                arrays.max_seqlen,
                arrays.sequences,
                arrays.state,
            )
    moved = batch.to("meta")
    assert moved.labels.is_meta
    assert moved.spans is batch.spans


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_a_dataloader_gives_the_same_batches_with_any_number_of_workers(stream: Stream, workers: int) -> None:
    found = list(loader(Batches(stream, batch=BATCH, micro=2), workers))
    wanted = [batch for step in Steps(stream, batch=BATCH, micro=2) for batch in step]
    assert len(found) == len(Batches(stream, batch=BATCH, micro=2))
    assert [batch.sequences for batch in found] == [batch.sequences for batch in wanted]
    assert all((one.labels == other.labels).all() for one, other in zip(found, wanted, strict=True))
    assert [batch.state for batch in found] == [batch.state for batch in wanted]


def test_ranks_and_workers_change_at_each_resume_and_every_sequence_is_seen_once(stream: Stream) -> None:
    seen: list[int] = []
    saved: dict[str, Any] = stream.state().state_dict()
    for ranks, workers, steps in ((1, 0, 1), (2, 2, 2), (3, 3, 2), (3, 0, 1), (1, 2, 10**6)):
        states = []
        for rank in range(ranks):
            counted = Counted(loader(Batches(stream, batch=BATCH, micro=2, rank=rank, ranks=ranks), workers))
            counted.load_state_dict(json.loads(json.dumps(saved)))
            for number, batch in enumerate(counted, 1):
                seen += [sequence for sequence in batch.sequences if sequence >= 0]
                if number == steps * BATCH // ranks // 2:
                    break
            states.append(counted.state_dict())
        assert all(state == states[0] for state in states)
        saved = states[0]
    assert sorted(seen) == list(range(len(stream)))
    assert saved == stream.state(len(stream)).state_dict()


def test_counted_counts_what_was_delivered_not_what_workers_made(stream: Stream) -> None:
    counted = Counted(loader(Batches(stream, batch=4, micro=2), 2))
    ways = iter(counted)
    states = []
    for _ in range(5):
        next(ways)
        states.append(counted.state.sequences)
    # A step is two micro-batches here; workers made several more by now.
    assert states == [0, 4, 4, 8, 8]


def test_counted_wants_our_batches() -> None:
    with pytest.raises(MixtureError, match="takes a DataLoader of"):
        Counted(DataLoader([1, 2]))


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("stop", [0, 1, 5, 10**6])
def test_a_stateful_dataloader_goes_on_where_it_was(stream: Stream, workers: int, stop: int) -> None:
    pytest.importorskip("torchdata")
    from torchdata.stateful_dataloader import StatefulDataLoader

    def made() -> Any:
        return loader(Batches(stream, batch=8, micro=2), workers, StatefulDataLoader)

    wanted = [batch.sequences for batch in Batches(stream, batch=8, micro=2)]
    one = made()
    found, saved = [], None
    for batch in one if stop else ():
        found.append(batch.sequences)
        if len(found) == min(stop, len(wanted)):
            saved = one.state_dict()
            break
    other = made()
    if saved is not None:
        other.load_state_dict(saved)
    # In the middle of a step, too.
    rest = [batch.sequences for batch in other]
    assert found + rest == wanted


def test_a_stateful_dataloader_s_workers_are_not_mixed_up(stream: Stream) -> None:
    data = Batches(stream, batch=8, micro=2)
    ways = iter(data)
    next(ways)
    saved = data.state_dict()
    assert saved["micro"] == 1
    with pytest.raises(LockError, match=r"in mid-step \(batch 8, micro 2, rank 0, ranks 1, workers 1\), and this"):
        Batches(stream, batch=8, micro=1).load_state_dict(saved)
    for _ in range(3):
        next(ways)
    assert data.state_dict() == stream.state(8).state_dict()


def test_a_state_at_a_step_s_end_is_three_values_that_any_dataset_loads(stream: Stream) -> None:
    data = Batches(stream, batch=8, micro=2)
    ways = iter(data)
    for _ in range(4):
        next(ways)
    other = Batches(stream, batch=6, micro=3)
    other.load_state_dict(data.state_dict())
    assert other.start.sequences == 8
    assert real(other) == stream.taken(8, len(stream)).tolist()
    # Iterated again, it begins where it was told to.
    assert real(other) == stream.taken(8, len(stream)).tolist()
    assert len(other) == -(-(len(stream) - 8) // 3)


def test_a_state_of_another_lock_is_refused_by_every_loop(stream: Stream) -> None:
    foreign = State("0" * 32, 0, 4)
    for begin in (
        lambda: Batches(stream, batch=8, state=foreign),
        lambda: Batches(stream, batch=8).load_state_dict(foreign.state_dict()),
        lambda: Counted(loader(Batches(stream, batch=8), 0)).load_state_dict(foreign.state_dict()),
        lambda: Steps(stream, batch=8, state=foreign),
    ):
        with pytest.raises(LockError, match="is of lock 000000000000"):
            begin()


def test_damage_in_a_worker_is_named_in_the_loop(mine: Shelf) -> None:
    stream = mine.stream()
    path = mine.paths()[0]
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"shard-00000-of-.*: row \d+ \(sequence \d+\): damaged"):
        list(loader(Batches(stream, batch=4), 1))


def test_level_ranks_take_the_same_steps_as_plain_ones(shelves: Shelves) -> None:
    stream = shelves("intact").stream()
    for balance in (True, False):
        ways = [list(Batches(stream, batch=BATCH, micro=2, rank=rank, ranks=2, balance=balance)) for rank in range(2)]
        assert sorted(real(ways[0]) + real(ways[1])) == list(range(len(stream)))
        assert len(ways[0]) == len(ways[1])
        first = real(ways[0][:3]) + real(ways[1][:3])
        assert sorted(first) == list(range(BATCH))


def test_a_hugging_face_batch_has_the_labels_that_the_model_shifts_to_ours(shelves: Shelves) -> None:
    stream = shelves("intact").stream()
    for batch in list(Batches(stream, batch=BATCH, micro=4)):
        given = batch.huggingface()
        assert (
            given["input_ids"].shape
            == given["labels"].shape
            == given["position_ids"].shape
            == (1, batch.labels.numel())
        )
        shifted = torch.nn.functional.pad(given["labels"], (0, 1), value=-100)[:, 1:]
        assert (shifted.reshape(batch.labels.shape) == batch.labels).all()
        there = given["labels"] != -100
        assert (given["labels"][there] == given["input_ids"][there]).all()


def test_documents_off_makes_each_row_one_segment(stream: Stream) -> None:
    batch: Batch = next(iter(Batches(stream, batch=BATCH, micro=3, documents=False)))
    assert batch.cu_seqlens.tolist() == [0, 256, 512, 768]
    assert batch.max_seqlen == 256
    assert (batch.position_ids.numpy() == np.arange(256)).all()
