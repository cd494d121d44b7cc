"""Who reads shards in the loader's bench: ours in three ways, a floor, others; each in its own process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from bench.loader_shards import LENGTH, exported

if TYPE_CHECKING:
    from mixture.loader.stream import Stream

#: Rows that are asked for at once.
MICRO = 4
#: How often each contestant reads all sequences: opening files is a small part of it then.
_PASSES = 6
_SEED = 1


def _order(count: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(_SEED).permutation(count)


def _some(order: np.ndarray[Any, Any]) -> Iterator[np.ndarray[Any, Any]]:
    for first in range(0, len(order), MICRO):
        yield order[first : first + MICRO]


def _report(seconds: float, sequences: int, work: str, passes: int = 1) -> dict[str, Any]:
    size = sum(path.stat().st_size for path in (Path(work) / "shards").glob("*.arrow"))
    return {"seconds": seconds, "sequences": sequences, "tokens": passes * sequences * LENGTH, "megabytes": size / 1e6}


def _passes(once: Callable[[], None], sequences: int, work: str) -> dict[str, Any]:
    start = time.perf_counter()
    for _ in range(_PASSES):
        once()
    return _report(time.perf_counter() - start, sequences, work, _PASSES)


def _stream(work: str, *, check: bool = True) -> Stream:
    from mixture.loader.stream import Stream
    from mixture.pack.shuffle import Shuffle

    place = Path(work)
    shuffle = Shuffle(1 << 40, _SEED)
    return Stream.open(place / "bench.lock.json", shards=place / "shards", shuffle=shuffle, check=check)


def batches(work: str) -> dict[str, Any]:
    """Contestant: whole batches."""
    from mixture.loader.steps import Steps

    stream = _stream(work)

    def once() -> None:
        for step in Steps(stream, batch=MICRO, micro=MICRO, ahead=0):
            for arrays in step:
                del arrays

    return _passes(once, len(stream), work)


def rows(work: str) -> dict[str, Any]:
    """Contestant: tokens and spans, held to their hashes."""
    stream = _stream(work)

    def once() -> None:
        for first in range(0, len(stream), MICRO):
            stream.rows(stream.taken(first, min(first + MICRO, len(stream))))

    return _passes(once, len(stream), work)


def tokens(work: str) -> dict[str, Any]:
    """Contestant: tokens alone."""
    stream = _stream(work, check=False)

    def once() -> None:
        for first in range(0, len(stream), MICRO):
            stream.tokens(stream.taken(first, min(first + MICRO, len(stream))))

    return _passes(once, len(stream), work)


def floor(work: str) -> dict[str, Any]:
    """Contestant: rows of mapped files, widened."""
    paths = sorted((Path(work) / "shards").glob("*.arrow"))
    readers = [pa.ipc.open_file(pa.memory_map(str(path))) for path in paths]
    pieces = [reader.get_batch(number) for reader in readers for number in range(reader.num_record_batches)]
    shards = [np.from_dlpack(piece.column(0).flatten()).reshape(-1, LENGTH) for piece in pieces]
    where = [(shard, row) for shard in shards for row in range(len(shard))]
    order = _order(len(where))

    def once() -> None:
        for some in _some(order):
            out = np.empty((len(some), LENGTH), np.int64)
            for at, number in enumerate(some.tolist()):
                shard, row = where[number]
                out[at] = shard[row]

    return _passes(once, len(where), work)


def huggingface(work: str) -> dict[str, Any]:
    """Contestant: `datasets` on the same files."""
    dataset = _dataset(work).select_columns("input_ids").with_format("numpy")
    order = _order(len(dataset))

    def once() -> None:
        for some in _some(order):
            np.asarray(dataset[some.tolist()]["input_ids"]).astype(np.int64)

    return _passes(once, len(dataset), work)


def _dataset(work: str) -> Any:
    import datasets

    datasets.disable_progress_bars()
    files = sorted(str(path) for path in (Path(work) / "shards").glob("*.arrow"))
    cache = str(Path(work) / "cache")
    return datasets.load_dataset("arrow", data_files=files, split="train", cache_dir=cache)


def mds(work: str) -> dict[str, Any]:
    """Contestant: MosaicML streaming on an export."""
    from streaming import LocalDataset

    dataset = LocalDataset(str(exported(Path(work))))
    order = _order(len(dataset))

    def once() -> None:
        for some in _some(order):
            np.stack([dataset[number]["tokens"] for number in some.tolist()]).astype(np.int64)

    return _passes(once, len(dataset), work)


def _timed(first: Callable[[], int], work: str) -> dict[str, Any]:
    start = time.perf_counter()
    sequences = first()
    return _report(time.perf_counter() - start, sequences, work)


def first(work: str, step: int) -> dict[str, Any]:
    """Contestant: the first batch, imports and the lock's reading included."""

    def run() -> int:
        from mixture.loader.steps import Steps

        stream = _stream(work)
        with Steps(stream, batch=step, micro=step, ahead=0) as steps:
            next(iter(next(iter(steps))))
        return len(stream)

    return _timed(run, work)


def first_huggingface(work: str, step: int) -> dict[str, Any]:
    """Contestant: the first batch of `datasets`; its cache is there from the round before."""

    def run() -> int:
        dataset = _dataset(work).select_columns("input_ids").with_format("numpy")
        np.asarray(dataset[_order(len(dataset))[:step].tolist()]["input_ids"]).astype(np.int64)
        return len(dataset)

    return _timed(run, work)


def first_mds(work: str, step: int) -> dict[str, Any]:
    """Contestant: the first batch of MosaicML streaming."""
    out = exported(Path(work))

    def run() -> int:
        from streaming import LocalDataset

        dataset = LocalDataset(str(out))
        np.stack([dataset[number]["tokens"] for number in _order(len(dataset))[:step].tolist()]).astype(np.int64)
        return len(dataset)

    return _timed(run, work)
