"""`mixture decontaminate`."""

from typing import TYPE_CHECKING, Annotated

import typer

from mixture.cli.common import Show, on_recipe

if TYPE_CHECKING:
    from mixture.flow import Job

EXAMPLE = "Example:  mixture decontaminate manifests/mine.yaml --against 'eval/*.jsonl' --text input"

Against = Annotated[
    list[str] | None,
    typer.Option(
        "--against",
        metavar="GLOB",
        help="Evaluation files, relative to --data; may be given again.",
        show_default="the recipe's",
    ),
]
Ngram = Annotated[
    int | None,
    typer.Option("--ngram", metavar="N", min=4, max=10_000, help="Tokens in an n-gram.", show_default="the recipe's"),
]
Text = Annotated[
    str,
    typer.Option(
        "--text", metavar="FIELD", help="Field of the evaluation files' text.", show_default="the recipe's, or text"
    ),
]


@on_recipe(stages=("tokenize", "bucket", "score"))
def command(job: "Job", show: Show, *, against: Against = None, ngram: Ngram = None, text: Text = "") -> None:
    """Find the documents that share n-grams with evaluation files, and say how to keep them out."""
    from mixture.report.contamination import contamination_tables
    from mixture.scores.advice import advice

    found = job.decontaminate(against or (), ngram, text)
    lines = advice(job.recipe, found)
    pictures = [picture for one in found for picture in contamination_tables(one)]
    summary = {"gates": [one.to_json() for one in found], "write": lines}
    move = "\n".join([f"next: write into {job.path}", *(f"  {line}" for line in lines)])
    show(summary, *pictures, move if lines else f"{job.path} keeps them out already")
