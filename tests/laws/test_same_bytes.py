"""Law 3: the same documents and recipe give the same bytes, however they lie and whoever makes them."""

from __future__ import annotations

import gzip
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from mixture.tokens import inputs
from tests.conftest import Document, Kitchen, documents, recipe_text, write_jsonl

DOCS = documents(400)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    from contextlib import ExitStack

    with ExitStack() as stack:
        kitchen = Kitchen(tmp_path_factory.mktemp("reference"), stack)
        kitchen.corpus(DOCS)
        return kitchen.build().hashes


def _source(name: str, form: str, paths: str) -> str:
    return f"  - {{name: {name}, format: {form}, paths: [{paths}], domain: {{field: meta.set}}}}"


def _table(docs: list[Document]) -> pa.Table:
    return pa.table({"text": [d.text for d in docs], "meta": [{"set": d.domain} for d in docs]})


def _shuffled() -> list[Document]:
    docs = list(DOCS)
    random.Random(1).shuffle(docs)
    return docs


def _plain(root: Path) -> str:
    write_jsonl(root / "other name.jsonl", _shuffled())
    return _source("all", "jsonl", "'data/*.jsonl'")


def _split(root: Path) -> str:
    for number in range(7):
        write_jsonl(root / f"deep/{number}/x.jsonl", _shuffled()[number::7])
    return _source("all", "jsonl", "data/**/*.jsonl")


def _gzip(root: Path) -> str:
    write_jsonl(root / "plain.jsonl", DOCS[::-1])
    (root / "a.jsonl.gz").write_bytes(gzip.compress((root / "plain.jsonl").read_bytes()))
    return _source("all", "jsonl", "data/a.jsonl.gz")


def _zstd(root: Path) -> str:
    write_jsonl(root / "plain.jsonl", DOCS)
    blob = (root / "plain.jsonl").read_bytes()
    half = blob.index(b"\n", len(blob) // 2) + 1
    frames = [zstandard.compress(blob[:half]), zstandard.compress(blob[half:])]
    (root / "a.jsonl.zst").write_bytes(b"".join(frames))
    return _source("all", "jsonl", "data/a.jsonl.zst")


def _parquet(root: Path) -> str:
    root.mkdir(parents=True)
    pq.write_table(_table(_shuffled()), root / "a.parquet", row_group_size=33)
    return _source("all", "parquet", "data/a.parquet")


def _arrow(root: Path) -> str:
    root.mkdir(parents=True)
    table = _table(_shuffled())
    with pa.OSFile(str(root / "a.arrow"), "wb") as out, pa.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table.slice(0, 150), max_chunksize=40)
    with pa.OSFile(str(root / "b.arrows"), "wb") as out, pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table.slice(150), max_chunksize=40)
    return _source("all", "arrow", "data/*.arrow*")


def _huggingface(root: Path) -> str:
    import datasets

    root.mkdir(parents=True)
    datasets.Dataset(_table(DOCS)).save_to_disk(root / "saved")
    return _source("all", "huggingface", "data/saved")


def _mixed(root: Path) -> str:
    docs = _shuffled()
    write_jsonl(root / "a.jsonl", docs[:100])
    pq.write_table(_table(docs[100:300]), root / "b.parquet")
    for number, doc in enumerate(docs[300:]):
        path = root / f"files/{doc.domain}/{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(doc.text, encoding="utf-8", newline="")
    text = "  - {name: all, format: text, paths: [data/files/**/*.txt], domain: {path: 'files/([a-z]+)/'}}"
    return "\n".join([_source("one", "jsonl", "data/a.jsonl"), _source("two", "parquet", "data/b.parquet"), text])


LAYOUTS = [_plain, _split, _gzip, _zstd, _parquet, _arrow, _huggingface, _mixed]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__.strip("_"))
def test_inputs_renamed_split_reordered_or_in_another_format_give_the_same_shards(
    kitchen: Kitchen, reference: list[str], layout: Callable[[Path], str]
) -> None:
    sources = layout(kitchen.data)
    built = kitchen.build(sources=sources)
    # Sources and their fields are part of the recipe, the documents decide the stream.
    assert built.hashes == reference


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_any_number_of_workers_gives_the_same_shards(kitchen: Kitchen, reference: list[str], workers: int) -> None:
    for number in range(4):
        kitchen.corpus(DOCS[number::4], f"part-{number}.jsonl")
    sources = "\n".join(_source(f"s{n}", "jsonl", f"data/part-{n}.jsonl") for n in range(4))
    built = kitchen.build(sources=sources, workers=workers)
    assert len(built.hashes) == 5
    assert built.hashes == reference


def test_chunks_of_any_size_give_the_same_shards(
    kitchen: Kitchen, reference: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import mixture.corpus.documents as documents_module
    from mixture.corpus import jsonl

    monkeypatch.setattr(documents_module, "CHUNK_BYTES", 20_000)
    monkeypatch.setattr(jsonl, "CHUNK_BYTES", 20_000, raising=False)
    monkeypatch.setattr(inputs, "CHUNK_BYTES", 20_000)
    monkeypatch.setattr(inputs, "SMALL_FILE", 0)
    path = kitchen.corpus(DOCS)
    built = kitchen.build()
    parts = list((kitchen.root / "work" / "store").rglob("part-*.arrow"))
    assert len(parts) == -(-path.stat().st_size // 20_000) > 5
    assert built.hashes == reference


def test_the_seed_reshuffles_everything(kitchen: Kitchen, reference: list[str]) -> None:
    kitchen.corpus(DOCS)
    assert not set(kitchen.build(seed=8).hashes) & set(reference)


def test_running_again_does_nothing(kitchen: Kitchen) -> None:
    kitchen.corpus(DOCS)
    first = kitchen.build()
    stamps = {path: path.stat().st_mtime_ns for path in (kitchen.root / "work").rglob("*.*") if path.is_file()}
    again = kitchen.build()
    assert again.made == {"tokenize": (), "pack": ()}
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert again.lock == first.lock


def test_a_changed_mix_tokenizes_nothing_and_a_changed_file_only_itself(
    kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "SMALL_FILE", 0)
    kitchen.corpus(DOCS[:200], "a.jsonl")
    kitchen.corpus(DOCS[200:], "b.jsonl")
    first = kitchen.build()
    mixed = kitchen.build(lengths="natural", buckets="2K", domains="natural")
    assert mixed.made["tokenize"] == ()
    assert mixed.hashes != first.hashes
    kitchen.corpus(DOCS[200:390], "b.jsonl")
    changed = kitchen.build()
    assert changed.made["tokenize"] == ("data/b.jsonl",)
    assert changed.hashes != first.hashes


def test_carrying_a_column_makes_no_new_part(kitchen: Kitchen) -> None:
    kitchen.corpus(DOCS)
    first = kitchen.build()
    before = {p: p.stat().st_mtime_ns for p in (kitchen.root / "work" / "store").rglob("part-*.arrow")}
    source = "  - {name: all, format: jsonl, paths: [data/*.jsonl], domain: {field: meta.set}, carry: [meta]}"
    again = kitchen.build(sources=source)
    assert {p: p.stat().st_mtime_ns for p in (kitchen.root / "work" / "store").rglob("part-*.arrow")} == before
    assert again.hashes == first.hashes


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_killed_at_random_moments_and_run_again_gives_the_same_shards(
    tmp_path: Path, reference: list[str], workers: int
) -> None:
    for number in range(8):
        write_jsonl(tmp_path / f"data/{number}.jsonl", DOCS[number::8])
    sources = "\n".join(_source(f"s{n}", "jsonl", f"data/{n}.jsonl") for n in range(8))
    (tmp_path / "small.yaml").write_text(recipe_text(sources=sources))
    command = [sys.executable, "-m", "mixture", "run", "small.yaml", "--workers", str(workers), "--json"]
    draw = random.Random(workers)
    # A run takes longer than this to import its libraries, so the first attempts never come to their end.
    longest, kills = 0.7, 0
    while True:
        with (tmp_path / "out.json").open("wb") as out:
            run = subprocess.Popen(command, cwd=tmp_path, stdout=out, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            run.wait(longest * draw.random())
            break
        except subprocess.TimeoutExpired:
            # The main process alone, or with its workers: both happen.
            if draw.random() < 0.5:
                os.killpg(os.getpgid(run.pid), signal.SIGKILL)
            else:
                run.kill()
            run.wait()
            kills += 1
            longest *= 1.25
    assert run.returncode == 0
    assert kills >= 2
    made = orjson.loads((tmp_path / "out.json").read_bytes())
    assert [shard["hash"] for shard in made["phases"][0]["shards"]] == reference
    assert not list((tmp_path / "work").rglob("*.tmp"))
