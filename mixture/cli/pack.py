"""`mixture pack`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mixture.cli.common import Show, on_recipe
from mixture.cli.summary import packed_summary

if TYPE_CHECKING:
    from mixture.flow import Job

EXAMPLE = "Example:  mixture pack manifests/quickstart.yaml --workers 2"


@on_recipe(stages=("tokenize", "bucket", "score", "plan", "pack"))
def command(job: Job, show: Show) -> None:
    """Lay the planned documents into sequences and write the shards; complete the lock."""
    store = job.tokenize()
    packed = job.pack(store, job.plan(store, job.bucket(store)))
    shards = packed.lock.shards
    where = ", ".join(map(str, packed.folders))
    text = f"{len(shards)} shards, {sum(s['tokens'] for s in shards):,} tokens in {where}"
    show(packed_summary(job, packed), text, f"next: mixture verify {job.path}{job.lock_option}")
