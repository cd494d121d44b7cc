"""Documents are found by id and by row, in every format, and it is said what became of a row."""

from __future__ import annotations

from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixture.errors import TraceError
from mixture.hashing import draw, fraction, id_words
from mixture.plan.order import id_ranges
from mixture.trace import Trace
from mixture.trace.copies import slice_of
from mixture.trace.fate import fate
from tests.conftest import Built
from tests.trace.conftest import HOLDOUT, Origin, Warehouse, doc_id

KINDS = ("index", "stretches", "rows", "joined", "slice")


@pytest.fixture(scope="module")
def built(house: Warehouse) -> Built:
    return house.made()


@pytest.fixture(scope="module")
def trace(house: Warehouse, built: Built) -> Trace:
    return house.trace(built)


@given(st.integers(0, (1 << 64) - 1), st.integers(0, 10), st.integers(0, 50), st.integers(0, 1 << 40))
def test_a_copy_s_slice_is_the_one_whose_ranges_hold_its_id(hi: int, bits: int, copy: int, seed: int) -> None:
    number = slice_of(hi, 1 << bits, copy, seed)
    assert any(first <= hi < stop for first, stop in id_ranges(number, 1 << bits, copy, seed))


def test_the_corpus_lies_in_many_parts(trace: Trace) -> None:
    assert len(trace.documents.parts) > 20
    files = {file: len(trace.documents.stretches(file)) for file in ("data/web-0.jsonl", "data/web-2.jsonl.gz")}
    assert all(count > 2 for count in files.values()), files
    tables = [trace.documents.folder / name for name in ("index.parquet", "stretches.parquet")]
    tables += [*trace.workspace.work.glob("joined/*/*.parquet"), *trace.stream.plan.folder.glob("slice-*.parquet")]
    groups = {path.name: pq.read_metadata(path).num_row_groups for path in tables}
    assert all(max(n for name, n in groups.items() if name.startswith(kind)) > 2 for kind in KINDS), groups


def test_every_row_leads_to_its_document_and_every_document_to_its_row(house: Warehouse, trace: Trace) -> None:
    twins = {origin.text: origin for origin in reversed(house.single)}
    assert len(twins) == len(house.single) - 1
    for origin in house.single:
        answer = trace.file_row(origin.file, origin.row)
        (read,), (document,) = answer["read"], answer["documents"]
        assert read["doc_id"] == document["doc_id"] == doc_id(origin.text).hex()
        (found,) = document["origins"]
        first = twins[origin.text]
        assert (found["file"], found["row"], found["members"]) == (first.file, first.row, [])
        if origin == first:
            assert read["became"] == "a document"
        else:
            assert read["became"] == f"an exact duplicate, dropped: {first.file}, row {first.row} stands in its place"


def test_every_member_of_a_joined_document_leads_to_it_and_back(house: Warehouse, trace: Trace) -> None:
    assert len(house.repositories) == 12
    for origin, repo in house.members:
        (document,) = trace.file_row(origin.file, origin.row)["documents"]
        text = house.repositories[repo]
        assert document["doc_id"] == doc_id(text).hex()
        members = document["origins"][0]["members"]
        whole = text.encode()
        mine = [m for m in members if (m["file"], m["row"]) == (origin.file, origin.row)]
        assert [whole[m["byte_start"] : m["byte_stop"]].decode() for m in mine] == [origin.text]
        assert [m["byte_start"] for m in members] == sorted(m["byte_start"] for m in members)
        assert b"\n#\n".join(whole[m["byte_start"] : m["byte_stop"]] for m in members) == whole


@pytest.mark.parametrize(("row", "why"), [(7, "it is blank"), (8, "missing text")])
def test_a_row_that_is_no_document_says_why(trace: Trace, row: int, why: str) -> None:
    answer = trace.file_row("data/web-0.jsonl", row)
    assert answer["documents"] == []
    assert answer["read"][0]["became"].startswith(f"no document: {why}")


def test_a_beginning_of_an_id_is_enough_where_it_is_the_only_one(trace: Trace) -> None:
    (row,) = trace.documents.named(_some_id(trace).hex()[:8])
    assert row.doc_id == _some_id(trace)
    assert trace.documents.named("0X" + row.doc_id.hex().upper())[0] == row


def _some_id(trace: Trace) -> bytes:
    return trace.stream.row(0).spans[0].doc_id


@pytest.mark.parametrize("digits", ["", "123", "zzzzzzzz", "0" * 33, "books-1-1"])
def test_what_is_no_id_is_refused(trace: Trace, digits: str) -> None:
    with pytest.raises(TraceError, match="give its 32 hex digits"):
        trace.documents.named(digits)


def test_an_id_of_no_document_is_refused(trace: Trace) -> None:
    with pytest.raises(TraceError, match="no document of this corpus"):
        trace.documents.named(doc_id("not there").hex())


def test_a_beginning_of_several_ids_is_refused(trace: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mixture.trace.documents._FEWEST_DIGITS", 1)
    with pytest.raises(TraceError, match="documents begin like that"):
        trace.documents.named(_some_id(trace).hex()[:1])


@pytest.mark.parametrize(
    ("file", "row", "words"),
    [
        ("data/web-0.json", 0, "did you mean 'data/web-0.jsonl'"),
        ("data/web-0.jsonl", 64, "has 64 rows"),
        ("data/table.parquet", 20, "has 20 rows"),
        ("data/web-0.jsonl", -1, "rows count from 0"),
    ],
)
def test_a_row_that_is_not_there_is_refused(trace: Trace, file: str, row: int, words: str) -> None:
    with pytest.raises(TraceError, match=words):
        trace.file_row(file, row)


def test_a_row_past_the_end_of_a_joined_file_went_into_no_document(trace: Trace) -> None:
    answer = trace.file_row("data/code-0.jsonl", 25)
    assert "past the end" in answer["read"][0]["became"]


def test_documents_that_were_not_drawn_say_why(house: Warehouse, trace: Trace) -> None:
    texts = {o.text for o in house.single} | set(house.repositories.values())
    limit = fraction(HOLDOUT)
    counts = {"held": 0, "drawn": 0, "left": 0}
    for text in texts:
        answer = trace.document(doc_id(text).hex())
        (phase,) = answer["phases"]
        import pyarrow as pa

        hi, lo = id_words(pa.array([doc_id(text)], pa.binary(16)))
        if int(draw(0, "holdout", hi, lo)[0]) < limit:
            assert "held out: no plan draws it (holdout: 0.1)" in phase["not_drawn"][0]["why"]
            counts["held"] += 1
        elif phase["copies"]:
            assert not phase["not_drawn"]
            counts["drawn"] += 1
        else:
            assert "before its turn came" in phase["not_drawn"][0]["why"]
            counts["left"] += 1
    assert min(counts.values()) > 0


def test_sql_that_leaves_a_document_out_is_named(house: Warehouse) -> None:
    trace = house.trace(house.made("sql.yaml", more="where: n_tokens < 300\n", budget=20_000))
    (long,) = [row for row in _rows(trace, house.single) if row.n_tokens > 600][:1]
    assert fate(trace.documents, long) == "left out by the recipe's SQL (where: n_tokens < 300)"


def test_a_document_without_a_domain_is_in_no_index(house: Warehouse) -> None:
    house.file(
        "none/a.jsonl", '{"text": "one", "d": "x"}\n{"text": "two"}\n' + '{"text": "many words", "d": "x"}\n' * 9
    )
    one = "  - {name: web, format: jsonl, paths: [none/a.jsonl], domain: {field: d}}"
    trace = house.trace(house.made("none.yaml", sources=one, budget=512, max_epochs=900, holdout=0))
    answer = trace.file_row("none/a.jsonl", 1)
    assert answer["read"][0]["became"] == "no document of the index: it has no value in its domain field"
    assert answer["documents"] == []


def test_equal_texts_that_are_kept_are_told_apart(house: Warehouse) -> None:
    trace = house.trace(house.made("twins.yaml", more="duplicates: keep\n", holdout=0, budget=200_000))
    twin = next(o for o in house.single if o.file == "data/web-1.jsonl")
    answer = trace.document(doc_id(twin.text).hex())
    assert [(o["file"], o["occurrence"], o["occurrences"]) for o in answer["origins"]] == [
        ("data/web-0.jsonl", 0, 2),
        ("data/web-1.jsonl", 1, 2),
    ]
    stream = trace.stream
    for copy in answer["phases"][0]["copies"]:
        row = stream.row(copy["places"][0]["sequence"])
        span = next(s for s in row.spans if s.doc_id.hex() == answer["doc_id"] and s.copy == copy["copy"])
        origin = trace.origin(span)
        assert origin is not None
        assert origin.input_file == answer["origins"][copy["copy"] % 2]["file"]


def test_a_file_that_two_sources_read_gives_two_answers(house: Warehouse) -> None:
    house.file("twice/a.jsonl", b"".join(b'{"text": "%d words", "other": "%d others"}\n' % (n, n) for n in range(99)))
    both = [
        f"  - {{name: {n}, format: jsonl, paths: [twice/a.jsonl], text: {n}, domain: d}}" for n in ("text", "other")
    ]
    trace = house.trace(house.made("twice.yaml", sources="\n".join(both), budget=512))
    answer = trace.file_row("twice/a.jsonl", 5)
    assert {read["source"]: read["doc_id"] for read in answer["read"]} == {
        "text": doc_id("5 words").hex(),
        "other": doc_id("5 others").hex(),
    }
    assert len(answer["documents"]) == 2


def _rows(trace: Trace, origins: list[Origin]) -> list[Any]:
    found = trace.documents.with_ids(doc_id(origin.text) for origin in origins)
    return [row for rows in found.values() for row in rows]


def test_members_follow_the_order_of_imports(house: Warehouse) -> None:
    files = {"z.py": "ZETA = 1\n" * 40, "a.py": "import m\n" * 9, "m.py": "from z import ZETA\n" * 20}
    rows = [
        {"repo": repo, "path": path, "text": f"{text}# {repo}\n"} for repo in ("x", "y") for path, text in files.items()
    ]
    house.file("imports/a.jsonl", b"\n".join(orjson.dumps(row) for row in rows))
    rule = "{by: repo, order: {dependency: path}}"
    one = f"  - {{name: code, format: jsonl, paths: [imports/a.jsonl], domain: code, join: {rule}}}"
    trace = house.trace(house.made("imports.yaml", sources=one, budget=512, max_epochs=90, holdout=0))
    for number, row in enumerate(rows):
        (document,) = trace.file_row("imports/a.jsonl", number)["documents"]
        members = document["origins"][0]["members"]
        assert [rows[m["row"]]["path"] for m in members] == ["z.py", "m.py", "a.py"]
        (found,) = trace.documents.named(document["doc_id"])
        whole = trace.texts.text(found)
        (mine,) = [m for m in members if m["row"] == number]
        assert whole[mine["byte_start"] : mine["byte_stop"]].decode() == row["text"]
