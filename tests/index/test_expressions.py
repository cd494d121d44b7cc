"""What an expression of a recipe may be, and what it is told where it may not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from mixture.errors import PlanError
from mixture.index.expressions import check
from tests.index.indexes import weights, write_index

COLUMNS = ["n_tokens", "quality", "lang", "domain", "meta.title", "Größe"]


@pytest.fixture(scope="module")
def db() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE VIEW documents AS SELECT 1::BIGINT AS n_tokens, 1.5::DOUBLE AS quality, 'en' AS lang, "
            "'books' AS domain, 'x' AS \"meta.title\", 1.0::DOUBLE AS \"Größe\""
        )
        yield connection


def refusal(db: duckdb.DuckDBPyConnection, text: str, label: str = "where") -> str:
    with pytest.raises(PlanError) as caught:
        check(db, label, text, COLUMNS)
    message = str(caught.value)
    assert message.startswith(f"{label}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    "text",
    [
        "n_tokens > 1000",
        "n_tokens > 1000 -- long ones",
        "/* all */ n_tokens > 1000",
        "lang = 'en' AND NOT domain IN ('books', 'wiki')",
        "n_tokens BETWEEN 10 AND 20 OR quality IS NULL",
        "n_tokens + 1 > 1000 - n_tokens",
        "\"meta.title\" LIKE 'x%' AND regexp_matches(lang, '^e')",
        "Größe > 1 and lang <> '漢字🙂'",
        "CASE WHEN quality > .5 THEN true END",
        "if(quality > .5, true, false) and nullif(n_tokens, 3) is not null",
        "TRY_CAST(lang AS INTEGER) = 3",
        "TRY(lang::INTEGER) = 3",
        "n_tokens",
        "NULL",
        "n_tokens >= quantile_disc(n_tokens, .5) OVER (PARTITION BY domain)",
        "percent_rank() OVER (PARTITION BY domain ORDER BY quality DESC) < .1",
        "count(*) FILTER (WHERE lang = 'en') OVER (PARTITION BY domain) > 10",
        "min(quality) OVER (ORDER BY n_tokens RANGE BETWEEN 1 PRECEDING AND CURRENT ROW) > 0",
        "n_tokens > avg(n_tokens) OVER () AND n_tokens > sum(n_tokens) OVER () / 10",
    ],
)
def test_a_value_of_the_document_is_taken(db: duckdb.DuckDBPyConnection, text: str) -> None:
    found = check(db, "where", text, COLUMNS)
    assert found.windows == ("OVER" in text)
    assert found.columns <= set(COLUMNS)


def test_the_columns_named_are_those_of_the_view_whatever_their_case(db: duckdb.DuckDBPyConnection) -> None:
    assert check(db, "where", 'N_Tokens > 3 and "META.title" = lang', COLUMNS).columns == {
        "n_tokens",
        "meta.title",
        "lang",
    }


@pytest.mark.parametrize(
    "text",
    [
        "1) ; drop table x; --",
        "1); drop table x; select (1",
        "1; select 2",
        "1; copy (select 1) to 'x'",
        "1), (2",
        "true) or (true",
        "n_tokens > 3 as x",
        "n_tokens x",
        "n_tokens > 3 limit 1",
        "n_tokens > 3 from documents",
        "distinct n_tokens",
        "true union select true",
        "true qualify true",
        "select true",
        "from documents",
        "pragma version",
        "set threads = 1",
        "",
        " ",
        "-- nothing",
        "/* open",
        "'open",
        "n_tokens >",
        "\ud800 = 'x'",
    ],
)
def test_what_is_not_one_expression_is_refused(db: duckdb.DuckDBPyConnection, text: str) -> None:
    assert "expression" in refusal(db, text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("n_tokens > (select 1)", "subquery"),
        ("n_tokens in (select n from read_csv('/etc/passwd'))", "subquery"),
        ("exists (from '/etc/passwd')", "subquery"),
        ("(select content from read_text('/etc/passwd')) is null", "subquery"),
        ("n_tokens = any ([1, 2])", "list_contains"),
        ("(values (true))", "subquery"),
        ("*", "not one value"),
        ("columns('n.*') > 3", "not one value"),
        ("n_tokens > ?", "parameter"),
        ("n_tokens > $least", "parameter"),
        ("list_transform([1], lambda x: x) is null", "lambda"),
        ("[x for x in [1]] is null", "lambda"),
        ("#1 > 3", "not numbered"),
        ("default", "DEFAULT"),
        ("grouping(domain) = 1", "not allowed"),
        ("read_text('/etc/passwd') is null", "read_text() does not give one value"),
        ("'/etc/passwd'.read_text() is null", "read_text() does not give one value"),
        ("unnest([true, false])", "unnest() does not give one value"),
        ("pg_typeof(lang) = 'x'", "does not give one value"),
        ("getenv('HOME') = 'x'", "no function 'getenv'"),
        ("max(n_tokens) > 3", "max() is of many documents"),
        ("count(*) > 3", "count(…) OVER (PARTITION BY domain)"),
    ],
)
def test_what_looks_beyond_the_document_is_refused(db: duckdb.DuckDBPyConnection, text: str, why: str) -> None:
    assert why in refusal(db, text)


@pytest.mark.parametrize(
    "call",
    [
        "random()",
        "system.main.random()",
        "now()",
        "today()",
        "age(timestamp '2020-01-01')",
        "current_localtimestamp()",
        "getvariable('x')",
        "current_setting('threads')",
        "current_database()",
        "nextval('s')",
        "uuid()",
        "version()",
        "hash(lang)",
        "error('x')",
        "sleep_ms(1)",
        "write_log('x')",
        "txid_current()",
        "{'a': random()}.a",
        "struct_pack(a := random()).a",
        "sum(random()::INTEGER) over ()",
        "count(*) filter (where random() < .5) over ()",
        "rank() over (order by random())",
    ],
)
def test_what_may_differ_next_time_is_refused(db: duckdb.DuckDBPyConnection, call: str) -> None:
    message = refusal(db, f"{call} is null")
    assert "may give another value next time" in message
    assert "⟦here⟧" in message


@pytest.mark.parametrize("name", ["current_date", "current_timestamp", "current_user", "rowid", "file_row_number"])
def test_names_that_duckdb_alone_knows_are_no_columns(db: duckdb.DuckDBPyConnection, name: str) -> None:
    message = refusal(db, f"{name} is null")
    assert f"no column {name!r}" in message
    assert ", ".join(COLUMNS) in message


@pytest.mark.parametrize(
    ("window", "why"),
    [
        ("row_number() over (order by quality)", "depend on the order"),
        ("first(n_tokens order by quality) over ()", "depend on the order"),
        ("lag(n_tokens) over (order by quality)", "depend on the order"),
        ("ntile(4) over (order by quality)", "depend on the order"),
        ("list(lang) over ()", "depend on the order"),
        ("approx_quantile(quality, .5) over ()", "depend on the order"),
        ("sum(quality) over ()", "sum() over DOUBLE"),
        ("avg(quality) over (partition by domain)", "avg() over DOUBLE"),
        ("min(quality) over (order by lang rows 3 preceding)", "counted in rows"),
        ("max(n_tokens) over (order by n_tokens range unbounded preceding exclude current row)", "counted in rows"),
    ],
)
def test_windows_that_depend_on_the_order_of_rows_are_refused(
    db: duckdb.DuckDBPyConnection, window: str, why: str
) -> None:
    assert why in refusal(db, f"{window} is null")


def test_a_refused_window_names_those_that_are_allowed(db: duckdb.DuckDBPyConnection) -> None:
    message = refusal(db, "row_number() over () > 3")
    assert "quantile_disc" in message
    assert "percent_rank" in message


def test_an_error_shows_the_place(db: duckdb.DuckDBPyConnection) -> None:
    assert 'at or near "and", at character 11: Größe > 3 ⟦here⟧and' in refusal(db, "Größe > 3 and")
    assert "at character 14: Größe > 1 or ⟦here⟧n_token > 3" in refusal(db, "Größe > 1 or n_token > 3")


def test_a_misspelt_column_gets_the_nearest_and_the_list(db: duckdb.DuckDBPyConnection) -> None:
    message = refusal(db, "n_token > 3")
    assert "did you mean 'n_tokens'? (of n_tokens, quality, lang, domain, meta.title, Größe)" in message


def test_a_dotted_column_is_written_in_double_quotes(db: duckdb.DuckDBPyConnection) -> None:
    assert 'write it in double quotes: "meta.title"' in refusal(db, "meta.title = 'x'")


@pytest.mark.parametrize(
    ("label", "text", "why"),
    [
        ("where", "lang", "'lang' is VARCHAR; write an expression that gives true or false"),
        ("where", "quality", "is DOUBLE"),
        ("where", "'true'", "is VARCHAR"),
        ("weight", "lang", "'lang' is VARCHAR; write an expression that gives a number"),
        ("weight", "[n_tokens]", "BIGINT[]"),
        ("weight", "interval 1 day", "is INTERVAL"),
        ("where", "n_tokens > lang", "Cannot compare values of type BIGINT and type VARCHAR"),
        ("where", "ln(lang) > 3", "ln(VARCHAR)"),
        ("where", "n_tokens::length > 3", "Type with name length does not exist"),
    ],
)
def test_a_wrong_type_is_named(db: duckdb.DuckDBPyConnection, label: str, text: str, why: str) -> None:
    assert why in refusal(db, text, label)


@pytest.mark.parametrize(
    "text", ["quality", "n_tokens", "quality > .5", "n_tokens::DECIMAL(9, 2)", "n_tokens::HUGEINT"]
)
def test_numbers_and_booleans_are_weights(db: duckdb.DuckDBPyConnection, text: str) -> None:
    assert check(db, "weight", text, COLUMNS).text == text


def test_long_ones_are_taken_up_to_a_bound(db: duckdb.DuckDBPyConnection) -> None:
    assert check(db, "where", " and ".join(["n_tokens > 1"] * 1000), COLUMNS)
    assert "20,000 at most" in refusal(db, " and ".join(["n_tokens > 1"] * 2000))


@pytest.mark.parametrize("text", ["(" * 2000 + "true" + ")" * 2000, "not " * 900 + "true", "+".join("1" * 3000)])
def test_deep_ones_are_refused(db: duckdb.DuckDBPyConnection, text: str) -> None:
    assert "depth" in refusal(db, text) or "deep" in refusal(db, text)


@pytest.mark.parametrize("text", ["n_tokens > 3 -- )", "n_tokens > 3 /* ' */", "n_tokens > 3 -- ; drop view documents"])
def test_comments_change_nothing(tmp_path: Path, text: str) -> None:
    assert weights(write_index(tmp_path / "index.parquet"), text)[0] == [0] * 4 + [1] * 6
