"""What a model does: it reads a probe, answers greedily, and the answer is held to what was expected.

    probes ─ batches of one length ─▶ greedy answers ─▶ score and rouge1 of each ─▶ mean and interval by cell

    expected "amber violin harbor seven", answer "amber violin lake"   →   score 0, rouge1 2/4

The answer is what stands before the first line break. `score` is the share of the expected strings that occur in it
(one for a needle: 0 or 1), upper and lower case alike; `rouge1` is the share of the expected *words* that occur in it,
each as often as it is expected (Lin, "ROUGE", 2004: recall of unigrams). Neither can exceed 1.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mixture.errors import MonitorError
from mixture.monitor.decode import greedy
from mixture.monitor.intervals import interval
from mixture.monitor.measures import Measure
from mixture.monitor.probes import Probe
from mixture.monitor.subject import Subject
from mixture.monitor.tasks import TASKS

LEVEL = "behaviour"
METRICS = ("score", "rouge1")
#: Tokens decoded beyond those of the expected answer: a model may say it in other words, or other tokens.
SPARE = 8
#: Tokens of prompts that are read at once by default.
BATCH_TOKENS = 32 << 10
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Answer:
    """What a model said to one probe.

    Attributes:
        task: of the probe.
        length: of its prompt.
        depth: of its needle.
        sample: its number.
        text: what was said, up to the first line break.
        score: share of the expected strings that occur in it.
        rouge1: share of the expected words that occur in it.
    """

    task: str
    length: int
    depth: float
    sample: int
    text: str
    score: float
    rouge1: float


def behave(
    subject: Subject, probes: Iterable[Probe], *, batch_tokens: int = BATCH_TOKENS, seed: int = 0
) -> list[Measure]:
    """Ask a model all probes; return its scores by cell and over each task's grid.

    Args:
        subject: the model.
        probes: of any tasks; those of one length in a row are read together.
        batch_tokens: tokens of prompts that are read at once; a longer prompt is read alone.
        seed: of the intervals.

    Raises:
        MonitorError: there are no probes.
    """
    return measures(subject, answers(subject, probes, batch_tokens=batch_tokens), seed=seed)


def answers(subject: Subject, probes: Iterable[Probe], *, batch_tokens: int = BATCH_TOKENS) -> Iterator[Answer]:
    """Yield what a model says to each probe, in their order."""
    eos = subject.tokenizer.eos_id
    for batch in batches(probes, batch_tokens):
        said = greedy(
            subject.model,
            np.stack([probe.prompt for probe in batch]),
            most=max(len(probe.answer) for probe in batch) + SPARE,
            stop=() if eos is None else (eos,),
            device=subject.device,
        )
        for probe, tokens in zip(batch, said, strict=True):
            yield judged(probe, _text(subject, tokens.tolist(), eos))


def batches(probes: Iterable[Probe], batch_tokens: int = BATCH_TOKENS) -> Iterator[list[Probe]]:
    """Yield probes that are read together: consecutive ones of one length, at most so many tokens, at least one."""
    batch: list[Probe] = []
    for probe in probes:
        if batch and (probe.length != batch[0].length or (len(batch) + 1) * probe.length > batch_tokens):
            yield batch
            batch = []
        batch.append(probe)
    if batch:
        yield batch


def _text(subject: Subject, tokens: list[int], eos: int | None) -> str:
    """Return an answer as text: what stands before the end of the document, and on its first line."""
    if eos in tokens:
        tokens = tokens[: tokens.index(eos)]
    lines = subject.tokenizer.decode(tokens).strip().splitlines()
    return lines[0] if lines else ""


def judged(probe: Probe, text: str) -> Answer:
    """Hold an answer to what was expected."""
    score, rouge1 = substring_score(probe.expected, text), rouge1_recall(" ".join(probe.expected), text)
    return Answer(probe.task, probe.length, probe.depth, probe.seed, text, score, rouge1)


def substring_score(expected: Sequence[str], text: str) -> float:
    """Return the share of strings that occur in a text, upper and lower case and runs of blanks alike."""
    said = _plain(text)
    return sum(_plain(one) in said for one in expected) / len(expected)


def rouge1_recall(expected: str, text: str) -> float:
    """Return the share of expected words that a text holds, each counted at most as often as it is expected."""
    wanted, said = (Counter(_WORD.findall(words.casefold())) for words in (expected, text))
    return (wanted & said).total() / max(wanted.total(), 1)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def measures(subject: Subject, given: Iterable[Answer], *, seed: int = 0) -> list[Measure]:
    """Return the means of answers by cell, and over the grid of each task.

    Args:
        subject: who gave them: name, step and tokens enter the rows.
        given: answers of any tasks.
        seed: of the intervals.

    Raises:
        MonitorError: there are none.
    """
    found = list(given)
    if not found:
        raise MonitorError(f"{subject.name}: no probes were asked; give lengths, depths and at least one sample")
    rows: list[Measure] = []
    for task in dict.fromkeys(answer.task for answer in found):
        mine = [answer for answer in found if answer.task == task]
        cells: dict[tuple[int | None, float | None], list[Answer]] = {}
        for answer in mine:
            depth = answer.depth if task not in TASKS or TASKS[task].by_depth else None
            cells.setdefault((answer.length, depth), []).append(answer)
        cells[None, None] = mine
        rows += [_row(subject, task, metric, cell, those, seed) for metric in METRICS for cell, those in cells.items()]
    return rows


def _row(
    subject: Subject,
    task: str,
    metric: str,
    cell: tuple[int | None, float | None],
    those: Sequence[Answer],
    seed: int,
) -> Measure:
    value, low, high = interval(np.array([getattr(answer, metric) for answer in those]), seed=seed)
    return Measure(
        model=subject.name,
        step=subject.step,
        tokens=subject.tokens,
        level=LEVEL,
        task=task,
        domain="",
        metric=metric,
        length=cell[0],
        depth=cell[1],
        cell="",
        value=value,
        low=low,
        high=high,
        n=len(those),
    )
