"""`mixture score`."""

from typing import TYPE_CHECKING, Annotated

import typer

from mixture.cli.common import Show, on_recipe

if TYPE_CHECKING:
    from mixture.flow import Job

EXAMPLE = "Example:  mixture score manifests/quickstart.yaml --columns gzip_ratio,type_token_ratio"

Columns = Annotated[
    str,
    typer.Option("--columns", metavar="NAMES", help="Scores, by name, with commas.", show_default="the recipe's"),
]


@on_recipe(stages=("tokenize", "score"))
def command(job: "Job", show: Show, *, columns: Columns = "") -> None:
    """Compute numbers about each document, for `where` and `weight`, and show how they are spread."""
    from mixture.report.scores import scores_table
    from mixture.scores.summary import spreads

    scores = job.score([name.strip() for name in columns.split(",") if name.strip()])
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
    show(summary, scores_table(found), text, f"next: where: {example} < … in {job.path}")
