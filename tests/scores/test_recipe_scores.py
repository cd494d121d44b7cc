"""`scores:` in a recipe."""

from __future__ import annotations

import pytest

from mixture.errors import RecipeError
from mixture.recipe import Recipe
from mixture.recipe.file import parse

TEXT = """
name: small
tokenizer: {kind: bytes}
sources: [{name: all, format: jsonl, paths: [a.jsonl], domain: x}]
budget: 1M
sequence: {length: 1K}
"""


def recipe(scores: str = "") -> Recipe:
    return parse(TEXT + (f"scores: {scores}\n" if scores else ""))


def test_a_measure_is_named_by_itself() -> None:
    found = recipe("[gzip_ratio, {measure: type_token_ratio, name: ttr}]").scores
    assert [(s.kind, s.name) for s in found] == [("gzip_ratio", "gzip_ratio"), ("type_token_ratio", "ttr")]


def test_a_perplexity_has_a_usual_name_and_a_table_needs_one() -> None:
    found = recipe("[{perplexity: models/en.bin}, {perplexity: models/de.bin, name: de}]").scores
    assert [(s.kind, s.name) for s in found] == [("perplexity", "perplexity"), ("perplexity", "de")]
    with pytest.raises(RecipeError, match=r"line 7: scores.0: table 's/\*.parquet' has no name; add name"):
        recipe("[{table: 's/*.parquet'}]")


@pytest.mark.parametrize(
    ("scores", "why"),
    [
        ("[gzip]", "scores.0: input should be 'gzip_ratio' or 'type_token_ratio', not 'gzip'"),
        ("[gzip_ratio, gzip_ratio]", "scores: two are named 'gzip_ratio'"),
        ("[{perplexity: a, name: ppl}, {table: b, name: ppl}]", "two are named 'ppl'"),
        ("[{perplexty: a}]", "'perplexty' is not a key of scores.0; did you mean 'perplexity'?"),
        ("[{}]", "exactly one of"),
        ("[{measure: gzip_ratio, perplexity: a}]", "exactly one of"),
        ("[{table: a, name: q, sentencepiece: b}]", "sentencepiece cuts words for a perplexity"),
        ("[{perplexity: /models/en.bin}]", "is absolute; write it relative to the data root"),
        ("[{table: /s.parquet, name: q}]", "is absolute"),
        ("[{table: a, name: two words}]", "scores.0.name"),
        ("gzip_ratio", "a list in brackets"),
    ],
)
def test_what_cannot_be_is_refused_at_its_line(scores: str, why: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe(scores)
    assert "recipe, line 7: " in str(caught.value)
    assert why in str(caught.value)


def test_kinds_and_names_enter_the_fingerprint_and_paths_do_not() -> None:
    here = recipe("[gzip_ratio, {perplexity: a/en.bin}, {table: a.parquet, name: q}]")
    there = recipe("[gzip_ratio, {perplexity: b/en.bin}, {table: b.parquet, name: q}]")
    assert here.fingerprint == there.fingerprint
    assert here.what()["scores"] == [
        {"kind": "gzip_ratio", "name": "gzip_ratio"},
        {"kind": "perplexity", "name": "perplexity"},
        {"kind": "table", "name": "q"},
    ]
    others = ("[gzip_ratio]", "[{measure: gzip_ratio, name: g}]", "[{table: a.parquet, name: p}]", "")
    pieces = "[gzip_ratio, {perplexity: a/en.bin, sentencepiece: a/en.model}, {table: a.parquet, name: q}]"
    assert len({recipe(s).fingerprint for s in (*others, pieces)} | {here.fingerprint}) == 6


def test_a_recipe_without_scores_says_nothing_of_them() -> None:
    assert "scores" not in recipe().what()
    assert recipe("[]").fingerprint == recipe().fingerprint
