"""`mixture score`."""

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

EXAMPLE = "Example:  mixture score manifests/quickstart.yaml --columns gzip_ratio,type_token_ratio"

Columns = Annotated[
    str,
    typer.Option("--columns", metavar="NAMES", help="Scores, by name, with commas.", show_default="the recipe's"),
]


def command(
    recipe: RecipePath,
    columns: Columns = "",
    work: Work = WORK,
    data: Data = DATA,
    workers: Workers = CORES,
    lock: LockPath = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Compute numbers about each document, for `where` and `weight`, and show how they are spread."""
    with session(recipe, work=work, data=data, workers=workers, lock=lock, debug=debug) as job:
        from mixture.report.scores import scores_table
        from mixture.scores.compute import choose, score
        from mixture.scores.summary import spreads
        from mixture.tokens.inputs import find

        chosen = choose(job.recipe, [name.strip() for name in columns.split(",") if name.strip()])
        units = find(chosen, job.workspace, job.engine)
        scores = score(chosen, units, job.workspace, job.engine, job.progress)
        found = spreads(scores.tables)
        summary = {
            "documents": scores.documents,
            "rejected": scores.rejected,
            "read": list(scores.made),
            "scores": scores.record,
            "columns": [spread.row() for spread in found],
        }
        text = f"{scores.documents:,} documents scored"
        if scores.rejected:
            text += "; rejected: " + ", ".join(f"{n:,} {reason}" for reason, n in scores.rejected.items())
        example = found[0].column if found else "…"
        show(as_json, summary, scores_table(found), text, f"next: where: {example} < … in {recipe}")
