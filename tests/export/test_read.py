"""Shards read back by the number of a sequence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixture.errors import LockError, StoreError
from mixture.lockfile import Lock
from mixture.shards.read import Shards, check_shard, open_shard
from mixture.shards.spans import real_of, spans_of, tokens_of
from tests.export.conftest import KINDS, LENGTH, Shelf, Stock


@pytest.fixture(params=KINDS)
def shelf(request: pytest.FixtureRequest, stock: Stock) -> Shelf:
    return stock(request.param)


def test_every_sequence_comes_back_by_its_number(shelf: Shelf) -> None:
    shards = Shards(shelf.lock, shelf.folders)
    assert len(shards) == len(shelf.truth[0])
    assert shards.length == LENGTH
    for number, truth in enumerate(shelf.truth[0]):
        row = shards.row(number)
        assert row.tokens.tolist() == truth.tokens
        assert row.spans.to_pylist() == truth.spans
        assert row.marks.tolist() == truth.marks


def test_batches_are_the_stream_in_order(shelf: Shelf) -> None:
    batches = list(Shards(shelf.lock, shelf.folders).batches())
    assert np.concatenate([tokens_of(b) for b in batches]).tolist() == [row.tokens for row in shelf.truth[0]]
    assert np.concatenate([real_of(b) for b in batches]).tolist() == [row.real for row in shelf.truth[0]]


def test_a_slice_of_a_batch_has_the_spans_of_its_rows(shelf: Shelf) -> None:
    batch = next(Shards(shelf.lock, shelf.folders).batches()).slice(1, 2)
    truth = shelf.truth[0][1:3]
    spans = spans_of(batch)
    assert list(zip(spans.start.tolist(), spans.stop.tolist(), strict=True)) == [
        b for row in truth for b in row.borders
    ]
    assert spans.per_row().tolist() == [len(row.spans) for row in truth]
    assert spans.ids() == [span["doc_id"].hex() for row in truth for span in row.spans]
    assert spans.domains() == [span["domain"] for row in truth for span in row.spans]
    assert real_of(batch).tolist() == [row.real for row in truth]
    assert spans.position(LENGTH).tolist() == [
        number * LENGTH + start for number, row in enumerate(truth) for start, _ in row.borders
    ]


@given(st.lists(st.integers(0, 5), min_size=1).filter(any))
def test_a_sequence_is_found_in_the_shard_that_holds_it(counts: list[int]) -> None:
    facts = [{"shard": f"{number}", "sequences": count} for number, count in enumerate(counts)]
    phase = {"name": "", "stream": {"sequence_length": 8}, "shards": facts}
    shards = Shards(Lock("x", {}, {}, [], {}, {}, [phase]), [Path()])
    places = [(shard, row) for shard, count in enumerate(counts) for row in range(count)]
    assert [shards.locate(number) for number in range(len(shards))] == places


def test_a_sequence_that_is_not_there_is_refused_with_the_bound(shelf: Shelf) -> None:
    shards = Shards(shelf.lock, shelf.folders)
    for number in (-1, 11):
        with pytest.raises(StoreError, match=rf"sequence {number}: the phase has 11, numbered from 0"):
            shards.locate(number)


def test_phases_are_numbered_apart(stock: Stock) -> None:
    shelf = stock("padded", phases=("a", "b"))
    for phase in (0, 1):
        row = Shards(shelf.lock, shelf.folders, phase).row(3)
        assert row.tokens.tolist() == shelf.truth[phase][3].tokens


def test_tokens_are_mapped_and_not_copied(stock: Stock) -> None:
    shelf = stock("full")
    before = pa.total_allocated_bytes()
    tokens = tokens_of(next(Shards(shelf.lock, shelf.folders).batches()))
    assert pa.total_allocated_bytes() == before
    assert not tokens.flags.writeable


def test_a_lock_without_shards_is_refused(stock: Stock) -> None:
    shelf = stock("full")
    with pytest.raises(LockError, match="lists no shards yet"):
        Shards(shelf.lock.without_shards(), shelf.folders)


def test_what_is_wrong_with_a_shard_is_one_sentence_with_its_path(stock: Stock) -> None:
    shelf = stock("full")
    path, facts = shelf.shard(0), shelf.lock.shards[0]
    with pytest.raises(StoreError, match=r"00000-of-00003\.arrow: 7 sequences, the lock says 8; remove it"):
        open_shard(path, facts | {"sequences": 8})
    with pytest.raises(StoreError, match=r"its hash is .* the lock says ffff; remove it"):
        check_shard(path, facts | {"hash": "ffff"})
    path.write_bytes(bytes(facts["size"]))
    with pytest.raises(StoreError, match="damaged, no Arrow file"):
        open_shard(path, facts)
    with pa.OSFile(str(path), "wb") as out, pa.ipc.new_file(out, pa.schema([("text", pa.string())])):
        pass
    with pytest.raises(StoreError, match="no shard, its columns are text"):
        open_shard(path, facts | {"size": path.stat().st_size})
    path.unlink()
    with pytest.raises(StoreError, match="this shard is missing; run `mixture pack`"):
        open_shard(path, facts)
    with pytest.raises(StoreError, match="this shard is missing"):
        check_shard(path / "below", facts)
