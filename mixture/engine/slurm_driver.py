"""What a driver job runs: the command of a detached run, after its successor has been put into the queue.

    python -P -m mixture.engine.slurm_driver WORK 2

The last argument says how often the script will run it again if it dies; see `slurm_detach` for the chain.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from typing import IO, Any

from mixture.engine.attempt import node
from mixture.engine.slurm_calls import QueueFullError, Slurmctl
from mixture.engine.slurm_detach import ENDED, INSIDE, cancel_others, note, read_driver
from mixture.engine.slurm_script import FAILED, STOPPED
from mixture.errors import EngineError
from mixture.storage import Place, as_place

#: Jobs of one chain at most: a driver that dies this often dies of something that the next will die of, too.
_MOST_LINKS = 50
_SUMMARY_BYTES = 1 << 16
_AGAIN = 1
#: A controller that is away is no end of a run: see `slurm_calls.AwayError`.
_AWAY = "controller does not answer"


def drive(work: Place, cluster: Slurmctl) -> int:
    """Run the command of a detached run and record its end; return the job's exit code."""
    driver = read_driver(work)
    if driver is None or driver["state"] in ENDED:
        return 0
    mine = os.environ.get("SLURM_JOB_ID", "")
    if driver["parent"] != mine:
        if driver["link"] >= _MOST_LINKS:
            sentence = f"its driver ended {_MOST_LINKS} times without an end of the run; see its log, {driver['log']}"
            return _end(work, driver, "failed", sentence, "")
        driver = note(work, driver, state="running", link=driver["link"] + 1, parent=mine, node=node())
        driver = note(work, driver, successor=_put_next(cluster, driver, mine))
    code, said, summary = _run(driver)
    now = read_driver(work)
    if now is None or now["state"] in ENDED:
        # `mixture cancel` has been here.
        return 0
    if code in (0, 1, 2) and _AWAY not in said:
        end = _end(work, driver, "failed" if code else "done", said if code else "", summary)
        cancel_others(work, cluster, mine)
        return end
    note(work, driver, state="waiting")
    return STOPPED if code in (143, -signal.SIGTERM) else _AGAIN


def _put_next(cluster: Slurmctl, driver: dict[str, Any], mine: str) -> str:
    """Put a job into the queue that goes on if this one ends before the run does."""
    try:
        return cluster.submit(driver["script"], "driver", None, after=mine)
    except QueueFullError as error:
        _tell(f"no successor of this driver: {error}")
        return ""


def _end(work: Place, driver: dict[str, Any], state: str, sentence: str, summary: str) -> int:
    note(work, driver, state=state, sentence=sentence, summary=summary)
    return 0 if state == "done" else FAILED


def _run(driver: dict[str, Any]) -> tuple[int, str, str]:
    """Run the command; return its exit code, the last line that it said, and what it printed."""
    command = [sys.executable, "-P", "-m", "mixture", *driver["command"]]
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            env=os.environ | {INSIDE: "1"},
            text=True,
        )
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        said = ""
        for line in process.stderr or ():
            _tell(line.rstrip())
            said = line.strip() or said
        code = process.wait()
        return code, said.removeprefix("error: "), _printed(out)


def _printed(out: IO[bytes]) -> str:
    out.seek(0)
    return out.read(_SUMMARY_BYTES).decode(errors="replace")


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - the job's log


def main(arguments: list[str]) -> int:
    """Drive a detached run: its work directory, and how often this is run again."""
    work = as_place(arguments[0])
    try:
        return drive(work, Slurmctl(_tell))
    except EngineError as error:
        _tell(f"error: {error}")
        driver = read_driver(work)
        if driver is not None and _AWAY not in str(error):
            return _end(work, driver, "failed", str(error), "")
        return _AGAIN


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
