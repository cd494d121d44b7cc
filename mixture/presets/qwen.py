"""Yang et al. 2025 (arXiv 2501.15383), Qwen2.5-1M: the context grows in phases."""

from __future__ import annotations

from mixture.presets.preset import Corpus, Preset, Stage

LENGTHS = ("64K", "128K", "256K")
LONG_SHARE = 0.75

PRESETS = (
    Preset(
        name="qwen-progressive",
        paper="Yang et al. 2025, Qwen2.5-1M Technical Report (arXiv 2501.15383)",
        summary="Phases of 64K, 128K and 256K, each with 75 % at its full length and 25 % shorter.",
        story="The context grows in phases: 64K, 128K, 256K. In each, 75 % is at the maximal length and 25 % is "
        "shorter.",
        differs="Where the paper has sequences, these are documents: 75 % of the tokens come from documents that fill "
        "the phase's sequence. `global` holds this over the corpus as one, for the paper fixes no domain shares, and "
        "few domains hold such documents. The budgets, 1B each, are ours. Caps hold over all phases.",
        stages=tuple(
            Stage("1B", size, "global", f"{{threshold: {size}, long: {LONG_SHARE}}}", name=size.lower())
            for size in LENGTHS
        ),
        buckets=LENGTHS,
        corpora=(Corpus("corpus", "corpus/**/*.jsonl.zst", domain_path="corpus/([^/]+)/"),),
        packed="ours; the paper speaks of sequences",
    ),
)
