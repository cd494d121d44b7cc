r"""One chunk's rows: many at a time or by Python's parser, however the bytes are cut, they are what JSON means."""

import itertools
import json
import math

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mixture.corpus import json_rows
from mixture.corpus.documents import Reading


class Exact(json_rows.Gatherer):
    """Judges each line alone, by Python's parser."""

    def _quickly(self, lines):  # noqa: ARG002
        return False


class Quick(json_rows.Gatherer):
    """Judges no line by Python's parser."""

    def _judge(self, line):
        raise AssertionError(line)


def gather(kind, data, reading, *, at=()):
    gatherer = kind(reading)
    for begin, end in itertools.pairwise([0, *sorted(at), len(data)]):
        gatherer.feed(data[begin:end])
    return gatherer.rows()


def fast(data, reading):
    return gather(Quick, data, reading)


def exact(data, reading):
    return gather(Exact, data, reading)


def plain(rows):
    return (
        rows.rows,
        rows.row.tolist(),
        rows.texts,
        rows.columns.schema,
        rows.columns.to_pydict(),
        rows.rejects,
        rows.detail,
    )


def same(data, reading):
    """Both ways agree, in one piece and byte by byte; return what they say."""
    slow = exact(data, reading)
    for cuts in ((), range(len(data)), range(0, len(data), 7)):
        assert plain(gather(json_rows.Gatherer, data, reading, at=cuts)) == plain(slow)
    return slow


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 66), 1 << 66)
    | st.integers(-3, 3)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
VALUES = SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(st.text(max_size=3), SCALARS, max_size=2)
METAS = st.dictionaries(st.sampled_from(["title", "n", "x"]), VALUES, max_size=2) | VALUES
OBJECTS = st.fixed_dictionaries(
    {}, optional={"text": st.text(min_size=1) | VALUES, "meta": METAS, "meta.title": VALUES, "n": VALUES, "q": VALUES}
)
GOOD = st.fixed_dictionaries(
    {"text": st.text(min_size=1, max_size=20)},
    optional={"meta": st.fixed_dictionaries({}, optional={"title": st.text(max_size=4)}), "n": st.integers(-5, 5)},
)
SPELLINGS = st.sampled_from([json.dumps, lambda v: json.dumps(v, ensure_ascii=False), lambda v: " " + json.dumps(v)])


def spelt(value, spell):
    return spell(value).encode("utf-8", errors="surrogatepass")


CLEAN = st.builds(spelt, GOOD, SPELLINGS)
LINES = st.one_of(
    CLEAN,
    st.builds(spelt, OBJECTS, SPELLINGS),
    st.builds(lambda a, b: a + b" " + b, CLEAN, CLEAN),
    st.builds(lambda line, at: line[:at], CLEAN, st.integers(0, 40)),
    st.sampled_from([b"", b" \t", b"\r", b"null", b"[]", b"3", b"{}", b"\xff", b"}", b"{"]),
    st.builds(lambda line: line + b"\r", CLEAN),
    st.builds(lambda line, junk: line[:9] + junk + line[9:], CLEAN, st.binary(max_size=2)),
)
READINGS = st.builds(
    Reading,
    text=st.sampled_from(["text", "text", "meta.title"]),
    columns=st.lists(st.sampled_from(["n", "q", "meta.title", "meta", "meta.n"]), max_size=3).map(tuple),
    max_document_bytes=st.sampled_from([4_000_000_000, 6]),
)


@given(st.lists(LINES, max_size=6), READINGS)
@example([b'{"text": "a"} {"text": "b"}', b""], Reading())
@example([b'{"text": "a"', b"}"], Reading())
@example([b'{"text": "a", "text": "b"}'], Reading())
@example([b'{"text": "a"}', b'{"text": "a", "o": "\\ud800"}'], Reading())
@example([b'{"text": "a", "o": "\xff"}'], Reading())
@example([b"null"], Reading())
@example([b'{"text": "a", "n": -0}'], Reading(columns=("n",)))
@settings(max_examples=800, deadline=None)
def test_both_ways_agree(lines, reading):
    same(b"\n".join(lines), reading)


@given(st.lists(CLEAN, min_size=1, max_size=6), READINGS.filter(lambda r: r.text == "text"))
@settings(deadline=None)
def test_clean_lines_agree_too(lines, reading):
    same(b"\n".join(lines) + b"\n", reading)


@pytest.mark.parametrize("reading", [Reading(), Reading(columns=("n", "meta.title", "nowhere", "a.b"))])
def test_ordinary_lines_need_no_judge(reading):
    data = b"".join(
        json.dumps({"text": f"é {n} \U0001f600", "n": n, "meta": {"title": "t"}, "a.b": 0.5}).encode() + b"\n"
        for n in range(200)
    )
    rows = fast(data, reading)
    assert plain(rows) == plain(exact(data, reading))
    assert rows.texts[7].decode() == "é 7 \U0001f600"


def test_a_line_may_come_in_many_pieces():
    data = b"".join(json.dumps({"text": "x" * n}).encode() + b"\n" for n in (1, 500, 3, 70, 90))
    rows = gather(Quick, data, Reading(), at=range(0, len(data), 64))
    assert [len(text) for text in rows.texts] == [1, 500, 3, 70, 90]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{oops", "invalid JSON"),
        (b"[1]", "invalid JSON"),
        (b"null", "invalid JSON"),
        (b'"text"', "invalid JSON"),
        (b'{"text": "a"} trailing', "invalid JSON"),
        (b'{"text": "a"} {"text": "b"}', "invalid JSON"),
        (b'{"text": "a\x01"}', "invalid JSON"),
        (b'{"text": "a"}\x00', "invalid JSON"),
        (b"[" * 100_000, "invalid JSON"),
        (b"{}", "missing text"),
        (b'{"Text": "a"}', "missing text"),
        (b'{"text": null}', "null text"),
        (b'{"text": 1}', "text is not a string"),
        (b'{"text": ["a"]}', "text is not a string"),
        (b'{"text": ""}', "empty text"),
        (b'{"text": "\xff"}', "not UTF-8"),
        (b'{"text": "a", "other": "\xff"}', "not UTF-8"),
        (rb'{"text": "\ud800"}', "not UTF-8"),
        (rb'{"text": "\udc00 \ud800"}', "not UTF-8"),
        (rb'{"text": "a", "other": "\ud800x"}', "not UTF-8"),
        (b'{"text": "\xed\xa0\x80"}', "not UTF-8"),
        (b'{"text": "eleven long"}', "over the size limit"),
    ],
)
def test_a_row_without_a_document_is_rejected_for_its_reason(line, reason):
    data = b'{"text": "before"}\n' + line + b'\n{"text": "after"}\n'
    rows = same(data, Reading(max_document_bytes=10))
    assert rows.texts == [b"before", b"after"]
    assert (rows.row.tolist(), rows.rows) == ([0, 2], 3)
    assert [(reject.row, reject.reason) for reject in rows.rejects] == [(1, reason)]


def test_a_sample_is_short_and_printable():
    line = b'{"text": \x00\x1b[31m' + "中".encode() * 200
    (reject,) = same(line, Reading()).rejects
    assert len(reject.sample) == 80
    assert reject.sample.isprintable()
    assert reject.sample.startswith('{"text": ')


def test_a_pair_of_surrogates_and_a_nul_are_text():
    rows = same(rb'{"text": "\ud83d\ude00\u0000x"}', Reading())
    assert rows.texts == ["\U0001f600\0x".encode()]


def test_of_two_equal_keys_the_last_counts():
    assert same(b'{"text": "a", "text": "b"}', Reading()).texts == [b"b"]


@pytest.mark.parametrize("columns", [(), ("q",)])
def test_numbers_that_only_python_writes_are_taken(columns):
    rows = same(b'{"text": "a", "q": 0.5}\n{"text": "b", "q": NaN}\n', Reading())
    assert rows.texts == [b"a", b"b"]
    both = [
        gather(kind, b'{"text": "a", "q": 0.5}\n{"text": "b", "q": NaN}\n', Reading(columns=("q",)))
        for kind in (json_rows.Gatherer, Exact)
    ]
    for rows in both:
        assert math.isnan(rows.columns["q"][1].as_py())


@pytest.mark.parametrize(
    ("values", "kind", "kept"),
    [
        (["1", "2"], pa.int64(), [1, 2]),
        (["1", "null"], pa.int64(), [1, None]),
        (["1", "2.5"], pa.float64(), [1.0, 2.5]),
        (["2.5", "1"], pa.float64(), [2.5, 1.0]),
        (["true", "false"], pa.bool_(), [True, False]),
        (['"a"', '"2020-01-01"'], pa.large_string(), ["a", "2020-01-01"]),
        (["1", '"a"'], pa.large_string(), ["1", "a"]),
        (["true", "1"], pa.large_string(), ["true", "1"]),
        (["[1, 2]", '{"k": "v"}'], pa.large_string(), ["[1,2]", '{"k":"v"}']),
        (["9223372036854775808", "1"], pa.large_string(), ["9223372036854775808", "1"]),
        (["null", "null"], pa.null(), [None, None]),
    ],
)
def test_a_columns_type_follows_from_its_values(values, kind, kept):
    data = b"\n".join(b'{"text": "t", "c": %s}' % value.encode() for value in values)
    rows = same(data, Reading(columns=("c",)))
    assert rows.columns.schema.field("c").type == kind
    assert rows.columns["c"].to_pylist() == kept


def test_a_column_without_values_in_the_first_rows_is_found_all_the_same():
    data = b'{"text": "t"}\n' * 200 + b'{"text": "t", "c": 5}\n'
    assert same(data, Reading(columns=("c",))).columns["c"].to_pylist() == [None] * 200 + [5]


def test_dots_reach_into_objects_and_a_literal_name_wins():
    data = b'{"m": {"t": "nested"}}\n{"m.t": "literal", "m": {"t": "nested"}}\n{"m.t": null, "m": {"t": "nested"}}'
    reading = Reading(text="m.t", columns=("m.t", "m.other"))
    rows = same(data, reading)
    assert rows.texts == [b"nested", b"literal", b"nested"]
    assert rows.columns["m.t"].to_pylist() == ["nested", "literal", "nested"]
    assert rows.columns["m.other"].to_pylist() == [None] * 3
    assert fast(data, reading).texts == rows.texts


def test_a_field_may_be_wanted_whole_and_in_part():
    data = b'{"text": "t", "m": {"a": 1}}'
    assert same(data, Reading(columns=("m", "m.a"))).columns.to_pylist() == [{"m": '{"a":1}', "m.a": 1}]


@pytest.mark.parametrize("name", ['v"w', "back\\slash", "tab\there", 'a.b"c'])
def test_a_field_may_have_any_name(name):
    inner, *rest = reversed(name.split("."))
    nested = {inner: "x"}
    for part in rest:
        nested = {part: nested}
    data = b"\n".join(json.dumps({"text": "t"} | row).encode() for row in ({name: "x"}, nested, {}))
    assert same(data, Reading(columns=(name,))).columns[name].to_pylist() == ["x", "x", None]
    found = same(data, Reading(text=name))
    assert (found.texts, [reject.reason for reject in found.rejects]) == ([b"x", b"x"], ["missing text"])
    assert fast(data, Reading(columns=(name,))).texts == [b"t"] * 3


def test_the_text_may_be_a_column_besides():
    data = '{"text": "é", "n": 1}\n{"text": "b", "text.x": 2}'.encode()
    reading = Reading(columns=("text", "text.x"))
    assert same(data, reading).texts == [b"\xc3\xa9", b"b"]
    assert fast(data, reading).columns.to_pylist() == [{"text": "é", "text.x": None}, {"text": "b", "text.x": 2}]


def test_columns_keep_the_documents_rows_without_the_rejected_ones():
    data = b'{"text": "a", "n": 1}\n{"text": "", "n": 2}\n{"text": "c", "n": 3}\n'
    assert same(data, Reading(columns=("n",))).columns["n"].to_pylist() == [1, 3]
