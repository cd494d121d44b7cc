"""`mixture bucket`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mixture.cli.common import Show, on_recipe

if TYPE_CHECKING:
    from mixture.flow import Job

EXAMPLE = "Example:  mixture bucket manifests/quickstart.yaml"


@on_recipe(stages=("tokenize", "bucket"))
def command(job: Job, show: Show) -> None:
    """Build the document index and its census: documents and tokens by domain and length."""
    from mixture.report.tables import census_table

    index = job.bucket(job.tokenize())
    summary = {
        "index": str(index.table),
        "documents": index.documents,
        "tokens": index.tokens,
        "duplicates": index.duplicates,
        "no_domain": index.no_domain,
        "digest": index.digest,
        "census": index.census.rows(),
    }
    text = f"{index.documents:,} documents, {index.duplicates:,} exact duplicates; index in {index.table}"
    show(summary, census_table(index.census), text, f"next: mixture plan {job.path}")
