"""Xu et al. 2025 (arXiv 2504.06214), UltraLong: from 128K to 1M, 2M and 4M tokens of context with 1B tokens."""

from __future__ import annotations

from mixture.presets.preset import Corpus, Preset, Stage

#: Weights below 4K, from 4K to 8K, above 8K. The paper gives the edges alone: the numbers are ours.
FACTORS = (0.5, 1, 2)

PRESETS = (
    Preset(
        name="ultralong",
        paper="Xu et al. 2025, From 128K to 4M: Efficient Training of Ultra-Long Context Large Language Models "
        "(arXiv 2504.06214)",
        summary="In each domain, documents below 4K down and above 8K up; joined by the text <s>; 1B tokens at 1M.",
        story="In each domain, documents below 4K tokens are sampled down and those above 8K up. Documents are joined "
        "by the text <s>, and attention crosses it. 1B tokens, sequences of 1M to 4M.",
        differs=f"The paper gives no factors: {list(FACTORS)} are ours. For its longest context write `length: 4M`.",
        trainer="no document mask.",
        stages=(Stage("1B", "1M", lengths=f"{{factors: [{', '.join(map(str, FACTORS))}]}}"),),
        buckets=("4K", "8K"),
        corpora=(Corpus("corpus", "corpus/**/*.jsonl.zst", domain_path="corpus/([^/]+)/"),),
        separator='{text: "<s>"}',
    ),
)
