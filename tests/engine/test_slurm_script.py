"""A batch script, run by the shell as a node runs it: it survives a kill, and says what it cannot mend."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mixture.engine import Task
from mixture.engine.batch import Batch, open_batch
from mixture.engine.element import tail
from mixture.engine.slurm import script
from mixture.engine.slurm_script import driver_script, element_script, job_name
from mixture.profile import Profile

REPOSITORY = Path(__file__).parents[2]


def a_profile(**more: Any) -> Profile:
    return Profile(**({"engine": "slurm"} | more))


def a_batch(work: Path, *calls: tuple[str, dict[str, Any]]) -> Batch:
    tasks = [Task(f"tests.cluster.tasks:{name}", arguments, 9 - n, name) for n, (name, arguments) in enumerate(calls)]
    return open_batch(work, "pack", tasks, len(tasks))


def node(profile: Profile, batch: Batch, element: int = 0, **more: str) -> subprocess.Popen[str]:
    """Run an element as a node does."""
    text = element_script(profile, "pack", batch.folder, [element], 0)
    told = {"SLURM_ARRAY_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": str(element), "SLURMD_NODENAME": "n1"}
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)} | told | more
    return subprocess.Popen(
        ["/bin/bash", "-c", text], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_the_head_says_what_the_profile_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    profile = a_profile(
        resources={"cpus": 4, "memory": "16G", "time": "1d2h", "tasks_per_job": 8, "flags": ["--qos=long"]},
        stages={"pack": {"cpus": 2, "account": "me"}},
        slurm={"partition": "cpu", "most_elements": 50, "most_running": 7, "logs": "/shared/logs"},
        setup=["module load python", "source env/bin/activate"],
        python="python3.11",
    )
    folder = tmp_path / "work" / "jobs" / "pack-1"
    lines = script(profile, "pack", folder, 120).splitlines()
    assert lines[0] == "#!/bin/bash"
    assert [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH")] == [
        f"--job-name={job_name(tmp_path / 'work', 'pack')}",
        "--array=0-49%7",
        "--comment=mixture:pack-1:0",
        "--output=/shared/logs/pack-1/%A_%a.log",
        "--open-mode=append",
        "--requeue",
        "--nodes=1",
        "--ntasks=1",
        "--cpus-per-task=2",
        "--mem=16384M",
        "--time=26:00:00",
        "--partition=cpu",
        "--account=me",
        "--qos=long",
    ]
    begin = lines.index("module load python")
    assert lines[begin + 1 : begin + 4] == [
        "source env/bin/activate",
        f"cd {tmp_path} 2>/dev/null || cd",
        "python=python3.11",
    ]


def test_arrays_count_from_their_own_zero(tmp_path: Path) -> None:
    text = element_script(a_profile(), "pack", tmp_path / "jobs" / "b", [2003, 2004, 2007], 2000)
    assert "#SBATCH --array=3-4,7\n" in text
    assert "#SBATCH --comment=mixture:b:2000\n" in text
    assert "element=$((2000 + SLURM_ARRAY_TASK_ID))" in text


def test_scripts_are_what_the_shell_understands(tmp_path: Path) -> None:
    odd = tmp_path / "a b'c"
    for text in (
        script(a_profile(python="/odd place/python"), "pack", odd / "jobs" / "b", 3),
        driver_script(a_profile(), odd, tmp_path / "log"),
    ):
        assert subprocess.run(["/bin/bash", "-n"], input=text, text=True, check=False, capture_output=True).stderr == ""


def test_an_element_leaves_the_records_of_its_tasks(tmp_path: Path) -> None:
    batch = a_batch(tmp_path / "a b", ("square", {"number": 3}), ("square", {"number": 4}))
    job = node(a_profile(), batch)
    out, _ = job.communicate(timeout=120)
    assert job.returncode == 0, out
    assert batch.latest(0) == {0: 9, 1: 16}


@pytest.mark.parametrize("cpus", ["1", "2"])
def test_what_is_killed_runs_again_and_what_was_done_stays(tmp_path: Path, cpus: str) -> None:
    flag = str(tmp_path / "flag")
    batch = a_batch(tmp_path, ("square", {"number": 3}), ("die_once", {"flag": flag}), ("square", {"number": 4}))
    job = node(a_profile(), batch, SLURM_CPUS_PER_TASK=cpus)
    out, _ = job.communicate(timeout=120)
    assert job.returncode == 0, out
    assert batch.latest(0) == {0: 9, 1: "lived", 2: 16}
    assert "running again what has no result" in out


def test_what_always_dies_is_given_up_as_often_as_the_profile_says(tmp_path: Path) -> None:
    batch = a_batch(tmp_path, ("square", {"number": 3}), ("die", {}))
    job = node(a_profile(resources={"retries": 1}), batch)
    out, _ = job.communicate(timeout=120)
    assert job.returncode == 137
    assert out.count("running again") == 1
    assert batch.latest(0) == {0: 9}


def test_an_error_of_the_data_is_final_and_another_one_only_at_the_last(tmp_path: Path) -> None:
    batch = a_batch(tmp_path, ("bad", {"number": 3}))
    job = node(a_profile(), batch)
    out, _ = job.communicate(timeout=120)
    assert (job.returncode, out) == (3, "")
    told = batch.end_of(0, "error") or {}
    assert (told["error"], told["sentence"], told["tasks"], told["node"]) == (
        "InputError",
        "row 3 is bad",
        ["bad"],
        "n1",
    )
    batch = a_batch(tmp_path, ("full", {"path": "/there"}))
    job = node(a_profile(resources={"retries": 1}), batch)
    out, _ = job.communicate(timeout=120)
    assert job.returncode == 3
    assert out.count("running again") == 1
    told = batch.end_of(0, "error") or {}
    assert told["error"] == "StoreError"
    assert told["sentence"].startswith("on n1: /there: the disk is full")


def test_a_job_that_is_told_to_stop_leaves_what_it_has_done(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    wait = ("wait_for", {"flag": str(tmp_path / "never"), "mark": str(mark)})
    batch = a_batch(tmp_path, ("square", {"number": 3}), wait)
    job = node(a_profile(), batch)
    while not mark.exists() and job.poll() is None:
        time.sleep(0.05)
    job.send_signal(signal.SIGTERM)
    out, _ = job.communicate(timeout=120)
    assert job.returncode == 5, out
    assert batch.latest(0) == {0: 9}
    assert (batch.end_of(0, "stop") or {})["sentence"] == "it was told to stop (SIGTERM)"


def test_a_node_without_mixture_says_so(tmp_path: Path) -> None:
    batch = a_batch(tmp_path, ("square", {"number": 3}))
    bare = tmp_path / "python"
    bare.write_text("#!/bin/bash\necho 'ModuleNotFoundError: No module named mixture' >&2\nexit 1\n")
    bare.chmod(0o755)
    job = node(a_profile(python=str(bare)), batch)
    out, _ = job.communicate(timeout=120)
    assert job.returncode == 4
    assert out.splitlines()[-1] == (
        f"mixture says: node n1: {bare} cannot run mixture (ModuleNotFoundError: No module named mixture)"
    )


def test_a_node_that_does_not_see_the_work_directory_says_so(tmp_path: Path) -> None:
    batch = a_batch(tmp_path, ("square", {"number": 3}))
    batch.remove()
    job = node(a_profile(), batch)
    out, _ = job.communicate(timeout=120)
    assert job.returncode == 6
    assert f"mixture says: node n1 does not see {batch.folder}; give a work directory that every node shares" in out


def test_a_node_with_another_version_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("mixture.__version__", "0.0.7")
        batch = a_batch(tmp_path, ("square", {"number": 3}))
    job = node(a_profile(), batch)
    out, _ = job.communicate(timeout=120)
    assert job.returncode == 3, out
    sentence = (batch.end_of(0, "error") or {})["sentence"]
    assert sentence.startswith("node n1 has mixture ")
    assert f"for {sys.executable}, but the run was begun with 0.0.7; install the same version there" in sentence


def test_nobody_works_for_a_batch_that_is_closed(tmp_path: Path) -> None:
    batch = a_batch(tmp_path, ("square", {"number": 3}))
    batch.close("cancelled", "by hand")
    job = node(a_profile(), batch)
    job.communicate(timeout=120)
    assert job.returncode == 0
    assert batch.latest(0) == {}


def test_the_end_of_a_log_is_its_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("".join(f"line {n}\n" for n in range(9999)))
    assert tail(log)[-1] == "line 9998"
    assert len(tail(log)) == 20
    assert tail(tmp_path / "none") == []
