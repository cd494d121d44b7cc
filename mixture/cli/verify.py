"""`mixture verify`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mixture.cli.common import Show, on_recipe

if TYPE_CHECKING:
    from mixture.flow import Job

EXAMPLE = "Example:  mixture verify manifests/quickstart.yaml"

Shards = Annotated[
    Path | None,
    typer.Option("--shards", metavar="DIR", help="Where the shards are.", show_default="in the work directory"),
]


@on_recipe(alone=False)
def command(job: "Job", show: Show, *, shards: Shards = None) -> None:
    """Re-hash the shards and re-check, from the shards alone, that every cell is exact and every cap holds."""
    found = job.verify(shards)
    text = (
        f"whole: {found.shards} shards, {found.tokens:,} tokens, {found.cells} cells exact, "
        f"{found.documents:,} documents, at most {found.most_copies} copies of each"
    )
    show({"whole": True} | found.__dict__, text)
