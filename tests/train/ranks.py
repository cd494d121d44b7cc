"""Processes that train together, for tests: gloo ranks on this machine."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def together(work: Callable[..., None], size: int, folder: Path, *others: Any) -> None:
    """Run a function on some ranks, and raise what one of them raises.

    Args:
        work: a function of a module, called with `others`.
        size: how many ranks.
        folder: an empty one, where they meet.
        others: must pickle.
    """
    # Torch and transformers are imported once, in the process that ranks are forked from.
    multiprocessing.get_context("forkserver").set_forkserver_preload(["tests.train.tiny"])
    arguments = (work, size, str(folder / "store"), *others)
    mp.start_processes(_rank, args=arguments, nprocs=size, start_method="forkserver")


def _rank(rank: int, work: Callable[..., None], size: int, path: str, *others: Any) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.FileStore(path, size), rank=rank, world_size=size)
    try:
        work(*others)
    finally:
        dist.destroy_process_group()
