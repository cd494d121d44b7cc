"""What Slurm's commands say, read right: with commands of our own in their place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mixture.engine.slurm_calls import AwayError, Ended, Queued, QueueFullError, Slurmctl, environment
from mixture.errors import EngineError


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands alone on PATH, but for the shell's own."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    for name in ("sbatch", "squeue", "scancel", "scontrol", "sacct", "sinfo"):
        tool(folder, name, "exit 0")
    return folder


def tool(folder: Path, name: str, body: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/bash\n{body}\n", encoding="utf-8")
    path.chmod(0o755)


def refuse(folder: Path, said: str, name: str = "sbatch") -> None:
    tool(folder, name, f"cat <<'END' >&2\n{said}\nEND\nexit 1")


def a_slurm(patience: float = 0.0) -> Slurmctl:
    return Slurmctl([].append, patience)


def test_a_job_s_number_is_what_sbatch_prints(tools: Path) -> None:
    tool(
        tools,
        "sbatch",
        f'cat > {tools}/given; echo "$@" > {tools}/options; echo "a plugin greets"; echo "4711;cluster"',
    )
    assert a_slurm().submit("#!/bin/bash\n", "pack", None, after="17") == "4711"
    assert (tools / "given").read_text() == "#!/bin/bash\n"
    assert (tools / "options").read_text().split() == [
        "--parsable",
        "--dependency=afterany:17",
        "--kill-on-invalid-dep=yes",
    ]


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (
            "sbatch: error: invalid partition specified: nope\nsbatch: error: Invalid partition name specified",
            r"pack: Slurm refuses the jobs: there is no partition nope; set .* \(there are: short, long\); it says: i",
        ),
        (
            "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified",
            r"the account does not exist, .*; set slurm.account or stages.pack.account",
        ),
        ("sbatch: error: Batch job submission failed: Invalid qos specification", r"no such QOS"),
        (
            "sbatch: error: Memory specification can not be satisfied",
            r"no node of the partition has what is asked; lower stages.pack.cpus or stages.pack.memory",
        ),
        (
            "sbatch: error: Batch job submission failed: Requested time limit is invalid (missing or ...)",
            r"lower stages.pack.time",
        ),
        ("sbatch: unrecognized option '--bogus'\nTry \"sbatch --help\"", r"mend the profile's flags"),
        (
            "sbatch: error: Batch job submission failed: User's group not permitted to use this partition",
            r"you may not use the partition",
        ),
        ("sbatch: error: the moon is full", r"it says: the moon is full; mend the profile"),
    ],
)
def test_a_refusal_is_one_sentence_with_the_knob(tools: Path, said: str, sentence: str) -> None:
    refuse(tools, said)
    tool(tools, "sinfo", "echo short; echo long")
    with pytest.raises(EngineError, match=sentence) as caught:
        a_slurm().submit("", "pack", "nope")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "said",
    [
        "sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Job violates accounting/QOS policy (…)",
        "sbatch: error: AssocMaxSubmitJobLimit",
        "sbatch: error: Batch job submission failed: Resource temporarily unavailable",
    ],
)
def test_a_full_queue_is_no_error(tools: Path, said: str) -> None:
    refuse(tools, said)
    with pytest.raises(QueueFullError):
        a_slurm().submit("", "pack", None)


def test_a_machine_without_slurm_is_told(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tools / "squeue").unlink()
    monkeypatch.setenv("PATH", str(tools))
    with pytest.raises(EngineError, match=r"^squeue is not on this machine; run mixture where .* a login node$"):
        a_slurm().queue(["x"])


def test_ctrl_c_is_for_the_driver_and_not_for_slurm_s_commands(tools: Path) -> None:
    # A terminal's Ctrl-C goes to the processes of its session.
    tool(tools, "sbatch", "cut -d ' ' -f 6 /proc/$$/stat")
    assert a_slurm().submit("", "pack", None) != str(os.getsid(0))


def test_a_controller_that_is_away_is_asked_again(tools: Path) -> None:
    tool(
        tools,
        "squeue",
        f"[ -e {tools}/back ] && exit 0; touch {tools}/back; "
        "echo 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)' >&2; exit 1",
    )
    said: list[str] = []
    assert Slurmctl(said.append, patience=60).queue(["x"]) == []
    assert said == ["Slurm's controller does not answer; asking again"]


def test_a_controller_that_stays_away_is_told_and_nothing_is_handed_over_twice(tools: Path) -> None:
    text = "error: Batch job submission failed: Socket timed out on send/recv operation"
    tool(tools, "sbatch", f"echo once >> {tools}/count; echo '{text}' >&2; exit 1")
    with pytest.raises(AwayError, match=r"does not answer \(.*Socket timed out.*\); jobs that run go on: run the same"):
        a_slurm(patience=100).submit("", "pack", None)
    assert (tools / "count").read_text() == "once\n"


def test_the_queue_is_read_line_by_line(tools: Path) -> None:
    lines = "17|0-2,5|PENDING|Resources||mixture-a-pack|mixture:pack-1:100\n17|7|RUNNING|None|n1|mixture-a-pack|x|y"
    tool(tools, "squeue", f"cat <<'END'\n{lines}\n18|N/A|RUNNING|None|n2|mixture-a-driver|(null)\nEND")
    assert a_slurm().queue(["mixture-a-pack"]) == [
        Queued("17", (0, 1, 2, 5), "PENDING", "Resources", "", "mixture-a-pack", "mixture:pack-1:100"),
        Queued("17", (7,), "RUNNING", "None", "n1", "mixture-a-pack", "x|y"),
        Queued("18", (), "RUNNING", "None", "n2", "mixture-a-driver", "(null)"),
    ]


SCONTROL = """cat <<'END'
JobId=18 ArrayJobId=17 ArrayTaskId=0 JobName=x JobState=FAILED Reason=NonZeroExitCode ExitCode=4:0 NodeList=n1
JobId=19 ArrayJobId=17 ArrayTaskId=1 JobName=x JobState=RUNNING Reason=None ExitCode=0:0 NodeList=n2
JobId=20 ArrayJobId=17 ArrayTaskId=2 JobName=x JobState=CANCELLED Reason=None ExitCode=0:9 NodeList=(null)
JobId=17 ArrayJobId=17 ArrayTaskId=3-9 JobName=x JobState=PENDING Reason=Resources ExitCode=0:0 NodeList=
END"""


def test_how_elements_ended_is_what_scontrol_says_while_it_knows(tools: Path) -> None:
    tool(tools, "scontrol", SCONTROL)
    assert a_slurm().ended("17") == {0: Ended("FAILED", 4, 0, "n1"), 2: Ended("CANCELLED", 0, 9, "")}


def test_then_what_the_accounts_say_where_there_are_any(tools: Path) -> None:
    config = "AccountingStorageType   = accounting_storage/slurmdbd\nMaxArraySize            = 1001"
    tool(tools, "scontrol", f"[ $2 = config ] || {{ echo 'Invalid job id specified' >&2; exit 1; }}; echo '{config}'")
    tool(
        tools,
        "sacct",
        "echo '17_0|TIMEOUT|0:0|n1'; echo '17_1|CANCELLED by 1000|0:15|n2'; echo '17_[2-9]|PENDING|0:0|'",
    )
    slurm = a_slurm()
    assert slurm.ended("17") == {0: Ended("TIMEOUT", 0, 0, "n1"), 1: Ended("CANCELLED", 0, 15, "n2")}
    assert slurm.most_elements == 1001


def test_without_either_nothing_is_known(tools: Path) -> None:
    config = "AccountingStorageType   = accounting_storage/none"
    tool(tools, "scontrol", f"[ $2 = config ] || exit 1; echo '{config}'")
    tool(tools, "sacct", "echo 'Slurm accounting storage is disabled' >&2; exit 1")
    assert a_slurm().ended("17") == {}


def test_a_job_s_own_words_do_not_reach_the_jobs_that_it_hands_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "100")
    monkeypatch.setenv("SLURM_JOB_ID", "3")
    told = {name: value for name, value in environment().items() if name.startswith("SLURM_")}
    assert told == {"SLURM_CONF": "/etc/slurm.conf", "SLURM_BITSTR_LEN": "0", "SLURM_TIME_FORMAT": "standard"}
