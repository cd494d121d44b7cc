"""How probable the right answer is: the needle's perplexity over a grid, and the intervals of means and of ratios.

    probe      … sentence with the number … Answer:   7 3 9        length 4096, depth 0.5, sample 0
    losses of the answer's tokens                    0.2 0.1 0.6   mean 0.3     perplexity exp(0.3) = 1.35
    cell       mean over its samples                  (1.35 + 1.61 + 1.22) / 3 = 1.39

Teacher-forced: each token of the answer is scored with the right ones before it given, so the score is defined, and
moves, when the greedy answer is wrong. Prompt and answer are one forward pass; only the answer's places have logits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mixture.errors import MonitorError
from mixture.monitor.intervals import interval
from mixture.monitor.losses import CHUNK, PLACES, Floats, token_losses
from mixture.monitor.measures import Measure
from mixture.monitor.probes import Probe
from mixture.monitor.subject import Subject

LEVEL = "probability"


def answer_losses(
    subject: Subject, prompts: Sequence[npt.ArrayLike], answers: Sequence[npt.ArrayLike], *, places: int = PLACES
) -> list[Floats]:
    """Return the losses of the tokens of answers, each with its prompt and the tokens before it given, in nats.

    Args:
        subject: the model.
        prompts: tokens, shape (n,) each, n at least 1.
        answers: tokens, shape (m,) each, m at least 1.
        places: places that run through the model at the same time.

    Raises:
        MonitorError: a prompt or an answer is empty; and as `token_losses`.
    """
    asked = [np.asarray(prompt, np.int64) for prompt in prompts]
    said = [np.asarray(answer, np.int64) for answer in answers]
    for number, (prompt, answer) in enumerate(zip(asked, said, strict=True)):
        if not len(prompt) or not len(answer):
            what = "prompt" if not len(prompt) else "answer"
            raise MonitorError(f"probe {number}: its {what} has no token, so there is nothing to score")
    rows = [np.concatenate(pair) for pair in zip(asked, said, strict=True)]
    return token_losses(subject, rows, [len(prompt) for prompt in asked], chunk=CHUNK, places=places)


def needle_perplexity(
    subject: Subject, probes: Sequence[Probe], *, task: str = "niah_ppl", places: int = PLACES
) -> list[Measure]:
    """Return the perplexity of the right answers (NIAH-PPL, arXiv 2604.02650), by cell of the grid and over it.

    The perplexity of a sample is exp of the mean loss of its answer's tokens. That of a cell is the mean over its
    samples; that of the grid is the mean over all samples. Beside it stands `loss`, the mean over samples of the mean
    loss of an answer's tokens, which one bad sample does not drown. Intervals are bootstrapped over samples.

    Args:
        subject: the model.
        probes: at least one.
        task: what the table calls it.
        places: places that run through the model at the same time.

    Raises:
        MonitorError: no probe, a perplexity too large for a number; and as `answer_losses`.
    """
    if not probes:
        raise MonitorError(f"{task}: no probe was given; give a grid with at least one length and one depth")
    found = answer_losses(
        subject, [probe.prompt for probe in probes], [probe.answer for probe in probes], places=places
    )
    loss = np.array([losses.mean() for losses in found])
    perplexity = perplexities(loss, subject)
    cells: dict[tuple[int, float], list[int]] = {}
    for number, probe in enumerate(probes):
        cells.setdefault((int(probe.length), float(probe.depth)), []).append(number)
    out = []
    for metric, values in (("perplexity", perplexity), ("loss", loss)):
        out.append(measured(subject, task, metric, values))
        for (length, depth), numbers in sorted(cells.items()):
            out.append(measured(subject, task, metric, values[numbers], length=length, depth=depth))
    return out


def perplexities(losses: npt.ArrayLike, subject: Subject) -> Floats:
    """Return exp of losses.

    Raises:
        MonitorError: one is too large for a number.
    """
    values = np.asarray(losses, np.float64)
    if values.size and values.max() > np.log(np.finfo(np.float64).max):
        raise MonitorError(f"{subject.name}: a mean loss of {values.max():.0f} nats has no perplexity; it is broken")
    out: Floats = np.exp(values)
    return out


def measured(
    subject: Subject,
    task: str,
    metric: str,
    values: Floats,
    *,
    domain: str = "",
    length: int | None = None,
    depth: float | None = None,
    cell: str = "",
) -> Measure:
    """Return the mean of samples as a row of the long table, with its interval.

    Args:
        subject: the model.
        task: see `Measure`, as the others.
        metric: as there.
        values: one a sample, shape (n,), n at least 1.
        domain: as there.
        length: as there.
        depth: as there.
        cell: as there.
    """
    found = interval(values)
    return _row(subject, (task, domain, metric), (length, depth, cell), found, len(values))


def pooled(
    subject: Subject,
    task: str,
    metric: str,
    sums: npt.ArrayLike,
    counts: npt.ArrayLike,
    *,
    domain: str = "",
    cell: str = "",
    exponent: bool = False,
) -> Measure:
    """Return Σ sums / Σ counts over texts as a row of the long table: a mean over tokens, its interval over texts.

    Tokens of one text depend on each other, so texts are what the bootstrap draws.

    Args:
        subject: the model.
        task: see `Measure`, as the others.
        metric: as there.
        sums: of each text, shape (n,).
        counts: of each text, above 0, shape (n,).
        domain: as there.
        cell: as there.
        exponent: take exp of the ratio: a perplexity out of losses.
    """
    total, tokens = np.asarray(sums, np.float64), np.asarray(counts, np.float64)
    if exponent:
        perplexities(total / tokens, subject)
    ratio = ratio_of(total, tokens, np.exp if exponent else None)
    # The bootstrap draws numbers of texts; a ratio needs two facts of each.
    found = interval(np.arange(len(total)), statistic=ratio)
    return _row(subject, (task, domain, metric), (None, None, cell), found, len(total))


def ratio_of(sums: Floats, counts: Floats, after: Callable[[Any], Any] | None = None) -> Callable[..., Any]:
    """Return a statistic of numbers of texts: Σ sums / Σ counts over those drawn, and `after` of it."""

    def ratio(numbers: Floats, axis: int = -1) -> Any:
        drawn = numbers.astype(np.int64)
        value = sums[drawn].sum(axis=axis) / counts[drawn].sum(axis=axis)
        return value if after is None else after(value)

    return ratio


def _row(
    subject: Subject,
    names: tuple[str, str, str],
    place: tuple[int | None, float | None, str],
    found: tuple[float, float, float],
    n: int,
) -> Measure:
    task, domain, metric = names
    length, depth, cell = place
    value, low, high = found
    return Measure(
        model=subject.name,
        step=subject.step,
        tokens=subject.tokens,
        level=LEVEL,
        task=task,
        domain=domain,
        metric=metric,
        length=length,
        depth=depth,
        cell=cell,
        value=value,
        low=low,
        high=high,
        n=n,
    )
