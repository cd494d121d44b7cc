"""Shards → batches: our loader, others on the same tokens, and what a copy costs at least.

The shards are as `pack` writes them: documents of SlimPajama's shape (`bench.slimpajama`) end to end in sequences of
32K, spans, hashes of rows; the tokens are random. Every contestant reads every sequence a few times, in one random
order, in one process, some at a time, and ends with int64 arrays; the files are in the page cache.

    batches   ours: input_ids, labels, position_ids, cu_seqlens, spans; each row held to its hash
    rows      ours: tokens and spans; each row held to its hash
    tokens    ours: tokens alone, held to nothing: as much as the others do
    floor     rows of a mapped file, widened to int64: one copy
    datasets  the same Arrow files, format numpy
    mds       the same tokens as MDS shards, `LocalDataset` of MosaicML streaming

The first batch is the time from a fresh interpreter's first line, imports and the lock's reading included, to the first
batch of a shuffled phase of 1,000 shards. None of the others is a dependency: what is not installed is said and left
out.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from bench import measure
from bench.measure import Contestant, Failed, Rounds
from bench.packings import window
from bench.slimpajama import DOMAINS
from mixture import schemas
from mixture.hashing import id_array
from mixture.lockfile import Lock
from mixture.pack.concat import concat
from mixture.shards.record import hash_rows, record_path, rows_path, shard_name
from mixture.storage import file_digest, write_json

if TYPE_CHECKING:
    from mixture.loader.stream import Stream

LENGTH = 32 << 10
#: Rows that are asked for at once.
MICRO = 4
#: Tokens in a record batch, as `pack` writes them.
_BATCH_TOKENS = 8 << 20
_SEED = 1
_SHARDS = 4
#: Tokens are uint32 then, as with most vocabularies of today.
_VOCABULARY = 128_000
#: How often each contestant reads all sequences: opening files is a small part of it then.
_PASSES = 6
#: The first batch: shards, sequences in each, and sequences of a large one.
_MANY, _FEW, _STEP = 1000, 8, 512


def bench(sequences: int, rounds: Rounds) -> list[dict[str, Any]]:
    """Measure throughput on so many sequences, and the first batch of many shards; return a row for each."""
    work, many = rounds.temp / "loader", rounds.temp / "loader-many"
    make(work, -(-sequences // _SHARDS), _SHARDS, _VOCABULARY)
    make(many, _FEW, _MANY, _VOCABULARY)
    return [*_throughput(work, rounds), *_first(many, rounds)]


def _throughput(work: Path, rounds: Rounds) -> list[dict[str, Any]]:
    job = {"work": str(work)}
    ours = [
        Contestant("batches", "bench.loader:batches", job),
        Contestant("rows", "bench.loader:rows", job),
        Contestant("tokens", "bench.loader:tokens", job),
    ]
    others = [
        ("numpy", Contestant("floor: mapped, widened", "bench.loader:floor", job)),
        ("datasets", Contestant("datasets, numpy", "bench.loader:huggingface", job)),
        ("streaming", Contestant("MosaicML streaming", "bench.loader:mds", job)),
    ]
    able, missing = _able(others, rounds)
    reports = measure.alternate([*ours, *able], rounds)
    rates = {who: [one["tokens"] / one["seconds"] / 1e6 for one in found] for who, found in reports.items()}
    rows = []
    for one in ours:
        peers = [_other(peer.name, reports, rates, one.name) for peer in able]
        facts = reports[one.name][0]
        name = f"loader, {one.name}"
        mine = {"ours": measure.spread(rates[one.name]), "peak": max(r["peak_self"] for r in reports[one.name])}
        rows.append(_row(name, "Mtok/s", facts, peers, missing) | mine)
    return rows


def _first(work: Path, rounds: Rounds) -> list[dict[str, Any]]:
    job = {"work": str(work)}
    rows = []
    for step in (MICRO, _STEP):
        ours = Contestant("ours", "bench.loader:first", job | {"step": step})
        others = [
            ("datasets", Contestant("datasets", "bench.loader:first_huggingface", job | {"step": step})),
            ("streaming", Contestant("MosaicML streaming", "bench.loader:first_mds", job | {"step": step})),
        ]
        able, missing = _able(others, rounds)
        reports = measure.alternate([ours, *able], rounds)
        times = {who: [one["seconds"] for one in found] for who, found in reports.items()}
        peers = [_other(peer.name, reports, times, "ours") for peer in able]
        row = _row(f"loader, first {step} of {_MANY:,} shards", "s", reports["ours"][0], peers, missing)
        rows.append(row | {"ours": measure.spread(times["ours"]), "peak": max(r["peak_self"] for r in reports["ours"])})
    return rows


def _able(peers: list[tuple[str, Contestant]], rounds: Rounds) -> tuple[list[Contestant], list[str]]:
    able, missing = [], []
    for module, peer in peers:
        if importlib.util.find_spec(module) is None:
            missing.append(f"{peer.name}: {module} is not installed")
            continue
        try:
            measure.run(peer, rounds.temp)
            able.append(peer)
        except Failed as error:
            missing.append(str(error))
    return able, missing


def _other(name: str, reports: dict[str, Any], found: dict[str, list[float]], ours: str) -> dict[str, Any]:
    return {
        "name": name,
        "rate": measure.spread(found[name]),
        "ratio": measure.ratios(found[ours], found[name]),
        "peak": max(report["peak_self"] for report in reports[name]),
    }


def _row(
    name: str, unit: str, facts: dict[str, Any], peers: list[dict[str, Any]], missing: list[str]
) -> dict[str, Any]:
    others = peers + [{"name": why.split(":")[0], "rate": None, "ratio": None} for why in missing]
    lead = others[0]
    return {
        "bench": name,
        "corpus": f"{facts['sequences']:,} sequences of {LENGTH // 1024}K",
        "megabytes": facts["megabytes"],
        "workers": 1,
        "unit": unit,
        "other": lead["name"],
        "floor": lead["rate"],
        "ratio": lead["ratio"],
        "floor_peak": lead.get("peak"),
        "more": others[1:],
        "skipped": "; ".join(missing),
    }


def make(work: Path, sequences: int, shards: int, vocabulary: int) -> Lock:
    """Write shards of so many sequences each, and their lock."""
    folder = work / "shards"
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(_SEED)
    facts = [_write(folder / shard_name(number, shards), sequences, vocabulary, draw) for number in range(shards)]
    cells = [{"domain": name, "bucket": ""} for name in DOMAINS]
    stream = {"sequence_length": LENGTH, "align": 1, "digest": "0" * 32}
    phase = {"name": "", "stream": stream, "cells": cells, "context": {}, "top": {}, "packing": {}, "shards": facts}
    recipe = {"fingerprint": "bench", "content": {"packing": "concat", "seed": 0}}
    lock = Lock("bench", recipe, {}, [], {"fingerprint": "bench", "vocabulary": vocabulary}, {}, [phase])
    lock.write(work / "bench.lock.json")
    return lock


def _write(path: Path, sequences: int, vocabulary: int, draw: np.random.Generator) -> dict[str, Any]:
    token = schemas.token_type(vocabulary)
    schema = schemas.shard(token, LENGTH, prefix=0, suffix=0)
    lengths, domain = window(sequences * LENGTH, seed=int(draw.integers(1 << 30)))
    pieces = concat(lengths, LENGTH).of_sequences(0, sequences)
    ids = draw.integers(0, 1 << 62, (2, len(lengths)), np.uint64)
    names = schemas.strings(DOMAINS)
    hashes: list[str] = []
    with pa.ipc.new_file(str(path), schema) as writer:
        per_batch = _BATCH_TOKENS // LENGTH
        for low in range(0, sequences, per_batch):
            part = pieces.of_sequences(low, min(low + per_batch, sequences))
            count = min(per_batch, sequences - low)
            tokens = draw.integers(0, vocabulary, count * LENGTH, token.to_pandas_dtype())
            spans = pa.StructArray.from_arrays(
                [
                    schemas.column(part.start, pa.int32()),
                    schemas.column(part.start + part.size, pa.int32()),
                    names.take(schemas.column(domain[part.row])),
                    id_array(ids[0][part.row], ids[1][part.row]),
                    schemas.column(part.offset),
                    schemas.column(lengths[part.row]),
                    schemas.column(np.zeros(len(part.row), np.int32)),
                ],
                fields=list(schemas.SPAN),
            )
            borders = np.searchsorted(part.sequence, np.arange(count + 1)).astype(np.int32)
            batch = pa.record_batch(
                [
                    pa.FixedSizeListArray.from_arrays(schemas.column(tokens), type=schema.field("input_ids").type),
                    pa.ListArray.from_arrays(schemas.column(borders), spans, type=schema.field("spans").type),
                ],
                schema=schema,
            )
            writer.write_batch(batch)
            hashes += hash_rows(batch)
    size, tokens_here = path.stat().st_size, sequences * LENGTH
    facts = {"shard": path.name, "sequences": sequences, "tokens": tokens_here, "size": size, "hash": file_digest(path)}
    write_json(record_path(path), facts | {"rows": write_json(rows_path(path), hashes)})
    return facts


def _export(work: Path) -> Path:
    """Write the shards as MDS, once; return the folder."""
    from mixture import lockfile
    from mixture.engine import Silence
    from mixture.engine.local import Local
    from mixture.export.make import Request, export

    lock = lockfile.read(work / "bench.lock.json")
    if lock is None:
        raise FileNotFoundError(work)
    out = work / "mds"
    if not (out / "export.json").exists():
        export(Request(lock, [work / "shards"], [0], "mds", "row"), out, Local(1), Silence())
    return out


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

    dataset = LocalDataset(str(_export(Path(work))))
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
    out = _export(Path(work))

    def run() -> int:
        from streaming import LocalDataset

        dataset = LocalDataset(str(out))
        np.stack([dataset[number]["tokens"] for number in _order(len(dataset))[:step].tolist()]).astype(np.int64)
        return len(dataset)

    return _timed(run, work)
