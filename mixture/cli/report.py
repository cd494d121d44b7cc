"""`mixture report`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mixture.cli.common import Show, on_recipe

if TYPE_CHECKING:
    from mixture.flow import Job

EXAMPLE = "Example:  mixture report manifests/quickstart.yaml"


@on_recipe(alone=False)
def command(job: Job, show: Show) -> None:
    """Show what the mixture is, before and after, and its long context, from its lock alone."""
    from mixture.flow import current_lock
    from mixture.report.facts import lock_facts
    from mixture.report.tables import context_table, mixture_table, top_table

    found = current_lock(job.recipe, job.lock_path)
    pictures = [
        picture
        for phase in found.phases
        for picture in (mixture_table(found.name, phase), context_table(phase), top_table(phase))
    ]
    show({"name": found.name, "fingerprint": found.fingerprint} | found.made(), *pictures, lock_facts(found))
