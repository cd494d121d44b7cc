"""`mixture report`."""

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

EXAMPLE = "Example:  mixture report manifests/quickstart.yaml"


def command(
    recipe: RecipePath,
    work: Work = WORK,
    data: Data = DATA,
    workers: Workers = CORES,
    lock: LockPath = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show what the mixture is, before and after, from its lock alone."""
    with session(recipe, work=work, data=data, workers=workers, lock=lock, debug=debug, alone=False) as job:
        from mixture.flow import current_lock
        from mixture.report.tables import lock_facts, mixture_table

        found = current_lock(job.recipe, job.lock_path)
        show(
            as_json,
            {"name": found.name, "fingerprint": found.fingerprint} | found.made(),
            mixture_table(found),
            lock_facts(found),
        )
