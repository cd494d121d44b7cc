"""Papers about how documents are laid into sequences; the mixture is left as the corpus has it.

Tian et al. 2024 (Untie the Knots), Pouransari et al. 2024 (dataset decomposition), Ding et al. 2024 (best-fit packing),
Staniszewski et al. 2023 (SPLiCe). Each goes with any mixture: copy its `packing` or `transforms` into your recipe.
"""

from __future__ import annotations

from mixture.presets.preset import Corpus, Preset, Stage

UTK_PROBABILITY = 0.3
UTK_PARTS = 3
VSL_ODDS = (32, 16, 8, 4, 2, 1)
VSL_SMALLEST = 256
#: Of each shard; 1B tokens are four shards, so eight in all.
VSL_CYCLES = 2

_NATURAL = "domain shares and lengths are natural: the paper is about sequences, not about the mixture. "
_CORPORA = (Corpus("corpus", "corpus/**/*.jsonl.zst", domain_path="corpus/([^/]+)/"),)

PRESETS = (
    Preset(
        name="utk",
        paper="Tian et al. 2024, Untie the Knots (arXiv 2409.04774)",
        summary="Documents of a sequence are cut, their parts shuffled, the seams marked; 20B tokens at 128K.",
        story="In a share of the sequences each document is cut into one to three parts; the parts are shuffled, those "
        "of one document stay in their order, and marks say where one is torn. The model learns to find where a text "
        "went on. 20B tokens; RULER at 128K: 75.0 (7B), against 67.4 for length upsampling alone.",
        differs=f"Here {_NATURAL}Probabilities of .3 and .8 are in the paper; this takes .3. Marks are the first ids "
        "after the vocabulary unless head and tail name some: the model's embedding needs two more rows. Labels are "
        "masked there.",
        stages=(Stage("20B", "128K"),),
        buckets=("4K", "32K", "128K"),
        corpora=_CORPORA,
        packed="end to end; the room for marks is left free",
        transforms=f"{{utk: {{probability: {UTK_PROBABILITY}, parts: {UTK_PARTS}}}}}",
    ),
    Preset(
        name="vsl",
        paper="Pouransari et al. 2024, Dataset Decomposition (arXiv 2405.13226)",
        summary="Documents cut into powers of two, one piece length a batch, short ones first; no cross-document text.",
        story="Each document is cut by the binary digits of its length. A batch has pieces of one length only, and as "
        "many tokens as any other. Which length comes next is drawn with odds of 32:16:8:4:2:1 from short to long, in "
        "eight cycles over the data.",
        differs=f"Here {_NATURAL}The budget is ours. Cycles are counted by shard: two in each of four. The paper "
        "leaves out pieces below 256 tokens; here they stand in mixed sequences, so that no token is lost.",
        trainer="attention inside a piece only (cu_seqlens from the spans).",
        stages=(Stage("1B", "8K"),),
        buckets=("1K", "2K", "4K", "8K"),
        corpora=_CORPORA,
        packing=f"{{kind: vsl, smallest: {VSL_SMALLEST}, odds: [{', '.join(map(str, VSL_ODDS))}], "
        f"cycles: {VSL_CYCLES}, batch: 64}}",
        packed="batch: your global batch",
    ),
    Preset(
        name="best-fit",
        paper="Ding et al. 2024, Fewer Truncations Improve Language Modeling (arXiv 2404.10830)",
        summary="Best-fit packing: no document is cut that fits into a sequence.",
        story="Documents longer than a sequence are cut into whole sequences; all pieces are then packed by "
        "best-fit-decreasing. That needs .0024 % more sequences than end to end, and less is made up by the model.",
        differs=f"Here {_NATURAL}The budget is ours.",
        trainer="document mask on.",
        stages=(Stage("1B", "8K"),),
        buckets=("2K", "8K"),
        corpora=_CORPORA,
        packing="best-fit",
        packed="as in the paper",
    ),
    Preset(
        name="related",
        paper="Staniszewski et al. 2023, Structured Packing in LLM Training (arXiv 2312.17296)",
        summary="Related documents share a sequence, found by BM25; none comes twice.",
        story="A sequence begins with one document and goes on with those that retrieval finds most related to it. "
        "Perplexity on long texts and answers from long contexts get better.",
        differs=f"Here {_NATURAL}Budget and length are ours. Documents are compared within blocks of the corpus, along "
        "a path that takes each of them once; `by: keywords` is Quest (2405.19846), `by: embeddings` In-Context "
        "Pre-training (2310.10638).",
        stages=(Stage("1B", "32K"),),
        buckets=("4K", "32K"),
        corpora=_CORPORA,
        packed="end to end: packings that sort by length would tear relatives apart",
        transforms="{related: {by: bm25}}",
    ),
)
