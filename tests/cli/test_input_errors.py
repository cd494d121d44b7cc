"""Corpora that cannot be read: the file, the row and the field are named; mended, the same command goes on."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from mixture.corpus import documents as documents_module
from mixture.corpus import jsonl
from mixture.tokens import inputs
from tests.cli.conftest import DOCS, Shop, write_jsonl

SKIP = "on_bad_row: skip"


def test_a_missing_file_is_named_with_its_nearest_neighbour(shop: Shop) -> None:
    shop.stock(sources=shop.source("jsonl", "data/b.jsonl"))
    shop.refused(shop.run(), str(shop.root / "data/b.jsonl"), "no such file", "did you mean 'a.jsonl'?")


def test_a_missing_folder_is_named_with_the_option_that_says_where_it_is(shop: Shop) -> None:
    shop.stock(sources=shop.source("jsonl", "dat/a.jsonl"))
    shop.refused(shop.run(), f"nor the folder {shop.root / 'dat'}", "--data")


def test_a_pattern_without_a_match_is_named_with_where_it_looked(shop: Shop) -> None:
    shop.stock(sources=shop.source("jsonl", "data/*.zst"))
    shop.refused(shop.run(), "no file matches 'data/*.zst'", str(shop.root), "--data")


def test_excluding_every_file_is_a_pattern_without_a_match(shop: Shop) -> None:
    shop.stock(sources=shop.source("jsonl", "data/*", more=", exclude: [data/*.jsonl]"))
    shop.refused(shop.run(), "no file matches 'data/*'")


@pytest.mark.parametrize(
    ("form", "name", "said"),
    [
        ("jsonl", "a.jsonl", "source 'all' holds no document: 0 rows in data/a.jsonl"),
        ("arrow", "a.arrow", "source 'all' holds no document: 0 rows in data/a.arrow"),
        ("text", "a.txt", "source 'all' holds no document: 0 rows in data/a.txt"),
        ("parquet", "a.parquet", "data/a.parquet: not a whole Parquet file"),
        ("jsonl", "a.jsonl.gz", "data/a.jsonl.gz: the gzip data is cut short"),
        ("jsonl", "a.jsonl.zst", "data/a.jsonl.zst: the zstd data is cut short"),
    ],
)
def test_a_file_of_no_bytes_is_named(shop: Shop, form: str, name: str, said: str) -> None:
    shop.recipe(sources=shop.source(form, f"data/{name}", domain="x"))
    shop.file(f"data/{name}", b"")
    shop.refused(shop.run(), said)


def test_a_corpus_of_rejected_rows_alone_says_what_is_wrong_with_them(shop: Shop) -> None:
    shop.stock(more=SKIP)
    shop.file("data/a.jsonl", b'\n{"text": ""}\n{"text": null}\n')
    shop.refused(shop.run(), "source 'all' holds no document: 3 rows", "data/a.jsonl, row 1: empty text")


@pytest.mark.parametrize("form", ["jsonl", "parquet", "arrow"])
def test_a_wrong_text_field_is_named_with_the_fields_there_are(shop: Shop, form: str) -> None:
    source = shop.source(form, f"data/a.{form}", more=", text: txt")
    shop.stock(sources=source)
    FILES[form](shop.root / f"data/a.{form}")
    shop.refused(shop.run(), f"data/a.{form}", "no field 'txt'", "text", "meta.set", "did you mean 'text'?")


def test_a_text_field_of_numbers_is_named_with_the_fields_of_text(shop: Shop) -> None:
    shop.stock(sources=shop.source("parquet", "data/a.parquet", more=", text: n"))
    FILES["parquet"](shop.root / "data/a.parquet")
    shop.refused(shop.run(), "data/a.parquet: 'n' is int64, not a string", "text, meta.set")


def test_a_domain_field_that_no_row_has_is_named_with_the_first_row(shop: Shop) -> None:
    shop.stock(sources=shop.source("jsonl", "data/*.jsonl", domain="{field: meta.sett}"))
    words = ("source 'all'", f"{len(DOCS)} documents", "'meta.sett'", "data/a.jsonl, row 0;", "on_bad_row: skip")
    shop.refused(shop.run(), *words)


def test_a_carried_field_that_no_row_has_is_said_aloud(shop: Shop) -> None:
    shop.stock(sources=shop.source("jsonl", "data/*.jsonl", more=", carry: [meta.sett, meta.set]"))
    said = shop.run()
    assert said.code == 0
    assert "no document has a value in 'meta.sett'" in said.err
    assert "'meta.set'," not in said.err


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b'{"text": null}', "'text' is null"),
        (b'{"text": ""}', "'text' is empty"),
        (b'{"text": "\xff\xfe"}', "not UTF-8"),
        (b'{"text": "a\\ud800b"}', "not UTF-8"),
        (b'{"text": 3}', "'text' is not a string"),
        (b'{"title": "x"}', "no field 'text' (fields there: title"),
        (b"[1]", "an object, {…}, not an array"),
        (b'{"text":', "invalid JSON"),
    ],
)
def test_a_bad_row_stops_at_its_line_and_skipped_it_is_counted(shop: Shop, row: bytes, reason: str) -> None:
    path = shop.stock() and shop.root / "data/a.jsonl"
    path.write_bytes(path.read_bytes() + row + b"\n")
    at = f"data/a.jsonl, line {len(DOCS) + 1} (row {len(DOCS)})"
    shop.refused(shop.run(), at, reason, "on_bad_row: skip")
    shop.stock(more=SKIP)
    path.write_bytes(path.read_bytes() + row + b"\n")
    done = shop.run()
    assert done.code == 0
    assert sum(done.json["documents"]["rejected"].values()) == 1
    assert done.json["documents"]["indexed"] == len(DOCS)


def test_more_bad_rows_than_allowed_stop_with_count_bound_and_a_row(shop: Shop) -> None:
    path = shop.stock(more=f"{SKIP}\nmax_bad_rows: 5") and shop.root / "data/a.jsonl"
    good = path.read_bytes()
    path.write_bytes(good + b'{"text": ""}\n' * 6)
    for _ in range(2):  # Also when an earlier run has counted them.
        words = ("6 bad rows, 5 allowed", f"data/a.jsonl, row {len(DOCS)}: empty text", "max_bad_rows")
        shop.refused(shop.run(), *words)
    path.write_bytes(good + b'{"text": ""}\n' * 5)
    assert shop.run().json["documents"]["rejected"] == {"empty text": 5}


def test_a_bad_row_far_inside_a_file_is_named_by_its_row_in_the_file(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (documents_module, jsonl, inputs):
        monkeypatch.setattr(module, "CHUNK_BYTES", 20_000, raising=False)
    monkeypatch.setattr(inputs, "SMALL_FILE", 0)
    path = shop.stock(more=f"{SKIP}\nmax_bad_rows: 1") and shop.root / "data/a.jsonl"
    bad = b'{"text": ""}\n'
    path.write_bytes(path.read_bytes() + bad)
    assert shop.run().code == 0
    assert len(list((shop.root / "work/store").rglob("part-*.arrow"))) > 3
    shop.recipe(**shop_changes(more=f"{SKIP}\nmax_bad_rows: 0"))
    shop.refused(shop.run(), "1 bad rows, 0 allowed", f"data/a.jsonl, row {len(DOCS)}: empty text")


def shop_changes(**changes: Any) -> dict[str, Any]:
    from tests.cli.conftest import EASY

    return EASY | changes


def _table() -> pa.Table:
    rows = {"text": [d.text for d in DOCS], "n": list(range(len(DOCS))), "meta": [{"set": d.domain} for d in DOCS]}
    return pa.table(rows)


def _jsonl(path: Path) -> None:
    write_jsonl(path, DOCS)


def _gzip(path: Path) -> None:
    write_jsonl(path, DOCS)
    path.write_bytes(gzip.compress(path.read_bytes()))


def _zstd(path: Path) -> None:
    write_jsonl(path, DOCS)
    path.write_bytes(zstandard.compress(path.read_bytes()))


def _parquet(path: Path) -> None:
    pq.write_table(_table(), path)


def _arrow(path: Path) -> None:
    with pa.OSFile(str(path), "wb") as out, pa.ipc.new_file(out, _table().schema) as writer:
        writer.write_table(_table(), max_chunksize=20)


def _stream(path: Path) -> None:
    with pa.OSFile(str(path), "wb") as out, pa.ipc.new_stream(out, _table().schema) as writer:
        writer.write_table(_table(), max_chunksize=20)


FILES: dict[str, Callable[[Path], None]] = {
    "jsonl": _jsonl,
    "jsonl.gz": _gzip,
    "jsonl.zst": _zstd,
    "parquet": _parquet,
    "arrow": _arrow,
    "arrows": _stream,
}


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
@pytest.mark.parametrize("form", ["jsonl.gz", "jsonl.zst", "parquet", "arrow", "arrows"])
def test_a_truncated_file_is_named_and_nothing_is_stored_and_whole_it_runs(shop: Shop, form: str, share: float) -> None:
    path = shop.root / f"data/x.{form}"
    shop.stock(sources=shop.source(form.partition(".")[0].removesuffix("s"), f"data/x.{form}"))
    FILES[form](path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    shop.refused(shop.run(), f"data/x.{form}: ", "again")
    assert not list((shop.root / "work").rglob("part-*"))
    path.write_bytes(whole)
    assert shop.run().json["documents"]["indexed"] == len(DOCS)


def test_a_file_that_is_something_else_says_what_it_is(shop: Shop) -> None:
    shop.stock(sources=shop.source("jsonl", "data/x.jsonl"))
    shop.file("data/x.jsonl", gzip.compress(b'{"text": "x"}\n'))
    shop.refused(shop.run(), "data/x.jsonl: gzip data, not JSON lines; name it .gz")


@pytest.mark.parametrize("policy", ["stop", "skip"])
def test_documents_without_a_domain_stop_or_are_left_out_and_counted(shop: Shop, policy: str) -> None:
    shop.stock(more=f"on_bad_row: {policy}")
    path = shop.root / "data/a.jsonl"
    extra = (
        b'{"text": "no domain here", "meta": {"set": null}}\n{"text": "nor here"}\n{"text": "x", "meta": {"set": ""}}\n'
    )
    path.write_bytes(path.read_bytes() + extra)
    said = shop.run()
    if policy == "stop":
        shop.refused(said, "3 documents have no value in their domain field 'meta.set'", f"row {len(DOCS)};")
    else:
        assert said.json["documents"]["rejected"] == {"no domain": 3}
        assert said.json["documents"]["indexed"] == len(DOCS)
