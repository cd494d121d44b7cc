"""Liang et al. 2026 (arXiv 2604.02650): what a model of industrial size takes, 150B tokens and more.

A quarter is the corpus's short documents as they come; three quarters are documents above 32K, domain by domain. A
domain's share alone cannot say this, because nobody knows its part of the short quarter before the corpus is counted.
So all sources are read twice: under their domains, of which the long documents are drawn, and as `short`.
"""

from __future__ import annotations

from mixture.presets import fu
from mixture.presets.domains import rounded
from mixture.presets.preset import Corpus, Preset, Stage, Want

SHORT = "short"
SHORT_SHARE = 0.25
#: Shares of the long documents.
LONG = {"CommonCrawl": 0.363, "Books": 0.286, "ArXiv": 0.240, "Code": 0.108, "Wikipedia": 0.003}
_SHARES = rounded({SHORT: SHORT_SHARE} | {name: share * (1 - SHORT_SHARE) for name, share in LONG.items()})
_OURS = {"C4": "CommonCrawl", "GitHub": "Code"}

PRESETS = (
    Preset(
        name="lccp-hunyuan",
        paper="Liang et al. 2026, Revealing the Learning Dynamics of Long-Context Continual Pre-training "
        "(arXiv 2604.02650)",
        summary="25 % short documents as they come, 75 % above 32K with domain shares of their own; 150B tokens.",
        story="25 % short text in its natural mixture, 75 % documents above 32K tokens: CommonCrawl 36.3 %, Books 28.6 "
        "%, ArXiv 24.0 %, Code 10.8 %, Wikipedia 0.3 % of those. The context goes from 32K to 64K over 150B to 200B "
        "tokens; Hunyuan-A13B needs more than 150B until nothing more is gained.",
        differs="A domain's share of the whole would be .75 of its long share plus .25 of its natural share among the "
        "short documents, which nobody knows before the corpus is counted. So every source stands here twice: once "
        "with its domains, of which only documents from 32K are drawn, and once as the domain `short`, of which only "
        "shorter ones are. That gives the paper's numbers on any corpus, exactly; the price is that spans of short "
        "text name `short` as their domain (the source is in the plan). The tokens are stored once. The authors' "
        "corpus is not public, so SlimPajama stands here; C4 counts as CommonCrawl. Domains without a long share, such "
        "as StackExchange, are in `short` alone. Few corpora hold 112B tokens of such documents: the plan then says "
        "what is missing, and on_shortage what to do about it.",
        trainer="32K to 64K, RoPE base 5e5 to 2e6, learning rate 1.2e-5, batches of 16M tokens.",
        stages=(
            Stage("150B", "64K", {name: Want(s, part="" if name == SHORT else "long") for name, s in _SHARES.items()}),
        ),
        buckets=("32K",),
        corpora=(
            Corpus(
                fu.SLIMPAJAMA.name,
                fu.SLIMPAJAMA.paths,
                domain_field=fu.SLIMPAJAMA.domain_field,
                values={found: _OURS.get(name, name) for found, name in fu.SLIMPAJAMA.values.items()},
            ),
        ),
        max_epochs=4,
        picks="# The short documents of `short`, the long ones of all other domains; equal texts of a domain once.\n"
        f"where: occurrence = 0 and (domain = '{SHORT}') = (n_tokens < 32768)\n"
        "duplicates: keep                       # every text is read twice: the first may not drive out the second\n",
        twin=SHORT,
        packed="the paper does not say",
    ),
)
