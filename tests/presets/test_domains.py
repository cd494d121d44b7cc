"""A preset's shares on another corpus, by hand and by law."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixture.errors import RecipeError
from mixture.presets.domains import assign, fit, raised, read_pairs, rounded
from mixture.presets.preset import Preset, Stage, Want

WANTS = {
    "Repos": Want(0.3, part="long"),
    "Books": Want(0.3, part="long"),
    "FineWeb": Want(0.3, part="short"),
    "Wiki": Want(0.1, part="short"),
}


def _preset(wants: dict[str, Want], twin: str = "") -> Preset:
    return Preset(
        "made-up", "Nobody 2024, Nothing (arXiv 0000.00000)", "", "", "", (Stage("1B", "4K", wants),), (), (), twin=twin
    )


PRESET = _preset(WANTS)


def _shares(wants: dict[str, Want], mapping: dict[str, str], twin: str = "") -> dict[str, float]:
    return {name: want.share for name, want in fit(_preset(wants, twin), wants, mapping).items()}


def test_all_domains_keep_the_paper_s_numbers_to_the_last_digit() -> None:
    assert _shares(WANTS, {name: name.lower() for name in WANTS}) == {
        "repos": 0.3,
        "books": 0.3,
        "fineweb": 0.3,
        "wiki": 0.1,
    }


def test_a_part_keeps_its_total_when_domains_are_left_out() -> None:
    assert _shares(WANTS, {"Books": "novels", "FineWeb": "web", "Wiki": "wiki"}) == {
        "novels": 0.6,
        "web": 0.3,
        "wiki": 0.1,
    }
    assert _shares(WANTS, {"Books": "novels", "Wiki": "wiki"}) == {"novels": 0.6, "wiki": 0.4}


def test_without_parts_the_rest_is_scaled_to_one() -> None:
    wants = {"a": Want(0.5), "b": Want(0.3), "c": Want(0.2)}
    # .3 + .2 = .5; 3/5 and 2/5.
    assert _shares(wants, {"b": "b", "c": "c"}) == {"b": 0.6, "c": 0.4}


def test_thirds_are_rounded_so_that_they_still_sum_to_one() -> None:
    shares = rounded(dict.fromkeys("abc", 1 / 3))
    assert shares == {"a": 0.33333334, "b": 0.33333333, "c": 0.33333333}
    assert math.fsum(shares.values()) == 1


def test_several_domains_of_the_preset_in_one_of_yours_add_up() -> None:
    assert _shares(WANTS, {"Repos": "long", "Books": "long", "FineWeb": "web", "Wiki": "web"}) == {
        "long": 0.6,
        "web": 0.4,
    }


def test_a_twin_is_always_there_and_never_scaled() -> None:
    wants = {"short": Want(0.25), "a": Want(0.6, part="long"), "b": Want(0.15, part="long")}
    assert _shares(wants, {"b": "mine"}, twin="short") == {"short": 0.25, "mine": 0.75}


def test_a_part_that_nothing_plays_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"needs a domain for Repos or Books.*--domains Repos=YOURS"):
        fit(PRESET, WANTS, {"Wiki": "wiki"})


def test_domains_of_different_length_rules_cannot_become_one() -> None:
    wants = {"a": Want(0.5, "{factors: [0, 1]}"), "b": Want(0.5)}
    with pytest.raises(RecipeError, match=r"a and b have different length rules in made-up, so 'mine' cannot be both"):
        fit(_preset(wants), wants, {"a": "mine", "b": "mine"})


def test_raising_one_domain_leaves_the_others_in_proportion() -> None:
    # .5 for a leaves .5 for b and c, which stand 3 to 1.
    assert raised({"a": 0.2, "b": 0.6, "c": 0.2}, "a", 0.5) == {"a": 0.5, "b": 0.375, "c": 0.125}


_TABLES = st.dictionaries(
    st.sampled_from("abcdefgh"),
    st.tuples(st.floats(0.001, 1), st.sampled_from(["", "long", "short"])),
    min_size=1,
)


@given(_TABLES, st.data())
def test_whatever_is_left_out_shares_sum_to_one_and_parts_keep_their_totals(
    table: dict[str, tuple[float, str]], data: st.DataObject
) -> None:
    whole = math.fsum(share for share, _ in table.values())
    wants = {name: Want(share / whole, part=part) for name, (share, part) in table.items()}
    parts = {want.part for want in wants.values()}
    kept = data.draw(st.sets(st.sampled_from(sorted(wants)), min_size=1))
    mapping = {name: name for name in wants if name in kept}
    if {wants[name].part for name in kept} != parts:
        with pytest.raises(RecipeError):
            fit(_preset(wants), wants, mapping)
        return
    shares = _shares(wants, mapping)
    assert shares.keys() == kept
    assert math.fsum(shares.values()) == pytest.approx(1, abs=1e-7)
    for part in parts:
        before = math.fsum(want.share for want in wants.values() if want.part == part)
        assert math.fsum(shares[n] for n in kept if wants[n].part == part) == pytest.approx(before, abs=1e-7)


@given(st.dictionaries(st.integers(), st.floats(1e-6, 1), min_size=1, max_size=50))
def test_rounding_moves_no_share_by_a_unit_and_the_sum_not_at_all(table: dict[int, float]) -> None:
    whole = math.fsum(table.values())
    shares = {str(name): share / whole for name, share in table.items()}
    found = rounded(shares)
    assert sum(round(share * 10**8) for share in found.values()) == 10**8
    assert all(abs(found[name] - share) < 1.001e-8 for name, share in shares.items())


# Which of yours plays which.


def test_equal_names_need_no_mapping_whatever_their_case() -> None:
    assert assign(PRESET, [], ["books", "WIKI", "other"]) == {"Books": "books", "Wiki": "WIKI"}


def test_what_is_said_goes_before_equal_names() -> None:
    assert assign(PRESET, [("books", "novels")], ["novels", "books"]) == {"Books": "novels"}


def test_without_sources_the_corpus_is_the_paper_s_and_names_are_changed_where_said() -> None:
    assert assign(PRESET, [("Wiki", "lexicon")], []) == {
        "Repos": "Repos",
        "Books": "Books",
        "FineWeb": "FineWeb",
        "Wiki": "lexicon",
    }


@pytest.mark.parametrize(
    ("pairs", "sources", "words"),
    [
        (
            [("Bokos", "a")],
            ["a"],
            "'Bokos' is not a domain of made-up; did you mean 'Books'.*its domains: Repos, Books",
        ),
        ([("Books", "wb")], ["web"], "no --source is named 'wb'.*did you mean 'web'"),
        ([("Books", "a"), ("Books", "b")], ["a", "b"], "Books is given twice, as a and as b"),
    ],
)
def test_a_wrong_mapping_is_one_sentence(pairs: list[tuple[str, str]], sources: list[str], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        assign(PRESET, pairs, sources)


def test_a_preset_without_shares_takes_no_mapping() -> None:
    natural = Preset("made-up", "Nobody (arXiv 0)", "", "", "", (Stage("1B", "4K"),), (), ())
    assert assign(natural, [], ["a"]) == {}
    with pytest.raises(RecipeError, match="no shares of its own"):
        assign(natural, [("Books", "a")], ["a"])


def test_pairs_are_read_one_by_one_or_together() -> None:
    assert read_pairs(["A=b", "C=d,E = f"]) == [("A", "b"), ("C", "d"), ("E", "f")]
    for wrong in ("A", "=b", "A=", "A=b,", ""):
        with pytest.raises(ValueError, match="is not PRESET_DOMAIN=YOUR_DOMAIN"):
            read_pairs([wrong])


# The nouns check themselves.


def test_a_stage_whose_shares_do_not_sum_to_one_is_not_born() -> None:
    with pytest.raises(ValueError, match=r"the shares of a, b sum to 0\.9, not 1"):
        Stage("1B", "4K", {"a": Want(0.5), "b": Want(0.4)})


@pytest.mark.parametrize("names", [(), ("a", "a"), ("a",), ("", "b")])
def test_stages_have_names_where_there_are_several(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="one stage has no name"):
        Preset("p", "x (arXiv 0)", "", "", "", tuple(Stage("1B", "4K", name=name) for name in names), (), ())
