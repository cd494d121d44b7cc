"""Shards in an object store: the same rows, of each shard only what is asked for, one listing for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mixture.errors import StoreError
from mixture.loader.steps import Steps
from mixture.loader.stream import Stream
from mixture.pack.shuffle import Shuffle
from mixture.storage import mirror, need
from tests.loader.conftest import Shelf
from tests.storage.objects import Store, environment, hurried


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with environment(tmp_path / "scratch") as store:
        yield store


def put(store: Store, shelf: Shelf) -> None:
    for path in sorted(shelf.folders[0].iterdir()):
        store.put(f"shards/{path.name}", path.read_bytes())


def sparing(monkeypatch: Any) -> None:
    """Fetch no byte more than is needed: small shards would be here after the first look."""
    monkeypatch.setattr("mixture.loader.shard._FOOTER_BYTES", 1024)
    monkeypatch.setattr(need, "__defaults__", (0,))


def remote(store: Store, shelf: Shelf, **more: Any) -> Stream:
    return Stream(shelf.lock, [store.place("shards")], **more)


@pytest.mark.parametrize("layout", ["concat", "utk"])
def test_rows_are_those_of_the_shards_here(store: Store, shelves: Callable[[str], Shelf], layout: str) -> None:
    shelf = shelves(layout)
    put(store, shelf)
    stream, here = (made(shuffle=Shuffle(1 << 40, 2)) for made in (lambda **m: remote(store, shelf, **m), shelf.stream))
    pairs = zip(Steps(stream, batch=20, micro=5), Steps(here, batch=20, micro=5), strict=True)
    for step, same in pairs:
        for arrays, wanted in zip(step, same, strict=True):
            assert arrays.sequences == wanted.sequences
            for name in ("input_ids", "labels", "position_ids", "cu_seqlens"):
                assert (getattr(arrays, name) == getattr(wanted, name)).all()


def test_of_a_shard_only_the_rows_that_are_asked_for_are_fetched(store: Store, shelf: Shelf, monkeypatch: Any) -> None:
    put(store, shelf)
    sparing(monkeypatch)
    stream = remote(store, shelf)
    wanted = np.array([3, int(shelf.lock.shards[0]["sequences"]) + 12])
    assert (stream.rows(wanted).tokens == shelf.tokens()[wanted]).all()
    for shard, facts in enumerate(shelf.lock.shards):
        found = mirror(store.place(f"shards/{facts['shard']}"))
        found.look()
        have = sum(stop - start for start, stop in found.have)
        if shard < 2:
            assert shelf.stream().length * 2 <= have < facts["size"] / 2
        else:
            assert not have


def test_one_listing_says_what_is_missing_before_anything_is_read(store: Store, mine: Shelf) -> None:
    mine.paths()[1].unlink()
    put(store, mine)
    with pytest.raises(StoreError, match=r"s3://.*: 1 of \d+ shards is missing \(shard-00001-of"):
        remote(store, mine)
    assert store.proxy.traffic.kinds == {"LIST": 1}


def test_damage_in_an_object_is_named(store: Store, mine: Shelf) -> None:
    path = mine.paths()[0]
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    path.write_bytes(data)
    put(store, mine)
    with pytest.raises(StoreError, match=r"s3://.*shard-00000-of-.*: row \d+ \(sequence \d+\): damaged"):
        remote(store, mine).rows(np.arange(20))


def test_an_object_that_is_no_shard_is_named(store: Store, mine: Shelf) -> None:
    path = mine.paths()[0]
    path.write_bytes(bytes(path.stat().st_size))
    put(store, mine)
    with pytest.raises(StoreError, match=r"s3://.*shard-00000-of-.*: damaged \(it does not end as an Arrow file\)"):
        remote(store, mine).rows(np.arange(2))


def test_a_store_that_goes_away_in_mid_run_is_said_in_the_loop(store: Store, shelf: Shelf) -> None:
    put(store, shelf)
    with hurried():
        stream = remote(store, shelf)
        steps = iter(Steps(stream, batch=4))
        list(next(steps))
        for name in store.names("shards"):
            if name.endswith(".arrow"):
                store.client.delete_object(Bucket="bucket", Key=store._key(name))
        with pytest.raises(StoreError, match=r"s3://.*there is no such object"):
            _ = [list(step) for step in steps]


def test_workers_that_fork_read_objects(store: Store, shelf: Shelf, monkeypatch: Any) -> None:
    torch_data = pytest.importorskip("torch.utils.data")
    from mixture.loader.batch import Batches

    put(store, shelf)
    sparing(monkeypatch)
    stream = remote(store, shelf)
    # The client of this process has been used: it must not be in the workers.
    stream.rows(np.array([0]))
    loader = torch_data.DataLoader(
        Batches(stream, batch=10, micro=5), batch_size=None, num_workers=2, multiprocessing_context="fork"
    )
    seen = [sequence for batch in loader for sequence in batch.sequences if sequence >= 0]
    assert seen == list(range(len(stream)))
