"""`mixture verify`."""

from pathlib import Path
from typing import Annotated

import typer

from mixture.cli.common import (
    CORES,
    DATA,
    WORK,
    Data,
    Debug,
    Json,
    LockPath,
    RecipePath,
    Work,
    Workers,
    session,
    show,
)

EXAMPLE = "Example:  mixture verify manifests/quickstart.yaml"


def command(
    recipe: RecipePath,
    work: Work = WORK,
    data: Data = DATA,
    workers: Workers = CORES,
    lock: LockPath = None,
    shards: Annotated[
        Path | None,
        typer.Option("--shards", metavar="DIR", help="Where the shards are.", show_default="in the work directory"),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Re-hash the shards and re-check, from the shards alone, that every cell is exact and every cap holds."""
    with session(recipe, work=work, data=data, workers=workers, lock=lock, debug=debug, alone=False) as job:
        found = job.verify(shards)
        text = (
            f"whole: {found.shards} shards, {found.tokens:,} tokens, {found.cells} cells exact, "
            f"{found.documents:,} documents, at most {found.most_copies} copies of each"
        )
        show(as_json, {"whole": True} | found.__dict__, text)
