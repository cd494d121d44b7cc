"""Processes that train together, for tests: gloo ranks on this machine."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
from collections.abc import Callable, Sequence
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
    _preload()
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


def commands(line: Sequence[str], size: int, folder: Path) -> mp.ProcessContext:
    """Start a command on some ranks, as torchrun does; rank r writes how it ended to `folder`/rank-r.json.

    Args:
        line: the command's arguments.
        size: how many ranks.
        folder: where they run.
    """
    _preload()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = (size, port, str(folder), list(line))
    context = mp.start_processes(_command, args=arguments, nprocs=size, join=False, start_method="forkserver")
    assert isinstance(context, mp.ProcessContext)
    return context


def _command(rank: int, size: int, port: int, folder: str, line: list[str]) -> None:
    from typer.testing import CliRunner

    from mixture.cli import app

    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "GLOO_SOCKET_IFNAME": "lo"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    os.chdir(folder)
    result = CliRunner().invoke(app, line)
    said = {"code": result.exit_code, "out": result.stdout, "err": result.stderr, "raised": repr(result.exception)}
    Path(f"rank-{rank}.json").write_text(json.dumps(said), encoding="utf-8")


def _preload() -> None:
    """Have torch and transformers imported once, in the process that ranks are forked from."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(["tests.train.tiny", "mixture.train.loop"])
