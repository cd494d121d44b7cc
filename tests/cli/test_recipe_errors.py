"""A recipe that is none: one sentence with file, line, key, value and bound, before anything is read or written."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Shop
from tests.conftest import recipe_text


def test_a_missing_recipe_is_named_with_its_nearest_neighbour(shop: Shop) -> None:
    shop.refused(shop.run(), "small.yaml: no such recipe", "mixture init")
    shop.stock()
    shop.refused(shop.run(recipe="smal.yaml"), "smal.yaml: no such recipe", "did you mean small.yaml?")
    assert not (shop.root / "work").exists()


def test_a_misspelt_key_is_named_with_file_line_and_nearest_key(shop: Shop) -> None:
    text = recipe_text()
    for right, wrong, parent in (("holdout", "hold_out", "a recipe"), ("max_epochs", "max_epoch", "mix")):
        line = next(n for n, row in enumerate(text.splitlines(), 1) if right in row)
        shop.file("small.yaml", text.replace(f"{right}:", f"{wrong}:"))
        said = f"error: small.yaml, line {line}: '{wrong}' is not a key of {parent}; did you mean '{right}'?"
        assert shop.refused(shop.run()) == said


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: [1\nb: 2", ("line 2", "not valid YAML")),
        (b"", ("a recipe is a mapping", "mixture init")),
        (b"- a\n- b\n", ("a recipe is a mapping", "mixture init")),
        (b"name: \xff\xfe", ("not UTF-8 text", "mixture init")),
        (b"name: a\0b", ("not valid YAML",)),
        (b"a: &a [*a]", ("holds itself",)),
        (b"[1, 2]: 3", ("line 1", "not valid YAML")),
        (b"name: x\nx: !!python/object:os.system 1", ("line 2", "not valid YAML", "tag")),
        (b"name: x\nseed: 1\nseed: 2\n", ("line 3", "'seed' is given twice (first on line 2)")),
        (b"when: 2020-99-99", ("not valid YAML",)),
    ],
)
def test_a_file_that_is_no_recipe_is_refused_at_its_line(shop: Shop, content: bytes, words: tuple[str, ...]) -> None:
    shop.file("small.yaml", content)
    shop.refused(shop.run(), "small.yaml", *words)


def test_a_folder_is_no_recipe(shop: Shop) -> None:
    shop.stock()
    shop.refused(shop.run(recipe="data"), "data: cannot be read", "give a recipe file")


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ("0", "0 is not above zero"),
        ("-5", "-5 is not above zero"),
        ("0M", "0M is not above zero"),
        ("abc", "'abc' is not a number of tokens"),
        ("5X", "'5X' is not a number of tokens"),
        ("1.5", "1.5 is not a whole number"),
        ("true", "is not a number of tokens"),
        ("[1]", "is not a number of tokens"),
        ("511", "511 tokens is less than one sequence of 512"),
        ("9" * 30, "is above 1,000,000,000,000,000"),
    ],
)
def test_a_budget_that_cannot_be_is_refused_with_its_line(shop: Shop, budget: str, said: str) -> None:
    text = recipe_text(budget=budget)
    line = text.splitlines().index(f"budget: {budget}") + 1
    shop.file("small.yaml", text)
    shop.refused(shop.run(), f"small.yaml, line {line}: budget: ", said)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"domains": "{books: 0.6, wiki: 0.5}"}, ("mix.domains", "shares sum to 1.1, not 1 (0.6 + 0.5)")),
        ({"domains": "{books: -0.5, wiki: 1.5}"}, ("mix.domains.books", "-0.5")),
        ({"domains": "{no: 0.5, wiki: 0.5}"}, ("mix.domains", "reads a name here as False", "quotes")),
        ({"domains": "{}"}, ("mix.domains", "no domain is named")),
        ({"domains": "{books: 0.6, wiki: {}}"}, ("wiki has no share while others have",)),
        ({"lengths": "{shares: [0.5, 0.5, 0.5, 0]}"}, ("mix.lengths", "shares sum to 1.5, not 1")),
        ({"lengths": "{shares: [0.5, 0.5]}"}, ("2 numbers for 4 buckets",)),
        ({"lengths": "{factors: [.inf, 1, 1, 1]}"}, ("mix.lengths.factors", "finite")),
        ({"lengths": "{threshold: 3K, long: 0.5}"}, ("threshold 3K is not an edge", "512, 1K, 4K")),
        ({"max_epochs": "0"}, ("mix.max_epochs", "not 0")),
        ({"max_epochs": "1" + "0" * 25}, ("mix.max_epochs", "1000")),
        ({"holdout": "1"}, ("holdout", "less than 1")),
        ({"holdout": ".nan"}, ("holdout",)),
        ({"buckets": "4K, 1K"}, ("buckets", "edges must rise, got 4K, 1K")),
        ({"seed": "x"}, ("seed", "integer", "'x'")),
        ({"shard_tokens": "100"}, ("shard_tokens", "100 is less than one sequence of 512")),
    ],
)
def test_a_value_out_of_bounds_is_named_with_its_key_and_the_bound(
    shop: Shop, changes: dict[str, str], words: tuple[str, ...]
) -> None:
    shop.stock(**changes)
    shop.refused(shop.run(), "small.yaml, line ", *words)
    assert not (shop.root / "work").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("packing:", ("packing: input should be a mapping of keys to values, not None",)),
        ("packing: [best-fit]", ("packing: input should be a mapping of keys to values",)),
        ("packing: {kind: vsl, odds: []}", ("packing.odds: the list should have at least 1 item, not 0",)),
        ("transforms: utk", ("transforms: input should be a mapping of keys to values, not 'utk'",)),
        ("transforms: {utk: {room: 257}}", ("transforms.utk.room: 257 is above half of sequence.length 512",)),
    ],
)
def test_a_packing_that_cannot_be_is_named_in_words_of_the_recipe(
    shop: Shop, more: str, words: tuple[str, ...]
) -> None:
    shop.stock(more=more)
    shop.refused(shop.run(), "small.yaml, line ", *words)
    assert not (shop.root / "work").exists()


def test_a_lock_in_place_of_its_recipe_is_told_apart(shop: Shop) -> None:
    for lock in ("small.lock.json", "small.scale-1-16-matched.lock.json"):
        shop.refused(shop.call("verify", lock), f"{lock}: a lock; name its recipe, small.yaml")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{name: a, format: jsnl, paths: [x], domain: d}", ("format", "'jsonl'", "'jsnl'")),
        ("{name: a, format: jsonl, paths: [/x], domain: d}", ("'/x' is absolute", "--data")),
        ("{name: a, format: jsonl, domain: d}", ("'a' has no paths",)),
        ("{name: a, format: jsonl, paths: [x]}", ("sources.0.domain is missing",)),
        ("{name: a, format: text, paths: [x], domain: {field: y}}", ("has no fields",)),
        ("{name: a, format: text, paths: [x], domain: {path: '('}}", ("not a regular expression",)),
        ("{name: a, format: text, paths: [x], domain: {path: abc}}", ("has no group", "parentheses")),
        ("{name: a, format: huggingface, hub: a/b, domain: x}", ("needs its revision", "40 hex digits")),
    ],
)
def test_a_source_that_cannot_be_read_is_refused_at_its_line(shop: Shop, source: str, words: tuple[str, ...]) -> None:
    shop.stock(sources=f"  - {source}")
    shop.refused(shop.run(), "small.yaml, line 5", *words)


def test_a_mended_recipe_runs(shop: Shop) -> None:
    shop.stock(budget=0)
    shop.refused(shop.run())
    shop.stock()
    assert shop.run().code == 0
