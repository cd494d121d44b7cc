"""A real Slurm of three nodes on loopback: same bytes as here, whatever is killed; one sentence for what is wrong."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from mixture import lockfile
from mixture.engine import Task
from mixture.engine.batch import batches
from mixture.engine.local import Local
from mixture.engine.slurm import Slurm as Engine
from mixture.engine.slurm_script import job_name
from mixture.engine.slurm_status import cancel, status
from mixture.errors import EngineError, InputError
from mixture.profile import Profile
from tests.cluster import driver
from tests.cluster.slurm import Slurm, require
from tests.conftest import Kitchen

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
REPOSITORY = driver.REPOSITORY
MIXTURE = [sys.executable, "-m", "mixture"]


@contextlib.contextmanager
def a_cluster(**options: Any) -> Iterator[Slurm]:
    # Sockets have short names, pytest's folders long ones.
    root = Path(tempfile.mkdtemp(prefix="slurm-"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(REPOSITORY))
        patch.delenv("PYTHONWARNINGS", raising=False)
        try:
            with Slurm(root / "c", **options).up() as cluster:
                yield cluster
        finally:
            shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    require()
    with a_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def over_time(slurm: Slurm) -> Iterator[dict[str, Any]]:
    """A job that hits its time limit, which Slurm counts in minutes: it runs beside the other tests."""
    with tempfile.TemporaryDirectory() as folder:
        work, out = Path(folder) / "work", {}
        profile = a_profile(time="1m", retries=0, tasks_per_job=2, flags=["--nodelist=n3"])
        calls = [("square", {"number": 3}), ("wait_for", {"flag": folder + "/never", "mark": folder + "/mark"})]

        def run() -> None:
            try:
                for task, record in run_on_slurm(
                    profile, work, driver.tasks(calls), "pack", out.setdefault("said", [])
                ):
                    out[task.label] = record
            except EngineError as error:
                out["error"] = str(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        out["thread"] = thread
        yield out
        thread.join(120)


def a_profile(**resources: Any) -> Profile:
    slurm = resources.pop("slurm", {})
    return Profile(engine="slurm", resources={"cpus": 1, "tasks_per_job": 1} | resources, slurm=slurm)


def run_on_slurm(
    profile: Profile, work: Path, tasks: list[Task], stage: str = "pack", said: list[str] | None = None
) -> Iterator[tuple[Task, Any]]:
    with Engine(profile, work, [].append if said is None else said.append) as engine:
        yield from engine.run(tasks, stage)


def records(profile: Profile, work: Path, tasks: list[Task], **more: Any) -> dict[str, Any]:
    return {task.label: record for task, record in run_on_slurm(profile, work, tasks, **more)}


def until(true: Any, seconds: float = 120.0) -> None:
    Slurm.until(true, "waited in vain", seconds)


def test_records_come_back_and_nothing_stays(slurm: Slurm, over_time: dict[str, Any], tmp_path: Path) -> None:
    tasks = driver.tasks([("square", {"number": n}) for n in range(23)])
    assert records(a_profile(tasks_per_job=5, cpus=2), tmp_path, tasks) == {f"square {n}": n * n for n in range(23)}
    assert list((tmp_path / "jobs").iterdir()) == []


def test_many_arrays_stand_for_a_large_one(slurm: Slurm, tmp_path: Path) -> None:
    tasks = driver.tasks([("square", {"number": n}) for n in range(7)])
    profile = a_profile(slurm={"most_elements": 3, "most_running": 2})
    assert len(records(profile, tmp_path, tasks)) == 7


def test_each_error_is_what_it_was(slurm: Slurm, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^row 3 is bad$"):
        records(a_profile(), tmp_path, driver.tasks([("square", {"number": 1}), ("bad", {"number": 3})]))
    with pytest.raises(EngineError, match=r"pack: crash 0 failed on n\d: KeyError: 3; its log: .*\.log$"):
        records(a_profile(retries=0), tmp_path, driver.tasks([("crash", {"number": 3})]))
    told = status(tmp_path, print)["batches"]
    # The first batch went when its stage ran again; the second tells where and why.
    assert [batch["state"] for batch in told] == ["failed"]
    assert "KeyError: 3" in told[0]["failures"][0]["sentence"]
    assert any("tasks.py" in line for line in told[0]["failures"][0]["tail"])


@pytest.mark.parametrize("cpus", [1, 2])
def test_a_task_that_is_killed_runs_again_but_not_for_ever(slurm: Slurm, tmp_path: Path, cpus: int) -> None:
    tasks = driver.tasks([("die_once", {"flag": str(tmp_path / "flag")}), ("square", {"number": 3})])
    assert records(a_profile(tasks_per_job=2, cpus=cpus), tmp_path, tasks) == {"die_once 0": "lived", "square 1": 9}
    expected = r"pack: the job of die \d.* was killed on n\d.*want of memory; raise stages.pack.memory.*its log: /"
    with pytest.raises(EngineError, match=expected):
        records(a_profile(retries=1, cpus=cpus), tmp_path, driver.tasks([("die", {}), ("die", {})]))


def test_a_node_may_die_and_its_tasks_run_elsewhere(slurm: Slurm, tmp_path: Path) -> None:
    begun, flag = tmp_path / "begun", tmp_path / "flag"
    begun.mkdir()
    calls = [("count_and_wait", {"number": n, "folder": str(begun), "flag": str(flag)}) for n in range(3)]
    made: dict[str, Any] = {}
    running = threading.Thread(target=lambda: made.update(records(a_profile(), tmp_path / "w", driver.tasks(calls))))
    running.start()
    until(lambda: len(list(begun.iterdir())) == 3)
    assert "n1" in slurm.call("squeue", "-h", "-n", job_name(tmp_path / "w", "pack"), "-o", "%N")
    slurm.kill_node("n1")
    flag.touch()
    running.join(120)
    slurm.start_node("n1")
    assert made == {f"count_and_wait {n}": n for n in range(3)}
    assert len(list(begun.iterdir())) > 3


def test_a_driver_may_be_killed_and_the_next_one_takes_over_what_runs(slurm: Slurm, tmp_path: Path) -> None:
    begun, flag, profile = tmp_path / "begun", tmp_path / "flag", a_profile()
    begun.mkdir()
    calls = [("square", {"number": 5})]
    calls += [("count_and_wait", {"number": n, "folder": str(begun), "flag": str(flag)}) for n in range(3)]
    text = (
        "from tests.cluster.test_slurm import *\n"
        f"profile = Profile(**json.loads({profile.model_dump_json()!r}))\n"
        f"list(run_on_slurm(profile, Path({str(tmp_path / 'w')!r}), driver.tasks({calls!r})))"
    )
    first = subprocess.Popen([sys.executable, "-c", text], cwd=REPOSITORY)
    until(lambda: len(list(begun.iterdir())) == 3)
    until(lambda: any(batch.listed().counts for batch in batches(tmp_path / "w")))
    first.kill()
    first.wait()
    said: list[str] = []
    # The next one wants one more, and one not any more: its job goes. A record from before is not believed.
    tasks = [*driver.tasks(calls)[:3], *driver.tasks([("square", {"number": 6})])]
    running = run_on_slurm(profile, tmp_path / "w", tasks, said=said)
    assert {record for _, record in (next(running), next(running))} == {25, 36}
    flag.touch()
    assert sorted(record for _, record in running) == [0, 1]
    assert said == ["pack: goes on with the jobs of an earlier run, which hold 2 of the tasks"]
    assert len(list(begun.iterdir())) == 3
    until(lambda: "pack" not in slurm.call("squeue", "-h", "-o", "%j", "-w", "n1,n2"))


def test_ctrl_c_ends_the_driver_and_leaves_the_jobs(slurm: Slurm, tmp_path: Path) -> None:
    wait = ("wait_for", {"flag": str(tmp_path / "flag"), "mark": str(tmp_path / "mark")})
    tasks, said = driver.tasks([("square", {"number": 3}), wait]), list[str]()

    def interrupted() -> None:
        with Engine(a_profile(), tmp_path / "w", said.append) as engine:
            next(iter(engine.run(tasks, "pack")))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert "jobs stay in Slurm's queue: `mixture status` shows them, `mixture cancel` ends them" in said[-1]
    until((tmp_path / "mark").exists)
    (tmp_path / "flag").touch()
    assert records(a_profile(), tmp_path / "w", tasks)["square 0"] == 9


def test_a_check_is_not_believed_after_its_driver_died(slurm: Slurm, tmp_path: Path) -> None:
    begun, flag = tmp_path / "begun", tmp_path / "flag"
    begun.mkdir()
    flag.touch()
    tasks = driver.tasks([("count_and_wait", {"number": 1, "folder": str(begun), "flag": str(flag)})])
    running = run_on_slurm(a_profile(), tmp_path / "w", tasks, "verify")
    assert next(running)[1] == 1
    running.close()
    until(lambda: "verify" not in slurm.call("squeue", "-h", "-o", "%j"))
    assert records(a_profile(), tmp_path / "w", tasks, stage="verify") == {"count_and_wait 0": 1}
    assert len(list(begun.iterdir())) == 2


def test_status_tells_what_runs_and_cancel_ends_it(slurm: Slurm, tmp_path: Path) -> None:
    calls = [("wait_for", {"flag": str(tmp_path / "never"), "mark": str(tmp_path / f"mark{n}")}) for n in range(2)]
    work = tmp_path / "w"
    ended: list[str] = []

    def run() -> None:
        try:
            records(a_profile(), work, driver.tasks([("square", {"number": 2}), *calls]))
        except EngineError as error:
            ended.append(str(error))

    running = threading.Thread(target=run)
    running.start()
    until(lambda: all((tmp_path / f"mark{n}").exists() for n in range(2)))
    until(lambda: status(work, print)["batches"][0]["done"] == 1)
    until(lambda: status(work, print)["batches"][0]["jobs"] == {"running": 2, "waiting": 0})
    told = status(work, print)["batches"][0]
    assert (told["stage"], told["state"], told["tasks"], told["done"]) == ("pack", "open", 3, 1)
    shown = subprocess.run(
        [*MIXTURE, "status", "--work", work], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert "pack: 1 of 3 tasks done, 2 jobs running, 0 waiting" in shown.stdout
    assert cancel(work, print)["cancelled"] == 2
    running.join(60)
    assert ended == ["pack: ended by `mixture cancel`; what is whole is kept: run the same command to go on"]
    assert cancel(work, print)["cancelled"] == 0


@pytest.mark.parametrize(
    ("profile", "sentence"),
    [
        (a_profile(partition="nope"), r"there is no partition nope; .*stages.pack.partition \(there are: main\)"),
        (a_profile(memory="900G"), r"no node of the partition has what is asked; lower stages.pack.cpus or .*memory"),
        (a_profile(flags=["--bogus"]), r"sbatch does not know an option; mend the profile's flags"),
        (a_profile().model_copy(update={"python": "/usr/bin/false"}), r"node n\d: /usr/bin/false cannot run mixture"),
        (
            a_profile().model_copy(update={"python": "/no/python"}),
            r"/no/python cannot run mixture .*No such file.*set python: or",
        ),
        (a_profile(slurm={"logs": "/proc/none"}), r"/proc/none"),
    ],
)
def test_what_the_profile_says_wrongly_is_one_sentence(
    slurm: Slurm, tmp_path: Path, profile: Profile, sentence: str
) -> None:
    with pytest.raises(Exception, match=sentence) as caught:
        records(profile, tmp_path, driver.tasks([("square", {"number": 1})]))
    assert "\n" not in str(caught.value)


def build(kitchen: Kitchen, *options: str, work: str = "there") -> list[str]:
    """Return the line that builds the kitchen's corpus on the cluster."""
    profile = {"engine": "slurm", "resources": {"cpus": 2, "tasks_per_job": 3, "retries": 20}}
    file = kitchen.root / "slurm.yaml"
    file.write_text(json.dumps(profile), encoding="utf-8")
    place = ["--on", str(file), "--work", str(kitchen.root / work), "--data", str(kitchen.root)]
    place += ["--lock", str(kitchen.root / f"{work}.lock.json")]
    return [*MIXTURE, "run", str(kitchen.root / "small.yaml"), *place, *options]


def hashes(kitchen: Kitchen, work: str = "there") -> list[str]:
    lock = lockfile.read(kitchen.root / f"{work}.lock.json")
    return [shard["hash"] for shard in lock.shards] if lock else []


@pytest.fixture
def local(kitchen: Kitchen) -> list[str]:
    """What this machine makes of the corpus."""
    driver.corpus(kitchen)
    with Local(1) as engine:
        return driver.build(engine, kitchen.root, "local")


def elements(work: Path) -> list[psutil.Process]:
    """What runs on the nodes for a work directory: elements, and the workers under them."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or ())
        if "mixture.engine.element" in line and str(work) in line:
            found += [process, *_children(process)]
    return found


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def test_the_shards_are_the_same_whatever_is_killed(
    slurm: Slurm, kitchen: Kitchen, local: list[str], tmp_path: Path
) -> None:
    draw = random.Random(5)
    killed = drivers = 0
    line = build(kitchen)
    for _ in range(60):
        running = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
        until_then = time.monotonic() + draw.uniform(6, 12)
        while running.poll() is None and (killed < 5 or drivers < 2):
            time.sleep(draw.uniform(0.1, 1.0))
            there = elements(kitchen.root / "there")
            if there and killed < 5:
                with contextlib.suppress(psutil.NoSuchProcess):
                    draw.choice(there).kill()
                    killed += 1
            if drivers < 2 and time.monotonic() > until_then:
                running.kill()
                drivers += 1
        _, err = running.communicate(timeout=300)
        if running.returncode != -signal.SIGKILL:
            break
    assert running.returncode == 0, err
    assert hashes(kitchen) == local
    assert killed


def test_a_detached_run_goes_on_by_itself_and_can_be_watched(
    slurm: Slurm, kitchen: Kitchen, local: list[str], tmp_path: Path
) -> None:
    line = build(kitchen)
    done = subprocess.run([*line, "--detach"], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert "handed over as job" in done.stderr
    again = subprocess.run([*line, "--detach"], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert "already under way as job" in again.stderr
    other = subprocess.run([*line, "--json"], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert other.returncode == 1
    assert "in use by a detached run (mixture run" in other.stderr
    log, told = kitchen.root / "there" / "jobs" / "driver.log", kitchen.root / "there"
    until(log.exists)
    until(lambda: "tokenize: " in log.read_text() or status(told, print)["driver"]["state"] == "failed", 60)
    assert status(told, print)["driver"]["state"] == "running", status(told, print)["driver"]
    # Its job is killed whole: the next of the chain goes on.
    first = min(status(kitchen.root / "there", print)["driver"]["jobs"], key=int)
    slurm.call("scancel", "--signal=KILL", "--full", first, check=True)
    watched = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, check=False, timeout=200)
    assert watched.returncode == 0, watched.stderr
    assert "watching the detached run of job" in watched.stderr
    assert "sequences of" in watched.stdout
    assert hashes(kitchen) == local
    told = status(kitchen.root / "there", print)["driver"]
    assert (told["state"], told["link"]) == ("done", 2)
    until(lambda: "driver" not in slurm.call("squeue", "-h", "-o", "%j"))


def test_a_time_limit_is_told_and_what_was_done_before_is_kept(over_time: dict[str, Any]) -> None:
    over_time["thread"].join(150)
    assert over_time["square 0"] == 9
    assert over_time["error"].startswith("pack: the job of wait_for 1 hit its time limit of 0:01:00 on n3; ")
    assert "raise stages.pack.time, or lower stages.pack.tasks_per_job (2); its log: /" in over_time["error"]


def test_with_accounting_and_a_forgetful_controller_the_cause_is_known(tmp_path: Path) -> None:
    # The last one: its cluster takes the other's place in the environment.
    require(accounting=True)
    with a_cluster(accounting=True, min_age=2, nodes=1):
        profile = a_profile(retries=0)
        assert len(records(profile, tmp_path, driver.tasks([("square", {"number": n}) for n in range(3)]))) == 3
        with pytest.raises(EngineError, match="was killed on n1, most likely for want of memory"):
            records(profile, tmp_path, driver.tasks([("die", {})]))
