"""Why an element ended without its results: one sentence with the knob to turn, and whether trying again helps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mixture.engine.slurm_calls import Ended
from mixture.engine.slurm_judge import Case, Verdict, held, judge, own_error
from mixture.errors import EngineError, InputError, StoreError
from mixture.profile import Resources


def verdict(ended: Ended, stop: dict[str, Any] | None = None, log: Path = Path("/none/17_0.log")) -> Verdict:
    given = Resources(time="4h", tasks_per_job=8, cpus=2)
    return judge(Case("pack", given, ["shard 7", "shard 31"], ended, stop or {}, log))


MEMORY = "raise stages.pack.memory, or lower stages.pack.cpus so that fewer tasks run in a job"


@pytest.mark.parametrize(
    ("ended", "what", "move"),
    [
        (
            Ended("TIMEOUT", 0, 0, "n3"),
            "hit its time limit of 4:00:00 on n3",
            "raise stages.pack.time, or lower stages.pack.tasks_per_job (8)",
        ),
        (Ended("OUT_OF_MEMORY", 0, 125, "n3"), "ran out of memory on n3", MEMORY),
        (
            Ended("NODE_FAIL", 0, 0, "n2"),
            "ended with its node, n2, which failed",
            "exclude that by --exclude in the profile's flags",
        ),
        (Ended("PREEMPTED", 0, 15, "n2"), "was preempted on n2", "use a partition or QOS where it is not"),
        (Ended("FAILED", 0, 9, "n2"), "was killed on n2, most likely for want of memory", MEMORY),
    ],
)
def test_what_slurm_ended_is_tried_again_and_told(ended: Ended, what: str, move: str) -> None:
    sentence = f"pack: the job of shard 7, shard 31 {what}; {move}; its log: /none/17_0.log"
    assert verdict(ended) == Verdict(sentence, again=True, spent=False, known=True)


def test_what_the_script_has_tried_often_enough_is_handed_over_only_if_it_got_on() -> None:
    killed = verdict(Ended("FAILED", 137, 0, "n2"))
    assert (killed.again, killed.spent) == (True, True)
    assert "was killed on n2" in killed.sentence
    worker = verdict(Ended("FAILED", 1, 0, "n2"), {"error": "killed", "sentence": "a worker process was killed"})
    assert worker == killed


def test_what_cannot_get_better_is_not_tried_again() -> None:
    assert not verdict(Ended("CANCELLED", 0, 15, "n2")).again
    assert not verdict(Ended("FAILED", 6, 0, "n2")).again
    assert "n2 does not see the work directory" in verdict(Ended("FAILED", 6, 0, "n2")).sentence
    assert (
        "could not open its log /none/17_0.log on n2; give a work directory, or slurm.logs, that"
        in verdict(Ended("FAILED", 0, 53, "n2")).sentence
    )


def test_what_the_log_says_for_the_user_is_told(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("noise\nmixture says: node n2: /usr/bin/python3 cannot run mixture (No module)\nslurmstepd: bye\n")
    found = verdict(Ended("FAILED", 4, 0, "n2"), log=log)
    assert found.sentence.startswith(
        "pack: node n2: /usr/bin/python3 cannot run mixture (No module); set python: or setup:"
    )
    assert not found.again


def test_results_may_be_on_their_way_if_nobody_says_that_it_failed() -> None:
    assert not verdict(Ended("COMPLETED", 0, 0, "n2")).known
    assert not verdict(Ended()).known
    assert "ended without a record" in verdict(Ended()).sentence


def test_a_record_tells_what_slurm_has_forgotten() -> None:
    stop = {"error": "stopped", "sentence": "it was told to stop (SIGTERM)", "node": "n1", "tasks": ["shard 7"]}
    found = verdict(Ended(), stop)
    assert found.sentence.startswith("pack: the job of shard 7, shard 31 failed on n1: it was told to stop (SIGTERM)")
    assert (found.again, found.spent, found.known) == (True, False, True)


def test_an_error_of_a_task_comes_back_as_it_was() -> None:
    told = {"error": "InputError", "sentence": "row 3 is bad", "own": True, "tasks": ["x"], "node": "n1", "log": "/l"}
    error = own_error("tokenize", told)
    assert (type(error), str(error)) == (InputError, "row 3 is bad")
    assert type(own_error("pack", told | {"error": "StoreError"})) is StoreError
    foreign = own_error("pack", told | {"error": "EngineError", "own": False, "sentence": "KeyError: 3"})
    assert (type(foreign), str(foreign)) == (EngineError, "pack: x failed on n1: KeyError: 3; its log: /l")
    # A name that is no error of ours is not looked up.
    assert type(own_error("pack", told | {"error": "Iterable"})) is EngineError


def test_jobs_that_will_never_start_are_told_from_those_that_wait_their_turn() -> None:
    assert held("pack", "Resources") == ""
    assert held("pack", "Priority") == ""
    assert "lower stages.pack.time" in held("pack", "PartitionTimeLimit")
    assert "scontrol release" in held("pack", "launch_failed_requeued_held")
