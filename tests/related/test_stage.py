"""The stage: tables of places, what they follow from, what is made again, vectors, and what is refused."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mixture.errors import InputError, MixtureError, PlanError
from mixture.related import relate
from mixture.related.relate import Relater, Relations
from tests.conftest import Document, Kitchen, documents
from tests.related.topics import topic_of, topical

CARRIED = "  - {name: all, format: jsonl, paths: [data/*.jsonl], domain: {field: meta.set}, carry: [emb]}"
NATURAL: dict[str, Any] = {"domains": "natural", "lengths": "natural", "budget": 20_000, "holdout": 0}


def relations(
    kitchen: Kitchen, rule: str = "by: bm25", *, work: str = "work", workers: int = 1, more: str = "", **changes: Any
) -> Relations:
    """Relate the documents of the kitchen's corpus."""
    text = f"transforms: {{related: {{{rule}}}}}\n{more}"
    job = kitchen.job(kitchen.recipe(more=text, **(NATURAL | changes)), work=work, workers=workers)
    store = job.tokenize()
    found = job.recipe.transforms.related
    assert found is not None
    relater = Relater(job.recipe, found, store, job.bucket(store), job.workspace, job.engine, job.progress)
    return relater.relations()


def file_of(found: Relations, domain: str, block: int) -> Path:
    return relate.block_file(found.folder, found.domains.index(domain), block)


def rows(found: Relations) -> list[dict[str, Any]]:
    """All rows of all blocks, sorted by domain and block."""
    files = [file_of(found, name, block) for name, count in found.blocks.items() for block in range(count)]
    return [row for path in files for row in pq.read_table(path).to_pylist()]


def paths(found: Relations) -> dict[tuple[str, int], list[bytes]]:
    """Ids along the path of each block."""
    out: dict[tuple[str, int], list[bytes]] = {}
    for row in sorted(rows(found), key=lambda r: (r["domain"], r["related"])):
        out.setdefault((row["domain"], row["related"] >> 32), []).append(row["doc_id"])
    return out


def texts(docs: list[Document]) -> dict[bytes, str]:
    from mixture.hashing import document_ids

    ids = document_ids(document.text.encode() for document in docs)
    return {ids[16 * n : 16 * n + 16]: document.text for n, document in enumerate(docs)}


def kept_together(found: Relations, docs: list[Document]) -> float:
    """Return how many neighbours on a path speak of one topic."""
    known = texts(docs)
    along = [[topic_of(known[one]) for one in path] for path in paths(found).values()]
    same = [a == b for path in along for a, b in itertools.pairwise(path)]
    return float(np.mean(same))


@pytest.mark.parametrize("by", ["bm25", "keywords"])
def test_every_document_of_a_domain_stands_once_on_the_path_of_its_block(
    kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    monkeypatch.setattr(relate, "BLOCK_DOCUMENTS", 40)
    docs = documents(200)
    kitchen.corpus(docs)
    found = relations(kitchen, f"by: {by}")
    assert found.blocks == {"books": 2, "code": 2, "wiki": 2}
    table = rows(found)
    assert sorted(row["doc_id"] for row in table) == sorted(texts(docs))
    for name in found.blocks:
        for block in (0, 1):
            mine = [row for row in table if row["domain"] == name and row["related"] >> 32 == block]
            assert [row["doc_id"] for row in mine] == sorted(row["doc_id"] for row in mine)
            assert all(row["doc_id"][0] >> 7 == block for row in mine)
            mine.sort(key=lambda row: row["related"])
            assert [row["related"] & 0xFFFFFFFF for row in mine] == list(range(len(mine)))
            sizes = [len(texts(docs)[row["doc_id"]].encode()) for row in mine]
            assert [row["before"] for row in mine] == (np.cumsum(sizes) - sizes).tolist()
    assert found.record["documents"] == 200


@pytest.mark.parametrize(("by", "least"), [("bm25", 0.8), ("keywords", 0.5)])
def test_documents_of_a_topic_are_neighbours(kitchen: Kitchen, by: str, least: float) -> None:
    docs = topical(400, topics=20)
    kitchen.corpus(docs)
    assert kept_together(relations(kitchen, f"by: {by}"), docs) > least


def test_files_workers_and_order_decide_nothing(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relate, "BLOCK_DOCUMENTS", 40)
    docs = documents(240)
    kitchen.corpus(docs)
    first = relations(kitchen)
    (kitchen.data / "a.jsonl").unlink()
    kitchen.corpus(docs[100:][::-1], "x.jsonl")
    kitchen.corpus(docs[:100], "b.jsonl")
    second = relations(kitchen, work="other", workers=2)
    assert first.record == second.record
    assert rows(first) == rows(second)
    assert first.folder.name == second.folder.name


def test_equal_texts_are_one_document_in_each_domain(kitchen: Kitchen) -> None:
    docs = documents(30)
    kitchen.corpus([*docs, docs[0], docs[0], Document(docs[0].text, "wiki")])
    found = relations(kitchen, more="duplicates: keep")
    assert found.record["documents"] == 31
    counts = Counter((row["domain"], row["doc_id"]) for row in rows(found))
    assert max(counts.values()) == 1


def test_only_the_domains_that_are_named_are_related(kitchen: Kitchen) -> None:
    kitchen.corpus(documents(60))
    found = relations(kitchen, "by: bm25, domains: [wiki]")
    assert {row["domain"] for row in rows(found)} == {"wiki"}
    with pytest.raises(PlanError, match=r"transforms.related.domains: 'wikki' is not a domain .*'wiki'"):
        relations(kitchen, "by: bm25, domains: [wikki]")


def test_a_block_that_is_gone_is_made_again_and_no_other(kitchen: Kitchen) -> None:
    kitchen.corpus(documents(60))
    first = relations(kitchen)
    before = {path.name: path.stat().st_mtime_ns for path in first.folder.glob("*.parquet")}
    assert first.made
    assert not relations(kitchen).made
    lost = file_of(first, "wiki", 0)
    held = lost.read_bytes()
    for damage in (lost.unlink, lambda: lost.write_bytes(held[:-9]), lost.with_suffix(".json").unlink):
        damage()
        again = relations(kitchen)
        assert again.made
        assert again.record == first.record
        assert lost.read_bytes() == held
    after = {path.name: path.stat().st_mtime_ns for path in first.folder.glob("*.parquet")}
    assert {name for name in before if before[name] != after[name]} == {lost.name}


def test_blocks_hold_at_most_as_many_documents_as_they_should() -> None:
    assert [relate.block_count(n) for n in (0, 1, 32_768, 32_769, 65_536, 65_537, 150_000_000)] == [
        1,
        1,
        1,
        2,
        2,
        4,
        8192,
    ]
    assert [relate.block_range(b, 4) for b in range(4)] == [(b << 62, (b + 1) << 62) for b in range(4)]


# Vectors


def vectors(docs: list[Document]) -> list[list[float]]:
    """Vectors by topic, a little apart."""
    draw = np.random.default_rng(1)
    centres = draw.normal(size=(20, 8))
    return [(centres[int(topic_of(d.text))] + draw.normal(size=8) * 0.05).tolist() for d in docs]


def table_of(path: Path, docs: list[Document], *, hexadecimal: bool = False, missing: int = 0) -> None:
    ids = [one.hex().upper() if hexadecimal else one for one in texts(docs)]
    given = vectors(docs)[: len(docs) - missing] + [None] * missing
    pq.write_table(pa.table({"doc_id": ids, "emb": given}), path, row_group_size=50)


def with_vectors(kitchen: Kitchen, work: str, more: str) -> Relations:
    return relations(kitchen, "by: embeddings, column: emb", work=work, more=more)


@pytest.mark.parametrize("hexadecimal", [False, True])
def test_vectors_come_from_a_table(kitchen: Kitchen, hexadecimal: bool) -> None:
    docs = topical(400, topics=20)
    kitchen.corpus(docs)
    table_of(kitchen.root / "v.parquet", docs, hexadecimal=hexadecimal, missing=10)
    found = with_vectors(kitchen, "work", "scores: [{table: v.parquet, name: v}]")
    assert kept_together(found, docs) > 0.9
    assert found.record["without"] == 10
    assert found.record["documents"] == 400


def test_vectors_come_from_a_carried_field(kitchen: Kitchen) -> None:
    docs = topical(200, topics=20)
    lines = [
        {"text": d.text, "meta": {"set": d.domain}, "emb": v if n else None}
        for n, (d, v) in enumerate(zip(docs, vectors(docs), strict=True))
    ]
    kitchen.data.mkdir()
    (kitchen.data / "a.jsonl").write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    found = relations(kitchen, "by: embeddings, column: emb", sources=CARRIED)
    assert kept_together(found, docs) > 0.85
    assert found.record["without"] == 1


def test_other_vectors_make_another_path(kitchen: Kitchen) -> None:
    docs = topical(100, topics=20)
    kitchen.corpus(docs)
    more = "scores: [{table: v.parquet, name: v}]"
    table_of(kitchen.root / "v.parquet", docs)
    first = with_vectors(kitchen, "work", more)
    table_of(kitchen.root / "v.parquet", docs, missing=50)
    second = with_vectors(kitchen, "work", more)
    assert first.folder != second.folder
    assert first.record["digest"] != second.record["digest"]


def test_columns_that_hold_no_vectors_are_refused_in_one_sentence(kitchen: Kitchen) -> None:
    docs = topical(40, topics=4)
    kitchen.corpus(docs)
    ids = list(texts(docs))
    more = "scores: [{table: v.parquet, name: v}]"
    ragged = [[1.0] * (2 + n % 2) for n in range(40)]
    for column, why in (
        (ragged, "vectors of one length"),
        ([[1.0] * (1 + n % 3) for n in range(39)] + [[1.0, 1.0]], "vectors of one length .they have 1 to 3 numbers"),
        ([[]] * 39 + [[1.0]], "vectors of one length .they have 0 to 1 numbers"),
        ([pa.scalar([], pa.list_(pa.float32()))] * 40, "holds lists without numbers"),
        (["5"] * 40, "holds lists without numbers, or numbers alone"),
        (list(range(40)), "holds no vectors of one length .its type is int64"),
        (["[1, 2"] * 40, "holds no vectors"),
    ):
        pq.write_table(pa.table({"doc_id": ids, "emb": column}), kitchen.root / "v.parquet")
        with pytest.raises(InputError, match=why) as error:
            with_vectors(kitchen, "work", more)
        assert "\n" not in str(error.value)
    pq.write_table(pa.table({"doc_id": ids * 2, "emb": [[1.0, 2.0]] * 80}), kitchen.root / "v.parquet")
    with pytest.raises(InputError, match="two rows with 'emb' for one doc_id"):
        with_vectors(kitchen, "work", more)
    pq.write_table(pa.table({"id": ids, "emb": [[1.0, 2.0]] * 40}), kitchen.root / "v.parquet")
    with pytest.raises(MixtureError, match="has no column 'doc_id'"):
        with_vectors(kitchen, "work", more)
    with pytest.raises(PlanError, match="'emd' is neither carried by a source nor a column of a table"):
        relations(kitchen, "by: embeddings, column: emd", more=more)
