"""Where things lie: the data root that recipes are relative to, and the work directory that stages fill.

    work/store/<tokenizer>/<unit>/part-00000.arrow    tokens, written once
    work/index/<key>/index.parquet                    one row per document
    work/plans/<recipe>-<key>/shard-00000.parquet     which tokens go where
    work/shards/<recipe>-<plan>/shard-00000-of-00037.arrow

Keys are content hashes, so a change of one thing makes that thing anew and finds the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Workspace:
    """The two roots of a run.

    Attributes:
        work: stores, indexes, plans and shards.
        data: what a recipe's paths are relative to.
    """

    work: Path
    data: Path

    @property
    def seen_inputs(self) -> Path:
        """Hashes of input files by path, size and time of change."""
        return self.work / "inputs.json"

    def store(self, tokenizer: str) -> Path:
        """Folder of one tokenizer's store."""
        return self.work / "store" / tokenizer

    def index(self, key: str) -> Path:
        """Folder of one document index."""
        return self.work / "index" / key

    def plan(self, name: str, key: str) -> Path:
        """Folder of one plan."""
        return self.work / "plans" / f"{name}-{key[:12]}"

    def shards(self, name: str, plan_digest: str) -> Path:
        """Folder of the shards that a plan makes."""
        return self.work / "shards" / f"{name}-{plan_digest[:12]}"
