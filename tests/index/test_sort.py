"""The index's sort: by id, equal texts in order; the same bytes however its rows are cut into runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mixture import schemas
from mixture.index.census import take_census
from mixture.index.sort import sort_index, staged_name

A, B, C = bytes(16), bytes(8) + b"\x01" * 8, b"\xff" * 16


def staged(rows: Sequence[dict[str, Any]], kinds: Sequence[pa.DataType] = ()) -> pa.Table:
    """Rows of parts, with what does not matter filled in."""
    plain = {"rank": 0, "source": "all", "domain": "d", "n_tokens": 1, "n_bytes": 4, "part": 0, "row": 0}
    plain |= {"token_offset": 0, "input_file": "a", "input_row": 0}
    fields = [pa.field("rank", pa.int32()), *(f for f in schemas.INDEX if not f.name.startswith("occurrence"))]
    schema = pa.schema([*fields, *(pa.field(staged_name(n), kind) for n, kind in enumerate(kinds))])
    return pa.Table.from_pylist([plain | row for row in rows], schema=schema)


def index(
    place: Path, tables: Sequence[pa.Table], carried: Sequence[str] = (), *, keep: bool = False
) -> tuple[pa.Table, dict[str, Any]]:
    place.mkdir(parents=True, exist_ok=True)
    target = place / "index.parquet"
    record = sort_index(tables, target, place, tables[0].schema, carried, keep=keep)
    assert [path.name for path in place.iterdir()] == ["index.parquet"]
    return pq.read_table(target), record


def column(table: pa.Table, name: str) -> list[Any]:
    return table[name].to_pylist()


def test_rows_come_by_all_sixteen_bytes_of_their_ids(tmp_path: Path) -> None:
    found, record = index(tmp_path, [staged([{"doc_id": i, "n_tokens": n} for n, i in enumerate((C, B, A))])])
    assert column(found, "doc_id") == [A, B, C]
    assert column(found, "n_tokens") == [2, 1, 0]
    assert (record["staged"], record["documents"], record["tokens"], record["duplicates"]) == (3, 3, 3, 0)


def test_the_first_of_equal_texts_is_that_of_the_first_source_then_domain_then_carried_value(tmp_path: Path) -> None:
    rows = [
        {"doc_id": A, "rank": 1, "domain": "a", "input_file": "1"},
        {"doc_id": A, "rank": 0, "domain": "c", "input_file": "2"},
        {"doc_id": A, "rank": 0, "domain": "b", "input_file": "3"},
        {"doc_id": A, "rank": 0, "domain": "b", "input_file": "4", "carried_0": 7.0},
        {"doc_id": B, "input_file": "z"},
        {"doc_id": B, "input_file": "y", "input_row": 9},
        {"doc_id": B, "input_file": "y", "input_row": 8},
    ]
    found, record = index(tmp_path, [staged(rows, [pa.float16()])], ["source"])
    assert column(found, "input_file") == ["4", "y"]  # A value comes before none.
    assert column(found, "input_row") == [0, 8]
    assert column(found, "carry.source") == [7.0, None]
    assert column(found, "occurrences") == [1, 1]
    assert record["duplicates"] == 5


def test_equal_texts_that_stay_are_numbered_within_their_domain(tmp_path: Path) -> None:
    rows = [
        {"doc_id": A, "domain": "b", "rank": 1, "input_file": "1"},
        {"doc_id": A, "domain": "a", "rank": 2, "input_file": "2"},
        {"doc_id": A, "domain": "b", "rank": 0, "input_file": "3"},
        {"doc_id": C, "domain": "b", "input_file": "4"},
    ]
    found, record = index(tmp_path, [staged(rows)], keep=True)
    assert column(found, "input_file") == ["2", "3", "1", "4"]
    assert column(found, "occurrence") == [0, 0, 1, 0]
    assert column(found, "occurrences") == [1, 2, 2, 1]
    assert (record["documents"], record["duplicates"]) == (4, 1)


@pytest.mark.parametrize("keep", [False, True])
def test_an_index_is_the_same_bytes_in_one_run_and_in_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: bool
) -> None:
    rng = np.random.default_rng(1)
    ids = [rng.bytes(16) for _ in range(400)]
    rows = [{"doc_id": ids[n], "input_row": row} for row, n in enumerate(rng.integers(0, 400, 900).tolist())]
    tables = [staged(rows[first : first + 100]) for first in range(0, 900, 100)]
    whole, record = index(tmp_path / "one", tables, keep=keep)
    monkeypatch.setattr("mixture.index.sort._RUN_BYTES", 20_000)
    again, cut = index(tmp_path / "many", tables[::-1], keep=keep)
    assert cut == record
    assert again.equals(whole)
    assert column(whole, "doc_id") == sorted(column(whole, "doc_id"))
    assert record["duplicates"] == 900 - len({row["doc_id"] for row in rows})


def test_row_groups_are_full_but_for_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mixture.index.sort._ROWS_AT_ONCE", 4)
    monkeypatch.setattr("mixture.index.sort._RUN_BYTES", 200)
    tables = [staged([{"doc_id": bytes([n, part]) + bytes(14)} for n in range(5)]) for part in range(2)]
    _, record = index(tmp_path, tables)
    facts = pq.ParquetFile(tmp_path / "index.parquet").metadata
    assert [facts.row_group(n).num_rows for n in range(facts.num_row_groups)] == [4, 4, 2]
    assert record["documents"] == 10


def test_the_census_counts_powers_of_two_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mixture.index.sort._ROWS_AT_ONCE", 3)
    lengths = [0, 1, 2, 3, 4, (1 << 40) - 1, 1 << 40]
    rows = [{"doc_id": bytes([n]) * 16, "n_tokens": tokens} for n, tokens in enumerate(lengths)]
    index(tmp_path, [staged([*rows, {"doc_id": b"z" * 16, "domain": "c", "n_tokens": 5}])])
    cells = [(row.domain, row.log2, row.documents, row.tokens) for row in take_census(tmp_path / "index.parquet").cells]
    assert cells == [
        ("c", 2, 1, 5),
        ("d", 0, 2, 1),
        ("d", 1, 2, 5),
        ("d", 2, 1, 4),
        ("d", 39, 1, (1 << 40) - 1),
        ("d", 40, 1, 1 << 40),
    ]
