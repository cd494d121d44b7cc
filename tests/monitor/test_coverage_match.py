"""A name stands in a text: whole words, in any normal form, whatever the case and the line ends."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixture.errors import MonitorError
from mixture.monitor import coverage_match
from mixture.monitor.coverage_match import Finder, Matching
from mixture.monitor.coverage_pairs import Pair

pytest.importorskip("ahocorasick_rs", reason="ahocorasick-rs is not installed")

AS_IT_IS = Matching(normal="none", fold=False, words=False, spaces=False)


def stands(subject: str, object_: str, text: str, matching: Matching | None = None) -> bool:
    return Finder([Pair(subject, object_)], matching or Matching()).pairs(text.encode()) == [0]


def test_both_names_have_to_stand_in_the_text() -> None:
    assert stands("Marie Curie", "Warsaw", "Marie Curie was born in Warsaw.")
    assert not stands("Marie Curie", "Warsaw", "Marie Curie was born in Paris.")
    assert not stands("Marie Curie", "Warsaw", "Warsaw lies on the Vistula.")


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("in Rome", True),
        ("Rome, in Italy", True),
        ("(Rome)", True),
        ("Romer", False),
        ("Jerome", False),
        ("Rome2", False),
        ("Rome_2", False),
        ("Jerome and Rome", True),
        ("«Rome»", True),
        ("Romeé", False),
        ("éRome", False),
        ("Rome\u0301", False),  # a combining accent makes another word
    ],
)
def test_a_name_is_a_whole_word(text: str, whole: bool) -> None:
    assert stands("Rome", "Rome", text) == whole
    assert stands("Rome", "Rome", text, Matching(words=False)) == (
        "rome" in unicodedata.normalize("NFC", text).casefold()
    )


def test_an_end_that_is_no_letter_needs_no_border() -> None:
    assert stands("C++", "C++", "written in C++11")
    assert not stands("C++", "C++", "written in ABC++")


def test_scripts_without_spaces_are_found_when_words_are_not_asked_for() -> None:
    text = "東京は日本の首都である。"
    assert not stands("東京", "首都", text)
    assert stands("東京", "首都", text, Matching(words=False))


def test_case_is_folded_fully_unless_told_otherwise() -> None:
    assert stands("STRASSE", "Ärger", "straße ÄRGER")
    assert not stands("STRASSE", "Ärger", "straße ÄRGER", Matching(fold=False))
    assert stands("iron", "Curie", "IRON Curie")


def test_normal_forms_are_as_stated() -> None:
    composed, apart = "caf\u00e9", "cafe\u0301"
    assert stands(composed, apart, f"a {apart}")
    assert not stands(composed, composed, f"a {apart}", Matching(normal="none"))
    assert stands("fish", "fish", "\ufb01sh", Matching(normal="NFKC"))
    assert not stands("fish", "fish", "\ufb01sh", Matching(fold=False))


@pytest.mark.parametrize("between", ["\n", "  ", "\t", "\r\n", "\u00a0", " \n\n "])
def test_any_white_space_is_one_space(between: str) -> None:
    text = f"by Marie{between}Curie"
    assert stands("Marie Curie", "marie  curie ", text)
    assert not stands("Marie Curie", "Marie Curie", text, Matching(spaces=False))


def test_names_inside_each_other_are_all_found() -> None:
    find = Finder([Pair("New York", "York"), Pair("New York City", "New York"), Pair("York City", "City")], Matching())
    assert find.pairs(b"New York City") == [0, 1, 2]


def test_a_subject_of_many_facts_counts_each_whose_object_is_there() -> None:
    facts = [Pair("Europe", f"City {n}") for n in range(50)] + [Pair("Europe", "City 7")]
    assert Finder(facts, Matching()).pairs(b"Europe: City 7, City 31, City 310") == [7, 31, 50]


def test_a_text_is_searched_whole_however_windows_cut_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coverage_match, "_WINDOW", 7)
    find = Finder([Pair("needle in hay", "é")], Matching())
    for pad in range(30):
        assert find.pairs(("x" * pad + " needle in hay " + "y" * 9 + " é").encode()) == [0]
        assert find.pairs(("x" * pad + "needle in hay " + "y" * 9 + " é").encode()) == ([0] if pad == 0 else [])


@given(st.text("ab é\n\t\u00a0", max_size=60), st.integers(1, 9))
def test_windows_make_no_difference_to_a_text(text: str, window: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coverage_match, "_WINDOW", window)
        cut = Matching().plain(text.encode())
    assert cut == Matching().plain(text.encode()) == b" ".join(text.encode().replace(b"\xc2\xa0", b" ").split())


@given(st.text("abé ßA\u0301_,\n", max_size=40), st.sampled_from(["ab", "é", "a é", "ss", "b_", "a"]))
def test_words_agree_with_a_regular_expression(text: str, name: str) -> None:
    """The naive way: the same plain text, and look-arounds that know marks as parts of words."""
    matching = Matching()
    plain = matching.plain(text.encode()).decode()
    word = r"[\w\u0300-\u036f]"
    naive = re.search(rf"(?<!{word}){re.escape(matching.plain(name.encode()).decode())}(?!{word})", plain)
    assert stands(name, name, text) == bool(naive)


@given(st.text("aab c", max_size=30), st.lists(st.text("abc ", min_size=1, max_size=3), min_size=1, max_size=5))
def test_raw_names_agree_with_in(text: str, names: list[str]) -> None:
    names = [name for name in names if name.strip()] or ["a"]
    found = Finder([Pair(name, name) for name in names], AS_IT_IS).pairs(text.encode())
    assert found == [n for n, name in enumerate(names) if name in text]


def test_an_unknown_normal_form_is_refused() -> None:
    with pytest.raises(MonitorError, match="give NFC, NFKC or none"):
        Matching(normal="NFD")  # type: ignore[arg-type]


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(MonitorError, match="field 'object' is empty"):
        Pair("a", " ")
