"""What became of the documents, one fact a line."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import orjson

from mixture.report.tables import visible
from tests.cli.conftest import Shop
from tests.conftest import Document, documents


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


def test_what_is_shown_of_a_text_has_no_control_characters_but_line_ends_and_tabs(tmp_path: Path) -> None:
    shown = visible("".join(map(chr, range(0x200))))
    assert [c for c in shown if ord(c) < 32 or 0x7F <= ord(c) < 0xA0] == ["\t", "\n", "\r"]
    with ExitStack() as stack:
        shop = Shop(tmp_path, stack)
        shop.stock()
        text = "\x1b[2J a passage of so many words that it is met in both places, and more than forty bytes"
        shop.corpus([*documents(60), Document(text, "books")])
        shop.file("eval.txt", text)
        said = shop.call("decontaminate", "small.yaml", "--against", "eval.txt", "-j", "1")
        assert said.code == 0, said.err
        assert "␛[2J a passage" in said.out
        assert "\x1b" not in said.out
