"""`mixture pack`."""

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

EXAMPLE = "Example:  mixture pack manifests/quickstart.yaml --workers 2"


def command(
    recipe: RecipePath,
    work: Work = WORK,
    data: Data = DATA,
    workers: Workers = CORES,
    lock: LockPath = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Lay the planned documents into sequences and write the shards; complete the lock."""
    with session(recipe, work=work, data=data, workers=workers, lock=lock, debug=debug) as job:
        store = job.tokenize()
        packed = job.pack(store, job.plan(store, job.bucket(store)))
        shards = packed.lock.shards
        text = f"{len(shards)} shards, {sum(s['tokens'] for s in shards):,} tokens in {packed.folder}"
        show(as_json, packed_summary(job, packed), text, f"next: mixture verify {recipe}")
