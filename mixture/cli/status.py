"""`mixture status`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mixture.cli.common import Debug, Json, Watch, sentences, show
from mixture.cli.where import Asked, On, Work

EXAMPLE = "Example:  mixture status --on pipelines/slurm.yaml"

Lines = Annotated[int, typer.Option("--lines", metavar="N", min=0, help="Lines of the log shown of each failure.")]


def command(on: On = None, work: Work = None, lines: Lines = 5, as_json: Json = False, debug: Debug = False) -> None:
    """Show what a work directory's Slurm jobs are doing: what is done, runs, waits, has failed and why."""
    watch = Watch()
    with sentences(debug=debug, watch=watch):
        from mixture.engine.slurm_status import status

        told = status(Asked(on, work).where().work, watch.say)
        show(as_json, told, "\n".join(_story(told, lines)))


def _story(told: dict[str, Any], lines: int) -> list[str]:
    story = [f"queue not known: {told['queue_unknown']}"] if told["queue_unknown"] else []
    driver = told["driver"]
    if driver:
        at_work, after = (driver["jobs"] + ["", ""])[:2]
        where = f", job {at_work}" if at_work else ""
        where += f" (job {after} goes on if that dies)" if after else ""
        story.append(f"detached run: {driver['state']}{where}: {driver['command']}")
        story += [f"  {driver['sentence']}"] if driver["sentence"] else []
        story.append(f"  log: {driver['log']}")
    for batch in told["batches"]:
        story += _batch(batch, lines)
    return story or [f"{told['work']}: no batch of jobs is open here, and none has failed"]


def counted(number: int, noun: str) -> str:
    """Count things: `1 job`, `3 jobs`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _batch(batch: dict[str, Any], lines: int) -> list[str]:
    jobs = batch["jobs"]
    live = f", {counted(jobs['running'], 'job')} running, {jobs['waiting']} waiting" if jobs else ""
    failed = f", {batch['failed']} failed" if batch["failed"] else ""
    state = "" if batch["state"] == "open" else f" ({batch['state']})"
    story = [f"{batch['stage']}{state}: {batch['done']:,} of {batch['tasks']:,} tasks done{live}{failed}"]
    story += [f"  {batch['sentence']}"] if batch["sentence"] else []
    for reason, waiting in batch["reasons"].items():
        means = f": {waiting['means']}" if waiting["means"] else ""
        story.append(f"  {waiting['jobs']} wait for {reason}{means}")
    for failure in batch["failures"]:
        tasks = ", ".join(failure.get("tasks", ())[:3])
        story.append(
            f"  {tasks or 'element ' + str(failure['element'])} on {failure.get('node', '?')}: {failure['sentence']}"
        )
        shown = failure.get("tail", [])
        story += [f"    | {line}" for line in shown[len(shown) - min(lines, len(shown)) :]]
    return story
