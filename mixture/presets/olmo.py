"""Olmo 3 (arXiv 2512.13961), Longmino: 34 % long documents, 66 % short ones to keep what was learnt."""

from __future__ import annotations

from mixture.presets.preset import Corpus, Preset, Stage

LONG_SHARE = 0.34
#: Longer than what the model has seen whole.
THRESHOLD = "8K"

PRESETS = (
    Preset(
        name="olmo3-longmino",
        paper="Olmo Team 2025, Olmo 3 (arXiv 2512.13961)",
        summary="34 % long documents, the middle 60 % of them by how well they compress; 66 % short replay.",
        story="34 % long documents and 66 % short ones replayed from the stage before. Documents stand in buckets of "
        "powers of two; of the long ones, the 20 % that gzip compresses best and the 20 % that it compresses least are "
        "dropped. From 8K to 64K, 50B tokens (7B model) or 100B (32B).",
        differs=f"Long means {THRESHOLD} tokens and more here: what a model of 8K never saw whole. `global` holds the "
        "34 % over the corpus as one, for the paper fixes no domains; `long` raises, so a corpus that is above 34 % "
        "already stays as it is (then give the domains shares instead). The ranks are taken inside each domain, among "
        "the long documents alone: short texts compress worse, and would shift them.",
        trainer="document mask on.",
        stages=(Stage("50B", "64K", "global", f"{{threshold: {THRESHOLD}, long: {LONG_SHARE}}}"),),
        buckets=("8K", "16K", "32K", "64K", "128K", "256K", "512K", "1M"),
        corpora=(
            Corpus("longmino", "longmino/**/*.jsonl.zst", domain="longmino"),
            Corpus("midtraining", "midtraining/**/*.jsonl.zst", domain="midtraining"),
        ),
        picks="# Of the long documents of each domain, the middle 60 % by how well they compress.\n"
        "scores: [gzip_ratio]\n"
        "where: >-\n"
        "  n_tokens < 8192\n"
        "  or percent_rank() over (partition by domain, n_tokens >= 8192 order by gzip_ratio) between 0.2 and 0.8\n",
        packing="best-fit",
        packed="as in the paper, with the document mask on",
    ),
)
