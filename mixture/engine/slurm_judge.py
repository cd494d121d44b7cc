"""Why an element left the queue without its results, in a sentence; and whether to hand it over again.

    element 12 of pack: TIMEOUT on n3, two of its four tasks have records
    ─▶ "pack: the job of shard 7, shard 31 hit its time limit of 1:00:00 on n3; raise stages.pack.time …"

What a job says of itself (its record on storage) is worth most; then what Slurm says of it, which it forgets after some
minutes where there is no accounting; then the end of the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixture.engine.attempt import kind_of
from mixture.engine.element import tail
from mixture.engine.slurm_calls import Ended
from mixture.engine.slurm_script import MARK, NO_FOLDER, NO_PACKAGE, STOPPED, clock
from mixture.errors import EngineError, MixtureError, some
from mixture.profile import Resources


@dataclass(frozen=True)
class Case:
    """An element that left the queue without its results.

    Attributes:
        stage: whose tasks.
        given: the resources of the stage.
        labels: names of the tasks that have no result.
        ended: what Slurm says.
        stop: what the job recorded; empty if it did not.
        log: the job's log.
    """

    stage: str
    given: Resources
    labels: Sequence[str]
    ended: Ended
    stop: dict[str, Any]
    log: Path

    @property
    def job(self) -> str:
        """What the job is called."""
        return f"{self.stage}: the job of {some(self.labels)}"

    @property
    def node(self) -> str:
        """Where it ran."""
        return self.ended.node or self.stop.get("node") or "its node"

    @property
    def signal(self) -> int:
        """The signal that ended the script or what it ran; 0 if none did."""
        return self.ended.signal or (self.ended.code - 128 if self.ended.code > 128 else 0)

    @property
    def look(self) -> str:
        """Where to look."""
        return f"; its log: {self.log}"


@dataclass(frozen=True)
class Verdict:
    """What became of an element.

    Attributes:
        sentence: what happened, and which knob to turn.
        again: whether handing it over again can help at all.
        spent: whether its script has run it again already: only what got on is handed over again.
        known: whether Slurm, the job or its log said so: results may still be on their way if none did.
    """

    sentence: str
    again: bool = True
    spent: bool = False
    known: bool = True


#: What Slurm's states mean, and which knob to turn.
_STATES = {
    "TIMEOUT": ("hit its time limit{limit} on {node}", "raise stages.{stage}.time{fewer}"),
    "OUT_OF_MEMORY": ("ran out of memory on {node}", "{memory}"),
    "NODE_FAIL": ("ended with its node, {node}, which failed", "exclude that by --exclude in the profile's flags"),
    "BOOT_FAIL": (
        "ended with its node, {node}, which did not start",
        "exclude that by --exclude in the profile's flags",
    ),
    "PREEMPTED": ("was preempted on {node}", "use a partition or QOS where it is not"),
    "DEADLINE": ("missed its deadline", "change --deadline in the profile's flags"),
}
_MEMORY = "raise stages.{stage}.memory, or lower stages.{stage}.cpus so that fewer tasks run in a job"


def judge(case: Case) -> Verdict:
    """Say why an element ended without its results, and whether to hand it over again."""
    for rule in (_of_the_node, _of_slurm, _of_the_job):
        verdict = rule(case)
        if verdict:
            return verdict
    ended = case.ended
    if ended.state == "COMPLETED":
        words = f"ended on {case.node} but its results are not in the work directory"
        return Verdict(f"{case.job} {words}{case.look}", known=False)
    if ended.state == "FAILED":
        how = f"signal {case.signal}" if case.signal else f"exit code {ended.code}"
        return Verdict(f"{case.job} ended with {how} on {case.node}{case.look}", spent=True)
    if ended.state:
        return Verdict(f"{case.job} ended as {ended.state} on {case.node}{case.look}")
    words = "ended without a record: it is no longer in the queue, and nothing says why"
    return Verdict(f"{case.job} {words}{case.look}", known=False)


def _of_the_node(case: Case) -> Verdict | None:
    """Judge what the profile can mend: the interpreter, the work directory, the folder of logs."""
    code = case.ended.code if case.ended.state == "FAILED" else 0
    said = next((line.removeprefix(MARK) for line in reversed(tail(case.log)) if line.startswith(MARK)), "")
    if code == NO_PACKAGE:
        words = said or f"{case.node} cannot run mixture with the profile's interpreter"
        return Verdict(f"{case.stage}: {words}; set python: or setup: in the profile{case.look}", again=False)
    if code == NO_FOLDER:
        words = said or f"{case.node} does not see the work directory; give one that every node shares"
        return Verdict(f"{case.stage}: {words}", again=False)
    if case.ended.signal == 53:
        words = f"could not open its log {case.log} on {case.node}"
        move = "give a work directory, or slurm.logs, that every node shares"
        return Verdict(f"{case.job} {words}; {move}", again=False)
    return Verdict(f"{case.stage}: {said}{case.look}", spent=True) if said and code else None


def _of_slurm(case: Case) -> Verdict | None:
    """Judge what Slurm ended."""
    if case.ended.state == "CANCELLED":
        return Verdict(f"{case.job} was cancelled; run the same command again to go on", again=False)
    if case.ended.state not in _STATES:
        return None
    limit = f" of {clock(case.given.time)}" if case.given.time else ""
    several = (case.given.tasks_per_job or 1) > 1
    fewer = f", or lower stages.{case.stage}.tasks_per_job ({case.given.tasks_per_job})" if several else ""
    memory = _MEMORY.format(stage=case.stage)
    words = "; ".join(_STATES[case.ended.state])
    sentence = words.format(limit=limit, node=case.node, stage=case.stage, fewer=fewer, memory=memory)
    return Verdict(f"{case.job} {sentence}{case.look}")


def _of_the_job(case: Case) -> Verdict | None:
    """Judge what killed its processes, or what it says of itself."""
    if case.signal == 9 or (case.stop.get("error") == "killed" and case.ended.state != "COMPLETED"):
        words = f"was killed on {case.node}, most likely for want of memory; {_MEMORY.format(stage=case.stage)}"
        return Verdict(f"{case.job} {words}{case.look}", spent=case.ended.signal != 9)
    if case.stop and case.ended.code == STOPPED:
        return Verdict(f"{case.job} was told to stop (SIGTERM) on {case.node}{case.look}")
    if case.stop.get("sentence"):
        return Verdict(
            f"{case.job} failed on {case.node}: {case.stop['sentence']}{case.look}", spent=bool(case.ended.state)
        )
    return None


def own_error(stage: str, told: dict[str, Any]) -> MixtureError:
    """Return the error that a task ended in, of its own class."""
    if told.get("own"):
        return kind_of(str(told["error"]))(told["sentence"])
    tasks = f"{some(told['tasks'])} failed on {told['node']}: " if told.get("tasks") else ""
    log = f"; its log: {told['log']}" if told.get("log") and tasks else ""
    return EngineError(f"{stage}: {tasks}{told['sentence']}{log}")


#: Why jobs may wait for ever, by Slurm's word for it.
_HELD = {
    "PartitionTimeLimit": "they ask for more time than the partition allows; lower stages.{stage}.time",
    "PartitionNodeLimit": "the partition has no such nodes; change stages.{stage}",
    "BadConstraints": "no node has what they ask for; change stages.{stage}",
    "InvalidAccount": "their account is not valid; change slurm.account",
    "InvalidQOS": "their QOS is not valid; change the flags",
    "PartitionDown": "the partition is down",
    "PartitionInactive": "the partition is inactive",
    "JobHeldUser": "you hold them; scontrol release lets them go",
    "JobHeldAdmin": "an administrator holds them",
    "AssocGrpCPUMinutesLimit": "the account has used up its time",
    "launch failed requeued held": "a node could not start them and Slurm holds them; scontrol release lets them go",
}


def held(stage: str, reason: str) -> str:
    """Return why jobs wait that will not run by themselves; empty if they only wait for their turn."""
    for word, sentence in _HELD.items():
        if reason.replace("_", " ").startswith(word):
            return sentence.format(stage=stage)
    return ""
