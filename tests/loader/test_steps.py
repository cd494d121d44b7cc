"""Steps over real shards: N then M is N + M, ranks and micro-batches may change, the geometry is that of the spans."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest

from mixture.errors import LockError, MixtureError
from mixture.loader import geometry
from mixture.loader.state import State
from mixture.loader.steps import Arrays, Steps
from mixture.pack.shuffle import Shuffle
from tests.loader.conftest import LAYOUTS, Shelf

Shelves = Callable[[str], Shelf]


def train(
    shelf: Shelf, *, ranks: int, batch: int = 12, micro: int = 1, steps: int = 10**6, state: State | None = None
) -> tuple[list[list[int]], State]:
    """Let all ranks take some steps; return what each step took, and the state after them."""
    taken: list[list[int]] = []
    ends = set()
    for rank in range(ranks):
        stream = shelf.stream(shuffle=Shuffle(1 << 40, 4))
        way = Steps(stream, batch=batch, micro=micro, rank=rank, ranks=ranks, state=state)
        for number, step in enumerate(way):
            mine = [sequence for arrays in step for sequence in arrays.sequences]
            if rank == 0:
                taken.append([])
            taken[number] += [sequence for sequence in mine if sequence >= 0]
            if number == steps - 1:
                break
        ends.add(way.state)
    assert len(ends) == 1
    return taken, ends.pop()


def test_n_then_m_is_n_plus_m_with_other_ranks_in_each_part(shelf: Shelf) -> None:
    whole, end = train(shelf, ranks=1)
    total = len(shelf.stream())
    assert sorted(sequence for step in whole for sequence in step) == list(range(total))
    assert end.sequences == total
    parts: list[list[int]] = []
    state: State | None = None
    for ranks, micro, steps in ((1, 1, 2), (2, 3, 3), (3, 1, 1), (4, 1, 2), (1, 12, 10**6)):
        taken, state = train(shelf, ranks=ranks, micro=micro, steps=steps, state=state)
        state = State.of(state.state_dict())
        parts += taken
    assert [sorted(step) for step in parts] == [sorted(step) for step in whole]
    assert state == end


def test_another_batch_after_a_resume_goes_on_where_the_first_stopped(shelf: Shelf) -> None:
    first, state = train(shelf, ranks=2, batch=10, steps=3)
    assert state.sequences == 30
    rest, end = train(shelf, ranks=3, batch=9, state=state)
    every = [sequence for step in first + rest for sequence in step]
    assert sorted(every) == list(range(len(shelf.stream())))
    assert end.sequences == len(every)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("documents", [True, False])
def test_arrays_are_the_geometry_of_their_rows(shelves: Shelves, layout: str, documents: bool) -> None:
    stream = shelves(layout).stream(shuffle=Shuffle(40, 1))
    tokens = shelves(layout).tokens()
    for step in Steps(stream, batch=16, micro=4, documents=documents):
        for arrays in step:
            rows, length = arrays.input_ids.shape
            real = np.array(arrays.sequences) >= 0
            assert (arrays.input_ids[real] == tokens[np.array(arrays.sequences)[real]]).all()
            assert not arrays.input_ids[~real].any()
            assert (arrays.labels[~real] == -100).all()
            wanted = geometry.labels(
                arrays.input_ids, arrays.spans, mask_starts=documents, shift=True, trace=stream.trace
            )
            assert (arrays.labels == wanted).all()
            assert (arrays.position_ids == geometry.position_ids(arrays.spans, length, reset=documents)).all()
            borders = geometry.cu_seqlens(arrays.spans, length) if documents else np.arange(rows + 1) * length
            assert arrays.cu_seqlens.tolist() == borders.tolist()
            assert arrays.cu_seqlens.dtype == np.int32
            assert arrays.max_seqlen == np.diff(borders).max()
            # Positions begin anew where segments do.
            assert (arrays.position_ids.reshape(-1)[arrays.cu_seqlens[:-1]] == 0).all()


def test_back_tracing_ids_are_learnt_and_other_marks_are_not(shelves: Shelves) -> None:
    counts = {}
    for layout in ("utk", "utk, traced"):
        stream = shelves(layout).stream()
        step = next(iter(Steps(stream, batch=len(stream), micro=len(stream), documents=False)))
        (arrays,) = step
        row = np.repeat(np.arange(len(stream)), np.diff(arrays.spans.mark_borders))
        after = arrays.spans.marks > 0
        counts[layout] = int((arrays.labels[row[after], arrays.spans.marks[after] - 1] != -100).sum())
    assert counts["utk"] == 0
    assert counts["utk, traced"] > 0


def test_each_micro_batch_knows_what_is_taken_with_it(shelf: Shelf) -> None:
    steps = Steps(shelf.stream(), batch=6, micro=2)
    for number, step in enumerate(steps):
        states = [arrays.state.sequences for arrays in step]
        end = min((number + 1) * 6, len(shelf.stream()))
        assert states == [number * 6] * (len(step) - 1) + [end]
        assert steps.state.sequences == end
        assert step.number == number


def test_a_step_that_is_left_in_the_middle_is_taken_when_the_next_one_begins(shelf: Shelf) -> None:
    steps = Steps(shelf.stream(), batch=6, micro=1)
    firsts = []
    for step in steps:
        firsts.append(next(iter(step)).sequences[0])
        if len(firsts) == 3:
            assert steps.state.sequences == 12
            break
    assert firsts == [0, 6, 12]
    # Broken off there, the step was not taken: it begins again.
    assert next(iter(next(iter(steps)))).sequences == (12,)


def test_iterated_again_steps_go_on(shelf: Shelf) -> None:
    steps = Steps(shelf.stream(), batch=50)
    assert len(steps) == -(-len(shelf.stream()) // 50)
    for step in steps:
        list(step)
        break
    assert len(steps) == -(-len(shelf.stream()) // 50) - 1
    rest = [sequence for step in steps for arrays in step for sequence in arrays.sequences if sequence >= 0]
    assert rest == list(range(50, len(shelf.stream())))
    assert list(steps) == []


@pytest.mark.parametrize("ahead", [0, 1, 5])
def test_reading_ahead_changes_nothing_and_leaves_no_thread(shelf: Shelf, ahead: int) -> None:
    with Steps(shelf.stream(), batch=7, ahead=ahead) as steps:
        found = [sequence for step in steps for arrays in step for sequence in arrays.sequences]
    assert found == list(range(len(shelf.stream())))
    with Steps(shelf.stream(), batch=7, ahead=ahead) as steps:
        next(iter(next(iter(steps))))
    assert not [thread for thread in threading.enumerate() if thread.name == "mixture-ahead"]


def test_level_ranks_are_level(shelves: Shelves) -> None:
    shelf = shelves("intact")
    spread = {}
    for balance in (True, False):
        loads = []
        for rank in range(3):
            steps = Steps(shelf.stream(), batch=24, rank=rank, ranks=3, balance=balance)
            loads.append([sum(_cost(arrays) for arrays in step) for step in steps])
        sums = np.array(loads)
        spread[balance] = (sums.max(axis=0) / sums.mean(axis=0)).mean()
    assert spread[True] < 1.05 < spread[False]


def _cost(arrays: Arrays) -> int:
    return int(((arrays.spans.stop - arrays.spans.start) ** 2).sum())


def test_what_does_not_fit_the_stream_is_refused_at_once(shelf: Shelf) -> None:
    stream = shelf.stream()
    with pytest.raises(MixtureError, match="a step of 10 sequences does not share out over 3 ranks"):
        Steps(stream, batch=10, ranks=3)
    with pytest.raises(LockError, match="is of lock"):
        Steps(stream, batch=10, state=State("0" * 32))
    with pytest.raises(MixtureError, match="ahead is -1: give 0 for no thread"):
        Steps(stream, batch=10, ahead=-1)
