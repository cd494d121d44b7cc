"""The lock: what a recipe came out as, in a JSON file for git.

`plan` writes it, `pack` completes it. Everything under `made` follows from the recipe, the documents and the seed: no
path of a machine, host name or time stamp; its fingerprint names the mixture. `work` names the folders of a work
directory that it was made from, `with` tells which versions made it. The last line is a seal over every byte of the
file: a lock is never edited, nor merged by hand, but planned again.
"""

from __future__ import annotations

import importlib.metadata
import json
from dataclasses import dataclass, field, replace
from typing import Any

from mixture import __version__
from mixture.errors import LockError, StoreError
from mixture.hashing import fingerprint
from mixture.storage import SEAL, Place, explain, read_bytes, unsealed, write_json

FORMAT = 3
#: What the seal calls a lock: people give the file another name.
_NAME = "lock"
_LIBRARIES = ("datasets", "duckdb", "numpy", "polars", "pyarrow", "sentencepiece", "tiktoken", "tokenizers")


@dataclass(frozen=True)
class Lock:
    """A lock file's content.

    Attributes:
        name: the recipe's.
        recipe: fingerprint and content of the recipe (`Recipe.what`).
        given: what the plan was told besides its recipe; empty for nothing.
        inputs: every input file: source, name, bytes, content hash.
        tokenizer: fingerprint and vocabulary size.
        documents: read, rejected by reason, duplicates, held out, and a digest of the set that plans draw from.
        phases: of each phase
            name: empty where the recipe has none;
            stream: tokens, sequences, sequence length, separators, shards' size, digest of the plan;
            cells: a row per (domain, bucket): supply, wanted, granted, epochs, slack, unique; written once packed;
            context: tokens by how many of their own document stand before them: in the supply, the plan, the shards;
            top: the documents of each domain with most tokens in the stream;
            packing: what packing did to the documents (`mixture.pack.facts`); empty until packed;
            shards: per shard: name, sequences, tokens, hash; empty until packed.
        work: names of the folders in a work directory that it was made from: `store`, `joined`, `index`, `weights`,
            `plans`. They say where to look, not what was made: locks that differ in nothing else are equal.
        versions: of the libraries that made it; not compared either.
    """

    name: str
    recipe: dict[str, Any]
    given: dict[str, Any]
    inputs: list[dict[str, Any]]
    tokenizer: dict[str, Any]
    documents: dict[str, Any]
    phases: list[dict[str, Any]]
    work: dict[str, Any] = field(default_factory=dict, compare=False)
    versions: dict[str, str] = field(default_factory=dict, compare=False)

    @property
    def packed(self) -> bool:
        """Whether every shard has been written."""
        return all(phase["shards"] for phase in self.phases)

    @property
    def shards(self) -> list[dict[str, Any]]:
        """The shards of all phases."""
        return [shard for phase in self.phases for shard in phase["shards"]]

    def made(self) -> dict[str, Any]:
        """Return the part that is hashed."""
        return {
            "recipe": self.recipe,
            "given": self.given,
            "inputs": self.inputs,
            "tokenizer": self.tokenizer,
            "documents": self.documents,
            "phases": self.phases,
        }

    @property
    def fingerprint(self) -> str:
        """32 hex digits that name all of `made`."""
        return fingerprint(self.made())

    def without_shards(self) -> Lock:
        """Return the lock as `plan` wrote it, before anything was packed."""
        return replace(self, phases=[_planned(phase) for phase in self.phases])

    def write(self, path: Place) -> None:
        """Publish the lock file.

        Raises:
            StoreError: it cannot be written there.
        """
        content = {
            "format": FORMAT,
            "name": self.name,
            "fingerprint": self.fingerprint,
            "made": self.made(),
            "work": self.work,
            "with": versions_here(),
        }
        write_json(path, content, name=_NAME)


def versions_here() -> dict[str, str]:
    """Return the versions of this program and of the libraries that decide what it makes."""
    return {"mixture": __version__} | {name: importlib.metadata.version(name) for name in _LIBRARIES}


def _planned(phase: dict[str, Any]) -> dict[str, Any]:
    cells = [{name: value for name, value in cell.items() if name != "written"} for cell in phase["cells"]]
    context = {name: value for name, value in phase["context"].items() if name != "shards"}
    return phase | {"cells": cells, "context": context, "packing": {}, "shards": []}


def read(path: Place) -> Lock | None:
    """Read a lock file, or return None where there is none.

    Raises:
        LockError: not a lock, of another format, edited by hand or damaged.
        StoreError: the file cannot be read.
    """
    try:
        whole = read_bytes(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StoreError(explain(error, path)) from error
    body = unsealed(whole, _NAME)
    if body is None:
        raise LockError(f"{path}: {_why_not(whole)}")
    try:
        value = json.loads(body)
        if value["format"] != FORMAT:
            raise LockError(f"{path}: lock format {value['format']}, this version reads {FORMAT}; plan again")
        lock = Lock(name=value["name"], **value["made"], work=value["work"], versions=value["with"])
        stated = value["fingerprint"]
    except (KeyError, TypeError, ValueError) as error:
        raise LockError(f"{path}: not a lock file ({error}); `mixture plan` writes one") from error
    if stated != lock.fingerprint:
        raise LockError(f"{path}: {_edited(stated)}")
    return lock


def _why_not(whole: bytes) -> str:
    """Say what is wrong with a lock file whose seal does not fit."""
    try:
        value = json.loads(whole)
        found, stated, actual = value["format"], value["fingerprint"], fingerprint(value["made"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        cause = " ".join(str(error).split())
        return f"not a lock file, or damaged ({cause}); restore it from git, or remove it and plan again"
    if found != FORMAT and SEAL not in whole:
        return f"lock format {found}, this version reads {FORMAT}; plan again"
    if actual != stated:
        return _edited(stated)
    return "its bytes do not fit its seal, so it was edited or damaged; restore it from git, or plan again"


def _edited(stated: object) -> str:
    return (
        f"its content does not match its fingerprint {stated}, so it was edited or damaged; restore it from git, or "
        "remove it and plan again"
    )


def require(path: Place, name: str) -> Lock:
    """Read the lock that a stage needs.

    Raises:
        LockError: there is none, or it belongs to another recipe.
    """
    lock = read(path)
    if lock is None:
        raise LockError(f"{path}: no lock there; run `mixture plan` first, or name it with --lock")
    check_owner(lock, path, name)
    return lock


def check_owner(lock: Lock, path: Place, name: str) -> None:
    """Refuse a lock that another recipe owns.

    Raises:
        LockError: the names differ.
    """
    if lock.name != name:
        raise LockError(
            f"{path}: this is the lock of recipe {lock.name!r}, not of {name!r}; name another file with --lock"
        )


def changes(old: dict[str, Any], new: dict[str, Any], at: str = "") -> list[str]:
    """List what differs between two JSON mappings, as `a.b: old → new`, in the order of the keys."""
    out: list[str] = []
    for name in sorted(old.keys() | new.keys()):
        before, after, where = old.get(name), new.get(name), f"{at}{name}"
        if isinstance(before, dict) and isinstance(after, dict):
            out += changes(before, after, f"{where}.")
        elif before != after:
            out.append(f"{where}: {before} → {after}")
    return out
