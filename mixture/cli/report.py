"""`mixture report`."""

from typing import TYPE_CHECKING, Annotated

import typer

from mixture.cli.common import Show, on_recipe

if TYPE_CHECKING:
    from mixture.flow import Job

EXAMPLE = "Example:  mixture report manifests/quickstart.yaml --packings"

Packings = Annotated[
    bool, typer.Option("--packings", help="Measure all packings on the plan instead; no token is read.")
]


@on_recipe(alone=False)
def command(job: "Job", show: Show, *, packings: Packings = False) -> None:
    """Show what the mixture is, before and after, and its long context, from its lock alone."""
    from mixture.flow import current_lock
    from mixture.plan.packings import compare_packings
    from mixture.report.facts import lock_facts
    from mixture.report.packing import packings_table, summary, truncation_table
    from mixture.report.tables import context_table, mixture_table, top_table

    found = current_lock(job.recipe, job.lock_path)
    if packings:
        compared = compare_packings(found, job.workspace)
        tables = [packings_table(f"{c.name}: {c.windows} of {c.of} windows", c.facts) for c in compared]
        show({c.name: {kind: summary(facts) for kind, facts in c.facts.items()} for c in compared}, *tables)
        return
    pictures = []
    for phase in found.phases:
        pictures += [mixture_table(found.name, phase), context_table(phase), top_table(phase)]
        pictures += [truncation_table(phase)] if phase["packing"] else []
    show({"name": found.name, "fingerprint": found.fingerprint} | found.made(), *pictures, lock_facts(found))
