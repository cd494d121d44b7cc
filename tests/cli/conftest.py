"""A folder with a corpus and a recipe, and the command line in it: called here, or run as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mixture.cli import app
from tests.conftest import Document, Kitchen, documents, write_jsonl

DOCS = documents(60)
#: A mixture that any corpus of the tests can give.
EASY: dict[str, Any] = {"budget": 20_000, "domains": "natural", "lengths": "natural", "shard_tokens": 8_192}


@dataclass(frozen=True)
class Said:
    """What a command said, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one sentence of an error of ours."""
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.err
        assert self.err.splitlines()[-1] == lines[0], self.err
        return lines[0]

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def hashes(self) -> list[str]:
        assert self.code == 0, self.err
        return [shard["hash"] for shard in self.json["phases"][0]["shards"]]


class Shop(Kitchen):
    """A kitchen with a counter: what is ordered at the command line is made in its folder."""

    def source(
        self, form: str, path: str, *, domain: str = "{field: meta.set}", more: str = "", name: str = "all"
    ) -> str:
        return f"  - {{name: {name}, format: {form}, paths: [{path}], domain: {domain}{more}}}"

    def stock(self, **changes: Any) -> Path:
        """Write the usual corpus and an easy recipe over it."""
        self.corpus(DOCS)
        return self.recipe(**(EASY | changes))

    def file(self, name: str, content: bytes | str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def call(self, *arguments: str, at: Path | None = None) -> Said:
        """Run a command in this process."""
        before = Path.cwd()
        os.chdir(at or self.root)
        try:
            result = CliRunner().invoke(app, list(arguments))
        finally:
            os.chdir(before)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Said(result.exit_code, result.stdout, result.stderr)

    def run(self, *more: str, recipe: str = "small.yaml") -> Said:
        return self.call("run", recipe, "--workers", "1", "--json", *more)

    def start(self, *arguments: str, through: Sequence[str] = (), **how: Any) -> subprocess.Popen[str]:
        """Start a command as a process of its own, `through` another program that becomes it."""
        command = [*through, sys.executable, "-m", "mixture", *arguments]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": self.root}
        return subprocess.Popen(command, **(pipes | how))

    def process(self, *arguments: str, **how: Any) -> Said:
        with self.start(*arguments, **how) as process:
            out, err = process.communicate(timeout=300)
        return Said(process.returncode, out or "", err or "")

    def refused(self, said: Said, *words: str) -> str:
        """Claim an error of ours: one sentence with these words, exit code 1, nothing half-written."""
        assert said.code == 1, (said.code, said.out, said.err)
        assert said.out == ""
        assert "Traceback" not in said.err
        for word in words:
            assert word in said.error, (word, said.error)
        self.is_clean()
        return said.error

    def is_clean(self, work: str = "work") -> None:
        """Claim that nothing is half-written."""
        assert not list((self.root / work).rglob("*.tmp"))
        assert not list((self.root / work).rglob("staging.arrow"))


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with ExitStack() as stack:
        yield Shop(tmp_path, stack)


@pytest.fixture(scope="module")
def stall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A shop that a whole module shares; its tests must not depend on what others leave."""
    with ExitStack() as stack:
        shop = Shop(tmp_path_factory.mktemp("stall"), stack)
        shop.stock()
        yield shop


__all__ = ["DOCS", "EASY", "Document", "Said", "Shop", "write_jsonl"]
