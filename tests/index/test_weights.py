"""A weight for every document, from two lines of SQL."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import mixture.index.joins
from mixture.errors import PlanError, StoreError
from mixture.index.aligned import Aligned
from mixture.index.weights import _connect, weigh
from mixture.scores.tables import ScoreTable
from tests.index.indexes import identities, identity, weights, write_index, write_table


@pytest.fixture
def index(tmp_path: Path) -> Path:
    return write_index(tmp_path / "index.parquet", quality=[n / 10 for n in range(10)], lang=["en", None] * 5)


def test_where_gives_one_or_nothing(index: Path) -> None:
    found, record = weights(index, "n_tokens > 3")
    assert found == [0.0] * 4 + [1.0] * 6
    assert record == {
        "documents": 10,
        "filtered": 4,
        "weightless": 0,
        "lightest": 1.0,
        "heaviest": 1.0,
        "unscored": {},
    }


def test_null_is_nothing_in_both(index: Path) -> None:
    assert weights(index, "lang = 'en'")[0] == [1.0, 0.0] * 5
    found, record = weights(index, None, "case when n_tokens > 7 then 2 end")
    assert found == [0.0] * 8 + [2.0] * 2
    assert (record["filtered"], record["weightless"]) == (8, 8)


def test_a_weight_of_what_is_left_out_does_not_matter(index: Path) -> None:
    found, record = weights(index, "n_tokens > 5", "ln(n_tokens - 5) + 1")
    assert found[:6] == [0.0] * 6
    assert found[6] == 1.0
    assert record["filtered"] == 6
    assert record["weightless"] == 0


def test_weights_have_the_precision_of_32_bits(index: Path) -> None:
    found, record = weights(index, None, "exp(-n_tokens / 3)")
    assert found == [float(np.float32(math.exp(-n / 3))) for n in range(10)]
    assert record["lightest"] == min(found)
    assert record["heaviest"] == 1.0


def test_a_weight_above_zero_stays_above_zero(index: Path) -> None:
    found, record = weights(index, None, "1e-300")
    assert all(weight > 0 for weight in found)
    assert record["filtered"] == 0


def test_a_boolean_weighs_one_or_nothing(index: Path) -> None:
    assert weights(index, None, "n_tokens > 3")[0] == [0.0] * 4 + [1.0] * 6


def test_windows_see_every_document_also_those_left_out(index: Path) -> None:
    found, _ = weights(index, "n_tokens > 3 and n_tokens >= quantile_disc(n_tokens, .5) over (partition by domain)")
    assert found == [0.0] * 4 + [1.0] * 6
    assert weights(index, "n_tokens > 8", "count(*) over (partition by domain)")[0] == [0.0] * 9 + [5.0]


@pytest.mark.parametrize(
    ("weight", "why", "move"),
    [
        ("n_tokens - 3", "-3.0", "greatest(0, …)"),
        ("ln(n_tokens)", "-inf", "greatest(0, …)"),
        ("1 / quality", "inf", "least("),
        ("1e39", "above 3.4e+38", "least("),
        ("'nan'::double", "not a number", "isfinite"),
        ("0.0 / n_tokens", "not a number", "isfinite"),
    ],
)
def test_a_weight_that_is_none_names_the_document(index: Path, weight: str, why: str, move: str) -> None:
    with pytest.raises(PlanError) as caught:
        weights(index, None, weight)
    message = str(caught.value)
    assert message.startswith("weight: ")
    assert why in message
    assert move in message
    assert f"a.jsonl, row 100 (doc_id {identities(10)[0].hex()})" in message
    assert not (index.parent / "weights.arrow").exists()


@pytest.mark.parametrize(
    ("where", "weight", "why"),
    [
        ("n_tokens > 100", None, "where: leaves no document of 10"),
        ("NULL", "quality", "where: leaves no document of 10"),
        (None, "NULL", "weight: 0 or NULL for all of 10 documents"),
        ("n_tokens > 3", "0", "weight: 0 or NULL for all of 6 documents"),
    ],
)
def test_nothing_left_is_an_error(index: Path, where: str | None, weight: str | None, why: str) -> None:
    with pytest.raises(PlanError, match=why):
        weights(index, where, weight)


def test_a_value_that_duckdb_cannot_take_names_the_expression(index: Path) -> None:
    with pytest.raises(PlanError, match=r"^where: Could not convert string 'books' to INT32.*TRY"):
        weights(index, "domain::int > 3", "quality")
    with pytest.raises(PlanError, match=r"^weight: Could not convert string 'books'"):
        weights(index, "quality >= 0", "domain::double")


def test_scores_join_by_id_whatever_their_order_and_spelling(index: Path) -> None:
    ids = identities(10)
    mine = write_table(index.parent / "s" / "a.parquet", ids[5:], ppl=[5.0, 6.0, 7.0, 8.0, 9.0])
    more = write_table(index.parent / "s" / "b.parquet", [*ids[:3], identity(99)], ppl=[0.0, 1.0, 2.0, 3.0])
    other = write_table(index.parent / "t.parquet", [i.hex().upper() for i in reversed(ids)], rank=range(9, -1, -1))
    tables = [ScoreTable("ppl", (mine, more)), ScoreTable("rank", (other,))]
    found, record = weights(index, "ppl = rank and ppl = n_tokens", "ppl + 1", tables)
    assert found == [1.0, 2.0, 3.0, 0.0, 0.0, 6.0, 7.0, 8.0, 9.0, 10.0]
    assert record["unscored"] == {"ppl": 2, "rank": 0}


def test_a_missing_score_is_null(index: Path) -> None:
    table = ScoreTable("q", (write_table(index.parent / "q.parquet", identities(10)[:4], q=[1.0] * 4),))
    assert weights(index, "q is null", None, [table])[0] == [0.0] * 4 + [1.0] * 6
    assert weights(index, None, "coalesce(q, 5)", [table])[0] == [1.0] * 4 + [5.0] * 6


def test_a_table_that_no_expression_names_is_not_read(index: Path) -> None:
    twice = write_table(index.parent / "q.parquet", identities(10)[:1] * 2, q=[1.0, 2.0])
    assert weights(index, "n_tokens > 3", None, [ScoreTable("q", (twice,))])[1]["unscored"] == {}


def test_an_id_that_is_twice_in_a_table_is_named(index: Path) -> None:
    ids = identities(10)
    for keys in ([*ids, ids[7]], [*(i.hex() for i in ids), ids[7].hex().upper()]):
        table = ScoreTable("q", (write_table(index.parent / "q.parquet", keys, q=[1.0] * 11),))
        with pytest.raises(PlanError, match=f"^scores: table 'q' has 2 rows for doc_id {ids[7].hex()}; keep one"):
            weights(index, "q > 0", None, [table])


def test_rows_of_our_own_tables_may_repeat(index: Path) -> None:
    ids = identities(10)
    table = ScoreTable("q", (write_table(index.parent / "q.parquet", ids * 2, q=[1.0] * 20),), ours=True)
    found, record = weights(index, "count(q) over () = 10", "q", [table])
    assert found == [1.0] * 10
    assert record["documents"] == 10


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"domain": ["x"] * 10}, "table 'q' has a column 'domain', and so has the index; rename"),
        ({"N_Tokens": [1] * 10}, "table 'q' has a column 'N_Tokens', and so has the index"),
        ({"p": [1] * 10}, "table 'q' has a column 'p', and so has table 'p'"),
    ],
)
def test_a_name_that_is_taken_is_refused(index: Path, columns: dict[str, list[object]], why: str) -> None:
    other = ScoreTable("p", (write_table(index.parent / "p.parquet", identities(10), p=[1.0] * 10),))
    table = ScoreTable("q", (write_table(index.parent / "q.parquet", identities(10), **columns),))
    with pytest.raises(PlanError, match=why):
        weights(index, "n_tokens > 3", None, [other, table])


@pytest.mark.parametrize(
    ("ids", "why"),
    [
        ([b"short"], "has the doc_id '73686f7274'; an id is 16 bytes or 32 hex digits"),
        (["not hex"], "has the doc_id 'not hex'"),
        (["0" * 31 + "g"], "has the doc_id"),
        ([None, identity(0)], "has the doc_id None"),
        ([identity(1000)], "holds none of 10 documents"),
    ],
)
def test_ids_that_are_none_are_refused(index: Path, ids: list[bytes | str | None], why: str) -> None:
    table = ScoreTable("q", (write_table(index.parent / "q.parquet", ids, q=[1.0] * len(ids)),))
    with pytest.raises(PlanError, match=why):
        weights(index, "q > 0", None, [table])


def test_a_table_without_ids_is_refused(index: Path) -> None:
    bare = index.parent / "q.parquet"
    pa.parquet.write_table(pa.table({"id": [1], "q": [1.0]}), bare)
    with pytest.raises(PlanError, match="needs a column doc_id of 16 bytes or 32 hex digits, and has only id, q"):
        weights(index, "q > 0", None, [ScoreTable("q", (bare,))])
    pa.parquet.write_table(pa.table({"doc_id": [1], "q": [1.0]}), bare)
    with pytest.raises(PlanError, match="has it as BIGINT"):
        weights(index, "q > 0", None, [ScoreTable("q", (bare,))])


def test_a_table_that_is_no_parquet_is_refused(index: Path) -> None:
    broken = index.parent / "q.parquet"
    broken.write_text("no")
    with pytest.raises(StoreError, match=r"q\.parquet: missing or damaged"):
        weights(index, "q > 0", None, [ScoreTable("q", (broken,))])


@pytest.mark.parametrize("windows", [False, True])
def test_rows_stay_in_order_over_many_batches_and_ranges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, windows: bool
) -> None:
    monkeypatch.setattr(mixture.index.joins, "_ROWS_IN_RANGE", 20_000)
    count = 140_000
    index = write_index(tmp_path / "index.parquet", count)
    table = write_table(tmp_path / "q.parquet", list(reversed(identities(count))), q=range(count - 1, -1, -1))
    where = "q >= 0 and count(*) over (partition by domain) > 1" if windows else "q >= 0"
    target = tmp_path / "weights.arrow"
    record = weigh(index, where, "n_tokens + q", [ScoreTable("q", (table,))], target, tmp_path / "spill")
    found = Aligned(target).between(0, count)
    assert record["unscored"] == {"q": 0}
    assert np.array_equal(found, (2.0 * np.arange(count)).astype(np.float32))
    with pa.ipc.open_file(pa.memory_map(str(target))) as file:
        sizes = [file.get_batch(n).num_rows for n in range(file.num_record_batches)]
        assert file.schema == pa.schema([pa.field("weight", pa.float64(), nullable=False)])
    assert sizes == [131072, 8928]
    assert not list((tmp_path / "spill").glob(".*"))


def test_weights_do_not_depend_on_the_order_of_a_tables_rows(index: Path) -> None:
    ids, values = identities(10), [0.1 * 1.1**n for n in range(10)]
    made = []
    for step in (1, -1):
        path = write_table(index.parent / "q.parquet", ids[::step], q=values[::step])
        made.append(weights(index, None, "q / quantile_cont(q, .3) over ()", [ScoreTable("q", (path,))]))
    assert made[0] == made[1]


def test_the_connection_reads_nothing_else_and_writes_nothing(index: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.parquet"
    secret.write_bytes(index.read_bytes())
    with _connect([index], tmp_path / "spill") as db:
        assert db.execute(f"SELECT count(*) FROM read_parquet('{index}')").fetchone() == (10,)
        for query in (
            f"SELECT * FROM read_parquet('{secret}')",
            f"SELECT * FROM read_text('{secret}')",
            f"COPY (SELECT 1) TO '{tmp_path / 'out.csv'}'",
            f"ATTACH '{tmp_path / 'out.db'}'",
            "INSTALL httpfs",
            "LOAD httpfs",
            "SET enable_external_access = true",
            "SET lock_configuration = false",
            "SELECT * FROM secret",
        ):
            with pytest.raises(Exception, match=r"disabled|locked|does not exist"):
                db.execute(query)


def test_a_carried_column_cannot_hide_the_row_number(tmp_path: Path) -> None:
    index = write_index(tmp_path / "index.parquet", file_row_number=list(range(10)))
    with pytest.raises(PlanError, match="cannot be named 'file_row_number'"):
        weights(index, "n_tokens > 3")
