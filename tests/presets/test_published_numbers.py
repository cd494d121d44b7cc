"""Every preset is a recipe, and says what its paper says."""

from __future__ import annotations

import re
from math import exp
from pathlib import Path
from typing import Any

import duckdb
import pytest

from mixture.errors import RecipeError
from mixture.index.expressions import VIEW, check
from mixture.presets import PRESETS, find, fu, hunyuan
from mixture.recipe import Recipe
from mixture.recipe.file import parse
from mixture.recipe.rules import LengthRule
from mixture.scaffold.preset import from_preset, notices
from mixture.scaffold.sources import NamedPaths

K = 1024
PAGE = Path(__file__).parents[2] / "docs" / "presets.md"


def _recipe(name: str, **more: object) -> Recipe:
    return parse(from_preset(find(name), "mine", **more))  # type: ignore[arg-type]


def _sources(*names: str) -> list[NamedPaths]:
    return [NamedPaths(name, f"{name}/*.jsonl") for name in names]


def _shares(recipe: Recipe, phase: int = 0) -> dict[str, float | None]:
    return {name: mine.share for name, mine in recipe.all_phases()[phase].mix.named().items()}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_recipe_over_the_paper_s_corpus(name: str) -> None:
    recipe = _recipe(name)
    assert recipe.name == "mine"
    assert PRESETS[name].arxiv in recipe.description
    drawn = {found for phase in recipe.all_phases() for found in phase.mix.named()}
    there = {s.domain.constant for s in recipe.sources} | {d for s in recipe.sources for d in s.domain.map.values()}
    assert drawn <= there


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_recipe_over_sources_of_yours(name: str) -> None:
    preset = PRESETS[name]
    sources = _sources(*(preset.domains or ("a", "b")))
    recipe = _recipe(name, sources=sources)
    assert [s.name for s in recipe.sources if s.domain.constant != preset.twin] == [s.name for s in sources]
    assert [phase.mix for phase in recipe.all_phases()] == [phase.mix for phase in _recipe(name).all_phases()]


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_recipe_where_one_domain_of_each_part_is_left(name: str) -> None:
    preset = PRESETS[name]
    last: dict[str, str] = {}
    for stage in preset.stages:
        if not isinstance(stage.domains, str):
            last |= {want.part: domain for domain, want in stage.domains.items() if domain != preset.twin}
    pairs = [(domain, f"mine {number}") for number, domain in enumerate(last.values())]
    recipe = _recipe(name, sources=_sources(*(mine for _, mine in pairs or [("", "a")])), pairs=pairs)
    for phase in range(len(preset.stages)):
        shares = _shares(recipe, phase)
        assert set(shares) == {mine for _, mine in pairs} | ({preset.twin} if preset.twin and pairs else set())
        assert sum(share or 0 for share in shares.values()) == pytest.approx(1 if pairs else 0)


@pytest.mark.parametrize("name", PRESETS)
def test_a_budget_of_yours_is_shared_by_the_phases_as_the_paper_shares_it(name: str) -> None:
    theirs, mine = _recipe(name), _recipe(name, budget="6B")
    assert sum(phase.budget for phase in mine.all_phases()) == 6 * 10**9
    ratios = {a.budget / b.budget for a, b in zip(theirs.all_phases(), mine.all_phases(), strict=True)}
    assert len(ratios) == 1


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_cites_its_paper_and_stands_in_the_docs(name: str) -> None:
    preset = PRESETS[name]
    text = from_preset(preset, "mine")
    assert re.fullmatch(r"\d{4}\.\d{5}", preset.arxiv)
    assert text.startswith(f"# {preset.paper[:60]}")
    assert "What differs here: " in text
    row = next(line for line in PAGE.read_text().splitlines() if f"`{name}`" in line)
    assert preset.arxiv in row


@pytest.mark.parametrize("name", PRESETS)
def test_the_lines_of_a_preset_fit_a_screen(name: str) -> None:
    lines = from_preset(PRESETS[name], "mine").splitlines()
    assert all(len(line) <= 120 for line in lines if not line.startswith("description: "))
    assert all(line == line.rstrip() for line in lines)


def test_an_unknown_preset_names_the_nearest_and_all() -> None:
    with pytest.raises(
        RecipeError, match=r"'fu-persource'; did you mean 'fu-per-source'\?.*there are: .*bertin-stepwise"
    ):
        find("fu-persource")


# Fu et al. 2024.


def test_fu_s_shares_are_those_of_the_authors_code() -> None:
    # C4 .26609933 + CommonCrawl .53374772 = .79984705
    assert _shares(_recipe("fu-per-source")) == fu.SHARES
    pairs = [("CommonCrawl", "web"), ("C4", "web")]
    assert _shares(_recipe("fu-per-source", pairs=pairs))["web"] == 0.79984705
    assert sum(fu.SHARES.values()) == pytest.approx(1.00000001, abs=1e-12)


def test_fu_s_rule_is_the_one_that_lands_on_the_figure() -> None:
    # Against the figure itself: tests/plan/test_slimpajama_shape.py and test_published_mixtures.py.
    for name in ("fu-per-source", "fu-global", "fu-up-arxiv", "fu-up-books", "fu-up-github"):
        rule = _recipe(name).mix.lengths
        assert (rule.threshold, rule.keep_short) == (3840, 0.1)


def test_fu_s_edges_are_powers_of_two_up_to_128k_and_the_threshold() -> None:
    for name in (name for name in PRESETS if name.startswith("fu-")):
        recipe = _recipe(name)
        assert recipe.buckets.default == tuple(sorted({K << power for power in range(8)} | {3840}))
        assert [phase.budget for phase in recipe.all_phases()] == [5 * 10**9]
    assert _recipe("fu-cut-4k").all_phases()[0].sequence.length == 4096
    assert _recipe("fu-cut-128k").all_phases()[0].sequence.length == 131072


def test_fu_s_baselines_change_nothing_and_global_fixes_no_domain() -> None:
    for name in ("fu-cut-4k", "fu-cut-128k"):
        assert _recipe(name).mix.domains == "natural"
        assert _recipe(name).mix.lengths == LengthRule()
    assert _recipe("fu-global").mix.domains == "global"
    assert _recipe("fu-global").mix.lengths == _recipe("fu-per-source").mix.lengths


@pytest.mark.parametrize(("domain", "share"), [("ArXiv", 0.566), ("Books", 0.514), ("GitHub", 0.558)])
def test_fu_raises_one_domain_and_leaves_the_others_in_proportion(domain: str, share: float) -> None:
    shares = _shares(_recipe(f"fu-up-{domain.lower()}"))
    assert shares[domain] == share
    # Of what is left, CommonCrawl gets .53374772 of what all others but the raised one held.
    others = 1.00000001 - fu.SHARES[domain]
    assert shares["CommonCrawl"] == pytest.approx((1 - share) * 0.53374772 / others, abs=2e-8)
    assert shares["CommonCrawl"] / shares["C4"] == pytest.approx(0.53374772 / 0.26609933, rel=1e-6)  # type: ignore[operator]


def test_a_raised_domain_keeps_its_share_where_others_are_missing() -> None:
    assert _shares(_recipe("fu-up-arxiv", sources=_sources("arxiv", "books"))) == {"arxiv": 0.566, "books": 0.434}
    with pytest.raises(RecipeError, match="fu-up-arxiv needs a domain for ArXiv"):
        _recipe("fu-up-arxiv", sources=_sources("books", "c4"))


# The others.


def test_hunyuan_s_long_documents_have_the_paper_s_shares_of_three_quarters() -> None:
    shares = _shares(_recipe("lccp-hunyuan"))
    # .75 × (.363, .286, .240, .108, .003)
    assert shares == {
        "short": 0.25,
        "CommonCrawl": 0.27225,
        "Books": 0.2145,
        "ArXiv": 0.18,
        "Code": 0.081,
        "Wikipedia": 0.00225,
    }
    assert sum(hunyuan.LONG.values()) == pytest.approx(1)


def test_hunyuan_reads_each_source_as_itself_and_as_short() -> None:
    recipe = _recipe("lccp-hunyuan", sources=_sources("books", "wikipedia", "blogs"), budget="1B")
    assert [(s.name, s.domain.constant) for s in recipe.sources] == [
        ("books", "books"),
        ("books-short", "short"),
        ("wikipedia", "wikipedia"),
        ("wikipedia-short", "short"),
        ("blogs", "blogs"),
        ("blogs-short", "short"),
    ]
    assert recipe.duplicates == "keep"
    # .286 : .003 of .75
    assert _shares(recipe) == {"short": 0.25, "books": 0.74221453, "wikipedia": 0.00778547}


def test_hunyuan_s_own_domain_cannot_be_one_of_yours() -> None:
    with pytest.raises(RecipeError, match="makes a domain 'short' of its own"):
        _recipe("lccp-hunyuan", sources=_sources("books", "short"))


@pytest.mark.parametrize("name", ["prolong-64k", "prolong-512k"])
def test_prolong_is_60_long_and_40_short_in_every_phase(name: str) -> None:
    recipe = _recipe(name)
    for phase, made in enumerate(recipe.all_phases()):
        shares = _shares(recipe, phase)
        assert (shares["Repos"], shares["Books"]) == (0.3, 0.3)
        assert sum(share or 0 for share in shares.values()) == pytest.approx(1)
        assert made.budget == 20 * 10**9
        for domain in ("Repos", "Books"):
            rule = made.mix.rule(domain)
            assert (rule.factors or rule.shares or (None,))[0] == 0  # nothing below 64K


def test_prolong_s_second_phase_is_15_and_15_of_repositories_and_25_and_5_of_books() -> None:
    recipe = _recipe("prolong-512k")
    assert recipe.buckets.default == (64 * K, 512 * K)
    assert [phase.sequence.length for phase in recipe.all_phases()] == [64 * K, 512 * K]
    mix = recipe.all_phases()[1].mix
    found = {d: [0.3 * share for share in mix.rule(d).shares or ()] for d in ("Repos", "Books")}
    assert found["Repos"] == pytest.approx([0, 0.15, 0.15])
    assert found["Books"] == pytest.approx([0, 0.25, 0.05], abs=1e-6)


def test_prolong_stays_60_40_where_domains_are_missing() -> None:
    recipe = _recipe("prolong-64k", sources=_sources("books", "wikipedia", "fineweb"))
    # .4 × 4/14 and .4 × 10/14
    assert _shares(recipe) == {"books": 0.6, "wikipedia": 0.11428571, "fineweb": 0.28571429}
    with pytest.raises(RecipeError, match="prolong-64k needs a domain for Repos or Books"):
        _recipe("prolong-64k", sources=_sources("wikipedia", "fineweb"))


def test_longmino_raises_over_the_corpus_as_one_to_34() -> None:
    recipe = _recipe("olmo3-longmino")
    assert recipe.mix.domains == "global"
    assert (recipe.mix.lengths.threshold, recipe.mix.lengths.long) == (8 * K, 0.34)
    assert recipe.budget == 50 * 10**9
    assert all(b == 2 * a for a, b in zip(recipe.buckets.default, recipe.buckets.default[1:], strict=False))
    assert "between 0.2 and 0.8" in (recipe.where or "")


def test_ultralong_joins_documents_by_a_text() -> None:
    (phase,) = _recipe("ultralong").all_phases()
    assert phase.sequence.separator.text == "<s>"
    assert (phase.sequence.length, phase.budget) == (1 << 20, 10**9)
    below, middle, above = phase.mix.lengths.factors or ()
    assert below < middle < above


def test_qwen_s_phases_are_75_at_full_length() -> None:
    phases = _recipe("qwen-progressive").all_phases()
    assert [phase.sequence.length for phase in phases] == [64 * K, 128 * K, 256 * K]
    for phase in phases:
        assert (phase.mix.lengths.threshold, phase.mix.lengths.long) == (phase.sequence.length, 0.75)


# What the SQL that a recipe holds comes to, vetted as the index vets it.


def _ask(label: str, expression: str, rows: str, *columns: str) -> list[tuple[Any, ...]]:
    """Evaluate an expression over rows given as VALUES; return each row with its value behind it."""
    with duckdb.connect() as db:
        names = ", ".join(columns)
        db.execute(f"CREATE TEMP VIEW {VIEW} AS SELECT * FROM (VALUES {rows}) AS given({names})")
        sql = check(db, label, expression, columns).sql
        return db.execute(f"SELECT {names}, {sql} FROM {VIEW} ORDER BY ALL").fetchall()


def test_hunyuan_draws_short_documents_from_short_and_long_ones_from_the_rest() -> None:
    rows = [(d, n, o) for d in ("short", "Books") for n in (32767, 32768) for o in (0, 1)]
    where = _recipe("lccp-hunyuan").where or ""
    found = _ask("where", where, ", ".join(map(str, rows)), "domain", "n_tokens", "occurrence")
    assert [row[:3] for row in found if row[3]] == [("Books", 32768, 0), ("short", 32767, 0)]


def test_longmino_drops_a_fifth_at_either_end_of_the_long_documents_and_no_short_one() -> None:
    long = [("a", 9000 + number, number / 10) for number in range(11)]
    other = [("b", 9000, 5.0), ("b", 9001, 6.0), ("b", 9002, 7.0), ("a", 10, 9.0), ("a", 8191, -9.0)]
    where = _recipe("olmo3-longmino").where or ""
    found = _ask("where", where, ", ".join(map(str, long + other)), "domain", "n_tokens", "gzip_ratio")
    kept = [row[:2] for row in found if row[3]]
    # Ranks of the eleven are 0, .1 … 1; of the three 0, .5, 1.
    assert kept == [("a", 10), ("a", 8191), *(("a", 9000 + number) for number in range(2, 9)), ("b", 9001)]


def _weigh(name: str, perplexities: list[float]) -> dict[float, float]:
    weight = _recipe(name).weight or ""
    rows = ", ".join(f"('d', {p!r}::DOUBLE)" for p in perplexities)
    return {ppl: value for _, ppl, value in _ask("weight", weight, rows, "domain", "ppl")}


def test_the_gaussian_keeps_78_percent_of_the_median_and_little_of_the_ends() -> None:
    weights = _weigh("bertin-gaussian", [100, 200, 300, 400, 1500])
    assert weights[300] == pytest.approx(0.78)
    # (1500 - 300) / 300 = 4; 16 / 4.5
    assert weights[1500] == pytest.approx(0.78 * exp(-16 / 4.5))
    assert weights[200] == weights[400]


def test_the_steps_are_one_over_the_width_of_the_quartile() -> None:
    weights = _weigh("bertin-stepwise", [10, 20, 22, 24, 40, 42, 50, 90])
    # Quartiles end at 20, 24 and 42.
    assert weights[10] == weights[20] == pytest.approx(1 / 20)
    assert weights[22] == pytest.approx(1 / 4)
    assert weights[24] == weights[40] == pytest.approx(1 / 18)
    assert weights[50] == weights[90] == pytest.approx(1 / 420)


def test_equal_perplexities_weigh_a_number() -> None:
    assert _weigh("bertin-stepwise", [5, 5, 5, 5]) == {5: pytest.approx(1 / 5)}
    assert all(0 < w < float("inf") for w in _weigh("bertin-stepwise", [1, 5, 5, 5, 9]).values())


# What a person is told.


def test_what_is_left_out_is_said() -> None:
    sources = _sources("books", "blogs")
    said = notices(find("fu-per-source"), sources, "", [])
    assert "left out, for no domain of yours plays them: CommonCrawl, C4, GitHub" in said[0]
    assert "nothing is drawn of blogs" in said[1]
    assert "count bytes" in said[2]
    text = from_preset(find("fu-per-source"), "mine", sources=sources)
    assert "Left out, for no domain of yours plays them: CommonCrawl 0.53374772" in text
    assert "# Nothing is drawn of it" in text
    assert "nothing is drawn of blogs but what `short` takes" in notices(find("lccp-hunyuan"), sources, "", [])[1]
    assert notices(find("fu-global"), sources, "{kind: huggingface, path: x.json}", []) == []


def test_without_sources_a_mapping_renames_the_paper_s_domains() -> None:
    recipe = _recipe("fu-per-source", pairs=[("Books", "novels")])
    assert recipe.sources[0].domain.map["RedPajamaBook"] == "novels"
    assert _shares(recipe)["novels"] == 0.0414836
