"""A corpus of many kinds, in many small parts: files of every format, equal texts, bad rows, repositories in pieces."""

from __future__ import annotations

import gzip
import random
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mixture.corpus import documents as reading
from mixture.hashing import document_ids
from mixture.tokens import inputs, join
from mixture.trace import Trace
from tests.cli.conftest import Shop
from tests.conftest import Built, Document, documents
from tests.tokens.conftest import hf_tokenizer

SOURCES = """
  - {name: web, format: jsonl, paths: ["data/web-*.jsonl*"], domain: {field: meta.set}}
  - {name: table, format: parquet, paths: [data/table.parquet], domain: books}
  - {name: pages, format: text, paths: ["data/pages/*.txt"], domain: wiki}
  - name: code
    format: jsonl
    paths: ["data/code-*.jsonl"]
    domain: code
    join: {by: repo, order: path, separator: "\\n#\\n"}
"""
HOLDOUT = 0.1


@dataclass(frozen=True)
class Origin:
    """A row of the corpus: where it lies, and what it holds; no text for one that is no document."""

    file: str
    row: int
    text: str


def doc_id(text: str) -> bytes:
    return document_ids([text.encode()])


class Warehouse(Shop):
    """The corpus, the recipe over it, and what is known of them."""

    def fill(self) -> None:
        draw = random.Random(5)
        docs = documents(150, seed=1)
        self.single: list[Origin] = []
        self._web("web-0.jsonl", docs[:60], blanks={7, 30})
        self._web("web-1.jsonl", [docs[3], *docs[60:90]], blanks=set())
        self._web("web-2.jsonl.gz", docs[90:120], blanks={2})
        pq.write_table(
            pa.table({"text": [d.text for d in docs[120:140]]}), self.data / "table.parquet", row_group_size=7
        )
        self.single += [Origin("data/table.parquet", n, d.text) for n, d in enumerate(docs[120:140])]
        for number, doc in enumerate(docs[140:]):
            self.file(f"data/pages/{number}.txt", doc.text)
            self.single.append(Origin(f"data/pages/{number}.txt", 0, doc.text))
        files = [
            [(repo, f"{n}.py", d.text) for n, d in enumerate(documents(draw.randint(1, 6), seed=100 + repo))]
            for repo in range(12)
        ]
        rows = [row for repo in files for row in repo]
        draw.shuffle(rows)
        self.repositories = {
            repo: "\n#\n".join(t for _, _, t in sorted(files[repo], key=lambda r: r[1])) for repo in range(12)
        }
        self.members: list[tuple[Origin, int]] = []
        for name, part in (("code-0.jsonl", rows[:25]), ("code-1.jsonl", rows[25:])):
            lines = [orjson.dumps({"repo": repo, "path": path, "text": text}) for repo, path, text in part]
            self.file(f"data/{name}", b"\n".join(lines) + b"\n")
            self.members += [(Origin(f"data/{name}", n, text), repo) for n, (repo, _, text) in enumerate(part)]
        hf_tokenizer(self.root / "tokenizer.json")

    def _web(self, name: str, docs: list[Document], *, blanks: set[int]) -> None:
        lines = []
        for number, doc in enumerate(docs):
            if number in blanks:
                lines += [b"", orjson.dumps({"no": "text"})]
            self.single.append(Origin(f"data/{name}", len(lines), doc.text))
            lines.append(orjson.dumps({"text": doc.text, "meta": {"set": doc.domain}}))
        whole = b"\n".join(lines) + b"\n"
        self.file(f"data/{name}", gzip.compress(whole, mtime=0) if name.endswith(".gz") else whole)

    def written(self, name: str = "small.yaml", **changes: Any) -> Path:
        usual = {
            "sources": SOURCES,
            "budget": 90_000,
            "domains": "natural",
            "lengths": "natural",
            "shard_tokens": 8_192,
        }
        more = "on_bad_row: skip\n" + changes.pop("more", "")
        path = self.recipe(name, **(usual | {"holdout": HOLDOUT} | changes), more=more)
        text = path.read_text().replace(
            "{kind: bytes}", "{kind: huggingface, path: tokenizer.json, bos: <s>, eos: </s>}"
        )
        path.write_text(text.replace("name: small", f"name: {name.removesuffix('.yaml')}"))
        return path

    def made(self, name: str = "small.yaml", **changes: Any) -> Built:
        job = self.job(self.written(name, **changes), lock=name.replace(".yaml", ".lock.json"))
        store = job.tokenize()
        packed = job.pack(store, job.plan(store, job.bucket(store)))
        return Built(job, packed.lock, packed.folders[0])

    def trace(self, built: Built, **how: Any) -> Trace:
        return Trace(built.lock, built.job.workspace, **how)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    """The corpus in chunks of a few documents; its tests must not depend on what others leave."""
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "CHUNK_BYTES", 8_000)
        patch.setattr(inputs, "SMALL_FILE", 20_000)
        patch.setattr(join, "BUCKET_BYTES", 30_000)
        patch.setattr("mixture.tokens.members._GROUP_ROWS", 4)
        patch.setattr("mixture.index.origins._GROUP_ROWS", 3)
        patch.setattr("mixture.index.sort._ROWS_AT_ONCE", 16)
        patch.setattr("mixture.plan.slices._GROUP_ROWS", 7)
        house = Warehouse(tmp_path_factory.mktemp("house"), stack)
        house.fill()
        yield house


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with ExitStack() as stack:
        yield Shop(tmp_path, stack)
