"""Rows come back by number as they were written, whatever the packing; nothing is opened that is not asked for."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mixture.errors import LockError, StoreError
from mixture.loader import Spans
from mixture.loader.balance import costs
from mixture.loader.state import State
from mixture.loader.stream import Stream
from mixture.pack.shuffle import Shuffle, taken
from tests.loader.conftest import LAYOUTS, PIECE, Shelf

Shelves = Callable[[str], Shelf]


def same(found: Spans, wanted: Spans) -> None:
    for name, column in vars(wanted).items():
        if name != "document":
            assert getattr(found, name).tolist() == column.tolist(), name
    pairs = {(a, b) for a, b in zip(found.document.tolist(), wanted.document.tolist(), strict=True)}
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("window", [0, 50, 1 << 40])
def test_rows_are_those_of_the_shards(shelves: Shelves, layout: str, window: int) -> None:
    shelf = shelves(layout)
    stream = shelf.stream(shuffle=Shuffle(window, 3))
    table, tokens = shelf.table(), shelf.tokens()
    assert len(stream) == len(tokens) > 3 * PIECE
    for first in range(0, len(stream), 7):
        rows = stream.rows(stream.taken(first, min(first + 7, len(stream))))
        assert rows.tokens.dtype == np.int64
        assert (rows.tokens == tokens[rows.sequences]).all()
        chosen = table.take(rows.sequences)
        marks = chosen["marks"] if "marks" in table.column_names else None
        same(rows.spans, Spans.of(chosen["spans"], marks, stream.domains))


def test_domains_are_the_lock_s_in_its_order(shelf: Shelf) -> None:
    stream = shelf.stream()
    assert stream.domains == tuple(dict.fromkeys(cell["domain"] for cell in shelf.lock.phases[0]["cells"]))
    spans = shelf.table()["spans"].to_pylist()
    names = [span["domain"] for row in spans for span in row]
    rows = stream.rows(np.arange(len(stream)))
    assert [stream.domains[code] for code in rows.spans.domain] == names


def test_phases_are_streams_of_their_own(shelves: Shelves) -> None:
    shelf = shelves("phases")
    for phase, (name, length) in enumerate((("short", 256), ("long", 512))):
        stream = shelf.stream(phase)
        assert (stream.name, stream.length) == (name, length)
        assert (stream.rows(np.arange(len(stream))).tokens == shelf.tokens(phase)).all()


def test_a_blank_row_is_zeros_without_spans(shelf: Shelf) -> None:
    stream = shelf.stream()
    rows = stream.rows(np.array([-1, 4, -1, 9]))
    whole = stream.rows(np.array([4, 9]))
    assert (rows.tokens[[1, 3]] == whole.tokens).all()
    assert not rows.tokens[[0, 2]].any()
    assert np.diff(rows.spans.borders).tolist() == [
        0,
        *np.diff(whole.spans.borders[:2]),
        0,
        *np.diff(whole.spans.borders[1:]),
    ]
    assert rows.spans.start.tolist() == whole.spans.start.tolist()
    blank = stream.rows(np.array([-1]))
    assert blank.tokens.shape == (1, stream.length)
    assert not len(blank.spans.start)


@pytest.mark.parametrize("layout", ["concat", "intact", "utk"])
def test_costs_are_those_of_the_spans(shelves: Shelves, layout: str) -> None:
    stream = shelves(layout).stream()
    order = np.random.default_rng(0).permutation(len(stream))
    assert stream.costs(order).tolist() == costs(stream.rows(order).spans).tolist()


def test_the_order_is_the_shuffle_s(shelf: Shelf) -> None:
    stream = shelf.stream(shuffle=Shuffle(64, 9))
    whole = taken(len(stream), 64, 9, 0, len(stream))
    for first, stop in ((0, 5), (3, 90), (1, 2), (len(stream) - 1, len(stream)), (0, len(stream)), (5, 5)):
        assert stream.taken(first, stop).tolist() == whole[first:stop].tolist()


def test_batches_of_one_piece_length_stay_whole(shelves: Shelves) -> None:
    stream = shelves("vsl").stream(shuffle=Shuffle(1 << 40, 1))
    order = stream.taken(0, len(stream))
    whole = len(stream) // 4 * 4
    batches = order[:whole].reshape(-1, 4)
    assert not (batches[:, 0] % 4).any()
    assert (np.diff(batches) == 1).all()
    assert (np.diff(batches[:, 0]) != 4).any()


def test_only_shards_that_are_asked_for_are_opened(mine: Shelf) -> None:
    stream = mine.stream()
    count = int(mine.lock.shards[0]["sequences"])
    for path in mine.paths()[1:]:
        path.write_bytes(bytes(path.stat().st_size))
    stream.rows(np.arange(count))
    with pytest.raises(StoreError, match="shard-00001-of"):
        stream.rows(np.arange(count, count + 1))


def test_a_stream_may_travel_to_another_process(shelf: Shelf) -> None:
    stream = shelf.stream(shuffle=Shuffle(100, 2))
    stream.rows(stream.taken(0, 3))
    twin = pickle.loads(pickle.dumps(stream))
    order = stream.taken(0, 20)
    assert twin.taken(0, 20).tolist() == order.tolist()
    assert (twin.rows(order).tokens == stream.rows(order).tokens).all()


def test_the_loader_without_tensors_leaves_torch_alone() -> None:
    code = "import sys, mixture.loader.steps; sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_stream_opens_by_the_names_of_files(shelves: Shelves, tmp_path: Path) -> None:
    shelf = shelves("phases")
    path = tmp_path / "any.lock.json"
    shelf.lock.write(path)
    for phase, number in ((1, 1), ("long", 1), (0, 0)):
        stream = Stream.open(path, work=shelf.root / "work", phase=phase)
        assert (stream.phase, len(stream)) == (number, len(shelf.stream(number)))
    assert len(Stream.open(path, shards=shelf.root / "work" / "shards")) == len(shelf.stream(0))
    with pytest.raises(LockError, match="no such phase; did you mean 'long'"):
        Stream.open(path, work=shelf.root / "work", phase="lung")
    with pytest.raises(LockError, match="phase 2: the lock of 'small' has 2, numbered from 0"):
        Stream.open(path, work=shelf.root / "work", phase=2)
    with pytest.raises(LockError, match="no lock there"):
        Stream.open(tmp_path / "none.lock.json")


def test_a_lock_without_shards_is_refused(shelf: Shelf) -> None:
    with pytest.raises(LockError, match="lists no shards yet; run `mixture pack` first"):
        Stream(shelf.lock.without_shards(), shelf.folders)


def test_sequences_that_are_not_there_are_refused(shelf: Shelf) -> None:
    stream = shelf.stream()
    with pytest.raises(StoreError, match=rf"sequence {len(stream)}: the phase has {len(stream)}, numbered from 0"):
        stream.rows(np.array([0, len(stream)]))


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"lock": "0" * 32}, "is of lock 000000000000, this one"),
        ({"phase": 1}, "is of phase 1, this stream is phase 0: open the lock with phase=1"),
        ({"sequences": 10**6}, "has 1,000,000 sequences taken, the phase has"),
        ({"sequences": -1}, "has -1 sequences taken"),
    ],
)
def test_a_state_of_something_else_is_refused(shelf: Shelf, changed: dict[str, object], sentence: str) -> None:
    stream = shelf.stream()
    with pytest.raises(LockError, match=sentence):
        stream.check_state(State.of(stream.state(5).state_dict() | changed))


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({}, "this one has nothing"),
        ({"lock": "a", "phase": 0}, "this one has lock, phase"),
        ({"lock": "a", "phase": 0, "sequences": "7"}, "sequences is '7', not int"),
        ({"lock": "a", "phase": 0, "sequences": True}, "sequences is True, not int"),
        ({"lock": "a", "phase": 0, "sequences": 1, "more": 1}, "this one has lock, phase, sequences, more"),
    ],
)
def test_a_state_that_is_none_is_refused(value: dict[str, object], sentence: str) -> None:
    with pytest.raises(LockError, match=sentence):
        State.of(value)


def test_a_state_is_three_plain_values(shelf: Shelf) -> None:
    state = shelf.stream().state(12)
    assert state.state_dict() == {"lock": shelf.lock.fingerprint, "phase": 0, "sequences": 12}
    assert State.of(state.state_dict()) == state
