"""`mixture verify`."""

from typing import TYPE_CHECKING, Annotated

import typer

from mixture.cli.common import Shards, Show, on_recipe

if TYPE_CHECKING:
    from mixture.flow import Job
    from mixture.verify import Verified

EXAMPLE = "Example:  mixture verify manifests/quickstart.yaml --inputs"

Sample = Annotated[
    float, typer.Option("--sample", metavar="SHARE", help="Look at this share of the shards, parts and slices.")
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Another seed picks another sample.")]
Inputs = Annotated[bool, typer.Option("--inputs", help="Read the input files again, and compare them by content.")]


@on_recipe(alone=False, stages=("verify",))
def command(
    job: "Job", show: Show, *, shards: Shards = None, sample: Sample = 1.0, seed: Seed = 0, inputs: Inputs = False
) -> None:
    """Re-hash shards, plan, index and store, and re-check that every cell is exact and every cap holds."""
    from mixture.storage import as_place
    from mixture.verify import Checks

    found = job.inspect(Checks(None if shards is None else as_place(shards), sample=sample, seed=seed, inputs=inputs))
    for finding in found.findings[1:]:
        job.progress.say(finding.message)
    show(found.to_json(), *([] if found.findings else _sentences(found)))
    found.demand()


def _sentences(found: "Verified") -> list[str]:
    """Say what is whole, what was not looked at, and what differs without being a fault."""
    told = [f"{found.shards} shards", f"{found.tokens:,} tokens"]
    if found.cells:
        told += [f"{found.cells} cells exact", f"{found.documents:,} documents, at most {found.most_copies} of each"]
    told += [f"{found.files:,} files of store, index and plan"] if found.files else []
    told += [f"{found.inputs:,} input files"] if found.inputs else []
    beside = [f"not checked: {sentence}" for sentence in found.not_checked]
    return [f"whole: {', '.join(told)}", *beside, *(f"note: {note}" for note in found.notes)]
