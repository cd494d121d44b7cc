"""`mixture plan`."""

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

EXAMPLE = "Example:  mixture plan manifests/quickstart.yaml --lock /tmp/try.lock.json"


def command(
    recipe: RecipePath,
    work: Work = WORK,
    data: Data = DATA,
    workers: Workers = CORES,
    lock: LockPath = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Solve the quotas, draw and order the documents, write the lock. Reads no token."""
    with session(recipe, work=work, data=data, workers=workers, lock=lock, debug=debug) as job:
        store = job.tokenize()
        made = job.plan(store, job.bucket(store))
        from mixture.report.tables import lock_facts, mixture_table

        summary = {
            "plan": str(made.folder),
            "lock": str(job.lock_path),
            "fingerprint": made.lock.fingerprint,
        } | made.lock.made()
        pictures = (mixture_table(made.lock), lock_facts(made.lock))
        show(as_json, summary, *pictures, f"lock in {job.lock_path}", f"next: mixture pack {recipe}")
