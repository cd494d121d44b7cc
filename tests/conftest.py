"""Small corpora, recipes over them, and a build in one call."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import settings

from mixture.engine import Silence
from mixture.engine.local import Local
from mixture.flow import Job, open_job
from mixture.lockfile import Lock
from mixture.workspace import Workspace

# How long a test takes hangs on who else is on the machine.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

WORDS = (
    "the",
    "of",
    "and",
    "token",
    "stream",
    "length",
    "domain",
    "book",
    "code",
    "wiki",
    "long",
    "short",
    "context",
    "model",
    "train",
    "data",
    "ünïcödé",
    "漢字",
    "🙂",
)


@dataclass(frozen=True)
class Document:
    """A generated document and its domain."""

    text: str
    domain: str


def documents(count: int, *, seed: int = 0, domains: tuple[str, ...] = ("books", "wiki", "code")) -> list[Document]:
    """Distinct documents with log-normal lengths: medians of 3000, 300 and 800 bytes for books, wiki and code."""
    draw = random.Random(seed)
    medians = {"books": 3000, "wiki": 300, "code": 800}
    out = []
    for number in range(count):
        domain = domains[number % len(domains)]
        size = int(medians.get(domain, 500) * draw.lognormvariate(0, 1)) + 20
        words = [f"{domain}-{seed}-{number}"]
        while sum(map(len, words)) + len(words) < size:
            words.append(draw.choice(WORDS))
        out.append(Document(" ".join(words), domain))
    return out


def write_jsonl(path: Path, docs: list[Document], **more: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = b"".join(orjson.dumps({"text": d.text, "meta": {"set": d.domain}} | more) + b"\n" for d in docs)
    path.write_bytes(lines)


RECIPE = """
name: small
tokenizer: {{kind: bytes}}
sources:
{sources}
budget: {budget}
sequence: {{length: {length}, separator: {separator}}}
buckets: [{buckets}]
mix:
  domains: {domains}
  lengths: {lengths}
  max_epochs: {max_epochs}
holdout: {holdout}
seed: {seed}
shard_tokens: {shard_tokens}
{more}
"""

ONE_SOURCE = "  - {name: all, format: jsonl, paths: [data/*.jsonl], domain: {field: meta.set}}"

DEFAULTS: dict[str, Any] = {
    "sources": ONE_SOURCE,
    "budget": 200_000,
    "length": 512,
    "separator": "eos",
    "buckets": "512, 1K, 4K",
    "domains": "{books: 0.6, wiki: 0.15, code: 0.25}",
    "lengths": "{threshold: 1K, long: 0.6}",
    "max_epochs": 4,
    "holdout": 0.02,
    "seed": 7,
    "shard_tokens": 40_000,
    "more": "",
}


def recipe_text(**changes: Any) -> str:
    return RECIPE.format(**(DEFAULTS | changes))


@dataclass
class Built:
    """A finished build."""

    job: Job
    lock: Lock
    folder: Path
    made: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def hashes(self) -> list[str]:
        return [shard["hash"] for shard in self.lock.shards]

    @property
    def shards(self) -> list[Path]:
        return [self.folder / shard["shard"] for shard in self.lock.shards]

    def table(self) -> pa.Table:
        tables = [pa.ipc.open_file(pa.memory_map(str(path))).read_all() for path in self.shards]
        return pa.concat_tables(tables)

    def stream(self) -> np.ndarray[Any, Any]:
        """All tokens in order."""
        return np.concatenate([chunk.flatten().to_numpy() for chunk in self.table()["input_ids"].chunks])

    def spans(self) -> list[dict[str, Any]]:
        """All spans, with their sequence and their place in the whole stream."""
        out = []
        length = self.lock.phases[0]["stream"]["sequence_length"]
        for number, spans in enumerate(self.table()["spans"].to_pylist()):
            out += [span | {"sequence": number, "position": number * length + span["start"]} for span in spans]
        return out


class Kitchen:
    """Writes corpora and recipes under one folder, and builds them."""

    def __init__(self, root: Path, stack: ExitStack) -> None:
        self.root = root
        self.data = root / "data"
        self._stack = stack

    def corpus(self, docs: list[Document], name: str = "a.jsonl") -> Path:
        path = self.data / name
        write_jsonl(path, docs)
        return path

    def recipe(self, name: str = "small.yaml", **changes: Any) -> Path:
        path = self.root / name
        path.write_text(recipe_text(**changes), encoding="utf-8")
        return path

    def job(self, recipe: Path, *, work: str = "work", workers: int = 1, lock: str | None = None) -> Job:
        engine = self._stack.enter_context(Local(workers))
        place = Workspace(self.root / work, self.root)
        return open_job(recipe, place, engine, Silence(), self.root / (lock or f"{work}.lock.json"))

    def build(self, recipe: Path | None = None, *, work: str = "work", workers: int = 1, **changes: Any) -> Built:
        job = self.job(recipe or self.recipe(**changes), work=work, workers=workers)
        store = job.tokenize()
        index = job.bucket(store)
        plan = job.plan(store, index)
        packed = job.pack(store, plan)
        return Built(job, packed.lock, packed.folders[0], {"tokenize": store.made, "pack": packed.made})


@pytest.fixture
def kitchen(tmp_path: Path) -> Iterator[Kitchen]:
    with ExitStack() as stack:
        yield Kitchen(tmp_path, stack)


@pytest.fixture
def kitchens(tmp_path: Path) -> Iterator[Callable[[str], Kitchen]]:
    """Several kitchens, each with its own folder."""
    with ExitStack() as stack:
        yield lambda name: Kitchen(tmp_path / name, stack)


@contextmanager
def given_back(root: Path) -> Iterator[None]:
    """Bring a folder's files back to what they were, whatever a test did to them."""
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    yield
    for path in root.rglob("*"):
        if path.is_file() and path not in before:
            path.unlink()
    for path, content in before.items():
        if not path.exists() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
