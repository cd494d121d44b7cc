"""An SQL expression of a recipe, held to be one value of one document: DuckDB's parser reads it, we walk what it read.

    n_tokens > 1000 and ppl < quantile_disc(ppl, .5) over (partition by domain)     taken
    1) ; drop table x; --                                                            not one expression
    random() < .5, now() > date, (select max(x) from y)                             not a value of the document

Whoever runs a recipe of somebody else runs its expressions, and a plan must come out the same on every machine: so what
is taken follows from a document's own row and from statistics over partitions that no order of rows can change.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import duckdb

from mixture.errors import PlanError, nearest

#: View that expressions are checked against; it has the columns that they may name.
VIEW = "documents"
#: Windows that give the same value in whatever order rows come, ties included …
WINDOWS = (
    *("count", "min", "max", "median", "quantile", "quantile_disc", "quantile_cont", "bool_and", "bool_or"),
    *("rank", "dense_rank", "percent_rank", "cume_dist"),
)
#: … and those that do over integers; sums of floating point change in their last bits with the order of the rows.
_INTEGER_WINDOWS = ("sum", "avg")
_MOST_CHARACTERS = 20_000
_INTEGERS = frozenset(
    {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT"}
)
_TYPES = {"where": _INTEGERS | {"BOOLEAN", '"NULL"'}}
_TYPES["weight"] = _TYPES["where"] | {"FLOAT", "DOUBLE", "DECIMAL"}
_CLASSES = frozenset(
    {
        "BETWEEN",
        "CASE",
        "CAST",
        "COLLATE",
        "COLUMN_REF",
        "COMPARISON",
        "CONJUNCTION",
        "CONSTANT",
        "FUNCTION",
        "OPERATOR",
        "TYPE",
        "WINDOW",
    }
)
_NO_OPERATORS = frozenset({"GROUPING_FUNCTION", "ARRAY_FROM_SUBQUERY", "OPERATOR_UNPACK", "UNPACK"})
#: DuckDB calls these constant, but they tell the time, the release, or something of the session.
_FICKLE = frozenset(
    {
        "age",
        "constant_or_null",
        "create_sort_key",
        "current_localtime",
        "current_localtimestamp",
        "hash",
        "index_key",
        "invoke",
        "version",
    }
)
_FICKLE_STARTS = ("__internal", "json_serialize", "json_deserialize", "parse_duckdb", "pg_", "st_")
#: Types of moments that are shown in a time zone.
_ZONED = re.compile("WITH TIME ZONE|TIMESTAMPTZ")
#: Functions that DuckDB writes out in others, all of them allowed.
_MACROS = frozenset(
    {"if", "nullif", "fdiv", "fmod", "split_part", "date_add", "days_in_month", "list_min", "list_max", "list_count"}
)


@dataclass(frozen=True)
class Expression:
    """An expression that was found fit to run.

    Attributes:
        label: the recipe's key.
        text: as the recipe has it.
        columns: the columns that it names.
        windows: whether it looks at other rows than its own.
    """

    label: str
    text: str
    columns: frozenset[str]
    windows: bool

    @property
    def sql(self) -> str:
        """The expression in parentheses; a line end before the last, as it may end in a comment."""
        return f"({self.text}\n)"


def check(db: duckdb.DuckDBPyConnection, label: str, text: str, columns: Sequence[str]) -> Expression:
    """Vet one expression.

    Args:
        db: a connection that has the view `documents`.
        label: `where` or `weight`.
        text: the expression.
        columns: the columns of the view that it may name.

    Raises:
        PlanError: it is not one expression, names what is not there or not allowed, or is of the wrong type.
    """
    reader = _Vetting(db, label, text, {name.lower(): name for name in columns})
    found = Expression(label, text, *reader.vet())
    kind = reader.type_of(found.sql)
    if kind.partition("(")[0] not in _TYPES[label]:
        wanted = "a number" if label == "weight" else "true or false, as a comparison does"
        raise PlanError(f"{label}: {_shown(text)} is {kind}; write an expression that gives {wanted}")
    return found


class _Vetting:
    """The walk over one expression.

    Args:
        db: a connection that has the view `documents`.
        label: the recipe's key.
        text: the expression.
        columns: what may be named, by lower-case name.
    """

    def __init__(self, db: duckdb.DuckDBPyConnection, label: str, text: str, columns: Mapping[str, str]) -> None:
        self._db, self._label, self._text, self._columns = db, label, text, columns
        self._named: set[str] = set()
        self._windows = False

    def vet(self) -> tuple[frozenset[str], bool]:
        """Return the columns that the expression names, and whether it has windows."""
        if len(self._text) > _MOST_CHARACTERS:
            self._refuse(f"{len(self._text):,} characters, {_MOST_CHARACTERS:,} at most; carry the value as a column")
        # Alone it must be an expression, and in parentheses too: `1), (2` is one only there, `a AS b` only alone.
        self._parse(f"SELECT {self._text}\n", len("SELECT "))
        self._statement = self._parse(f"SELECT ({self._text}\n)", len("SELECT ("))
        for node in _walk(self._statement["select_list"][0]):
            self._judge(node)
        return frozenset(self._named), self._windows

    def _parse(self, query: str, before: int) -> dict[str, Any]:
        self._before = before
        try:
            answer = json.loads(self._ask("SELECT json_serialize_sql(?::VARCHAR)", query))
            plain = json.loads(self._ask("SELECT json_serialize_sql(?::VARCHAR)", "SELECT 1"))
        except RecursionError:
            self._refuse("nested too deep; carry a part of it as a column")
        except (duckdb.Error, UnicodeError) as error:
            self._refuse(f"not text that SQL can be ({first_line(error)}); write an expression")
        if answer["error"] and answer["error_type"] == "parser":
            self._refuse(self._syntax(answer))
        statements = answer.get("statements") or plain["statements"] * 2
        node, usual = statements[0]["node"], plain["statements"][0]["node"]
        one = len(statements) == 1 and len(node.get("select_list", ())) == 1 and not node["select_list"][0]["alias"]
        rest = ({k: v for k, v in n.items() if k not in ("select_list", "from_table")} for n in (node, usual))
        if not one or next(rest) != next(rest) or node["from_table"]["type"] != "EMPTY":
            self._refuse(f"{_shown(self._text)} is not one expression; write a value of a document, without SELECT")
        statement: dict[str, Any] = node
        self._answer = answer
        return statement

    def _ask(self, question: str, value: str) -> str:
        row = self._db.execute(question, [value]).fetchone()
        return str(row[0]) if row else ""

    def _syntax(self, answer: dict[str, Any]) -> str:
        message = first_line(answer["error_message"]).partition(". Use ")[0]
        if "position" not in answer:
            return f"{message}; write one expression over the columns {self._list()}"
        return f"{message}, {self._here(int(answer['position']))}; write one expression"

    def _judge(self, node: dict[str, Any]) -> None:
        kind = node["class"]
        if kind == "COLUMN_REF":
            self._judge_column(node)
        elif kind == "WINDOW":
            self._judge_window(node)
        elif kind == "FUNCTION":
            self._judge_function(node)
        elif kind not in _CLASSES or node["type"] in _NO_OPERATORS:
            self._refuse(f"{_REASONS.get(kind, f'{kind.lower()} is not allowed')}, {self._at(node)}")

    def _judge_column(self, node: dict[str, Any]) -> None:
        names = [str(name) for name in node["column_names"]]
        found = self._columns.get(names[0].lower())
        if found is None:
            whole = ".".join(names)
            hint = nearest(whole, self._columns.values())
            if len(names) > 1 and whole.lower() in self._columns:
                hint = f'write it in double quotes: "{self._columns[whole.lower()]}"'
            hint = f"there are {self._list()}" if hint.startswith("known") else f"{hint} (of {self._list()})"
            self._refuse(f"no column {whole!r}, {self._at(node)}; {hint}")
        self._named.add(found)

    def _judge_function(self, node: dict[str, Any]) -> None:
        name = str(node["function_name"]).lower()
        kinds = _functions().get(name)
        if kinds is None:
            self._refuse(f"no function {name!r}, {self._at(node)}; {nearest(name, _functions())}")
        if name in _MACROS:
            return
        if "aggregate" in kinds or "window" in kinds or name == "count_star":
            shown = "count" if name == "count_star" else name
            self._refuse(
                f"{shown}() is of many documents, {self._at(node)}; write {shown}(…) OVER (PARTITION BY domain)"
            )
        if name == "unnest" or "scalar" not in kinds:
            self._refuse(f"{name}() does not give one value of one document, {self._at(node)}; write another function")
        if kinds["scalar"] != {"CONSISTENT"} or name in _FICKLE or name.startswith(_FICKLE_STARTS):
            self._refuse(
                f"{name}() may give another value next time, {self._at(node)}; use the document's columns alone, so "
                "that a plan comes out the same everywhere"
            )

    def _judge_window(self, node: dict[str, Any]) -> None:
        self._windows = True
        name = str(node["function_name"]).lower()
        rows = any(str(node[side]).endswith("_ROWS") for side in ("start", "end")) or node["arg_orders"]
        if name in _INTEGER_WINDOWS:
            arguments = [a.get("expression", a) for a in node.get("arguments") or node.get("children") or ()]
            kind = self._type_of_node(arguments[0]) if len(arguments) == 1 else "?"
            if kind not in _INTEGERS:
                self._refuse(
                    f"{name}() over {kind} depends on the order of the rows in its last bits, {self._at(node)}; cast "
                    f"to an integer, or use one of {', '.join(WINDOWS)}"
                )
        elif name not in WINDOWS:
            self._refuse(
                f"{name}() over a window may depend on the order of the rows, {self._at(node)}; allowed are "
                f"{', '.join(WINDOWS)}, and sum and avg of integers"
            )
        if rows or node["exclude_clause"] != "NO_OTHER":
            self._refuse(
                f"a window counted in rows depends on the order of equal ones, {self._at(node)}; use PARTITION BY, "
                "ORDER BY and RANGE alone"
            )

    def _type_of_node(self, node: dict[str, Any]) -> str:
        for inner in _walk(node):
            self._judge(inner)
        statement = {"node": self._statement | {"select_list": [node]}, "named_param_map": []}
        tree = json.dumps(self._answer | {"statements": [statement]})
        return self.type_of(self._ask("SELECT json_deserialize_sql(?::JSON)", tree).removeprefix("SELECT "))

    def type_of(self, sql: str) -> str:
        """Return the type of a vetted expression."""
        try:
            rows = self._db.execute(f"DESCRIBE SELECT {sql} FROM {VIEW}").fetchall()  # noqa: S608 - vetted
        except duckdb.Error as error:
            self._refuse(f"{_shown(self._text)}: {first_line(error)}; mend the expression")
        return str(rows[0][1])

    def _list(self) -> str:
        return ", ".join(self._columns.values())

    def _at(self, node: dict[str, Any]) -> str:
        # What the parser made itself (a comparison in a chain) has no place.
        return self._here(node["query_location"]) if node["query_location"] < 1 << 32 else f"in {_shown(self._text)}"

    def _here(self, place: int) -> str:
        """Say where a byte of the parsed query lies in the expression."""
        content = self._text.encode()
        at = len(content[: max(0, place - self._before)].decode(errors="ignore"))
        around = self._text[max(0, at - 20) : at] + "⟦here⟧" + self._text[at : at + 20]
        return f"at character {at + 1}: {' '.join(around.split())}"

    def _refuse(self, why: str) -> NoReturn:
        raise PlanError(f"{self._label}: {why}")


_REASONS = {
    "SUBQUERY": "a subquery looks at more than the document (and `x = ANY (…)` is one: write list_contains)",
    "STAR": "`*` is not one value; name a column",
    "PARAMETER": "a parameter has no value here; write the value",
    "LAMBDA": "a lambda is not allowed; carry the value as a column",
    "POSITIONAL_REFERENCE": "a column is named, not numbered",
    "DEFAULT": "DEFAULT has no value here; write the value",
}


def _children(node: Any) -> Iterator[dict[str, Any]]:
    """Yield the expressions directly inside a node."""
    for value in node.values() if isinstance(node, dict) else node:
        if isinstance(value, dict) and "class" in value:
            yield value
        elif isinstance(value, (dict, list)):
            yield from _children(value)


def _walk(root: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a node and all expressions inside it."""
    todo = [root]
    while todo:
        node = todo.pop()
        yield node
        todo += _children(node)


@functools.cache
def _functions() -> Mapping[str, Mapping[str, set[str | None]]]:
    """Return the kinds of each function that DuckDB has, and how constant each is."""
    known: dict[str, dict[str, set[str | None]]] = {}
    with duckdb.connect() as db:
        query = "SELECT lower(function_name), function_type, stability, parameter_types FROM duckdb_functions()"
        for name, kind, stability, takes in db.execute(query).fetchall():
            # What depends on the time zone alone is constant: ours is always UTC (`weights`).
            zoned = stability == "CONSISTENT_WITHIN_QUERY" and any(_ZONED.search(str(of)) for of in takes)
            known.setdefault(name, {}).setdefault(kind, set()).add("CONSISTENT" if zoned else stability)
    return known


def _shown(text: str) -> str:
    words = " ".join(text.split())
    return repr(words if len(words) <= 60 else f"{words[:60]}…")


def first_line(error: object) -> str:
    """Return what DuckDB says, without the kind of error and the drawing of the place."""
    line = next((line for line in str(error).splitlines() if line.strip()), "no reason given")
    return re.sub(r"^[A-Z][A-Za-z ]* Error: ", "", line).rstrip(". ")
