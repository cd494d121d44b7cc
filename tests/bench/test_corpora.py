"""What the benches run on: corpora under their names, laid out as asked for."""

from __future__ import annotations

import gzip
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench import corpora


def _lines(*texts: str) -> bytes:
    return b"".join(orjson.dumps({"text": text}) + b"\n" for text in texts)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "corpus"
    place.mkdir()
    (place / "books-00.jsonl").write_bytes(_lines("one", "two"))
    (place / "books-01.jsonl.gz").write_bytes(gzip.compress(_lines("three")))
    pq.write_table(pa.table({"text": ["four"]}), place / "peps.parquet")
    (place / "README.md").write_text("no corpus")
    return place


def test_files_of_a_folder_are_named_after_themselves_without_their_numbers(folder: Path) -> None:
    found = corpora.given([str(folder)])
    assert [(one.name, len(one.files), one.text_bytes) for one in found] == [("books", 2, 11), ("peps", 1, 4)]


def test_equal_names_are_one_corpus_and_patterns_are_looked_up(folder: Path) -> None:
    (one,) = corpora.given([f"all={folder}/books-*.gz", f"all={folder}/peps.parquet"])
    assert (one.name, list(corpora.texts(one.files))) == ("all", ["three", "four"])


def test_a_place_without_texts_is_refused(folder: Path) -> None:
    with pytest.raises(SystemExit, match=r"no \.jsonl.*README\.md; give --corpus"):
        corpora.given([str(folder / "README.md")])


def test_plain_keeps_texts_and_makes_a_small_corpus_larger_with_no_two_texts_equal(
    folder: Path, tmp_path: Path
) -> None:
    books, _ = corpora.given([str(folder)])
    same = corpora.plain(books, tmp_path / "same")
    assert (same.plain, list(corpora.texts(same.files))) == (True, ["one", "two", "three"])
    larger = corpora.plain(books, tmp_path / "larger", megabytes=100 / 1e6)
    texts = list(corpora.texts(larger.files))
    assert sum(map(len, texts)) >= 100
    assert larger.text_bytes == sum(map(len, texts))
    assert len(set(texts)) == len(texts)
    assert "# copy 1\nthree" in texts


def test_a_part_has_ids_and_is_no_larger_than_asked_for_but_by_a_text(folder: Path, tmp_path: Path) -> None:
    books, _ = corpora.given([str(folder)])
    part = corpora.part(books, tmp_path / "part", megabytes=4 / 1e6)
    rows = [orjson.loads(line) for file in part.files for line in file.read_bytes().splitlines()]
    assert rows == [{"id": "0", "text": "one"}, {"id": "1", "text": "two"}]
