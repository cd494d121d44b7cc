"""Stopped from outside: by Ctrl-C, by a batch system, by another run, by a killed worker. Nothing is lost but time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from mixture.storage import only_run
from tests.cli.conftest import EASY, Shop
from tests.conftest import documents, recipe_text, write_jsonl

#: What `python -m mixture` is, but tokenizing one chunk takes as long as a file in the folder says.
SLOW = """
import sys, time, pathlib
from mixture.tokens import tokenizer
encode = tokenizer.Tokenizer.encode
def slowly(self, texts):
    here = pathlib.Path("nap")
    open("begun", "a").write("x")
    while here.exists():
        time.sleep(0.05)
    return encode(self, texts)
tokenizer.Tokenizer.encode = slowly
if __name__ == "__main__":
    from mixture.cli import main
    sys.argv[0] = "mixture"
    main()
"""
COMMAND = ("run", "small.yaml", "--json")


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    with ExitStack() as stack:
        shop = Shop(tmp_path_factory.mktemp("expected"), stack)
        _stock(shop)
        yield shop.run().hashes


def _stock(shop: Shop) -> None:
    """Four sources, so that there is work for several workers."""
    for number in range(4):
        write_jsonl(shop.data / f"{number}.jsonl", documents(30, seed=number))
    sources = "\n".join(shop.source("jsonl", f"data/{n}.jsonl", name=f"s{n}") for n in range(4))
    shop.file("small.yaml", recipe_text(**(EASY | {"sources": sources})))


@pytest.fixture
def slow(shop: Shop) -> Callable[..., subprocess.Popen[str]]:
    """Start a run that sleeps in the middle of its first chunks until `nap` is removed."""
    _stock(shop)
    shop.file("slow.py", SLOW)
    shop.file("nap", b"")

    def start(workers: int, wait_for: int = 1, **how: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "slow.py", *COMMAND, "--workers", str(workers)]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen(command, cwd=shop.root, **(pipes | how))
        begun = shop.root / "begun"
        _until(lambda: process.poll() is not None or (begun.exists() and begun.stat().st_size >= wait_for))
        assert process.poll() is None, process.communicate()
        return process

    return start


def _until(true: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


def _workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if any("spawn_main" in part for part in child.cmdline())
    ]


def _awake(shop: Shop) -> None:
    (shop.root / "nap").unlink()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_with_its_code_one_sentence_and_no_orphans_and_the_run_can_go_on(
    shop: Shop, slow: Callable[..., subprocess.Popen[str]], expected: list[str], sent: int, code: int, workers: int
) -> None:
    with slow(workers, wait_for=workers, start_new_session=True) as process:
        children = psutil.Process(process.pid).children(recursive=True)
        if sent == signal.SIGINT:  # A terminal sends Ctrl-C to everyone.
            os.killpg(os.getpgid(process.pid), sent)
        else:
            process.send_signal(sent)
        out, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert out == ""
    assert err.splitlines()[-1] == "stopped; what is whole is kept: run the same command to go on"
    assert "Traceback" not in err
    gone, alive = psutil.wait_procs(children, timeout=10)
    assert not alive, [child.cmdline() for child in alive]
    assert len(gone) >= workers - 1
    assert not (shop.root / "work/.run.json").exists()
    _awake(shop)
    assert shop.run().hashes == expected
    shop.is_clean()


def test_ctrl_c_while_workers_are_still_starting_shows_no_traceback(shop: Shop) -> None:
    _stock(shop)
    with shop.start(*COMMAND, "--workers", "2", start_new_session=True) as process:
        _until(lambda: process.poll() is not None or len(_workers(process)) >= 2)
        time.sleep(0.1)
        os.killpg(os.getpgid(process.pid), signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err


def test_killed_outright_leaves_no_worker_behind_and_the_run_can_go_on(
    shop: Shop, slow: Callable[..., subprocess.Popen[str]], expected: list[str]
) -> None:
    with slow(2, wait_for=2) as process:
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        _, alive = psutil.wait_procs(children, timeout=20)
    assert children
    assert not alive
    _awake(shop)
    assert shop.run().hashes == expected
    shop.is_clean()


def test_a_killed_worker_costs_time_but_changes_nothing(
    shop: Shop, slow: Callable[..., subprocess.Popen[str]], expected: list[str]
) -> None:
    with slow(2, wait_for=2) as process:
        _workers(process)[0].kill()
        _awake(shop)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert [shard["hash"] for shard in json.loads(out)["phases"][0]["shards"]] == expected


def test_workers_killed_again_and_again_end_in_one_sentence(
    shop: Shop, slow: Callable[..., subprocess.Popen[str]]
) -> None:
    with slow(2, wait_for=2) as process:
        while process.poll() is None:
            for worker in _workers(process):
                if worker.is_running() and (shop.root / "begun").stat().st_size:
                    worker.kill()
            time.sleep(0.2)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert out == ""
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("error: a worker process was killed 3 times while ")
    assert "fewer --workers" in err


def test_a_second_run_at_once_names_the_first_and_touches_nothing(
    shop: Shop, slow: Callable[..., subprocess.Popen[str]], expected: list[str]
) -> None:
    with slow(1) as process:
        second = shop.process(*COMMAND, "--workers", "1")
        assert second.code == 1
        words = (
            f"{shop.root / 'work'} is in use by process {process.pid} (mixture run small.yaml",
            "give another --work",
        )
        for word in words:
            assert word in second.error
        assert second.out == ""
        _awake(shop)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert [shard["hash"] for shard in json.loads(out)["phases"][0]["shards"]] == expected


def test_a_run_in_use_by_who_knows_whom_is_still_refused(shop: Shop) -> None:
    shop.stock()
    with only_run(shop.root / "work"):
        for owner in ("", "[]", "garbage"):
            (shop.root / "work/.run.json").write_text(owner)
            assert "is in use by" in shop.run().error


def test_what_a_killed_run_left_half_written_is_swept_away(shop: Shop, tmp_path: Path) -> None:
    shop.stock()
    stale = shop.file("work/store/x/.part-00000.arrow.123-abcd.tmp", b"half")
    assert shop.run().code == 0
    assert not stale.exists()


def test_no_worker_outlives_a_run_that_ends_well(shop: Shop) -> None:
    _stock(shop)
    with shop.start(*COMMAND, "--workers", "2", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        seen: set[psutil.Process] = set()
        while process.poll() is None:
            try:
                seen |= set(_workers(process))
            except psutil.Error:
                break
            time.sleep(0.05)
        process.wait()
    assert process.returncode == 0
    assert seen
    assert not psutil.wait_procs(list(seen), timeout=10)[1]
