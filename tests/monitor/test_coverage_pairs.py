"""Files of fact pairs: three kinds, and one sentence for whatever is wrong with one."""

from __future__ import annotations

from pathlib import Path

import pytest

from mixture.errors import MonitorError
from mixture.monitor.coverage_pairs import Pair, read_pairs

CURIE = (Pair("Marie Curie", "Warsaw"), Pair("Łódź, Poland", 'the "Manchester"'))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (
            "facts.jsonl",
            """{"subject": "Marie Curie", "object": "Warsaw", "id": 3}

{"object": "the \\"Manchester\\"", "subject": "Łódź, Poland"}""",
        ),
        ("facts.csv", 'id,subject,object\r\n1,Marie Curie,Warsaw\r\n2,"Łódź, Poland","the ""Manchester"""\r\n'),
        ("facts.tsv", 'subject\tobject\nMarie Curie\tWarsaw\nŁódź, Poland\t"the ""Manchester"""\n'),
    ],
)
def test_three_kinds_of_file_hold_the_same_pairs(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode())
    assert read_pairs(path) == CURIE
    path.write_bytes(b"\xef\xbb\xbf" + content.encode())  # as spreadsheets save it
    assert read_pairs(path) == CURIE


def test_fields_may_have_other_names(tmp_path: Path) -> None:
    path = tmp_path / "facts.jsonl"
    path.write_text('{"s": "a", "o": "b"}\n')
    assert read_pairs(path, subject="s", object="o") == (Pair("a", "b"),)


def test_line_ends_of_unicode_are_part_of_a_name(tmp_path: Path) -> None:
    path = tmp_path / "facts.jsonl"
    path.write_text('{"subject": "a\u2028b", "object": "c"}\n', encoding="utf-8")
    assert read_pairs(path) == (Pair("a\u2028b", "c"),)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        (
            "f.jsonl",
            b'{"subject": "a", "object": "b"}\n{"subject": "a"}\n',
            r"line 2: no field 'object'; it has subject",
        ),
        ("f.jsonl", b'{"subject": "a", "objekt": "b"}\n', r"line 1: no field 'object'; it has subject, objekt"),
        ("f.jsonl", b'{"subject": 3, "object": "b"}\n', r"line 1: field 'subject' is 3, not text"),
        ("f.jsonl", b'{"subject": null, "object": "b"}\n', r"line 1: field 'subject' is None, not text"),
        ("f.jsonl", b'{"subject": "a", "object": "  "}\n', r"line 1: field 'object' is empty"),
        ("f.jsonl", b'\n{"subject": "a", \n', r"line 2: not JSON"),
        ("f.jsonl", b'["a", "b"]\n', r"line 1: a list, not an object"),
        ("f.jsonl", b"\n\n", r"no pair in it"),
        ("f.jsonl", b'{"subject": "\xff"}', r"not UTF-8 at byte 13"),
        ("f.csv", b"subject;object\na;b\n", r"line 1: no column is named 'subject'"),
        ("f.csv", b"subject,object\na,b\nParis, France,b\n", r"line 3: 3 fields for 2 columns"),
        ("f.csv", b"subject,object\na,\n", r"line 2: field 'object' is empty"),
        ("f.csv", b'subject,object\na,"b" c\n', r"line 2: not a table"),
        ("f.csv", b"subject,object\n", r"no pair in it"),
        ("f.csv", b"", r"line 1: no column is named 'subject'; it has none"),
        ("f.tsv", b"subject,object\na,b\n", r"line 1: no column is named 'subject'"),
        ("f.txt", b"a b", r"facts come as \.jsonl, \.csv, \.tsv, not \.txt"),
    ],
)
def test_what_is_wrong_is_one_sentence_with_line_and_field(
    tmp_path: Path, name: str, content: bytes, told: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(MonitorError, match=told) as caught:
        read_pairs(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(MonitorError, match="cannot be read"):
        read_pairs(tmp_path / "none.jsonl")
