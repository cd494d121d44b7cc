"""Chaos on an object store: killed workers, killed runs, two machines, a store that fails; same bytes as on a disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.cli.conftest import Shop
from tests.conftest import documents
from tests.storage.objects import Store, environment
from tests.storage.proxy import Request, sometimes

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Shop, list[str]]]:
    """A corpus and a recipe, and the hashes of what is built of them on a disk."""
    with ExitStack() as stack:
        shop = Shop(tmp_path_factory.mktemp("chaos"), stack)
        docs = documents(240)
        for number in range(12):
            shop.corpus(docs[number::12], f"{number}.jsonl")
        shop.recipe(budget=60_000, shard_tokens=10_000)
        yield shop, shop.run().hashes


@pytest.fixture
def store(shop: tuple[Shop, list[str]], tmp_path: Path) -> Iterator[Store]:
    with environment(tmp_path / "scratch") as store:
        for path in (shop[0].root / "data").iterdir():
            store.put(f"in/data/{path.name}", path.read_bytes())
        yield store


def start(shop: Shop, store: Store, lock: Path, *, work: str = "work", scratch: str = "") -> subprocess.Popen[str]:
    line = ["run", "small.yaml", "-j", "2", "--json", "--lock", str(lock)]
    where = ["--work", f"{store.root}/{work}", "--data", f"{store.root}/in"]
    env = os.environ | ({"MIXTURE_SCRATCH": scratch} if scratch else {})
    return shop.start(*line, *where, env=env)


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def hashes(lock: Path) -> list[str]:
    found = json.loads(lock.read_text())
    return [shard["hash"] for shard in found["made"]["phases"][0]["shards"]]


def at_request(kind: str, number: int, act: Callable[[], None]) -> Callable[[Request], None]:
    """Act once, when the so-many-th request of a kind comes."""
    seen = iter(range(1, 1_000_000))

    def spoil(request: Request) -> None:
        if request.kind == kind and next(seen) == number:
            act()

    return spoil


def kill_workers(process: subprocess.Popen[str]) -> None:
    for child in psutil.Process(process.pid).children(recursive=True):
        if "spawn_main" in " ".join(child.cmdline()):
            child.send_signal(signal.SIGKILL)


@pytest.mark.parametrize(("kind", "number"), [("PUT", 4), ("PUT", 17), ("PUT", 30), ("GET", 30), ("HEAD", 25)])
def test_killed_workers_change_nothing(
    shop: tuple[Shop, list[str]], store: Store, tmp_path: Path, kind: str, number: int
) -> None:
    killed: list[int] = []
    process = start(shop[0], store, tmp_path / "lock.json")

    def act() -> None:
        kill_workers(process)
        killed.append(number)

    store.proxy.spoil = at_request(kind, number, act)
    code, _, err = finish(process)
    assert code == 0, err
    assert killed
    assert hashes(tmp_path / "lock.json") == shop[1]


@pytest.mark.parametrize("number", [2, 8, 16, 24, 32, 40])
def test_a_killed_run_goes_on_where_it_was(
    shop: tuple[Shop, list[str]], store: Store, tmp_path: Path, number: int
) -> None:
    process = start(shop[0], store, tmp_path / "lock.json")

    def act() -> None:
        family = [*psutil.Process(process.pid).children(recursive=True), process]
        for one in family:
            one.send_signal(signal.SIGKILL)

    store.proxy.spoil = at_request("PUT", number, act)
    assert finish(process)[0] == -signal.SIGKILL
    store.proxy.reset()
    before = {name for name in store.names("work") if not name.endswith(".run.json")}
    code, _, err = finish(start(shop[0], store, tmp_path / "lock.json"))
    assert code == 0, err
    assert hashes(tmp_path / "lock.json") == shop[1]
    # Parts that were whole are not written again.
    written = {request.path.removeprefix("/") for request in store.proxy.traffic.of("PUT", "part-")}
    parts = [name for name in before if name.endswith(".json") and "part-" in name]
    assert not {f"{store.root.removeprefix('s3://')}/{name}" for name in parts} & written
    assert not store.uploads()


def test_a_run_on_another_machine_takes_up_the_work_of_the_first(
    shop: tuple[Shop, list[str]], store: Store, tmp_path: Path
) -> None:
    assert finish(start(shop[0], store, tmp_path / "a.json", scratch=str(tmp_path / "one")))[0] == 0
    store.proxy.reset()
    code, _, err = finish(start(shop[0], store, tmp_path / "b.json", scratch=str(tmp_path / "two")))
    assert code == 0, err
    assert hashes(tmp_path / "b.json") == hashes(tmp_path / "a.json") == shop[1]
    assert {request.path.rpartition("/")[2] for request in store.proxy.traffic.of("PUT")} == {".run.json"}


def test_two_runs_at_once_in_two_places_do_not_meet(shop: tuple[Shop, list[str]], store: Store, tmp_path: Path) -> None:
    runs = [start(shop[0], store, tmp_path / f"{n}.json", work=f"work-{n}") for n in range(2)]
    for process in runs:
        code, _, err = finish(process)
        assert code == 0, err
    assert hashes(tmp_path / "0.json") == hashes(tmp_path / "1.json") == shop[1]


@pytest.mark.parametrize("seed", range(2))
def test_workers_on_a_store_that_fails_a_tenth_of_the_time_give_the_same_bytes(
    shop: tuple[Shop, list[str]], store: Store, tmp_path: Path, seed: int
) -> None:
    store.proxy.spoil = sometimes(0.1, seed, ["500", "503", "reset", "short", "less", "lost"], most=3)
    code, _, err = finish(start(shop[0], store, tmp_path / "lock.json"))
    assert code == 0, err
    assert store.proxy.traffic.spoilt.total() > 10
    assert hashes(tmp_path / "lock.json") == shop[1]
