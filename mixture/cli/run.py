"""`mixture run`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mixture.cli.common import Show, on_recipe
from mixture.cli.detached import detachable
from mixture.cli.summary import packed_summary

if TYPE_CHECKING:
    from mixture.flow import Job

EXAMPLE = "Example:  mixture run manifests/quickstart.yaml --work /tmp/quickstart"


@detachable
@on_recipe(stages=("tokenize", "bucket", "score", "plan", "pack", "verify"))
def command(job: Job, show: Show) -> None:
    """Run every stage from the corpora to verified shards; what is whole is skipped."""
    from mixture.report.facts import lock_tables
    from mixture.report.tables import where_next

    store = job.tokenize()
    packed = job.pack(store, job.plan(store, job.bucket(store)))
    job.verify()
    where = where_next(job.path, job.lock_path, packed.folders)
    show(packed_summary(job, packed), *lock_tables(packed.lock), where)
