"""Gao et al. 2024 (arXiv 2410.02660), ProLong: 60 % long (repositories, books), 40 % short, at 64K and then at 512K."""

from __future__ import annotations

from mixture.presets.preset import Corpus, Preset, Stage, Want

LONG = {"Repos": 0.30, "Books": 0.30}
SHORT = {
    "FineWeb-Edu": 0.10,
    "FineWeb": 0.10,
    "StackExchange": 0.04,
    "Wikipedia": 0.04,
    "Tulu": 0.03,
    "ArXiv": 0.03,
    "OpenWebMath": 0.03,
    "Textbooks": 0.03,
}

_PAPER = "Gao et al. 2024, How to Train Long-Context Language Models (Effectively) (arXiv 2410.02660)"
_STORY = (
    "Repositories 30 % and books 30 %, as chunks of single documents at least as long as the sequence; a short mix of "
    "40 %: FineWeb-Edu 10, FineWeb 10, StackExchange 4, Wikipedia 4, Tulu 3, ArXiv 3, OpenWebMath 3, textbooks 3. Of "
    "long and short, 60:40 is best; 100 % long hurts. "
)
_WHOLE = (
    "What is left of a long document after its last whole sequence goes to the short ones; the paper drops it. Where "
    "your corpus lacks some domains, the others of their side make up for them: long stays 60 %. A repository is one "
    "document: all of its files, one after the other (`join`)."
)
_CORPORA = (
    Corpus("repos", "repos/**/*.parquet", domain="Repos", repository=True),
    *(
        Corpus(name.lower(), f"{name.lower()}/**/*.jsonl.zst", domain=name)
        for name in ("Books", *(name for name in SHORT))
    ),
)


def _wants(repos: str, books: str) -> dict[str, Want]:
    rules = {"Repos": repos, "Books": books}
    long = {name: Want(share, rules[name], "long") for name, share in LONG.items()}
    return long | {name: Want(share, part="short") for name, share in SHORT.items()}


PRESETS = (
    Preset(
        name="prolong-64k",
        paper=_PAPER,
        summary="Repositories 30, books 30 (documents of 64K and more), a short mix of 40; 20B tokens at 64K.",
        story=_STORY + "This is its first stage: 20B tokens at 64K.",
        differs=_WHOLE,
        trainer="document mask on; RoPE base 8e6.",
        stages=(Stage("20B", "64K", _wants("{factors: [0, 1]}", "{factors: [0, 1]}")),),
        buckets=("64K",),
        corpora=_CORPORA,
        packing="intact",
        packed="as in the paper, with the document mask on",
    ),
    Preset(
        name="prolong-512k",
        paper=_PAPER,
        summary="The stage at 64K, then 20B tokens at 512K, where half of the repositories reach 512K.",
        story=_STORY
        + "20B tokens at 64K, then 20B at 512K; there repositories are 15 % at 512K and 15 % at 64K, books "
        "5 % and 25 %.",
        differs=_WHOLE + " What the paper cuts to 64K for the second stage is here a document from 64K to 512K: the "
        "shares of the buckets say 15 + 15 (half and half) and 5 + 25 (a sixth from 512K). Caps hold over both phases. "
        "With a model that has had the first stage, leave that phase away.",
        trainer="document mask on; RoPE base 8e6, then 1.28e8.",
        stages=(
            Stage("20B", "64K", _wants("{factors: [0, 1, 1]}", "{factors: [0, 1, 1]}"), name="64k"),
            Stage(
                "20B",
                "512K",
                _wants("{shares: [0, 0.5, 0.5]}", "{shares: [0, 0.8333333, 0.1666667]}"),
                name="512k",
                why="repositories 15 at 64K and 15 at 512K, books 25 and 5",
            ),
        ),
        buckets=("64K", "512K"),
        corpora=_CORPORA,
        packing="intact",
        packed="as in the paper, with the document mask on",
    ),
)
