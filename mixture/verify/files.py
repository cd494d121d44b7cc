"""Files against the size and the hash that a record says of them, and records against their seals.

    FileFact("store", …/part-00003.arrow, 509058, "46bfa2e2…", "e518…/00003")  ──►  no finding, or one

Every byte of a file is read once. Many files share a task, so that small ones cost no task each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

import numpy as np
import xxhash

from mixture.engine import Task
from mixture.errors import StoreError
from mixture.hashing import draw
from mixture.storage import Place, as_place, exists, explain, file_digest, read_json, size_of
from mixture.verify.findings import Finding, Kind, missing

_TASK_BYTES = 256 << 20
_REMEDY = "remove it and run `mixture run` to make it again"


@dataclass(frozen=True)
class FileFact:
    """What a file must be.

    Attributes:
        kind: the room of the work directory that it belongs to.
        path: where it lies.
        size: bytes, by its record.
        digest: XXH3-128, by its record.
        group: what a sample takes or leaves as one; empty for files that are always read.
    """

    kind: Kind
    path: Place
    size: int
    digest: str
    group: str = ""


def fact(kind: Kind, path: Place, size_and_hash: Sequence[Any], group: str = "") -> FileFact:
    """Make a fact of the `[size, hash]` that a record holds."""
    size, digest = size_and_hash
    return FileFact(kind, path, size, digest, group)


def check_files(files: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    """Task: hold files, each given as (kind, path, size, hash), to what their records say; return the findings."""
    found = (_check(cast("Kind", kind), as_place(path), size, digest) for kind, path, size, digest in files)
    return [finding.to_json() for finding in found if finding]


def _check(kind: Kind, path: Place, size: int, digest: str) -> Finding | None:
    try:
        actual = size_of(path)
        if actual is None:
            return missing(kind, path)
        if actual == size and file_digest(path) == digest:
            return None
    except StoreError as error:
        return Finding(kind, str(error), str(path))
    except OSError as error:
        return Finding(kind, explain(error, path), str(path))
    if actual != size:
        why = f"damaged, it has {actual:,} bytes, its record says {size:,}"
    else:
        why = f"damaged, its bytes do not have the hash in its record, {digest}"
    return Finding(kind, f"{path}: {why}; {_REMEDY}", str(path))


def tasks(files: Sequence[FileFact]) -> Iterator[Task]:
    """Yield the tasks that check files, a few hundred megabytes each; the weight is in bytes."""
    group: list[FileFact] = []
    size = 0
    for number, file in enumerate(files):
        group.append(file)
        size += file.size
        if size >= _TASK_BYTES or number == len(files) - 1:
            arguments = {"files": [[f.kind, str(f.path), f.size, f.digest] for f in group]}
            yield Task("mixture.verify.files:check_files", arguments, size, group[0].path.name)
            group, size = [], 0


class Records:
    """Reads sealed records of one room, and keeps what is wrong with them.

    Args:
        kind: the room.
    """

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.read = 0
        self.bytes = 0
        self.findings: list[Finding] = []

    def value(self, path: Place, read: Callable[[Place], Any] = read_json) -> Any:
        """Return what a record holds; None, and a finding, if it is missing or its seal does not fit."""
        try:
            value = read(path)
            if value is None and not exists(path):
                self.findings.append(missing(self.kind, path))
            else:
                self.read += 1
                self.bytes += size_of(path) or 0
        except StoreError as error:
            self.blame(path, str(error))
            return None
        return value

    def mapping(self, path: Place, **expected: Any) -> dict[str, Any] | None:
        """Return a record that is a mapping, and says what is expected; None, and a finding, otherwise."""
        value = self.value(path)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.blame(path, f"{path}: damaged, it holds no mapping; {_REMEDY}")
            return None
        for name, wanted in expected.items():
            if value.get(name) != wanted:
                said = f"{name.replace('_', ' ')} is {value.get(name)!r}, but {wanted!r} is expected there"
                self.blame(path, f"{path}: its {said}; {_REMEDY}")
                return None
        return value

    def blame(self, path: Place, message: str) -> None:
        """Keep a finding."""
        self.findings.append(Finding(self.kind, message, str(path)))


def pick(names: Sequence[str], share: float, seed: int) -> set[str]:
    """Return that share of some names, at least one: those of the smallest draws, whatever their order.

    Args:
        names: what there is.
        share: of it, above 0 and up to 1; rounded up to whole names.
        seed: another seed picks others.
    """
    if share >= 1:
        return set(names)
    ids = [xxhash.xxh3_128_intdigest(name.encode()) for name in names]
    hi = np.array([number >> 64 for number in ids], np.uint64)
    lo = np.array([number & ((1 << 64) - 1) for number in ids], np.uint64)
    order = np.argsort(draw(seed, "verify", hi, lo), kind="stable")
    # As the decimal fraction that was asked for: 0.1 of ten is one, not two.
    count = -(-len(names) * Fraction(str(share)) // 1)
    return {names[n] for n in order[: int(count)].tolist()}
