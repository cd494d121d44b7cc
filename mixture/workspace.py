"""Where things lie: the data root that recipes are relative to, and the work directory that stages fill.

    work/store/<tokenizer>/<unit>/part-00000.arrow    tokens, written once
    work/joined/<key>/joined-00000.arrow              documents that are joined from many rows
    work/index/<key>/index.parquet                    one row per document
    work/scores/<column>/<unit>/part-00000.parquet    a number about each document
    work/coverage/<key>/hits-00000.parquet            documents that hold given facts
    work/plans/<recipe>-<key>/slice-00000.parquet     which tokens go where
    work/shards/<recipe>-<plan>/shard-00000-of-00037.arrow

Keys are content hashes, so a change of one thing makes that thing anew and finds the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

from mixture.storage import Place


@dataclass(frozen=True)
class Workspace:
    """The two roots of a run.

    Attributes:
        work: stores, indexes, plans and shards.
        data: what a recipe's paths are relative to.
    """

    work: Place
    data: Place

    @property
    def seen_inputs(self) -> Place:
        """Hashes of input files by path, size and time of change."""
        return self.work / "inputs.json"

    def store(self, tokenizer: str) -> Place:
        """Folder of one tokenizer's store."""
        return self.work / "store" / tokenizer

    def joined(self, key: str) -> Place:
        """Folder of one source's joined documents."""
        return self.work / "joined" / key

    def index(self, key: str) -> Place:
        """Folder of one document index."""
        return self.work / "index" / key

    def scores(self, key: str) -> Place:
        """Folder of one column of scores."""
        return self.work / "scores" / key

    def related(self, key: str) -> Place:
        """Folder of the relations between documents."""
        return self.work / "related" / key

    @property
    def plans(self) -> Place:
        """Folder of all plans."""
        return self.work / "plans"

    def plan(self, name: str, key: str) -> Place:
        """Folder of one phase's plan."""
        return self.plans / f"{name}-{key[:12]}"

    def shards(self, name: str, key: str) -> Place:
        """Folder of the shards that a phase's plan makes, laid out in one way."""
        return self.work / "shards" / f"{name}-{key[:12]}"
