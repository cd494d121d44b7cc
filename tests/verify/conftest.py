"""A small build with everything in it: parts, joined rows, carried columns, weights, phases, slices, shards, a lock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from mixture.flow import Job
from mixture.tokens import inputs
from mixture.verify import Checks, Verified
from tests.conftest import Document, Kitchen, documents, given_back

SOURCES = """
  - {name: all, format: jsonl, paths: [data/*.jsonl], domain: {field: meta.set}, carry: [meta]}
  - {name: joined, format: jsonl, paths: [rows/*.jsonl], domain: {field: meta.set}, join: {by: meta.set}}"""
PHASES = """
phases:
  - {name: one, budget: 12_000}
  - {name: two, budget: 8_000, sequence: {length: 256, separator: eos}}"""
RELATED = "transforms: {related: {by: keywords, run: 512}}"
MORE = f'where: "n_tokens > 30"\nweight: "1 + n_tokens % 3"\n{RELATED}{PHASES}'
RULES = {"domains": "natural", "lengths": "natural", "holdout": 0, "shard_tokens": 2_048}


@dataclass(frozen=True)
class Build:
    """A finished build; every test gives back what it took."""

    kitchen: Kitchen
    job: Job

    @property
    def root(self) -> Path:
        return self.kitchen.root

    @property
    def files(self) -> list[Path]:
        """Every file that a check answers for: the lock, and all in the work directory."""
        made = sorted(p for p in (self.root / "work").rglob("*") if p.is_file() and not p.name.startswith("."))
        return [self.job.lock_path, *made]

    def check(self, **how: object) -> Verified:
        return self.job.inspect(Checks(**how))  # type: ignore[arg-type]


def build_in(root: Path, stack: ExitStack) -> Build:
    kitchen = Kitchen(root, stack)
    for number in range(3):
        kitchen.corpus(documents(12, seed=number), f"{number}.jsonl")
    kitchen.corpus([Document(f"{d.text} joined", d.domain) for d in documents(6, seed=9)], "../rows/a.jsonl")
    recipe = kitchen.recipe(sources=SOURCES, more=MORE, **RULES)
    text = recipe.read_text()
    recipe.write_text(text.replace("budget: 200000\n", "", 1))
    built = kitchen.build(recipe)
    return Build(kitchen, built.job)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Build]:
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setattr(inputs, "SMALL_FILE", 0)  # Each file a unit of its own.
        yield build_in(tmp_path_factory.mktemp("verify"), stack)


@pytest.fixture
def build(finished: Build) -> Iterator[Build]:
    """The finished build, given back as it was."""
    with given_back(finished.root):
        yield finished
