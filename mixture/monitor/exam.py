"""One checkpoint examined at all levels: what is asked, in which order, and what comes out.

    subject, suite, material ─┬─ behaviour     greedy answers of every task                    ┐
                              ├─ probability   NIAH-PPL, hold-out, LongPPL, interference       ├─▶ rows of the table
                              └─ mechanism     every head's retrieval score, causal check      ┘   and the scores

All prompts are drawn by address, so two checkpoints are asked the same. Whoever examines says when it is to end early
(`stop`): between two prompts of behaviour and mechanism, and between two parts of probability.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from mixture.errors import MonitorError
from mixture.monitor import causal, holdout, longppl, mechanism
from mixture.monitor.behaviour import behave
from mixture.monitor.heads import Retrieval
from mixture.monitor.interference import interference
from mixture.monitor.material import Material
from mixture.monitor.measures import Measure
from mixture.monitor.probability import needle_perplexity
from mixture.monitor.probes import Probe
from mixture.monitor.subject import Subject
from mixture.monitor.suite import Grid, Level, Suite
from mixture.monitor.tasks import probes, task

T = TypeVar("T")
Say = Callable[[str], None]


class StoppedError(Exception):
    """The examination was asked to end before its end; nothing of it is kept."""


@dataclass(frozen=True)
class Exam:
    """What one checkpoint came to.

    Attributes:
        measures: rows of the long table.
        retrieval: every head's scores; None where mechanism was not asked for.
        seconds: by level.
    """

    measures: tuple[Measure, ...]
    retrieval: Retrieval | None
    seconds: dict[str, float]


@dataclass(frozen=True)
class Before:
    """Retrieval scores of earlier checkpoints of the same model.

    Attributes:
        first: of the first one; None where this is it.
        previous: of the one before.
    """

    first: Retrieval | None = None
    previous: Retrieval | None = None


class Examiner:
    """Examines one checkpoint.

    Args:
        subject: the model.
        suite: laid (`mixture.monitor.laid`).
        material: text in its vocabulary.
        say: is told what is left out.
        stop: whether to end early.
    """

    def __init__(
        self, subject: Subject, suite: Suite, material: Material, say: Say, stop: Callable[[], bool] = lambda: False
    ) -> None:
        self._subject, self._suite, self._material = subject, suite, material
        self._say, self._stop = say, stop
        self._retrieval: Retrieval | None = None

    def examine(self, levels: Sequence[Level], before: Before) -> Exam:
        """Measure some levels.

        Raises:
            MonitorError: the model cannot be measured so.
            StoppedError: it was asked to end.
        """
        measures: list[Measure] = []
        seconds: dict[str, float] = {}
        for level in levels:
            since = time.perf_counter()
            found = self._mechanism(before) if level == "mechanism" else getattr(self, f"_{level}")()
            measures += found
            seconds[level] = time.perf_counter() - since
        return Exam(tuple(measures), self._retrieval, seconds)

    def _probes(self, name: str, grid: Grid) -> Iterator[Probe]:
        return self._heeded(
            probes(
                name,
                self._subject.tokenizer,
                self._material.haystack,
                lengths=_lengths(grid),
                depths=grid.places,
                samples=grid.samples,
                seed=self._suite.seed,
            )
        )

    def _heeded(self, things: Iterable[T]) -> Iterator[T]:
        for thing in things:
            self._heed()
            yield thing

    def _heed(self) -> None:
        if self._stop():
            raise StoppedError

    def _behaviour(self) -> list[Measure]:
        out: list[Measure] = []
        for name in self._suite.tasks:
            asked = self._probes(name, self._suite.grid(name))
            out += behave(self._subject, asked, batch_tokens=self._suite.batch, seed=self._suite.seed)
        return out

    def _probability(self) -> list[Measure]:
        suite, subject, places = self._suite, self._subject, self._suite.batch
        out: list[Measure] = []
        if "niah" in suite.tasks:
            out += needle_perplexity(subject, list(self._probes("niah", suite.grid("niah"))), places=places)
        self._heed()
        out += self._holdout()
        self._heed()
        out += self._longppl()
        self._heed()
        if suite.interference:
            out += self._interference()
        return out

    def _holdout(self) -> list[Measure]:
        rule, text = self._suite.holdout, self._material
        if rule is None or not text.documents:
            return []
        pieces = holdout.sample(
            text.documents,
            window=_window(self._suite),
            lengths=text.edges,
            opening=self._subject.tokenizer.opening,
            each=rule.documents,
        )
        return holdout.holdout(
            self._subject, pieces, lengths=text.edges, positions=rule.positions, places=self._suite.batch
        )

    def _longppl(self) -> list[Measure]:
        rule = self._suite.longppl
        if rule is None:
            return []
        opening = np.array(self._subject.tokenizer.opening, np.int64)
        window = _window(self._suite)
        texts = [np.concatenate([opening, one.tokens])[:window] for one in self._material.longest]
        texts = [text for text in texts if len(text) > rule.short]
        if not texts:
            self._say(
                f"longppl: left out, no held-out document goes beyond the short context of {rule.short:,} tokens in a "
                f"window of {window:,}; write longppl: {{short: …}} in the suite for a shorter one"
            )
            return []
        return longppl.longppl(self._subject, texts, short=rule.short, step=rule.step, places=self._suite.batch)

    def _interference(self) -> list[Measure]:
        grid = self._suite.grid("niah") if "niah" in self._suite.tasks else self._suite.heads_grid
        made, longest = task("niah"), max(_lengths(grid))
        asked = [
            made.probe(self._subject.tokenizer, self._material.haystack, longest, 1.0, sample, self._suite.seed)
            for sample in range(self._suite.interference)
        ]
        return interference(self._subject, asked, places=self._suite.batch)

    def _mechanism(self, before: Before) -> list[Measure]:
        suite = self._suite
        grid = suite.heads_grid
        found = mechanism.retrieval(self._subject, self._probes(suite.heads.task, grid))
        self._retrieval = found
        same = [one if one is None or one.probes == found.probes else None for one in (before.first, before.previous)]
        out = mechanism.measures(found, first=same[0] or found, previous=same[1], seed=suite.seed)
        if suite.heads.causal and found.scores[0].size > 1:
            asked = self._heeded(self._others(grid))
            out += causal.causal_check(self._subject, asked, found, draws=suite.heads.draws, seed=suite.seed).measures(
                suite.seed
            )
        return out

    def _others(self, grid: Grid) -> Iterator[Probe]:
        """Yield prompts that the heads were not ranked by: further samples of cells spread over the grid."""
        suite, made = self._suite, task(self._suite.heads.task)
        cells = [(length, depth) for length in _lengths(grid) for depth in grid.places]
        for number in range(suite.heads.causal):
            length, depth = cells[number * len(cells) // suite.heads.causal % len(cells)]
            sample = grid.samples * (1 if made.by_depth else len(grid.places)) + number
            yield made.probe(
                self._subject.tokenizer, self._material.haystack, length, depth if made.by_depth else 0.0, sample,
                suite.seed,
            )  # fmt: skip


def _lengths(grid: Grid) -> tuple[int, ...]:
    if isinstance(grid.lengths, int):
        raise MonitorError(f"{grid.lengths} columns of a grid are no lengths yet; lay the suite over a model first")
    return grid.lengths


def _window(suite: Suite) -> int:
    if suite.window is None:
        raise MonitorError("the suite has no window yet; lay it over a model first")
    return suite.window
