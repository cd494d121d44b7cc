"""The noun: what a paper's mixture is, in the recipe's own words.

A `Preset` is a value without files. `scaffold` turns it into recipe text; `domains` fits its shares to other corpora.
YAML inside it (a length rule, an expression in SQL) stands as the recipe will hold it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mixture.recipe.quantities import SHARES_SUM_WITHIN


@dataclass(frozen=True)
class Want:
    """What is wanted of one domain.

    Attributes:
        share: of the budget.
        lengths: its own length rule, as YAML; empty: the stage's.
        part: where a corpus lacks some domains, the others of the same part make up for them, so that a part's total
            stays: what the paper calls "60 % long" is still 60 %.
    """

    share: float
    lengths: str = ""
    part: str = ""


Wants = Mapping[str, Want]


@dataclass(frozen=True)
class Stage:
    """One stretch of training: a recipe's phase, or, where a preset has one stage, the recipe itself.

    Attributes:
        budget: real tokens, as people write them.
        length: tokens in a sequence, likewise.
        domains: what is wanted of each; or natural; or global.
        lengths: the length rule of all domains, as YAML.
        name: of the phase; empty where there is one stage.
        why: a comment above the phase.
    """

    budget: str
    length: str
    domains: Wants | Literal["natural", "global"] = "natural"
    lengths: str = "natural"
    name: str = ""
    why: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.domains, str):
            total = math.fsum(want.share for want in self.domains.values())
            if abs(total - 1) > SHARES_SUM_WITHIN:
                raise ValueError(f"the shares of {', '.join(self.domains)} sum to {total:.9g}, not 1")


@dataclass(frozen=True)
class Corpus:
    """Where the paper's documents lie, as a source for a person to point at theirs.

    Attributes:
        name: the source's.
        paths: a glob.
        domain: one domain for all of it; else:
        domain_field: the field that names it, and
        values: what is found there → the preset's domain; or:
        domain_path: a regular expression on the file's name whose group is the domain.
        repository: each row is one file; all files of a repository shall become one document.
    """

    name: str
    paths: str
    domain: str = ""
    domain_field: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    domain_path: str = ""
    repository: bool = False


@dataclass(frozen=True)
class Preset:
    """A published mixture.

    Attributes:
        name: what `--preset` takes.
        paper: authors, year, title, arXiv id.
        summary: one line for the list and the recipe's description.
        story: what the paper does, with its numbers.
        differs: what the recipe does in another way, and why.
        stages: in their order.
        buckets: edges between length buckets.
        corpora: where the paper's documents lie.
        trainer: what the paper's trainer does; no part of a recipe.
        separator: what stands around documents, as YAML.
        max_epochs: the cap.
        picks: recipe keys that choose documents (`scores`, `where`, `weight`), as YAML with its comments.
        twin: a domain into which all sources are read a second time; `picks` says which documents it gets.
        packing: as YAML.
        packed: the comment on the packing.
        transforms: as YAML; empty for none.
    """

    name: str
    paper: str
    summary: str
    story: str
    differs: str
    stages: tuple[Stage, ...]
    buckets: tuple[str, ...]
    corpora: tuple[Corpus, ...]
    trainer: str = ""
    separator: str = "eos"
    max_epochs: int = 1
    picks: str = ""
    twin: str = ""
    packing: str = "concat"
    packed: str = "as in the paper: end to end, cut where a sequence is full"
    transforms: str = ""

    def __post_init__(self) -> None:
        names = [stage.name for stage in self.stages]
        if names != [""] and (len(names) < 2 or not all(names) or len(set(names)) < len(names)):
            raise ValueError(f"{self.name}: one stage has no name, several have a name each, not {names}")

    @property
    def arxiv(self) -> str:
        """The paper's number."""
        return self.paper.rpartition("arXiv ")[2].rstrip(")")

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains that a corpus is to have; none where the shares follow from the corpus."""
        wanted = [stage.domains for stage in self.stages if not isinstance(stage.domains, str)]
        return tuple(dict.fromkeys(name for wants in wanted for name in wants if name != self.twin))
