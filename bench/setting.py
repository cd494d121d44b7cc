"""What the benches of one run share: options, rounds, a folder, and texts that are laid out when asked for."""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import corpora, vocabularies
from bench.corpora import Corpus
from bench.measure import Rounds
from bench.vocabularies import Vocabulary
from mixture.recipe.quantities import tokens

Row = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """One run of `python -m bench`.

    Attributes:
        options: of the command line.
        temp: folder of this run; it goes away with it.
        console: who is told what is going on.
    """

    options: argparse.Namespace
    temp: Path
    console: Console

    @cached_property
    def rounds(self) -> Rounds:
        """How often contestants run."""
        return Rounds(self.options.repeat, self.options.warm_up, self.temp)

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Numbers of workers: one, and as many as asked for."""
        return tuple(sorted({1, self.options.workers}))

    @cached_property
    def budget(self) -> int | None:
        """Tokens of a plan, if said."""
        return tokens(self.options.budget) if self.options.budget else None

    def doing(self, what: str) -> AbstractContextManager[Any]:
        """Tell what is going on while it is."""
        return self.console.status(what)

    @cached_property
    def given(self) -> list[Corpus]:
        """The corpora of the command line, as they are."""
        return corpora.given(self.options.corpus) if self.options.corpus else []

    @cached_property
    def plain(self) -> list[Corpus]:
        """All corpora as plain JSON lines: the given ones, then code, then short documents."""
        with self.doing("laying out the corpora"):
            size = self.options.megabytes
            laid = [corpora.plain(one, self.temp / "plain" / one.name, size) for one in self.given]
            laid.append(corpora.code(self.temp / "plain" / "code", size))
            return laid + ([corpora.short(laid[0], self.temp / "plain" / "short")] if self.options.short else [])

    @property
    def ends(self) -> list[Corpus]:
        """The first corpus and the short documents: the two ends of document length."""
        return [self.plain[0], *(one for one in self.plain[1:] if one.name == "short")]

    @cached_property
    def vocabularies(self) -> list[Vocabulary]:
        """The vocabularies of the command line, or one made from the first corpus."""
        if self.options.tokenizer:
            return [vocabularies.given(path) for path in self.options.tokenizer]
        return [vocabularies.made(self.plain[0], self.temp / "vocabulary", self.options.vocabulary)]
