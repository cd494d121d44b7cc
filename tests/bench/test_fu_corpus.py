"""The corpus of Fu's job has SlimPajama's domains and lengths, and real text in files like its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson
import pytest
import zstandard

from bench import corpora, fu_corpus
from bench.fu_corpus import Pool, cut
from bench.slimpajama import DOMAINS
from mixture.presets.fu import SLIMPAJAMA

TEXT = "".join(f"word{number} and " for number in range(5000))


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, dict[str, int]]:
    (tmp_path / "pool.txt").write_text(TEXT)
    pools = dict.fromkeys(DOMAINS, Pool(str(tmp_path / "pool.txt"), 4.0))
    return tmp_path, fu_corpus.make(tmp_path, 15_000_000, pools, 1)


def _decompressed(file: Path) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj().decompress(file.read_bytes())


def _rows(folder: Path) -> list[dict[str, object]]:
    files = sorted((folder / "slimpajama" / "train").glob("*.jsonl.zst"))
    lines = [line for file in files for line in _decompressed(file).splitlines()]
    return [orjson.loads(line) for line in lines]


def test_documents_have_the_paper_s_domains_and_the_lengths_that_were_drawn(
    made: tuple[Path, dict[str, int]],
) -> None:
    folder, record = made
    rows = _rows(folder)
    sizes = np.array([len(str(row["text"])) for row in rows])
    assert len(rows) == record["documents"] > 10_000
    assert record["files"] == 2
    assert sizes.sum() == record["text_bytes"] == pytest.approx(4 * record["tokens"], rel=0.01)
    assert record["tokens"] == pytest.approx(15_000_000, rel=0.25)
    sets = [row["meta"]["redpajama_set_name"] for row in rows]  # type: ignore[index]
    assert set(sets) == set(SLIMPAJAMA.values)
    # C4's median document has 315 tokens.
    c4 = sizes[[name == "RedPajamaC4" for name in sets]]
    assert np.median(c4) == pytest.approx(4 * 315, rel=0.1)


def test_the_corpus_does_not_depend_on_the_workers(made: tuple[Path, dict[str, int]], tmp_path: Path) -> None:
    folder, record = made
    pools = dict.fromkeys(DOMAINS, Pool(str(folder / "pool.txt"), 4.0))
    assert fu_corpus.make(tmp_path / "again", 15_000_000, pools, 2) == record
    assert _rows(tmp_path / "again") == _rows(folder)


def test_a_stretch_begins_with_a_word_and_goes_on_where_the_text_ends() -> None:
    text = b"one two three four"
    assert cut(text, 0.1, 9) == "two three"
    assert cut(text, 0.75, 13) == "four" + "one two t"
    assert len(cut(text, 0.0, 100)) == 100


def test_a_pool_holds_texts_on_end_and_knows_bytes_to_a_token(tmp_path: Path) -> None:
    corpus = corpora.write("code", tmp_path, iter(["one two", "three"]), files=1)
    made = fu_corpus.pool([corpus], tmp_path / "pool.txt", lambda text: len(text.split()))
    assert Path(made.path).read_text() == "one two\nthree\n"
    assert made.rate == pytest.approx(14 / 3)
