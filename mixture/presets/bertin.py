"""De la Rosa et al. 2022 (arXiv 2207.06814), BERTIN: documents drawn by their perplexity p under a small model.

    gaussian    keep = .78 exp(-((p - median) / median)² / 4.5)
    stepwise    keep ∝ 1 / width of the quartile that p lies in

A recipe's `weight` is relative, and the budget says how many are drawn: a common factor changes nothing.
"""

from __future__ import annotations

from mixture.presets.preset import Corpus, Preset, Stage

_SCORES = """\
# A KenLM model; or `carry` a column that you have, and write its name below.
scores: [{perplexity: models/es.arpa.bin, name: ppl}]
"""
_QUARTILE = "quantile_disc(ppl, {share}) over (partition by domain)"
_Q1, _Q2, _Q3 = (_QUARTILE.format(share=share) for share in (0.25, 0.5, 0.75))

GAUSSIAN = f"""\
{_SCORES}# The middle of the distribution is kept, both ends thin out.
weight: >-
  0.78 * exp(-power((ppl - median(ppl) over (partition by domain))
  / median(ppl) over (partition by domain), 2) / 4.5)
"""
#: The first quartile is as wide as its end, from 0; the last has no end, and the authors' code takes ten times its
#: beginning for its width. A quartile of equal perplexities has no width.
STEPWISE = f"""\
{_SCORES}# One over the width of the document's quartile; the last has no end, their code takes ten times its
# beginning.
weight: >-
  1 / greatest(1e-6, case
  when ppl <= {_Q1}
  then {_Q1}
  when ppl < {_Q2}
  then {_Q2}
  - {_Q1}
  when ppl < {_Q3}
  then {_Q3}
  - {_Q2}
  else 10 * {_Q3}
  end)
"""


def _preset(name: str, summary: str, story: str, picks: str) -> Preset:
    return Preset(
        name=name,
        paper="De la Rosa et al. 2022, BERTIN: Efficient Pre-Training of a Spanish Language Model using Perplexity "
        "Sampling (arXiv 2207.06814)",
        summary=summary,
        story=story,
        differs="The paper throws a coin for each document, with this probability; here the probabilities weigh the "
        "draw, and the budget, exact to the token, says how many documents that is. The median and the quartiles are "
        "those of each domain. There is one length bucket, so that length has no say. Budget and sequence are ours: "
        "the paper counts documents, and its models are older.",
        trainer="a masked language model (RoBERTa).",
        stages=(Stage("1B", "4K"),),
        buckets=(),
        corpora=(Corpus("mc4-es", "mc4-es/**/*.json.gz", domain="mc4-es"),),
        picks=picks,
        packed="ours; the paper does not say",
    )


PRESETS = (
    _preset(
        "bertin-gaussian",
        "Documents weighed by perplexity: the middle kept, both ends thinned out along a bell curve.",
        "A document of perplexity p is kept with probability .78 exp(-((p - median) / median)² / 4.5).",
        GAUSSIAN,
    ),
    _preset(
        "bertin-stepwise",
        "Documents weighed by perplexity: one over the width of the quartile.",
        "A document is kept with a probability that falls with the width of the quartile that its perplexity lies in.",
        STEPWISE,
    ),
)
