"""What the corpus does not hold: the cells, what they hold, what was wanted, and the best that can be had."""

from __future__ import annotations

import re

import pytest

from tests.cli.conftest import DOCS, Shop


def test_an_unknown_domain_is_named_with_the_nearest_and_all_there_are(shop: Shop) -> None:
    shop.stock(domains="{boks: 0.6, wiki: 0.4}")
    words = ("mix.domains: 'boks' is not a domain", "did you mean 'books'?", "books, code, wiki")
    shop.refused(shop.run(), *words)


@pytest.mark.parametrize(
    "changes",
    [
        {"domains": "{books: 0.2, wiki: 0.7, code: 0.1}", "max_epochs": 2},
        {"domains": "{books: 0.5, wiki: 0.3, code: 0.2}", "max_epochs": 3, "buckets": "1K", "lengths": "natural"},
        {"domains": "natural", "max_epochs": 1, "separator": "none"},
        {"domains": "natural", "lengths": "{factors: [4, 1, 1, 1]}", "max_epochs": 1},
    ],
)
def test_the_largest_feasible_budget_works_and_one_sequence_more_fails(shop: Shop, changes: dict[str, str]) -> None:
    shop.stock(**({"budget": 3_000_000} | changes))
    said = shop.refused(shop.run(), "less than the recipe wants of 2,999,808 tokens", "holds ", "wanted ", "epochs)")
    assert not (shop.root / "small.lock.json").exists()
    found = re.search(r"budget: (\d+) \(the largest", said)
    assert found is not None, said
    largest = int(found[1])
    shop.stock(**({"budget": largest} | changes))
    done = shop.run()
    assert done.code == 0, done.err
    assert done.json["phases"][0]["stream"]["tokens"] == largest
    assert all(cell["written"] == cell["granted"] for cell in done.json["phases"][0]["cells"])
    shop.stock(**({"budget": largest + 512} | changes))
    shop.refused(shop.run(), f"the recipe wants of {largest + 512:,} tokens", f"budget: {largest} (the largest")


def test_a_cell_that_holds_nothing_leaves_no_budget_and_says_so(shop: Shop) -> None:
    shop.stock(lengths="{shares: [0, 0, 0, 1]}", buckets="512, 1K, 1M")
    shop.refused(shop.run(), "books ≥1M holds nothing, wanted", "no budget at all", "gentler length rule")


def test_the_suggested_cap_on_repeats_works(shop: Shop) -> None:
    changes = {"budget": 1_000_000, "domains": "{books: 0.2, wiki: 0.7, code: 0.1}"}
    shop.stock(max_epochs=2, **changes)
    found = re.search(r"max_epochs: (\d+)", shop.refused(shop.run()).partition("Options")[2])
    assert found is not None
    shop.stock(max_epochs=found[1], **changes)
    assert shop.run().code == 0
    shop.stock(max_epochs=int(found[1]) - 1, **changes)
    shop.refused(shop.run())


def test_holding_out_nearly_everything_leaves_a_shortage_not_a_crash(shop: Shop) -> None:
    shop.stock(holdout=0.99, budget=2_000_000, max_epochs=1)
    shop.refused(shop.run(), "less than the recipe wants")
    shop.stock(holdout=0.9, budget=512, max_epochs=1000, domains="natural", lengths="natural")
    done = shop.run()
    assert done.code == 0, done.err
    held = done.json["documents"]["held_out"]
    assert sum(entry["documents"] for entry in held.values()) > len(DOCS) * 0.7
