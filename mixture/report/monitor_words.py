"""The words of a monitor's report: what metrics are called, which way is better, how checkpoints and numbers read.

    Measure(task="niah_ppl", metric="perplexity", …)   →   "niah_ppl: perplexity", lower is better
    Checkpoint("tiny", 2000, 8192000).label            →   "8.19M tokens"
    shown(0.71234)                                     →   "0.712"

A metric that nobody told of here is shown under its own name, with no word on which way is better.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mixture.monitor.measures import LEVELS, Measure
from mixture.report.tables import short

#: What each level asks, for headings.
QUESTIONS = {
    "behaviour": "does it answer right?",
    "probability": "how probable is the right answer to it?",
    "mechanism": "do its heads look where the answer stands?",
    "harness": "what other programs measured",
}


@dataclass(frozen=True)
class Metric:
    """How a metric is spoken of.

    Attributes:
        label: its name with its unit, for axes and tables.
        better: 1 where more is better, -1 where less is, 0 where neither.
        bounds: least and largest possible value, where both are known.
        log: whether its values span decades.
    """

    label: str
    better: int = 0
    bounds: tuple[float, float] | None = None
    log: bool = False


_SHARE = (0.0, 1.0)
_METRICS = {
    "score": Metric("score (share of right answers)", 1, _SHARE),
    "rouge1": Metric("ROUGE-1 recall", 1, _SHARE),
    "perplexity": Metric("perplexity", -1, None, log=True),
    "loss": Metric("loss (nats a token)", -1),
    "all_perplexity": Metric("perplexity of all tokens", -1, None, log=True),
    "key_share": Metric("share of tokens that are key tokens", 0, _SHARE),
    "excess": Metric("loss that text before the needle adds (nats a token)", -1),
    "slope": Metric("loss that a doubling of the text before adds (nats a token)", -1),
    "retrieval_score": Metric("retrieval score", 1, _SHARE),
    "heads": Metric("retrieval heads (score ≥ 0.1)", 1),
    "zero_share": Metric("share of heads that copy nothing", 0, _SHARE),
    "mean_score": Metric("mean retrieval score of all heads", 1, _SHARE),
    "top_score": Metric("mean retrieval score of the best heads", 1, _SHARE),
    "top_weight": Metric("attention of the best heads to what they copy", 1, _SHARE),
    "first_set_score": Metric("mean score of the first checkpoint's heads", 1, _SHARE),
    "top_overlap": Metric("best heads kept since the checkpoint before (share)", 0, _SHARE),
    "top_spearman": Metric("rank correlation of the best heads", 0, (-1.0, 1.0)),
    "spearman": Metric("rank correlation of all heads", 0, (-1.0, 1.0)),
    "loss_gap": Metric("loss that the best heads add over others (nats a token)", 1),
}


def metric(name: str) -> Metric:
    """Return how a metric is spoken of."""
    return _METRICS.get(name) or Metric(name.replace("_", " "))


def direction(name: str) -> str:
    """Say which way a metric is better; nothing where neither is."""
    return {1: "higher is better", -1: "lower is better"}.get(metric(name).better, "")


@dataclass(frozen=True)
class Checkpoint:
    """One model at one moment, as measures name it.

    Attributes:
        model: name of the run or model.
        step: training steps done, None where unknown.
        tokens: tokens trained on, None where unknown.
    """

    model: str
    step: int | None
    tokens: int | None

    @staticmethod
    def of(measure: Measure) -> Checkpoint:
        """Return whose measure it is."""
        return Checkpoint(measure.model, measure.step, measure.tokens)

    @property
    def label(self) -> str:
        """When it was, or its model's name where that is not known."""
        if self.tokens is not None:
            return f"{short(self.tokens)} tokens"
        return f"step {self.step:,}" if self.step is not None else self.model

    @property
    def order(self) -> tuple[float, float]:
        """What checkpoints of a model are sorted by; unknown moments come last."""
        return tuple(math.inf if at is None else at for at in (self.tokens, self.step))  # type: ignore[return-value]


@dataclass(frozen=True)
class Series:
    """What is followed over checkpoints: one aggregate metric."""

    level: str
    task: str
    domain: str
    metric: str

    @staticmethod
    def of(measure: Measure) -> Series:
        """Return what a measure is a point of."""
        return Series(measure.level, measure.task, measure.domain, measure.metric)

    @property
    def label(self) -> str:
        """Task and metric, with the domain where there is one."""
        return ", ".join(part for part in (f"{self.task}: {metric(self.metric).label}", self.domain) if part)


def checkpoints(measures: Iterable[Measure]) -> list[Checkpoint]:
    """Return the checkpoints that measures speak of: by model, in the order given, then by tokens and step."""
    found = dict.fromkeys(Checkpoint.of(measure) for measure in measures)
    models = {model: number for number, model in enumerate(dict.fromkeys(one.model for one in found))}
    return sorted(found, key=lambda one: (models[one.model], one.order))


def aggregates(measures: Iterable[Measure]) -> dict[Series, dict[Checkpoint, Measure]]:
    """Return the measures over the whole grid, by what they follow and of which checkpoint; by level, as given."""
    found: dict[Series, dict[Checkpoint, Measure]] = {}
    for measure in measures:
        if measure.whole:
            found.setdefault(Series.of(measure), {})[Checkpoint.of(measure)] = measure
    return dict(sorted(found.items(), key=lambda item: LEVELS.index(item[0].level)))


def shown(value: float) -> str:
    """Write a number in three digits or so: 0.712, 12.3, 1,234, 5.1e+07; one without fraction as such: 0, 1, 37."""
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value):,}"
    if 1e-3 <= abs(value) < 1e6:
        digits = max(0, 2 - math.floor(math.log10(abs(value))))
        return f"{value:,.{min(digits, 3)}f}"
    return f"{value:.2g}"


def interval(measure: Measure) -> str:
    """Write the interval of a measure, `[0.66, 0.76]`; nothing where none was computed."""
    if measure.low == measure.high:
        return ""
    return f"[{shown(measure.low)}, {shown(measure.high)}]"


def arrow(name: str) -> str:
    """Return the sign that a metric's name is followed by: ↑ where more is better, ↓ where less is."""
    return {1: "\u00a0↑", -1: "\u00a0↓"}.get(metric(name).better, "")


def samples(measures: Iterable[Measure]) -> str:
    """Say how many samples stand behind some measures."""
    counts = sorted({measure.n for measure in measures})
    if not counts:
        return "no samples"
    if len(counts) == 1:
        return f"n = {counts[0]:,}"
    return f"n = {counts[0]:,} to {counts[-1]:,}"


def chosen(found: Sequence[Checkpoint], most: int) -> list[Checkpoint]:
    """Return at most so many checkpoints of one model, evenly spaced, the first and the last among them."""
    if len(found) <= most:
        return list(found)
    if most == 1:
        return [found[-1]]
    places = dict.fromkeys(round(n * (len(found) - 1) / (most - 1)) for n in range(most))
    return [found[place] for place in places]


def listed(names: Sequence[str]) -> str:
    """Write names as a sentence does: a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else "nothing"


def sentence(text: str) -> str:
    """Write words as a sentence: a capital in front, a full stop behind."""
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '!', '?')) else '.'}"
