"""Slurm's own commands, and what they say: the one place that calls them.

    sbatch   a script in, a job's number out          squeue    what is in the queue: the sign of life
    scancel  jobs out of the queue                    scontrol  limits of the cluster; how a job ended, for a while
    sacct    how a job ended, where there is accounting

What a user asked wrongly is one sentence (`EngineError`). A controller that does not answer is asked again for some
minutes: it restarts, fails over, or is busy.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from mixture.engine.batch import unspell
from mixture.errors import EngineError

_TIMEOUT = 120.0
#: The controller is away, or too busy.
_AWAY = re.compile(
    r"unable to contact slurm controller|socket timed out|connection (refused|reset|timed out)|zero bytes were "
    r"transmitted|controller not responding|backup controller|unable to establish|transport endpoint|timed out",
    re.IGNORECASE,
)
#: What commands say in front of each of their lines.
_PREFIX = re.compile(r"\b(?:s[a-z]+): (?:error|fatal): ")
#: As many jobs are in the queue as may be.
_FULL = re.compile(
    r"MaxSubmitJob|GrpSubmitJob|MaxJobCount|resource temporarily unavailable|temporarily unable to accept",
    re.IGNORECASE,
)
#: What Slurm says, and what the user can do. {stage} and {partition} are filled in.
_REFUSALS = (
    (r"invalid partition", "there is no partition {partition}; set slurm.partition or stages.{stage}.partition"),
    (
        r"invalid account",
        "the account does not exist, or may not use the partition; set slurm.account or stages.{stage}.account",
    ),
    (r"invalid qos|invalid qualit", "there is no such QOS, or it is not yours; change --qos in the profile's flags"),
    (
        r"memory specification|node configuration is not available|cpu count|more processors requested",
        "no node of the partition has what is asked; lower stages.{stage}.cpus or stages.{stage}.memory",
    ),
    (r"time limit", "the time limit is not allowed; lower stages.{stage}.time, or choose another partition"),
    (
        r"permission denied|group not permitted|not authorized",
        "you may not use the partition or the account; set others in the profile",
    ),
    (
        r"(unrecogni[sz]ed|invalid|ambiguous) option|requires an argument",
        "sbatch does not know an option; mend the profile's flags",
    ),
    (r"job violates accounting/qos policy", "the account's limits do not allow the job; lower stages.{stage}, or ask"),
)


class QueueFullError(Exception):
    """As many jobs are in the queue as the user may have."""


class AwayError(EngineError):
    """The controller did not answer; a job that was being handed over may be in the queue, or not."""


@dataclass(frozen=True)
class Queued:
    """A line of the queue.

    Attributes:
        job: number of the job, of the whole array if it is one.
        indices: of the array's elements that the line is about; empty if it is no array.
        state: as `PENDING`, `RUNNING`, `COMPLETING`.
        reason: why it waits.
        node: where it runs.
        name: of the job.
        comment: of the job.
    """

    job: str
    indices: tuple[int, ...]
    state: str
    reason: str
    node: str
    name: str
    comment: str


@dataclass(frozen=True)
class Ended:
    """How an element of a job ended, as Slurm says it.

    Attributes:
        state: as `FAILED`, `TIMEOUT`, `NODE_FAIL`, `CANCELLED`; empty if Slurm does not know any more.
        code: exit code of the script.
        signal: that ended the script; 0 if none did.
        node: where it ran.
    """

    state: str = ""
    code: int = 0
    signal: int = 0
    node: str = ""


@dataclass
class Slurmctl:
    """Calls Slurm's commands.

    Attributes:
        say: tells the user one sentence.
        patience: for how many seconds a controller that does not answer is asked again.
    """

    say: Callable[[str], None]
    patience: float = 300.0
    _config: dict[str, str] = field(default_factory=dict)

    def submit(self, script: str, stage: str, partition: str | None, *, after: str = "") -> str:
        """Hand a batch script over; return the job's number.

        Args:
            script: its text.
            stage: whose jobs they are, for what is said of a refusal.
            partition: which partition it names, likewise.
            after: a job that it waits for, however that one ends.

        Raises:
            QueueFullError: as many jobs are in the queue as may be.
            AwayError: the controller does not answer; the job may be in the queue.
            EngineError: Slurm refuses the job.
        """
        command = ["sbatch", "--parsable"]
        command += [f"--dependency=afterany:{after}", "--kill-on-invalid-dep=yes"] if after else []
        done = self._call(command, script)
        if done.returncode == 0:
            return done.stdout.strip().splitlines()[-1].partition(";")[0]
        said = " ".join(done.stderr.split())
        if _FULL.search(said):
            raise QueueFullError(said)
        raise EngineError(self._refusal(said, stage, partition))

    def queue(self, names: Sequence[str]) -> list[Queued]:
        """List the jobs of these names that are in the queue.

        Raises:
            EngineError: Slurm does not answer.
        """
        form = "%F|%K|%T|%r|%N|%j|%k"
        done = self._checked(["squeue", "--noheader", f"--name={','.join(names)}", f"--format={form}"])
        lines = [line.split("|", 6) for line in done.splitlines() if line.count("|") >= 6]
        return [Queued(job, tuple(unspell(index)), *rest) for job, index, *rest in lines]

    def queue_of_mine(self) -> int:
        """Count the lines of the queue that are the user's."""
        return len(self._checked(["squeue", "--noheader", "--me", "--format=%i"]).splitlines())

    def ended(self, job: str) -> dict[int, Ended]:
        """Return how a job's elements ended, by index in its array, as far as Slurm still knows."""
        done = self._call(["scontrol", "--oneliner", "show", "job", job])
        found = dict(_from_scontrol(done.stdout)) if done.returncode == 0 else {}
        if found or not self.accounting:
            return found
        form = ["--noheader", "--parsable2", "--allocations", "--format=JobID,State,ExitCode,NodeList"]
        done = self._call(["sacct", f"--jobs={job}", *form])
        return dict(_from_sacct(done.stdout)) if done.returncode == 0 else {}

    def cancel(self, jobs: Sequence[str]) -> None:
        """Take jobs out of the queue, `17` or `17_[0-3]`; those that have ended meanwhile do not matter.

        Raises:
            EngineError: Slurm does not answer.
        """
        for first in range(0, len(jobs), 500):
            # scancel complains of jobs that have just ended.
            self._call(["scancel", *jobs[first : first + 500]])

    @property
    def most_elements(self) -> int:
        """How many elements the cluster allows an array."""
        return max(1, int(self._setting("MaxArraySize", "1001")))

    @property
    def accounting(self) -> bool:
        """Whether the cluster keeps accounts of jobs."""
        return not self._setting("AccountingStorageType", "none").endswith("none")

    def _setting(self, name: str, default: str) -> str:
        if not self._config:
            done = self._checked(["scontrol", "show", "config"])
            pairs = (line.partition("=") for line in done.splitlines() if "=" in line)
            self._config.update({left.strip(): right.strip() for left, _, right in pairs})
        return self._config.get(name, default)

    def _refusal(self, said: str, stage: str, partition: str | None) -> str:
        for pattern, move in _REFUSALS:
            if re.search(pattern, said, re.IGNORECASE):
                words = move.format(stage=stage, partition=partition or "by default")
                known = f" (there are: {self._partitions()})" if "partition {" in move else ""
                return f"{stage}: Slurm refuses the jobs: {words}{known}; it says: {_shortened(said)}"
        return f"{stage}: Slurm refuses the jobs; it says: {_shortened(said)}; mend the profile and run again"

    def _partitions(self) -> str:
        done = self._call(["sinfo", "--noheader", "--format=%R"])
        return ", ".join(done.stdout.split()[:12]) or "none that you may see"

    def _checked(self, command: Sequence[str]) -> str:
        done = self._call(command)
        if done.returncode:
            raise EngineError(
                f"{command[0]} failed ({_shortened(' '.join(done.stderr.split()))}); mend that, then run again"
            )
        return done.stdout

    def _call(self, command: Sequence[str], given: str | None = None) -> subprocess.CompletedProcess[str]:
        """Call a command; ask again while the controller is away."""
        began, said = time.monotonic(), ""
        for pause in _pauses():
            try:
                done = _run(command, given)
                away, said = done.returncode != 0 and _AWAY.search(done.stderr), done.stderr
                if not away:
                    return done
            except FileNotFoundError:
                raise EngineError(
                    f"{command[0]} is not on this machine; run mixture where Slurm's commands are, as on a login node"
                ) from None
            except subprocess.TimeoutExpired:
                said = f"no answer to {command[0]} within {_TIMEOUT:.0f} s"
            # A job may have been taken although the answer was lost: who hands over looks into the queue first.
            if command[0] == "sbatch" or time.monotonic() - began + pause > self.patience:
                break
            if pause == 1:
                self.say("Slurm's controller does not answer; asking again")
            time.sleep(pause)
        raise AwayError(
            f"Slurm's controller does not answer ({_shortened(' '.join(said.split()))}); jobs that run go on: "
            "run the same command again when it is back"
        )


def _run(command: Sequence[str], given: str | None) -> subprocess.CompletedProcess[str]:
    # A Ctrl-C is for the driver: a command of Slurm's is not cut short by it.
    pipes: dict[str, Any] = {"input": given, "capture_output": True, "text": True}
    return subprocess.run(command, **pipes, timeout=_TIMEOUT, check=False, env=environment(), start_new_session=True)


def _pauses() -> Iterator[float]:
    yield from (1.0, 2.0, 4.0, 8.0, 16.0)
    yield from itertools.repeat(30.0)


def environment() -> dict[str, str]:
    """Return the environment for Slurm's commands: inside a job, without what Slurm told that job."""
    here = {name: value for name, value in os.environ.items() if name == "SLURM_CONF" or not name.startswith("SLURM_")}
    # Without the limit, squeue writes "1-3,7,..." of a long list of an array's elements.
    return here | {"SLURM_BITSTR_LEN": "0", "SLURM_TIME_FORMAT": "standard", "LC_ALL": "C.UTF-8"}


def _from_scontrol(text: str) -> Iterator[tuple[int, Ended]]:
    for line in text.splitlines():
        facts = dict(word.split("=", 1) for word in line.split(" ") if "=" in word)
        index = facts.get("ArrayTaskId", "0")
        if not index.isdecimal() or facts.get("JobState") in (None, "PENDING", "RUNNING", "COMPLETING", "REQUEUED"):
            continue
        node = facts.get("NodeList", "")
        yield int(index), Ended(facts["JobState"], *_exit(facts.get("ExitCode", "")), "" if node == "(null)" else node)


def _from_sacct(text: str) -> Iterator[tuple[int, Ended]]:
    for line in text.splitlines():
        job, state, code, node = (line.split("|") + [""] * 4)[:4]
        index = job.partition("_")[2] or "0"
        if index.isdecimal() and state and state.split()[0] not in ("PENDING", "RUNNING", "REQUEUED"):
            # "CANCELLED by 1000"
            yield int(index), Ended(state.split()[0], *_exit(code), "" if node == "None assigned" else node)


def _exit(text: str) -> tuple[int, int]:
    with contextlib.suppress(ValueError):
        code, _, number = text.partition(":")
        return int(code), int(number or 0)
    return 0, 0


def _shortened(text: str, most: int = 300) -> str:
    # A command names itself before each of its errors.
    text = "; ".join(filter(None, (words.strip() for words in _PREFIX.split(text))))
    return text if len(text) <= most else text[:most] + "…"
