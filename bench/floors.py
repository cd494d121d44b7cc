"""What moving bytes costs at least, and what a machine's cores and disk can do. Imports nothing of the project."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

_COPY_BYTES = 32 << 20
_TURNS = 100_000


def memcpy(source: str, threads: int) -> dict[str, Any]:
    """Contestant: numpy copies as many bytes as the shards have, between two buffers that are touched beforehand."""
    blocks = sum(shard.stat().st_size for shard in _shards(source)) // _COPY_BYTES // threads + 1
    buffers = [(np.ones(_COPY_BYTES, np.uint8), np.zeros(_COPY_BYTES, np.uint8)) for _ in range(threads)]

    def copy(pair: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]) -> None:
        for _ in range(blocks):
            np.copyto(pair[1], pair[0])

    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(copy, buffers))
    return {"seconds": time.perf_counter() - start, "bytes": blocks * threads * _COPY_BYTES}


def cp(source: str, target: str, threads: int, synced: bool) -> dict[str, Any]:
    """Contestant: copy the finished shards to new files beside them, down to the disk if synced."""
    copies = Path(target)
    shutil.rmtree(copies, ignore_errors=True)
    copies.mkdir(parents=True)
    shards = _shards(source)
    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda shard: shutil.copyfile(shard, copies / shard.name), shards))
    if synced:
        sync(copies)
    seconds = time.perf_counter() - start
    size = sum(shard.stat().st_size for shard in shards)
    shutil.rmtree(copies)
    return {"seconds": seconds, "bytes": size}


def sync(folder: Path) -> None:
    """Wait until all files of a folder are on the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _shards(folder: str) -> list[Path]:
    return sorted(Path(folder).rglob("*.arrow"))


def spin(processes: int) -> dict[str, Any]:
    """Contestant: arithmetic that fits a core's own cache, in so many processes: what the processor alone allows."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes) as pool:
        pool.map(_spin, [1] * processes, 1)
        start = time.perf_counter()
        pool.map(_spin, [_TURNS] * processes, 1)
        return {"seconds": time.perf_counter() - start, "bytes": processes * _TURNS}


def _spin(turns: int) -> float:
    block = np.arange(2048, dtype=np.float64)
    for _ in range(turns):
        block = np.sqrt(block * block + 1.0)
    return float(block[0])


def disk(folder: str, size: int, threads: int = 1) -> dict[str, Any]:
    """Contestant: write so many bytes to new files and wait until the disk has them."""
    place = Path(folder)
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    block = np.random.default_rng(0).bytes(_COPY_BYTES)
    blocks = size // _COPY_BYTES // threads + 1

    def write(number: int) -> None:
        with (place / str(number)).open("wb", buffering=0) as file:
            for _ in range(blocks):
                file.write(block)
            os.fsync(file.fileno())

    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(write, range(threads)))
    seconds = time.perf_counter() - start
    shutil.rmtree(place)
    return {"seconds": seconds, "bytes": blocks * threads * _COPY_BYTES}
