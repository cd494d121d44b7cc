"""One recipe, built five ways: on this machine, on Slurm, on Dask, on Ray, and here with everything in an object store.

    python -m tests.cluster.same_bytes                                    the quick start's recipe
    python -m tests.cluster.same_bytes RECIPE --data DIR --only local,slurm

Each way starts the real thing on loopback, as a user would, and runs `mixture run RECIPE --on PROFILE`. The end is a
table of the shards' hashes, and exit code 1 if two differ. A way whose packages are not installed is left out, with
the reason.

Needs: `pip install -e '.[dev,dask,ray]'`; for Slurm the packages slurmctld, slurmd, slurm-client and munge.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster import slurm
from tests.cluster.alone import ALONE, can_be_alone

ROOT = Path(__file__).parents[2]
BUCKET = "same-bytes"


class LackingError(Exception):
    """A way cannot be gone here; says why."""


def local(folder: Path, data: Path) -> contextlib.AbstractContextManager[dict[str, Any]]:
    """Two processes of this machine."""
    return contextlib.nullcontext({"engine": "local", "work": str(folder / "work"), "data": str(data), "workers": 2})


@contextlib.contextmanager
def on_slurm(folder: Path, data: Path) -> Iterator[dict[str, Any]]:
    """Three nodes: munged, slurmctld and three slurmd, see `tests/cluster/slurm.py`."""
    try:
        slurm.require()
    except pytest.skip.Exception as lacking:
        raise LackingError(str(lacking)) from None
    # Its sockets lie there, and their names may not be long.
    with tempfile.TemporaryDirectory(prefix="s-", dir="/tmp") as short, slurm.Slurm(Path(short) / "c").up():
        resources = {"cpus": 1, "memory": "900M", "time": "10m", "tasks_per_job": 2}
        here = {"work": str(folder / "work"), "data": str(data)}
        yield here | {"engine": "slurm", "resources": resources, "slurm": {"partition": "main"}}


@contextlib.contextmanager
def on_dask(folder: Path, data: Path) -> Iterator[dict[str, Any]]:
    """`dask scheduler`, and `dask worker` with two processes of one thread each."""
    if not importlib.util.find_spec("distributed"):
        raise LackingError("distributed is not installed: pip install 'mixture[dask]'")
    address = f"tcp://127.0.0.1:{free_port()}"
    dask = [sys.executable, "-m", "dask"]
    scheduler = [*dask, "scheduler", "--host", "127.0.0.1", "--port", address.rpartition(":")[2], "--no-dashboard"]
    worker = [*dask, "worker", address, "--nworkers", "2", "--nthreads", "1", "--no-dashboard"]
    worker += ["--local-directory", str(folder / "dask")]
    with started(scheduler, folder), started(worker, folder):
        yield {"engine": "dask", "work": str(folder / "work"), "data": str(data), "dask": {"address": address}}


@contextlib.contextmanager
def on_ray(folder: Path, data: Path) -> Iterator[dict[str, Any]]:
    """`ray start --head`, in namespaces of its own, in which the command runs, too (see `command`)."""
    if not importlib.util.find_spec("ray"):
        raise LackingError("ray is not installed: pip install 'mixture[ray]'")
    if not can_be_alone():
        raise LackingError("no namespaces here (unshare -n -p): Ray would look for a public route")
    here = {"work": str(folder / "work"), "data": str(data)}
    yield here | {"engine": "ray", "ray": {"address": "127.0.0.1:6379"}}


@contextlib.contextmanager
def in_objects(folder: Path, data: Path) -> Iterator[dict[str, Any]]:
    """`moto_server`, a bucket that holds the corpus and all that is made, and two processes of this machine."""
    if not importlib.util.find_spec("s3fs") or not importlib.util.find_spec("moto"):
        raise LackingError("s3fs or moto is not installed: pip install -e '.[dev]'")
    import boto3

    port = free_port()
    credentials = {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    os.environ.update(credentials | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"})
    with started([shutil.which("moto_server") or "moto_server", "-H", "127.0.0.1", "-p", str(port)], folder):
        until_answers(port)
        client = boto3.client("s3")
        client.create_bucket(Bucket=BUCKET)
        for file in [path for path in data.rglob("*") if path.is_file()]:
            client.upload_file(str(file), BUCKET, f"data/{file.relative_to(data).as_posix()}")
        place = {"work": f"s3://{BUCKET}/work", "data": f"s3://{BUCKET}/data", "scratch": str(folder / "scratch")}
        yield {"engine": "local", "workers": 2} | place


WAYS: dict[str, Callable[[Path, Path], contextlib.AbstractContextManager[dict[str, Any]]]] = {
    "local": local,
    "slurm": on_slurm,
    "dask": on_dask,
    "ray": on_ray,
    "s3": in_objects,
}


def command(way: str, line: list[str]) -> list[str]:
    """Return the command that runs `mixture` one way; with Ray, the cluster is started and stopped around it."""
    if way != "ray":
        return line
    ray = f"{shutil.which('ray', path=str(Path(sys.executable).parent)) or 'ray'}"
    head = f"{ray} start --head --port 6379 --num-cpus 2 --include-dashboard=false --object-store-memory 100000000"
    return [*ALONE, "sh", "-c", f'{head} >&2 && "$@"; code=$?; {ray} stop >&2; exit $code', "with-ray", *line]


def build(way: str, recipe: Path, data: Path, folder: Path) -> list[str]:
    """Build a recipe one way; return the hashes of its shards.

    Raises:
        LackingError: it cannot be gone here.
    """
    folder.mkdir(parents=True)
    profile, lock = folder / "profile.yaml", folder / "lock.json"
    with WAYS[way](folder, data) as said:
        profile.write_text(yaml.safe_dump(said), encoding="utf-8")
        line = [sys.executable, "-m", "mixture", "run", str(recipe), "--on", str(profile)]
        line += ["--lock", str(lock)]
        print(f"== {way}\n   mixture {' '.join(line[3:])}", flush=True)
        begun = time.monotonic()
        done = subprocess.run(command(way, line), cwd=ROOT, capture_output=True, text=True, check=False, timeout=900)
        if done.returncode:
            raise SystemExit(f"{way}: exit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
        print(f"   {time.monotonic() - begun:.0f} s", flush=True)
    phases = json.loads(lock.read_text(encoding="utf-8"))["made"]["phases"]
    return [shard["hash"] for phase in phases for shard in phase["shards"]]


def same_bytes(recipe: Path, data: Path, folder: Path, ways: list[str]) -> dict[str, list[str] | str]:
    """Build a recipe in several ways; return the hashes of each, or why it was left out."""
    found: dict[str, list[str] | str] = {}
    for way in ways:
        try:
            found[way] = build(way, recipe, data, folder / way)
        except LackingError as lacking:
            found[way] = str(lacking)
    return found


@contextlib.contextmanager
def started(line: list[str], folder: Path) -> Iterator[None]:
    """Run a server for a while; its log goes to the folder."""
    with (folder / f"{Path(line[0]).name}-{len(list(folder.iterdir()))}.log").open("wb") as log:
        process = subprocess.Popen(line, cwd=folder, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def until_answers(port: int) -> None:
    """Wait until a server answers."""
    for _ in range(300):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise SystemExit(f"nothing answers at port {port}")


def free_port() -> int:
    """Return a port that nobody listens at."""
    return slurm.free_ports(1)[0]


def main() -> None:
    """Build, print, compare."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.same_bytes", description=__doc__.partition("\n")[0])
    parser.add_argument("recipe", nargs="?", type=Path, default=ROOT / "manifests" / "quickstart.yaml")
    parser.add_argument("--data", type=Path, help="what the recipe's paths are relative to")
    parser.add_argument("--only", default=",".join(WAYS), help="some of: " + ", ".join(WAYS))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="same-bytes-") as aside:
        (nothing := Path(aside) / "data").mkdir()
        data = asked.data.absolute() if asked.data else nothing
        found = same_bytes(asked.recipe.absolute(), data, Path(aside), asked.only.split(","))
    built = {way: hashes for way, hashes in found.items() if not isinstance(hashes, str)}
    for way, hashes in found.items():
        print(f"{way:6}", f"left out: {hashes}" if isinstance(hashes, str) else " ".join(hashes))
    same = len({tuple(hashes) for hashes in built.values()}) == 1
    print(f"{len(built)} ways, {'the same bytes' if same else 'DIFFERENT BYTES'}")
    raise SystemExit(0 if same else 1)


if __name__ == "__main__":
    main()
