"""Two locks of one recipe, made apart: which hash differs first?

    lock (in git) ──┐
                    ├──►  inputs ─ tokenizer ─ documents ─ stream ─ cells ─ shards      in the order of the flow
    lock (rebuilt) ─┘

What differs in an early stage makes all that follows differ, so the first difference is the one to look at.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mixture.errors import VerifyError, some
from mixture.lockfile import Lock
from mixture.plan.given import label
from mixture.storage import Place
from mixture.verify.inputs import compare_inputs


@dataclass(frozen=True)
class Difference:
    """One hash, or number, that did not come out again.

    Attributes:
        stage: inputs, tokenizer, documents, stream, cells or shards.
        what: names it.
        was: in the lock.
        now: as rebuilt.
    """

    stage: str
    what: str
    was: str
    now: str

    def __str__(self) -> str:
        return f"{self.what} is {self.now}, the lock says {self.was}"


@dataclass(frozen=True)
class Reproduced:
    """A lock's mixture, made again.

    Attributes:
        lock: the lock file.
        work: where it was built; empty if that was removed.
        shards: shards rebuilt.
        tokens: tokens in them.
        hashes: hashes that were compared.
        differences: in the order of the flow; empty where everything came out again.
        versions: libraries of other versions than the lock's, as `name 1 → 2`.
        notes: what differs without being a difference.
    """

    lock: Place
    work: str
    shards: int
    tokens: int
    hashes: int
    differences: tuple[Difference, ...]
    versions: tuple[str, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it for machines."""
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}
        found = [vars(difference) for difference in self.differences]
        return {"same": not found} | plain | {"lock": str(self.lock), "differences": found}

    def demand(self) -> None:
        """Refuse what did not come out again.

        Raises:
            VerifyError: the first difference, what follows it, and the likely cause.
        """
        if not self.differences:
            return
        first, rest = self.differences[0], self.differences[1:]
        more = f"; {len(rest)} more differ after it, in {some(dict.fromkeys(d.stage for d in rest))}" if rest else ""
        cause = f"; a likely cause: {some(self.versions)}" if self.versions else ""
        raise VerifyError(f"{self.lock}: not reproduced: first, in {first.stage}, {first}{more}{cause}")


def compare_locks(was: Lock, now: Lock) -> tuple[list[Difference], int, list[str]]:
    """Compare two locks of one recipe.

    Returns:
        what differs, in the order of the flow; how many hashes and numbers were compared; what is said beside.
    """
    inputs, notes = _inputs(was, now)
    pairs = [*_made(was, now), *_shards(was, now)]
    differences = [*inputs, *(Difference(*pair) for pair in pairs if pair[2] != pair[3])]
    return differences, len(was.inputs) + len(pairs), notes


def _inputs(was: Lock, now: Lock) -> tuple[list[Difference], list[str]]:
    files = [[(file["source"], file["name"], file["hash"]) for file in lock.inputs] for lock in (was, now)]
    changed, gone, new, renamed = compare_inputs(*files)
    here = {(source, name): digest for source, name, digest in files[1]}
    found = [Difference("inputs", name, digest, here[source, name]) for source, name, digest in changed]
    found += [Difference("inputs", name, digest, "gone") for _, name, digest in gone]
    found += [Difference("inputs", name, "not there", digest) for _, name, digest in new]
    return found, [f"{old} is called {name} now; its content is the same" for old, name in renamed]


def _made(was: Lock, now: Lock) -> Iterator[tuple[str, str, str, str]]:
    for stage, before, after in (
        ("tokenizer", was.tokenizer, now.tokenizer),
        ("documents", was.documents, now.documents),
    ):
        # The digest first: counts follow from it.
        for name in sorted(before.keys() | after.keys(), key=lambda n: (n not in ("fingerprint", "digest"), n)):
            yield stage, f"{stage}.{name}", _text(before.get(name)), _text(after.get(name))
    for before, after in zip(was.phases, now.phases, strict=True):
        where = label("stream", before["name"])  # As folders are called.
        for name in sorted(before["stream"].keys() | after["stream"].keys(), key=lambda n: (n != "digest", n)):
            yield "stream", f"{where}.{name}", _text(before["stream"].get(name)), _text(after["stream"].get(name))
        cells = [{(cell["domain"], cell["bucket"]): cell for cell in phase["cells"]} for phase in (before, after)]
        for cell in sorted(cells[0].keys() | cells[1].keys()):
            old, new = cells[0].get(cell, {}), cells[1].get(cell, {})
            for name in sorted((old.keys() | new.keys()) - {"domain", "bucket", "written"}):
                yield "cells", f"cell {' '.join(cell)}: {name}", _text(old.get(name)), _text(new.get(name))


def _text(value: Any) -> str:
    """Return a field of a lock as text, the same before and after it was written: a pair comes back as a list."""
    return str(json.loads(json.dumps(value)))


def _shards(was: Lock, now: Lock) -> Iterator[tuple[str, str, str, str]]:
    for before, after in zip(was.phases, now.phases, strict=True):
        if not after["shards"]:
            continue
        old, new = ({shard["shard"]: shard["hash"] for shard in phase["shards"]} for phase in (before, after))
        for name in sorted(old.keys() | new.keys()):
            where = f" of phase {before['name']}" if before["name"] else ""
            yield "shards", f"{name}{where}", old.get(name, "not there"), new.get(name, "not there")


def newer(was: dict[str, str], now: dict[str, str]) -> tuple[str, ...]:
    """Return the libraries whose version is another one, as `name 1 → 2`."""
    both = sorted(was.keys() | now.keys())
    return tuple(f"{n} {was.get(n, 'none')} → {now.get(n, 'none')}" for n in both if was.get(n) != now.get(n))
