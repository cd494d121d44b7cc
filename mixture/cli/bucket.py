"""`mixture bucket`."""

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

EXAMPLE = "Example:  mixture bucket manifests/quickstart.yaml"


def command(
    recipe: RecipePath,
    work: Work = WORK,
    data: Data = DATA,
    workers: Workers = CORES,
    lock: LockPath = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Build the document index and its census: documents and tokens by domain and length."""
    with session(recipe, work=work, data=data, workers=workers, lock=lock, debug=debug) as job:
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
        from mixture.report.tables import census_table

        text = f"{index.documents:,} documents, {index.duplicates:,} exact duplicates; index in {index.table}"
        show(as_json, summary, census_table(index.census), text, f"next: mixture plan {recipe}")
