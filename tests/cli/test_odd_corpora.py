"""Corpora at the edges of what can be: each gives its tokens exactly, or one sentence."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import orjson
import polars as pl
import pytest

from mixture import schemas
from tests.cli.conftest import DOCS, EASY, Shop
from tests.conftest import Document, recipe_text


def _exact(shop: Shop, **changes: Any) -> dict[str, Any]:
    """Claim that a recipe runs and verifies, and that what is written is what was wanted, cell by cell."""
    shop.recipe(**(EASY | changes))
    said = shop.run()
    assert said.code == 0, said.err
    made: dict[str, Any] = said.json
    assert all(cell["written"] == cell["granted"] for cell in made["phases"][0]["cells"])
    assert sum(cell["written"] for cell in made["phases"][0]["cells"]) == made["phases"][0]["stream"]["tokens"]
    for command in ("report", "bucket", "tokenize", "plan", "pack"):
        assert shop.call(command, "small.yaml", "-j", "1").code == 0
    return made


def _one(shop: Shop, size: int, **changes: Any) -> dict[str, Any]:
    shop.file("data/a.txt", "x" * size)
    return _exact(shop, sources=shop.source("text", "data/*.txt", domain="x"), **changes)


def test_a_corpus_of_one_document(shop: Shop) -> None:
    made = _one(shop, 5000, budget=4608)
    assert made["documents"]["indexed"] == 1


def test_a_document_longer_than_the_whole_budget_is_cut(shop: Shop) -> None:
    made = _one(shop, 100_000, budget=1024)
    assert [cell["cut"] for cell in made["phases"][0]["cells"] if cell["granted"]] == [True]


def test_a_sequence_longer_than_any_document(shop: Shop) -> None:
    shop.corpus(DOCS)
    made = _exact(shop, length=16384, budget=32768, shard_tokens=16384)
    assert made["phases"][0]["stream"]["sequences"] == 2


@pytest.mark.parametrize("buckets", ["1, 2, 3", "1M, 2M", ""])
def test_documents_all_shorter_or_all_longer_than_the_edges_or_no_edges(shop: Shop, buckets: str) -> None:
    shop.corpus(DOCS)
    made = _exact(shop, buckets=buckets)
    assert len({cell["bucket"] for cell in made["phases"][0]["cells"] if cell["granted"]}) == 1


@pytest.mark.parametrize("seed", [0, -1, -(10**30), 10**30, 2**64])
def test_any_integer_is_a_seed(shop: Shop, seed: int) -> None:
    shop.corpus(DOCS)
    assert _exact(shop, seed=seed)["recipe"]["content"]["seed"] == seed


def test_domains_of_any_name(shop: Shop) -> None:
    names = ("two words", "ünïcödé 漢字", "🙂", "a'b\"c", "no", "null", "a/b", "<4K", "x" * 300, "[bold]", "tab\there")
    shop.corpus([Document(f"{number} {d.text}", names[number % len(names)]) for number, d in enumerate(DOCS * 2)])
    made = _exact(shop)
    assert {cell["domain"] for cell in made["phases"][0]["cells"]} == set(names)
    shares = {name: {"share": round(1 / 11, 9) if name != "🙂" else 1 - 10 * round(1 / 11, 9)} for name in names}
    made = _exact(shop, domains=orjson.dumps(shares).decode(), max_epochs=50)
    assert {cell["domain"] for cell in made["phases"][0]["cells"] if cell["granted"]} == set(names)


def test_carried_columns_of_other_types_in_other_files_are_all_kept(shop: Shop) -> None:
    for number, extra in enumerate(({"v": 7}, {"v": "seven"}, {}, {"v": None}, {"v": {"deep": [1]}}, {"v": 7.5})):
        lines = [orjson.dumps({"text": d.text, "meta": {"set": f"d{number}"}} | extra) for d in DOCS[number * 9 :][:9]]
        shop.file(f"data/{number}.jsonl", b"\n".join(lines))
    _exact(shop, sources=shop.source("jsonl", "data/*.jsonl", more=", carry: [v]"))
    (index,) = (shop.root / "work").rglob("index.parquet")
    frame = pl.read_parquet(index)
    found = {d: set(v) for d, v in frame.group_by("domain").agg(pl.col("v")).iter_rows()}
    assert found["d0"] in ({"7"}, {"7.0"})
    assert (found["d1"], found["d2"], found["d3"]) == ({"seven"}, {None}, {None})
    assert found["d4"] == {'{"deep":[1]}'}
    assert found["d5"] == {"7.5"}


def test_numbers_of_two_kinds_stay_numbers(shop: Shop) -> None:
    for number, value in enumerate((7, 7.5)):
        lines = [orjson.dumps({"text": d.text, "meta": {"set": "x"}, "v": value}) for d in DOCS[number * 9 :][:9]]
        shop.file(f"data/{number}.jsonl", b"\n".join(lines))
    source = "\n".join(shop.source("jsonl", f"data/{n}.jsonl", more=", carry: [v]", name=f"s{n}") for n in range(2))
    _exact(shop, sources=source)
    (index,) = (shop.root / "work").rglob("index.parquet")
    assert set(pl.read_parquet(index)["v"]) == {7.0, 7.5}


@pytest.mark.parametrize(
    "name", ["doc_id", "domain", "n_tokens", "rank", "part", "occurrence", "carried_0", "DOMAIN", "text", 'v"w', "a b"]
)
def test_a_carried_field_of_any_name_neither_breaks_nor_replaces_a_column(shop: Shop, name: str) -> None:
    lines = [orjson.dumps({"text": d.text, "meta": {"set": d.domain}, name: "mine"} | {"text": d.text}) for d in DOCS]
    shop.file("data/a.jsonl", b"\n".join(lines))
    shop.recipe(**(EASY | {"sources": shop.source("jsonl", "data/*.jsonl", more=f", carry: ['{name}']")}))
    said = shop.run()
    assert said.code == 0, said.err
    (index,) = (shop.root / "work").rglob("index.parquet")
    frame = pl.read_parquet(index)
    column = f"carry.{name}" if name in schemas.INDEX.names else name
    assert set(frame[column]) == ({d.text for d in DOCS} if name == "text" else {"mine"})
    assert set(frame["domain"]) == {"books", "wiki", "code"}


def test_documents_of_a_single_token(shop: Shop) -> None:
    rows = [orjson.dumps({"text": chr(33 + n), "meta": {"set": "x"}}) for n in range(90)]
    shop.file("data/a.jsonl", b"\n".join(rows))
    _exact(shop, budget=512, max_epochs=3)


def test_a_corpus_that_names_no_domain_at_all_is_refused_also_where_bad_rows_are_skipped(shop: Shop) -> None:
    shop.file("data/a.jsonl", orjson.dumps({"text": "x" * 1000}))
    shop.recipe(**(EASY | {"sources": shop.source("jsonl", "data/*.jsonl"), "more": "on_bad_row: skip"}))
    shop.refused(shop.run(), "none of 1 documents has a value in its domain field")


def test_the_same_file_in_two_sources_counts_once(shop: Shop) -> None:
    shop.corpus(DOCS)
    sources = "\n".join(shop.source("jsonl", "data/a.jsonl", name=name, domain=name) for name in ("one", "two"))
    made = _exact(shop, sources=sources)
    assert made["documents"]["duplicates"] == len(DOCS)
    assert {cell["domain"] for cell in made["phases"][0]["cells"]} == {"one"}


BIG = 100_000_000


@pytest.mark.slow
def test_a_document_of_100_mb_takes_less_than_2_gib(shop: Shop) -> None:
    line = "The quick brown fox jumps over the lazy dog, and 12345 times at that.\n"
    shop.file("data/a.txt", line * (BIG // len(line)))
    source = shop.source("text", "data/a.txt", domain="x")
    changes = {"budget": 50_000_000, "length": 32768, "shard_tokens": 16_000_000, "sources": source}
    shop.file("small.yaml", recipe_text(**(EASY | changes)))
    measure = (
        "import resource, sys\n"
        "from mixture.cli import app\n"
        "app(sys.argv[1:], standalone_mode=False)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    )
    command = [sys.executable, "-c", measure, "run", "small.yaml", "--workers", "1", "--json"]
    done = subprocess.run(command, cwd=shop.root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(done.stderr.split()[-1]) * unit < 2 << 30
    made = orjson.loads(done.stdout)
    assert made["phases"][0]["stream"]["tokens"] == 50_000_000 // 32768 * 32768
