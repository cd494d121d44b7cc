"""What `pack` and `run` tell machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mixture.flow import Job
    from mixture.shards.pack import Packed


def packed_summary(job: Job, packed: Packed) -> dict[str, Any]:
    """Return where the shards are and the whole lock."""
    lock = packed.lock
    return {
        "recipe": str(job.path),
        "shards_folders": [str(folder) for folder in packed.folders],
        "lock": str(job.lock_path),
        "fingerprint": lock.fingerprint,
        "written_now": list(packed.made),
    } | lock.made()
