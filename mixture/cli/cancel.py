"""`mixture cancel`."""

from __future__ import annotations

from mixture.cli.common import Debug, Json, Watch, sentences, show
from mixture.cli.status import counted
from mixture.cli.where import Asked, On, Work

EXAMPLE = "Example:  mixture cancel --on pipelines/slurm.yaml"


def command(on: On = None, work: Work = None, as_json: Json = False, debug: Debug = False) -> None:
    """End all Slurm jobs of a work directory, a detached run among them; what is whole is kept."""
    watch = Watch()
    with sentences(debug=debug, watch=watch):
        from mixture.engine.slurm_status import cancel

        told = cancel(Asked(on, work).where().work, watch.say)
        count = told["cancelled"]
        jobs = f"{counted(count, 'job')} ended" if count else "no job was in the queue"
        show(as_json, told, f"{jobs}; what is whole is kept: run the same command to go on")
