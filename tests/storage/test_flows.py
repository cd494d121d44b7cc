"""Every command with its data and its work in an object store: the same results as on a disk."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from tests.cli.conftest import Said, Shop
from tests.conftest import documents
from tests.storage.objects import Store, environment

SOURCES = """\
  - {name: lines, format: jsonl, paths: ["data/*.jsonl*"], domain: {field: meta.set}, carry: [stars]}
  - {name: table, format: parquet, paths: [data/wiki.parquet], domain: wiki, carry: [stars]}
  - {name: stream, format: arrow, paths: [data/code.arrow], domain: code, carry: [stars]}
  - {name: plain, format: text, paths: [data/books/*.txt], domain: books}
  - {name: repositories, format: jsonl, paths: [data/repositories/*], domain: code, join: {by: repo, order: path}}"""
MORE = """
scores: [gzip_ratio, {contamination: [eval/*], ngram: 40, text: input}]
where: contamination = 0 and (gzip_ratio > 0.1 or gzip_ratio is null)
weight: coalesce(stars, 1) + 1
transforms: {related: {by: bm25}}
"""
RECIPE: dict[str, Any] = {
    "sources": SOURCES,
    "more": MORE,
    "budget": 40_000,
    "domains": "natural",
    "lengths": "natural",
    "shard_tokens": 8_192,
}


def stock(shop: Shop) -> None:
    """Write a corpus of every format, an evaluation file, and two recipes over them."""
    docs = [{"text": d.text, "meta": {"set": d.domain}, "stars": n % 7} for n, d in enumerate(documents(150))]
    lines = [orjson.dumps(doc) + b"\n" for doc in docs]
    shop.file("data/a.jsonl", b"".join(lines[:30]))
    shop.file("data/b.jsonl.gz", gzip.compress(b"".join(lines[30:60])))
    shop.file("data/c.jsonl.zst", zstandard.compress(b"".join(lines[60:90])))
    tables = [
        pa.table({"text": [d["text"] for d in some], "stars": [d["stars"] for d in some]})
        for some in (docs[90:110], docs[110:130])
    ]
    pq.write_table(tables[0], shop.root / "data/wiki.parquet", row_group_size=7)
    with pa.ipc.new_file(shop.root / "data/code.arrow", tables[1].schema) as writer:
        writer.write_table(tables[1], max_chunksize=9)
    for n, doc in enumerate(docs[130:]):
        shop.file(f"data/books/{n}.txt", str(doc["text"]))
    rows = [{"repo": f"r{n % 5}", "path": f"{n:03}.py", "text": d.text} for n, d in enumerate(documents(30, seed=3))]
    shop.file("data/repositories/x.jsonl", b"".join(orjson.dumps(row) + b"\n" for row in rows))
    shop.file("eval/a.jsonl", orjson.dumps({"input": docs[0]["text"]}) + b"\n")
    shop.recipe(**RECIPE)
    other = (shop.root / "small.yaml").read_text().replace("name: small", "name: other").replace("seed: 7", "seed: 8")
    shop.file("other.yaml", other)


@dataclass
class Sides:
    """The same shop on a disk and in an object store."""

    shop: Shop
    store: Store

    def locks(self, recipe: str = "small") -> tuple[Path, Path]:
        return self.shop.root / f"{recipe}.lock.json", self.shop.root / f"{recipe}-s3.lock.json"

    def places(self, remote: bool) -> tuple[str, ...]:
        return ("--work", f"{self.store.root}/work", "--data", f"{self.store.root}/in") if remote else ()

    def call(self, remote: bool, *arguments: str) -> Said:
        said = self.shop.call(*arguments, *self.places(remote))
        assert said.code == 0, said.err
        return said

    def on_recipe(self, remote: bool, command: str, *arguments: str, recipe: str = "small") -> Said:
        lock = self.locks(recipe)[remote]
        return self.call(remote, command, f"{recipe}.yaml", "-j", "1", "--lock", str(lock), *arguments)

    def both(self, *arguments: str) -> list[Any]:
        """Call a command about the lock on either side; return what each says for machines."""
        return [
            self.call(remote, arguments[0], str(lock), *arguments[1:], "--json").json
            for remote, lock in zip((False, True), self.locks(), strict=True)
        ]


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sides]:
    with ExitStack() as stack:
        shop = Shop(tmp_path_factory.mktemp("sides"), stack)
        store = stack.enter_context(environment(shop.root / "scratch"))
        stock(shop)
        for path in [*(shop.root / "data").rglob("*"), *(shop.root / "eval").rglob("*")]:
            if path.is_file():
                store.put(f"in/{path.relative_to(shop.root)}", path.read_bytes())
        sides = Sides(shop, store)
        for remote in (False, True):
            sides.on_recipe(remote, "run")
        yield sides


def said_alike(sides: Sides, said: list[Any]) -> None:
    """Claim that both sides say the same, but for the names of places."""
    texts = [json.dumps(one, sort_keys=True) for one in said]
    texts = [
        re.sub(re.escape(place), "HERE", text)
        for place, text in zip((str(sides.shop.root), sides.store.root), texts, strict=True)
    ]
    assert texts[0].replace("HERE/work", "W") == texts[1].replace("HERE/work", "W")


def test_all_formats_joins_scores_weights_and_relations_give_the_same_lock(sides: Sides) -> None:
    here, there = (json.loads(lock.read_text()) for lock in sides.locks())
    assert here["made"] == there["made"]
    assert len(here["made"]["phases"][0]["shards"]) > 2


def test_work_may_lie_here_and_data_there_or_the_other_way_round(sides: Sides) -> None:
    expected = json.loads(sides.locks()[0].read_text())["made"]
    root = sides.store.root
    for number, places in enumerate([("--data", f"{root}/in"), ("--work", f"{root}/other-work")]):
        lock = sides.shop.root / f"mixed-{number}.lock.json"
        said = sides.shop.call(
            "run", "small.yaml", "-j", "1", "--lock", str(lock), *places, *(() if number else ("--work", "mixed"))
        )
        assert said.code == 0, said.err
        assert json.loads(lock.read_text())["made"] == expected


@pytest.mark.parametrize("command", ["run", "plan", "pack"])
def test_a_second_run_finds_all_whole_and_writes_nothing(sides: Sides, command: str) -> None:
    before = {name: sides.store.get(name) for name in sides.store.names("work")}
    sides.store.proxy.reset()
    said = sides.on_recipe(True, command)
    assert "all is whole" in said.err
    assert {name: sides.store.get(name) for name in sides.store.names("work")} == before
    # The note of the run alone.
    assert {request.path.rpartition("/")[2] for request in sides.store.proxy.traffic.of("PUT")} == {".run.json"}


def test_verify_passes_and_a_flipped_byte_is_found(sides: Sides) -> None:
    for remote in (False, True):
        sides.on_recipe(remote, "verify", "--inputs")
    name = next(name for name in sides.store.names("work/shards") if name.endswith(".arrow"))
    whole = sides.store.get(name)
    sides.store.put(name, whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:])
    said = sides.shop.call("verify", "small.yaml", "-j", "1", "--lock", str(sides.locks()[1]), *sides.places(True))
    sides.store.put(name, whole)
    assert said.code == 1
    assert name.rpartition("/")[2] in said.error


def test_reports_are_the_same(sides: Sides) -> None:
    for more in ([], ["--packings"]):
        tables = [
            sides.call(remote, "report", "small.yaml", "--lock", str(sides.locks()[remote]), *more).out
            for remote in (False, True)
        ]
        assert tables[0] == tables[1]


@pytest.mark.parametrize(
    "question",
    [
        ["--sequence", "3"],
        ["--sequence", "5", "--token", "100"],
        ["--step", "1", "--batch", "4"],
        ["--file", "data/a.jsonl", "--row", "3"],
        ["--file", "data/repositories/x.jsonl", "--row", "3"],
        ["--file", "data/code.arrow", "--row", "3"],
    ],
)
def test_traces_are_the_same(sides: Sides, question: list[str]) -> None:
    said_alike(sides, sides.both("trace", *question))


@pytest.mark.parametrize("form", ["megatron", "mds", "olmo", "fu", "parquet"])
def test_an_export_into_the_store_is_the_same_bytes(sides: Sides, form: str) -> None:
    out, there = sides.shop.root / form, f"{sides.store.root}/out/{form}"
    sides.call(False, "export", str(sides.locks()[0]), "--format", form, "--out", str(out), "-j", "1")
    line = (
        "export",
        str(sides.locks()[1]),
        "--format",
        form,
        "--out",
        there,
        "-j",
        "1",
        "--work",
        f"{sides.store.root}/work",
    )
    assert sides.shop.call(*line).code == 0
    files = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    files = {name: data for name, data in files.items() if not name.startswith(".")}
    found = {name.removeprefix(f"out/{form}/"): sides.store.get(name) for name in sides.store.names(f"out/{form}")}
    assert {name: data for name, data in found.items() if not name.startswith(".")} == files
    again = sides.shop.call(*line)
    assert again.code == 0
    assert "all is whole" in again.err
    other = "olmo" if form != "olmo" else "fu"
    said = sides.shop.call(*line[:3], other, *line[4:])
    assert said.code == 1
    assert "holds another export" in said.error


def test_decontamination_finds_the_same(sides: Sides) -> None:
    said_alike(
        sides,
        [
            sides.on_recipe(remote, "decontaminate", "--against", "eval/*", "--text", "input", "--json").json
            for remote in (False, True)
        ],
    )


def test_scores_are_the_same(sides: Sides) -> None:
    columns = ("--columns", "gzip_ratio,type_token_ratio", "--json")
    said_alike(sides, [sides.on_recipe(remote, "score", *columns).json for remote in (False, True)])


def test_tables_of_scores_may_lie_in_the_store(sides: Sides) -> None:
    table = pq.read_table(next((sides.shop.root / "work/index").rglob("index.parquet")), columns=["doc_id"])
    table = table.append_column("quality", pa.array([n % 3 for n in range(len(table))], pa.int32()))
    (sides.shop.root / "scores").mkdir(exist_ok=True)
    pq.write_table(table, sides.shop.root / "scores/quality.parquet")
    sides.store.put("in/scores/quality.parquet", (sides.shop.root / "scores/quality.parquet").read_bytes())
    text = (sides.shop.root / "small.yaml").read_text()
    text = text.replace("scores: [", "scores: [{table: scores/quality.parquet, name: quality}, ")
    sides.shop.file("scored.yaml", text.replace("where: ", "where: quality > 0 and ").replace("small", "scored"))
    for remote in (False, True):
        sides.on_recipe(remote, "run", recipe="scored")
    here, there = (json.loads(lock.read_text())["made"] for lock in sides.locks("scored"))
    assert here == there


def test_a_re_mix_counts_what_was_consumed(sides: Sides) -> None:
    for remote in (False, True):
        sides.on_recipe(remote, "plan", "--consumed", f"{sides.locks()[remote]}@10", recipe="other")
        sides.on_recipe(remote, "pack", recipe="other")
        sides.on_recipe(remote, "verify", recipe="other")
    here, there = (json.loads(lock.read_text())["made"] for lock in sides.locks("other"))
    assert here == there
    for remote in (False, True):
        sides.locks("other")[remote].unlink()


def test_a_plan_like_another_keeps_its_documents(sides: Sides) -> None:
    text = (sides.shop.root / "small.yaml").read_text()
    sides.shop.file("like.yaml", text.replace("name: small", "name: like"))
    for remote in (False, True):
        sides.on_recipe(remote, "plan", "--like", str(sides.locks()[remote]), recipe="like")
    here, there = (json.loads(lock.read_text())["made"] for lock in sides.locks("like"))
    assert here == there


def test_two_recipes_differ_by_the_same_documents(sides: Sides) -> None:
    said_alike(
        sides,
        [sides.call(remote, "diff", "small.yaml", "other.yaml", "-j", "1", "--json").json for remote in (False, True)],
    )


def test_a_mixture_is_reproduced_in_the_store(sides: Sides) -> None:
    said = sides.shop.call(
        "reproduce",
        str(sides.locks()[0]),
        "--data",
        f"{sides.store.root}/in",
        "--work",
        f"{sides.store.root}/again",
        "-j",
        "1",
    )
    assert said.code == 0, said.err


def test_a_dry_run_leaves_nothing_in_the_store(sides: Sides) -> None:
    before = sides.store.names()
    sides.on_recipe(True, "plan", "--dry-run")
    assert sides.store.names() == before


def test_tasks_of_pack_list_nothing(sides: Sides) -> None:
    for name in sides.store.names("work/shards"):
        sides.store.client.delete_object(Bucket="bucket", Key=sides.store._key(name))
    sides.store.proxy.reset()
    said = sides.on_recipe(True, "pack", "--json")
    assert len(said.json["written_now"]) > 2
    asked = sides.store.proxy.traffic.requests
    written = [n for n, request in enumerate(asked) if request.kind == "PUT" and "/shards/" in request.path]
    # The driver lists each folder of shards once, before the first task.
    assert {request.kind for request in asked[written[0] : written[-1]]} <= {"GET", "HEAD", "PUT"}
    assert sum("shards" in request.query for request in asked if request.kind == "LIST") <= 2
    assert {request.path.rpartition("/")[2] for request in asked if request.kind == "DELETE"} == {".run.json"}
