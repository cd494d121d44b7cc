"""What a check found: one sentence for each fault, with the file, the row and the cells where they are known.

    Finding("shard", "…/shard-00001-of-00003.arrow, row 7: its tokens …", "…/shard-00001-of-00003.arrow", 7)

All faults are collected, not the first alone: who has a damaged disk wants the whole list.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from mixture.errors import VerifyError
from mixture.storage import Place

Kind = Literal["lock", "shard", "store", "index", "relations", "plan", "law", "input"]


@dataclass(frozen=True)
class Finding:
    """One fault.

    Attributes:
        kind: what is wrong: a file of the shards, the store, the index or the plan, the lock, an input, or a law.
        message: one sentence: what, where, the value, the bound, the next move.
        file: the file, as it lies here; an input by its name in the lock; empty for a law over all shards.
        row: the sequence in the shard, where it is known.
        cells: of an input, what came from it: domain, bucket, documents, tokens.
    """

    kind: Kind
    message: str
    file: str = ""
    row: int | None = None
    cells: tuple[dict[str, Any], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the fields that say something."""
        return {name: value for name, value in asdict(self).items() if value not in ("", None, ())}

    @staticmethod
    def from_json(value: dict[str, Any]) -> Finding:
        """Read what `to_json` wrote."""
        return Finding(**value | {"cells": tuple(value.get("cells", ()))})


def missing(kind: Kind, path: Place) -> Finding:
    """Return the fault of a file that is not there."""
    what = f"this {kind}" if kind == "shard" else f"this file of the {kind}"
    again = "`mixture pack`" if kind == "shard" else "`mixture run`"
    return Finding(kind, f"{path}: {what} is missing; run {again} to write it again", str(path))


@dataclass(frozen=True)
class Verified:
    """What was checked, and what was found.

    Attributes:
        shards: shards read.
        tokens: tokens counted in them.
        cells: cells whose quota is exact; 0 where not all shards were read.
        documents: distinct documents found; likewise.
        most_copies: the most appearances of one document; likewise.
        files: files of the store, the index and the plan that were read, their records included.
        bytes: bytes read, of shards, files and inputs.
        inputs: input files read again.
        findings: every fault.
        not_checked: what was not looked at and why, a sentence each.
        notes: what differs without being a fault, a sentence each.
    """

    shards: int = 0
    tokens: int = 0
    cells: int = 0
    documents: int = 0
    most_copies: int = 0
    files: int = 0
    bytes: int = 0
    inputs: int = 0
    findings: tuple[Finding, ...] = ()
    not_checked: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def whole(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def demand(self) -> None:
        """Refuse what is not whole.

        Raises:
            VerifyError: the first fault, and how many there are.
        """
        if self.findings:
            count = len(self.findings)
            more = f" (the first of {count:,} findings; --json lists them)" if count > 1 else ""
            raise VerifyError(f"{self.findings[0].message}{more}")

    def to_json(self) -> dict[str, Any]:
        """Return it for machines."""
        counts = {name: value for name, value in vars(self).items() if isinstance(value, int)}
        return (
            {"whole": self.whole}
            | counts
            | {
                "findings": [finding.to_json() for finding in self.findings],
                "not_checked": list(self.not_checked),
                "notes": list(self.notes),
            }
        )
