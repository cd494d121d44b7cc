"""`mixture init --preset`, at the command line."""

from __future__ import annotations

import pytest
import yaml

from mixture.presets import PRESETS
from tests.cli.conftest import Shop, shop  # noqa: F401 - a fixture


def test_the_list_has_every_preset_with_its_paper(shop: Shop) -> None:  # noqa: F811
    said = shop.call("init", "--list-presets")
    assert said.code == 0, said.err
    for name, preset in PRESETS.items():
        assert any(name in line and preset.arxiv in line for line in said.out.splitlines())
    assert not list(shop.root.iterdir())


def test_a_preset_without_sources_waits_for_paths(shop: Shop) -> None:  # noqa: F811
    said = shop.call("init", "mine.yaml", "--preset", "fu-per-source")
    assert said.code == 0, said.err
    assert "point its sources at your files" in said.out
    assert "count bytes" in said.out
    made = yaml.safe_load((shop.root / "mine.yaml").read_text())
    assert made["sources"][0]["domain"]["field"] == "meta.redpajama_set_name"


def test_a_preset_over_your_sources_with_your_tokenizer_and_budget(shop: Shop) -> None:  # noqa: F811
    order = ("init", "mine.yaml", "--preset", "fu-per-source", "-s", "web=w/*.parquet", "-s", "Books=b.jsonl.zst")
    more = ("--domains", "CommonCrawl=web,C4=web", "--budget", "1B", "--tokenizer", "t/llama.model", "--json")
    said = shop.call(*order, *more)
    assert said.code == 0, said.err
    assert said.json["preset"] == "fu-per-source"
    assert said.json["notices"] == [
        "left out, for no domain of yours plays them: GitHub, ArXiv, Wikipedia, StackExchange; the others are scaled"
    ]
    made = yaml.safe_load((shop.root / "mine.yaml").read_text())
    assert made["budget"] == "1B"
    assert made["tokenizer"] == {"kind": "sentencepiece", "path": "t/llama.model"}
    # .79984705 : .0414836
    assert made["mix"]["domains"] == {"web": 0.95069287, "Books": 0.04930713}


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (("--preset", "fu-per-sorce"), ("no preset 'fu-per-sorce'", "did you mean 'fu-per-source'", "lccp-hunyuan")),
        (("--preset", "fu-per-source", "--domains", "Boks=b", "-s", "b=x"), ("'Boks'", "did you mean 'Books'")),
        (("--preset", "fu-per-source", "--domains", "Books=bb", "-s", "b1=x"), ("no --source is named 'bb'", "b1")),
        (("--preset", "fu-global", "--domains", "Books=b", "-s", "b=x"), ("no shares of its own",)),
        (("--preset", "fu-per-source", "--budget", "1X"), ("budget", "'1X'")),
        (("--preset", "qwen-progressive", "--budget", "1X"), ("--budget", "'1X'")),
        (("--preset", "qwen-progressive", "--budget", "3K"), ("phases.0", "less than one sequence")),
        (("--preset", "fu-per-source", "-s", "blogs=x"), ("needs a domain for CommonCrawl or C4",)),
    ],
)
def test_what_makes_no_recipe_is_refused_and_nothing_is_written(
    shop: Shop,  # noqa: F811
    order: tuple[str, ...],
    words: tuple[str, ...],
) -> None:
    shop.refused(shop.call("init", "mine.yaml", *order), *words)
    assert not (shop.root / "mine.yaml").exists()


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (("--preset", "fu-per-source", "--domains", "Books"), ("'Books'", "PRESET_DOMAIN=YOUR_DOMAIN")),
        (("--domains", "Books=b"), ("--preset",)),
        (("--preset", "fu-per-source", "--train-tokenizer"), ("--source",)),
    ],
)
def test_wrong_usage_ends_with_2(shop: Shop, order: tuple[str, ...], words: tuple[str, ...]) -> None:  # noqa: F811
    said = shop.call("init", "mine.yaml", *order)
    assert said.code == 2
    message = " ".join(said.err.replace("│", " ").split())
    assert all(word in message for word in words), message
    assert not (shop.root / "mine.yaml").exists()
