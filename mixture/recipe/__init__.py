"""The recipe: what is made. Frozen, and checked at birth; `file` reads one and names the line of an error.

    quantities   500M and 4K
    sources      tokenizer, sources, domains, separators
    rules        shares, lengths, caps, floors
    packing      packings and transforms
    published    distributions that papers print
    file         YAML in, a recipe out

A recipe says nothing of where it runs: paths are relative to a data root given on the command line, and neither paths
nor file formats enter its fingerprint.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_serializer, model_validator

from mixture.hashing import fingerprint
from mixture.recipe.packing import Kind, Packing, Transforms, check, kind_mapping
from mixture.recipe.quantities import Length, Part, Tokens, name_mapping, show_length
from mixture.recipe.rules import Caps, LengthRule, Mix
from mixture.recipe.sources import Measure, Score, Sequence, Source, TokenizerSpec

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
Edges = tuple[Length, ...]
HeldOut = Annotated[float, Field(ge=0, lt=1)]


class Buckets(Part):
    """Edges between length buckets: the same for all domains, but for those that have their own."""

    default: Edges = Field((4096, 16384, 65536), description="edges of every domain that has none of its own, rising")
    domains: dict[str, Edges] = Field(default_factory=dict, description="edges of single domains")

    @field_validator("default", "domains")
    @classmethod
    def _rising(cls, value: Edges | dict[str, Edges]) -> Edges | dict[str, Edges]:
        for edges in value.values() if isinstance(value, dict) else (value,):
            if any(a >= b for a, b in pairwise(edges)):
                raise ValueError(f"edges must rise, got {', '.join(map(show_length, edges))}")
        return value

    @model_serializer
    def _plain(self) -> Any:
        """Write the edges alone where no domain has its own."""
        return {"default": self.default, "domains": self.domains} if self.domains else self.default

    def of(self, domain: str) -> Edges:
        """Return a domain's edges."""
        return self.domains.get(domain, self.default)

    def number(self, domain: str, tokens: int) -> int:
        """Return the bucket of a document of so many own tokens: its place in `bucket_names`."""
        return bisect.bisect_right(self.of(domain), tokens)


class HoldOut(Part):
    """Which share of the documents no plan ever draws, by domain."""

    default: HeldOut = Field(0, description="share of every domain that has none of its own")
    domains: dict[str, HeldOut] = Field(default_factory=dict, description="share of single domains")

    @model_serializer
    def _plain(self) -> Any:
        """Write the share alone where no domain has its own."""
        return {"default": self.default, "domains": self.domains} if self.domains else self.default

    def of(self, domain: str) -> float:
        """Return a domain's share."""
        return self.domains.get(domain, self.default)


def _default(value: object) -> object:
    """Let a plain value stand for one that holds for every domain."""
    return value if isinstance(value, (dict, Part)) else {"default": value}


@dataclass(frozen=True)
class Phase:
    """One stretch of the training stream with a budget, a sequence length and a mixture of its own.

    Attributes:
        name: as in the recipe; empty where that has no phases.
        budget: real tokens to write.
        sequence: how a sequence is made.
        mix: the mixture.
        shard_tokens: tokens in a shard, before rounding.
        batch: sequences that stay together: a shard holds a multiple of them.
    """

    name: str
    budget: int
    sequence: Sequence
    mix: Mix
    shard_tokens: int
    batch: int = 1

    @property
    def sequences(self) -> int:
        """Whole sequences that the budget holds."""
        return self.budget // self.sequence.length

    @property
    def exact_budget(self) -> int:
        """The budget rounded down to whole sequences, in tokens."""
        return self.sequences * self.sequence.length

    @property
    def shard_sequences(self) -> int:
        """Sequences in every shard but the last, as long as none is padded."""
        return self.shard_tokens // self.sequence.length // self.batch * self.batch


class PhaseRule(Part):
    """A phase as the recipe writes it; what it leaves out is the recipe's."""

    name: str = Field(pattern=NAME, description="names the phase in the lock and its shards' folder")
    budget: Tokens = Field(description="real tokens to write in this phase")
    sequence: Sequence | None = Field(None, description="if it differs from the recipe's")
    mix: Mix | None = Field(None, description="if it differs from the recipe's; replaces it as a whole")


class Recipe(Part):
    """A recipe file, whole."""

    name: str = Field(pattern=NAME, description="names the lock and the shards' folder")
    description: str = ""
    tokenizer: TokenizerSpec
    sources: tuple[Source, ...] = Field(min_length=1)
    scores: tuple[
        Annotated[Score, BeforeValidator(lambda v: name_mapping(v, "measure"), json_schema_input_type=Measure | Score)],
        ...,
    ] = Field((), description="numbers about documents: gzip_ratio, type_token_ratio, {perplexity: …}, {table: …}")
    where: str | None = Field(None, min_length=1, description="SQL over the index: which documents are drawn from")
    weight: str | None = Field(
        None, min_length=1, description="SQL over the index: a document's relative chance to be drawn in its cell"
    )
    budget: Tokens | None = Field(None, description="real tokens to write; M, B, T are decimal")
    sequence: Sequence | None = None
    buckets: Annotated[Buckets, BeforeValidator(_default, json_schema_input_type=Edges | Buckets)] = Field(
        Buckets(), description="edges between length buckets, rising; or {default: …, domains: {NAME: …}}"
    )
    mix: Mix = Mix()
    phases: tuple[PhaseRule, ...] = Field((), description="stretches of the stream, one after the other")
    holdout: Annotated[HoldOut, BeforeValidator(_default, json_schema_input_type=float | HoldOut)] = Field(
        HoldOut(), description="share of documents that no plan ever draws; or {default: …, domains: {NAME: …}}"
    )
    packing: Annotated[Packing, BeforeValidator(kind_mapping, json_schema_input_type=Kind | Packing)] = Field(
        Packing(), description="how documents are laid into sequences"
    )
    transforms: Transforms = Field(Transforms(), description="what is done to the stream and inside sequences")
    seed: int = 0
    duplicates: Literal["keep-first", "keep"] = Field("keep-first", description="what to do with equal texts")
    on_bad_row: Literal["stop", "skip"] = Field("stop", description="stop at the first bad row, or skip and count")
    max_bad_rows: int = Field(1000, ge=0, description="with skip: stop when more rows than this are bad")
    max_document_bytes: Tokens = Field(4_000_000_000, description="a longer text is a bad row; decimal units")
    shard_tokens: Tokens = Field(256_000_000, description="tokens in a shard, before rounding to whole sequences")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        _check_unique("sources", [s.name for s in self.sources])
        _check_unique("phases", [p.name for p in self.phases])
        _check_unique("scores", [s.name for s in self.scores])
        if self.phases and self.budget is not None:
            raise ValueError("budget: each of the phases has its own; take this one away")
        if not self.phases and self.budget is None:
            raise ValueError("budget is missing: real tokens to write; M, B, T are decimal")
        self._check_mix("mix", self.mix)
        if self.budget is not None:
            self._check_stretch("", self.budget, self.sequence)
        for number, phase in enumerate(self.phases):
            self._check_stretch(f"phases.{number}.", phase.budget, phase.sequence or self.sequence)
            if phase.mix is not None:
                self._check_mix(f"phases.{number}.mix", phase.mix)
        return self

    def _check_stretch(self, where: str, budget: int, sequence: Sequence | None) -> None:
        if sequence is None:
            raise ValueError(f"{where}sequence is missing: {{length: 32K, separator: eos}}")
        if budget < sequence.length:
            raise ValueError(
                f"{where}budget: {budget:,} tokens is less than one sequence of {sequence.length:,}; "
                "raise the budget or shorten sequence.length"
            )
        batch = self.packing.together
        if self.shard_tokens < batch * sequence.length:
            least = f"a batch of {batch:,} sequences" if batch > 1 else "one sequence"
            raise ValueError(f"shard_tokens: {self.shard_tokens:,} is less than {least} of {sequence.length:,}")
        why = check(self.packing, self.transforms, sequence.length, sequence.align)
        if why:
            raise ValueError(why)

    def _check_mix(self, where: str, mix: Mix) -> None:
        if mix.domains == "global" and self.buckets.domains:
            raise ValueError(f"{where}.domains: global needs the same buckets in every domain")
        # What holds for all domains is held to the edges that all have, and to those of each that it is used for.
        checks = [("", mix.lengths, mix.max_epochs, self.buckets.default)]
        for name in dict.fromkeys([*mix.named(), *self.buckets.domains]):
            own, edges = mix.of(name), self.buckets.of(name)
            at = f".domains.{name}" if own.lengths is not None else ""
            checks.append((at, mix.rule(name), Caps(cell=1), edges))
            at = f".domains.{name}" if own.max_epochs is not None else ""
            checks.append((at, LengthRule(), mix.caps(name), edges))
        for at, rule, caps, edges in checks:
            names = bucket_names(edges)
            for key, why in (("lengths", rule.check(edges, names)), ("max_epochs", caps.check(names))):
                if why:
                    raise ValueError(f"{where}{at}.{key}: {why}")

    def all_phases(self) -> tuple[Phase, ...]:
        """Return the phases in their order; one without a name where the recipe has none."""
        return tuple(self._phases())

    def _phases(self) -> Iterator[Phase]:
        shard = (self.shard_tokens, self.packing.together)
        if self.budget is not None and self.sequence is not None:
            yield Phase("", self.budget, self.sequence, self.mix, *shard)
        for rule in self.phases:
            sequence = rule.sequence or self.sequence
            if sequence is not None:
                yield Phase(rule.name, rule.budget, sequence, rule.mix or self.mix, *shard)

    def what(self) -> dict[str, Any]:
        """Return what the recipe makes, without where it lies: the part that enters the fingerprint."""
        dump = self.model_dump(mode="json", exclude={"description"}, exclude_none=True)
        for source in dump["sources"]:
            for key in ("paths", "exclude", "format", "streaming"):
                del source[key]
        dump["tokenizer"].pop("path", None)
        if not dump["transforms"]:
            del dump["transforms"]
        if dump.pop("scores"):
            dump["scores"] = [score.what() for score in self.scores]
        return dump

    @property
    def fingerprint(self) -> str:
        """32 hex digits that name what the recipe makes."""
        return fingerprint(self.what())


def _check_unique(what: str, names: list[str]) -> None:
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise ValueError(f"{what}: two are named {twice[0]!r}; names must differ")


def bucket_names(edges: Edges) -> tuple[str, ...]:
    """Return the names of length buckets, shortest first: `<4K`, `4K-16K`, `≥16K`."""
    shown = [show_length(e) for e in edges]
    if not shown:
        return ("all",)
    return (f"<{shown[0]}", *(f"{a}-{b}" for a, b in pairwise(shown)), f"≥{shown[-1]}")


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a recipe file, for editors; published as `manifests/recipe.schema.json`."""
    schema = Recipe.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "mixture recipe"} | schema
