"""A real Ray cluster on loopback: same bytes as here, whatever is killed; one sentence for what is wrong."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from mixture.engine.local import Local
from tests.cluster import driver
from tests.cluster.alone import ALONE, can_be_alone

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
if importlib.util.find_spec("ray") is None:
    pytest.skip("Ray is not installed: pip install 'mixture[ray]'", allow_module_level=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ray")


@pytest.fixture(scope="module")
def scenes(folder: Path) -> dict[str, Any]:
    """What the scenes brought; one that did not end is missing."""
    if not can_be_alone():
        pytest.skip("no namespaces here (unshare -n -p): Ray would look for a public route")
    line = [*ALONE, sys.executable, "-m", "tests.cluster.ray_scenes", str(folder)]
    # Its sockets lie there, and their names may not be long.
    with (folder / "log").open("wb") as log, tempfile.TemporaryDirectory(prefix="r-", dir="/tmp") as short:
        environment = driver.environment() | {"RAY_TMPDIR": short}
        done = subprocess.run(
            line, cwd=driver.REPOSITORY, env=environment, stdout=log, stderr=log, timeout=900, check=False
        )
    found = folder / "scenes.json"
    assert done.returncode == 0, (folder / "log").read_text(errors="replace")[-4000:]
    return dict(json.loads(found.read_text()))


@pytest.fixture(scope="module")
def local(scenes: dict[str, Any], folder: Path) -> list[str]:
    with Local(1) as engine:
        return driver.build(engine, folder, "local")


def test_a_ray_cluster_makes_the_same_shards(scenes: dict[str, Any], local: list[str]) -> None:
    assert len(local) > 5
    assert scenes["same_shards"] == {"hashes": local, "said": []}


def test_a_node_may_be_killed_in_the_middle(scenes: dict[str, Any], local: list[str]) -> None:
    assert scenes["killed_node"]["hashes"] == local


def test_the_driver_may_be_killed_and_run_again(scenes: dict[str, Any], local: list[str]) -> None:
    assert scenes["killed_driver"] == {"hashes": local, "said": [], "killed": True}


def test_records_come_back_and_each_error_is_what_it_was(scenes: dict[str, Any]) -> None:
    found = scenes["errors"]
    assert found["squares"]["records"] == [n * n for n in range(50)]
    assert found["bad"]["error"] == ["InputError", "row 3 is bad"]
    name, sentence = found["crash"]["error"]
    assert name == "EngineError"
    assert f"({sys.executable}) with KeyError: 3;" in sentence


def test_a_task_whose_process_is_killed_runs_again_but_not_for_ever(scenes: dict[str, Any]) -> None:
    assert scenes["errors"]["die once"]["records"] == ["lived", 9]
    name, sentence = scenes["errors"]["die"]["error"]
    assert name == "EngineError"
    assert sentence.startswith("pack: die 0: what ran it was lost 2 times (its process was killed; retries: 1), most")


def test_a_node_that_dies_in_the_middle_of_a_task_loses_nothing(scenes: dict[str, Any]) -> None:
    found = scenes["node_dies_in_a_task"]
    assert found["records"] == [int(found["mark"])]


def test_a_task_for_which_no_node_has_room_is_told_of_and_waited_for(scenes: dict[str, Any]) -> None:
    assert "KeyboardInterrupt" in scenes["too_large"]["err"]
    assert (
        scenes["too_large"]["err"].count("no node of the Ray cluster has 64 cpus and 4096G of memory for a task") == 1
    )
    assert scenes["too_large"]["out"] == ""


def test_a_head_that_is_lost_is_one_sentence(scenes: dict[str, Any]) -> None:
    name, sentence = scenes["lost_head"]["error"]
    assert name == "EngineError"
    assert sentence.startswith("pack: the head of the Ray cluster at 127.0.0.1:")
    assert "is gone; start the cluster again" in sentence


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1:9", "nothing answers at 127.0.0.1:9 within 10 s; start it with `ray start --head`"),
        ("ray://127.0.0.1:9", "nothing answers at 127.0.0.1:9 within 10 s"),
        ("auto", "no Ray cluster found from here; start one with `ray start --head`"),
    ],
)
def test_a_cluster_that_is_not_there_is_one_sentence(address: str, words: str) -> None:
    if address == "auto" and not can_be_alone():
        pytest.skip("no namespaces here (unshare -n -p): Ray would look for a public route")
    profile = json.dumps({"engine": "ray", "ray": {"address": address}})
    line = [sys.executable, "-m", "tests.cluster.driver", profile, "tasks", "[]"]
    line = [*ALONE, *line] if address == "auto" else line
    environment = driver.environment()
    environment.pop("RAY_ADDRESS", None)
    done = subprocess.run(line, cwd=driver.REPOSITORY, env=environment, capture_output=True, timeout=120, check=True)
    name, sentence = json.loads(done.stdout)["error"]
    assert name == "EngineError"
    assert sentence.startswith(f"ray.address {address}: ")
    assert words in sentence


def test_auto_heeds_rays_own_variable() -> None:
    profile = json.dumps({"engine": "ray", "ray": {"address": "auto"}})
    line = [sys.executable, "-m", "tests.cluster.driver", profile, "tasks", "[]"]
    environment = driver.environment() | {"RAY_ADDRESS": "127.0.0.1:9"}
    done = subprocess.run(line, cwd=driver.REPOSITORY, env=environment, capture_output=True, timeout=120, check=True)
    assert "nothing answers at 127.0.0.1:9" in json.loads(done.stdout)["error"][1]
