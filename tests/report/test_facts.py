"""What became of the documents, one fact a line."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import orjson

from tests.cli.conftest import Shop
from tests.conftest import documents


def test_it_is_said_what_relates_documents_and_how_many_nothing_does(tmp_path: Path) -> None:
    with ExitStack() as stack:
        shop = Shop(tmp_path, stack)
        rows = [{"text": d.text, "emb": [n % 7, 1.0] if n >= 20 else None} for n, d in enumerate(documents(60))]
        source = shop.source("jsonl", "data/a.jsonl", domain="books", more=", carry: [emb]")
        shop.stock(sources=source, more="transforms: {related: {by: embeddings, column: emb}}\n")
        shop.file("data/a.jsonl", b"\n".join(map(orjson.dumps, rows)))
        said = shop.call("run", "small.yaml", "-j", "1")
        assert said.code == 0, said.err
        assert "by embeddings (emb); 20 of 60 documents have nothing to be related by" in said.out
        shop.stock(sources=source, more="transforms: {related: {by: keywords}}\n")
        shop.file("data/a.jsonl", b"\n".join(map(orjson.dumps, rows)))
        lines = shop.call("run", "small.yaml", "-j", "1").out.splitlines()
        assert [line.split() for line in lines if line.startswith("related")] == [["related", "by", "keywords"]]


def test_none_is_said_of_sequences_and_documents_where_there_are_none(tmp_path: Path) -> None:
    with ExitStack() as stack:
        shop = Shop(tmp_path, stack)
        shop.stock(more="packing: {kind: split-by-length, long: 0, short: 8}\n")
        assert " sequences, none of one document each, " in shop.call("run", "small.yaml", "-j", "1").out
