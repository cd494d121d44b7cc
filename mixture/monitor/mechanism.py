"""The mechanistic level: which heads fetch the needle, how many, and whether they stay the same.

    probes (a grid of needles)  ─ rows.read_rows ─▶  where the answer's rows look, one probe at a time
                                ─ copying ────────▶  each head's score for that probe
                                ─ heads ──────────▶  Retrieval: kept, compared with other checkpoints
                                ─ measures ───────▶  rows of the long table

    found = retrieval(subject, probes)                    scores (samples, layers, heads)
    rows = measures(found, first=at_step_0, previous=at_the_last_checkpoint)
    rows += causal_check(subject, other_probes, found).measures()      mixture.monitor.causal

A checkpoint costs one forward pass for each probe, and no more memory than that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import numpy as np
from transformers import PreTrainedModel

from mixture.errors import MonitorError
from mixture.monitor import heads
from mixture.monitor.copying import Question, copied, copy_weight, retrieval_score
from mixture.monitor.heads import Interval, Retrieval
from mixture.monitor.intervals import interval
from mixture.monitor.measures import Measure
from mixture.monitor.rows import read_rows

#: Name of the task in the long table.
TASK = "retrieval_heads"


class Examined(Protocol):
    """What is asked of a model here; `mixture.monitor.subject.Subject` has it."""

    @property
    def model(self) -> PreTrainedModel:
        """In evaluation mode, on one device."""

    @property
    def name(self) -> str:
        """Of the run or model."""

    @property
    def step(self) -> int | None:
        """Training steps done."""

    @property
    def tokens(self) -> int | None:
        """Tokens trained on."""


def retrieval(subject: Examined, probes: Iterable[Question], *, told: Callable[[int], None] | None = None) -> Retrieval:
    """Measure the retrieval score of every head, teacher-forced.

    Args:
        subject: model under examination.
        probes: with a needle each, one token or more of the answer in it.
        told: called with the number of probes done, after each.

    Raises:
        MonitorError: no probes, a probe without a needle to copy, or a model that cannot be watched.
    """
    scores, weights, asked = [], [], []
    for number, probe in enumerate(probes, 1):
        rows = read_rows(subject.model, probe.prompt, probe.answer)
        hits = copied(rows.positions, probe)
        scores.append(retrieval_score(hits, probe))
        weights.append(copy_weight(hits, rows.weights, probe))
        asked.append((probe.task, int(probe.length), float(probe.depth), int(probe.seed)))
        if told:
            told(number)
    if not scores:
        raise MonitorError(f"{subject.name}: a retrieval score needs at least one probe; none was given")
    return Retrieval(subject.name, subject.step, subject.tokens, np.array(scores), np.array(weights), tuple(asked))


def measures(
    found: Retrieval,
    *,
    first: Retrieval | None = None,
    previous: Retrieval | None = None,
    seed: int = 0,
    each_head: bool = True,
) -> list[Measure]:
    """Return a checkpoint's rows of the long table.

    Args:
        found: its scores.
        first: the first checkpoint's, which say whose heads are followed (`first_set_score`).
        previous: those of the checkpoint before, for overlap and rank correlation.
        seed: of the intervals.
        each_head: whether every head has a row of its own, in the cell `layer L head H`.

    Returns:
        retrieval_score of each head; and over all: heads (≥ .1), zero_share, mean_score and top_score (of the best 30)
        with top_weight (attention given to what they copy), first_set_score with one more row for each length;
        top_overlap (a share), top_spearman and spearman with the previous. What is not defined is left out: of a first
        checkpoint without retrieval heads there is no first set. A model of fewer than 120 heads has a quarter of them
        for its 30 best.

    Raises:
        MonitorError: checkpoints of other models, or measured on other probes.
    """
    layers, size = found.scores.shape[1:]
    top = top_size(layers * size)
    best = found.ranked()[:top]
    rows = _each_head(found, seed) if each_head else []
    rows += [
        _row(found, "heads", heads.count(found, seed=seed)),
        _row(found, "zero_share", heads.zero_share(found, seed=seed)),
        _row(found, "mean_score", heads.set_score(found, found.ranked(), seed=seed)),
        _row(found, "top_score", heads.set_score(found, best, seed=seed)),
        _row(found, "top_weight", heads.set_weight(found, best, seed=seed)),
    ]
    rows += _first_set(found, first, seed) if first else []
    rows += _since(found, previous, top, seed) if previous else []
    return rows


def top_size(total: int) -> int:
    """Return how many heads count as the best: 30, or a quarter of them in a model that has fewer than 120."""
    return min(heads.TOP, max(1, total // 4))


def _each_head(found: Retrieval, seed: int) -> list[Measure]:
    layers, size = found.scores.shape[1:]
    return [
        _row(
            found,
            "retrieval_score",
            interval(found.scores[:, layer, head], seed=seed),
            cell=f"layer {layer} head {head}",
        )
        for layer in range(layers)
        for head in range(size)
    ]


def _first_set(found: Retrieval, first: Retrieval, seed: int) -> list[Measure]:
    """Return the score of the heads that were retrieval heads at first, over all and by length."""
    if first.scores.shape[1:] != found.scores.shape[1:]:
        raise MonitorError(
            f"{found.model} has (layers, heads) {found.scores.shape[1:]} and the first checkpoint, {first.model}, "
            f"{first.scores.shape[1:]}; give checkpoints of one model"
        )
    followed = first.above()
    if not followed:
        return []
    rows = [_row(found, "first_set_score", heads.set_score(found, followed, seed=seed))]
    layer, head = np.array(followed).T
    of_sample = found.scores[:, layer, head].mean(axis=-1)
    lengths = np.array([length for _, length, _, _ in found.probes])
    for length in np.unique(lengths):
        of_length = of_sample[lengths == length]
        rows.append(
            _row(found, "first_set_score", interval(of_length, seed=seed), length=int(length), samples=len(of_length))
        )
    return rows


def _since(found: Retrieval, previous: Retrieval, top: int, seed: int) -> list[Measure]:
    value, low, high = heads.overlap(previous, found, top, seed=seed)
    rows = [_row(found, "top_overlap", (value / top, low / top, high / top))]
    for metric, size in (("top_spearman", top), ("spearman", None)):
        rho = heads.spearman(previous, found, size, seed=seed)
        if rho is not None:
            rows.append(_row(found, metric, rho))
    return rows


def _row(
    found: Retrieval, metric: str, value: Interval, *, length: int | None = None, cell: str = "", samples: int = 0
) -> Measure:
    place = (found.model, found.step, found.tokens, "mechanism", TASK, "", metric, length, None, cell)
    return Measure(*place, *value, samples or found.samples)
