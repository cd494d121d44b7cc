"""`mixture run`."""

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
from mixture.cli.summary import packed_summary

EXAMPLE = "Example:  mixture run manifests/quickstart.yaml --work /tmp/quickstart"


def command(
    recipe: RecipePath,
    work: Work = WORK,
    data: Data = DATA,
    workers: Workers = CORES,
    lock: LockPath = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Run every stage from the corpora to verified shards; what is whole is skipped."""
    with session(recipe, work=work, data=data, workers=workers, lock=lock, debug=debug) as job:
        store = job.tokenize()
        packed = job.pack(store, job.plan(store, job.bucket(store)))
        job.verify()
        from mixture.report.tables import lock_facts, mixture_table, where_next

        pictures = (
            mixture_table(packed.lock),
            lock_facts(packed.lock),
            where_next(job.path, job.lock_path, packed.folder),
        )
        show(as_json, packed_summary(job, packed), *pictures)
