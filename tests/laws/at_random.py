"""Small corpora and recipes drawn at random from all that a recipe can say, and what a checker must know of them."""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from tests.conftest import WORDS, Document

SEPARATORS: dict[str, tuple[list[int], list[int]]] = {
    "eos": ([], [257]),
    "bos": ([256], []),
    "bos+eos": ([256], [257]),
    "none": ([], []),
    '{text: "\\n\\n"}': ([], [10, 10]),
}
DOMAINS = ("books", "a b", "bücher", "null", "Z'q")
EPOCHS = (1, 1, 2, 4, 1.5, 0.5)


@dataclass(frozen=True)
class Told:
    """What a recipe says, for a checker that does not read recipes.

    Attributes:
        length: places in a sequence.
        align: where documents may begin.
        separator: a key of `SEPARATORS`.
        budget: tokens, before rounding.
        edges: between buckets.
        packing: its keys.
        transform: name and keys of it; empty for none.
        keep: whether equal texts are kept.
        least: documents of fewer tokens are not drawn.
    """

    length: int
    align: int
    separator: str
    budget: int
    edges: list[int]
    packing: dict[str, Any]
    transform: dict[str, Any]
    keep: bool
    least: int

    @property
    def around(self) -> tuple[list[int], list[int]]:
        return SEPARATORS[self.separator]

    @property
    def room(self) -> int:
        return int(self.transform.get("utk", {}).get("room", 0))

    def index(self, docs: list[Document]) -> dict[tuple[bytes, str], tuple[bytes, int]]:
        """The documents that may be drawn, by id and domain: text, and how many are equal."""
        count: Counter[tuple[bytes, str]] = Counter()
        texts: dict[bytes, bytes] = {}
        owner: dict[bytes, str] = {}
        for doc in docs:
            text = doc.text.encode()
            key = xxhash.xxh3_128_digest(text)
            texts[key] = text
            count[key, doc.domain] += 1
            owner.setdefault(key, doc.domain)
        kept = count if self.keep else dict.fromkeys(owner.items(), 1)
        return {key: (texts[key[0]], n) for key, n in kept.items() if len(texts[key[0]]) >= self.least}


def corpus(draw: random.Random, folder: Path) -> list[Document]:
    """Write one to four domains of heavy-tailed documents into files of several formats."""
    domains = draw.sample(DOMAINS, draw.randint(1, 4))
    scale = draw.choice((20, 100, 400))
    docs = []
    for number in range(draw.choice((1, 4, 30, 100))):
        size = draw.choice((1, 2, 64, 512, scale, int(scale * draw.paretovariate(0.8)), 30 * scale))
        size = min(size, 20_000)
        text = f"{number} " + " ".join(draw.choice(WORDS) for _ in range(size // 4))
        short = text.encode()[:size].decode(errors="ignore") or "a"
        docs.append(Document(short, draw.choice(domains)))
    docs += [Document(draw.choice(docs).text, draw.choice(domains)) for _ in range(draw.choice((0, 0, 6)))]
    folder.mkdir(parents=True)
    files = {form: docs[number::3] for number, form in enumerate(("jsonl", "jsonl.gz", "parquet"))}
    for form, held in files.items():
        _write(folder / f"0.{form}", held)
    # Of equal texts the first stays: by the order of the sources, then by domain.
    lines = files["jsonl"] + files["jsonl.gz"]
    return [doc for held in (lines, files["parquet"]) for doc in sorted(held, key=lambda doc: doc.domain)]


def _write(path: Path, docs: list[Document]) -> None:
    rows = [{"text": d.text, "set": d.domain} for d in docs]
    lines = b"".join(orjson.dumps(row) + b"\n" for row in rows)
    if path.suffix == ".parquet":
        kinds = pa.schema([("text", pa.string()), ("set", pa.string())])
        pq.write_table(pa.Table.from_pylist(rows, kinds), path, row_group_size=7)
    else:
        path.write_bytes(gzip.compress(lines) if path.suffix == ".gz" else lines)


SOURCES = [
    {"name": "lines", "format": "jsonl", "paths": ["data/*.jsonl", "data/*.gz"], "domain": {"field": "set"}},
    {"name": "table", "format": "parquet", "paths": ["data/*.parquet"], "domain": {"field": "set"}},
]


def recipe(draw: random.Random, docs: list[Document]) -> tuple[str, Told]:
    """Return a recipe as YAML (which JSON is), and what a checker must know of it."""
    transform = _transform(draw)
    packing = _packing(draw, transform)
    power = packing["kind"] == "vsl"
    length = draw.choice((16, 64, 256, 1024) if power or draw.random() < 0.5 else (24, 48, 100, 250, 1000))
    align = 1
    if not power and not set(transform) & {"utk", "interleave"}:
        align = draw.choice([n for n in (1, 2, 4, 8, 16, length) if length % n == 0])
    if "utk" in transform:
        transform["utk"]["room"] = draw.choice((2, 7, length // 2, length - 1))
    if "short" in packing:
        most = (length - transform.get("utk", {}).get("room", 0) - 1) // align * align
        packing |= {"short": draw.randrange(align, most + 1, align)} if most else {}
        packing = packing if packing["short"] else {k: v for k, v in packing.items() if k != "short"}
    tokens = sum(len(d.text.encode()) for d in docs)
    edges = sorted(draw.sample((2, 10, 64, 300, 1000), draw.randint(0, 3)))
    told = Told(
        length=length,
        align=align,
        separator=draw.choice(sorted(SEPARATORS)),
        budget=max(length, int(min(tokens, 60_000) * draw.choice((0.1, 0.5, 0.9, 2)))),
        edges=edges,
        packing=packing,
        transform=transform,
        keep=draw.random() < 0.4,
        least=draw.choice((0, 0, 3)),
    )
    return _written(draw, told, {d.domain for d in docs}), told


def _transform(draw: random.Random) -> dict[str, Any]:
    utk: dict[str, Any] = {"probability": draw.choice((0, 0.5, 1)), "parts": draw.choice((2, 3, 50))}
    utk |= {"trace": draw.choice((1, 8, 70_000))} if draw.random() < 0.5 else {}
    related = {"by": draw.choice(("bm25", "keywords")), "run": draw.choice((1, 100, 10_000))}
    return draw.choice(({}, {}, {"utk": utk}, {"interleave": {"parts": draw.choice((2, 3, 99))}}, {"related": related}))


def _packing(draw: random.Random, transform: dict[str, Any]) -> dict[str, Any]:
    kinds = ["concat", "best-fit", "intact", "split-by-length", *([] if transform else ["vsl", "vsl"])]
    packing: dict[str, Any] = {"kind": "concat" if "related" in transform else draw.choice(kinds)}
    if packing["kind"] == "split-by-length":
        packing["long"] = draw.choice((0, 0.4, 1))
        packing |= {"short": 0} if draw.random() < 0.5 else {}
    if packing["kind"] == "vsl":
        packing |= {"smallest": draw.choice((1, 4, 16)), "batch": draw.choice((1, 3)), "cycles": draw.choice((1, 4))}
    return packing


def _written(draw: random.Random, told: Told, domains: set[str]) -> str:
    shares = {name: draw.random() + 0.1 for name in sorted(domains)}
    whole = sum(shares.values())
    by_domain = {name: share / whole for name, share in shares.items()}
    lengths = {"threshold": draw.choice(told.edges), "long": 0.6} if told.edges and draw.random() < 0.5 else "natural"
    separator = {"text": "\n\n"} if "text" in told.separator else told.separator
    least = told.length * 3
    said = {
        "name": "any",
        "tokenizer": {"kind": "bytes"},
        "sources": SOURCES,
        "budget": told.budget,
        "sequence": {"length": told.length, "separator": separator, "align": told.align},
        "buckets": told.edges,
        "mix": {
            "domains": draw.choice(("natural", by_domain)),
            "lengths": lengths,
            "max_epochs": draw.choice(EPOCHS),
            "on_shortage": draw.choice(("error", "repeat", "repeat", "redistribute")),
        },
        "holdout": draw.choice((0, 0, 0.1)),
        "seed": draw.choice((0, 7, -3, 1 << 40)),
        "shard_tokens": max(least, draw.choice((least, 5_000, 10**9))) + draw.randint(0, told.length),
        "packing": told.packing,
        "transforms": told.transform,
        "duplicates": "keep" if told.keep else "keep-first",
    }
    return json.dumps(said | ({"where": f"n_tokens >= {told.least}"} if told.least else {}), ensure_ascii=False)
