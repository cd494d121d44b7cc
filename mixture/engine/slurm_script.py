"""Batch scripts: what Slurm is handed.

A script is `#SBATCH` lines from the profile, the profile's lines of set-up, then a loop around a fresh process, for a
task that is killed (SIGKILL, out of memory) takes no more with it than its process: what lacks a result is run again.

    exit code   0  every task has its record                 3  a task ended in an error of its own: recorded
                4  this node has no such interpreter,         5  told to stop (time limit, scancel): recorded
                   or no mixture                              6  this node does not see the work directory
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from mixture.engine.batch import spell, work_digest
from mixture.profile import Profile
from mixture.storage import Place

NO_PACKAGE = 4
STOPPED = 5
NO_FOLDER = 6
FAILED = 3
#: What the script writes into its log in front of a sentence for the user.
MARK = "mixture says: "

_LOOP = """\
left={retries} stopped=
trap 'stopped=1; kill -TERM "$child" 2>/dev/null' TERM
while :; do
  "$python" -P -m {module} {arguments} "$left" &
  child=$!
  wait "$child"; code=$?
  while kill -0 "$child" 2>/dev/null; do wait "$child"; code=$?; done
  [ -z "$stopped" ] || exit {stopped}
  case $code in 0|{failed}|{stopped}|{no_folder}) exit $code ;; esac
  why=$("$python" -P -c 'import {module}' 2>&1); check=$?
  if [ $check -ne 0 ] && [ $check -le 127 ]; then
    echo "{mark}node ${{SLURMD_NODENAME:-$(hostname -s)}}: $python cannot run mixture (${{why##*$'\\n'}})"
    exit {no_package}
  fi
  [ "$left" -gt 0 ] || exit $code
  left=$((left - 1))
  echo "the process ended with code $code; running again what has no result"
done
"""


def job_name(work: Place, stage: str) -> str:
    """Return the name of a stage's jobs for a work directory."""
    return f"mixture-{work_digest(work)}-{stage}"


def logs_of(profile: Profile, folder: Place, work: Place) -> Path:
    """Return where the jobs of a batch write their logs: Slurm needs a folder of a file system that nodes share."""
    if profile.slurm.logs:
        return Path(os.path.expandvars(profile.slurm.logs)).expanduser().absolute() / folder.name
    if isinstance(folder, Path):
        return folder.absolute() / "logs"
    return Path.home() / ".cache" / "mixture" / "logs" / work_digest(work) / folder.name


def interpreter(profile: Profile) -> str:
    """Return the Python that jobs run."""
    return profile.python or sys.executable


def script(profile: Profile, stage: str, folder: Place, count: int) -> str:
    """Return the batch script of a stage of `count` elements, as `--dry-run` shows it.

    Args:
        profile: engine, resources, set-up.
        stage: whose tasks.
        folder: the batch's folder, WORK/jobs/NAME.
        count: elements.
    """
    most = min(count, profile.slurm.most_elements)
    return element_script(profile, stage, folder, range(most), 0)


def element_script(profile: Profile, stage: str, folder: Place, elements: Sequence[int], offset: int) -> str:
    """Return the batch script of some elements of a batch.

    Args:
        profile: engine, resources, set-up.
        stage: whose tasks.
        folder: the batch's folder.
        elements: which of them.
        offset: the element that the array calls 0: arrays may not count far.
    """
    work = folder.parent.parent
    running = f"%{profile.slurm.most_running}" if profile.slurm.most_running else ""
    logs = logs_of(profile, folder, work)
    head = [
        f"--array={spell([element - offset for element in elements])}{running}",
        f"--comment={comment(folder, offset)}",
        f"--output={logs}/%A_%a.log",
    ]
    lines = [
        f'export MIXTURE_LOG={shlex.quote(str(logs))}/"${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}.log"',
        f"element=$(({offset} + SLURM_ARRAY_TASK_ID))",
    ]
    loop = _loop(profile, stage, "mixture.engine.element", f'{shlex.quote(str(folder))} "$element"')
    return "\n".join([*_head(profile, stage, work, head), *lines, loop])


def driver_script(profile: Profile, work: Place, log: Path) -> str:
    """Return the batch script of the job that drives a detached run.

    Args:
        profile: engine, resources of `driver`, set-up.
        work: the work directory.
        log: the file of the job's log; all jobs of a chain write there.
    """
    head = [f"--output={log}", f"--comment={comment(work / 'jobs' / 'driver', 0)}"]
    loop = _loop(profile, "driver", "mixture.engine.slurm_driver", shlex.quote(str(work)))
    return "\n".join([*_head(profile, "driver", work, head), loop])


def comment(folder: Place, offset: int) -> str:
    """Return what a job says of itself in the queue: its batch, and the element that its array calls 0."""
    return f"mixture:{folder.name}:{offset}"


def _loop(profile: Profile, stage: str, module: str, arguments: str) -> str:
    return _LOOP.format(
        retries=profile.of(stage).retries or 0,
        module=module,
        arguments=arguments,
        failed=FAILED,
        stopped=STOPPED,
        no_folder=NO_FOLDER,
        no_package=NO_PACKAGE,
        mark=MARK,
    )


def _head(profile: Profile, stage: str, work: Place, own: Sequence[str]) -> list[str]:
    given = profile.of(stage)
    options = [f"--job-name={job_name(work, stage)}", *own]
    options += ["--open-mode=append", "--requeue", "--nodes=1", "--ntasks=1", f"--cpus-per-task={given.cpus or 1}"]
    if given.memory:
        options.append(f"--mem={max(1, given.memory >> 20)}M")
    if given.time:
        options.append(f"--time={clock(given.time)}")
    if given.partition:
        options.append(f"--partition={given.partition}")
    if given.account:
        options.append(f"--account={given.account}")
    options += given.flags or ()
    here = shlex.quote(str(Path.cwd()))
    return [
        "#!/bin/bash",
        *(f"#SBATCH {option}" for option in options),
        "",
        *profile.setup,
        f"cd {here} 2>/dev/null || cd",
        f"python={shlex.quote(interpreter(profile))}",
    ]


def clock(seconds: int) -> str:
    """Spell a time limit as Slurm does: hours, minutes, seconds."""
    return f"{seconds // 3600}:{seconds % 3600 // 60:02}:{seconds % 60:02}"
