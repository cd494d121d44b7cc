"""The recipe: what is made. Frozen, and checked at birth; `recipe_file` reads one and names the line of an error.

A recipe says nothing of where it runs: paths are relative to a data root given on the command line, and neither paths
nor file formats enter its fingerprint.
"""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from mixture.hashing import fingerprint

_DECIMAL = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_BINARY = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_NUMBER = re.compile(r"(-?[\d_]*\.?\d+)\s*([A-Za-z]?)")
_SHARES_SUM_WITHIN = 1e-6
#: Far above any corpus, and far below where 64-bit sums and the fractions of floating point end.
_MOST_TOKENS = 10**15
MOST_EPOCHS = 1000


def _quantity(value: object, units: dict[str, int], example: str) -> int:
    match = _NUMBER.fullmatch(str(value).strip())
    if isinstance(value, bool) or match is None or match[2].upper() not in units:
        raise ValueError(f"{value!r} is not a number of tokens; write it as {example}")
    from decimal import Decimal

    number = Decimal(match[1].replace("_", "")) * units[match[2].upper()]
    if number <= 0:
        raise ValueError(f"{value} is not above zero")
    if number > _MOST_TOKENS:
        raise ValueError(f"{value} is above {_MOST_TOKENS:,}, the most there can be")
    if number != int(number):
        raise ValueError(f"{value} is not a whole number of tokens")
    return int(number)


def tokens(value: object) -> int:
    """Parse a budget: `500M`, `0.5B`, `150B`, `2T` or a plain integer; units are decimal.

    Raises:
        ValueError: not a positive whole number of tokens.
    """
    return _quantity(value, _DECIMAL, "500M, 0.5B or 20000000")


def length(value: object) -> int:
    """Parse a length: `4K`, `32K`, `1M` or a plain integer; K is 1024.

    Raises:
        ValueError: not a positive whole number of tokens.
    """
    return _quantity(value, _BINARY, "4K, 128K or 4096")


def show_length(value: int) -> str:
    """Write a length as people do: 4096 → 4K, 1048576 → 1M, 5000 → 5000."""
    for unit, size in (("M", 1 << 20), ("K", 1 << 10)):
        if value >= size and value % size == 0:
            return f"{value // size}{unit}"
    return str(value)


# The published schema knows the spellings that people use, besides what they are turned into.
Tokens = Annotated[int, BeforeValidator(tokens, json_schema_input_type=int | str)]
Length = Annotated[int, BeforeValidator(length, json_schema_input_type=int | str)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _name_mapping(value: object, key: str) -> object:
    """Let a plain string stand for a mapping with one key."""
    return {key: value} if isinstance(value, str) else value


class TokenizerSpec(_Part):
    """Which vocabulary. `bytes` needs nothing; the others a local `path` or a published `name`."""

    kind: Literal["tiktoken", "sentencepiece", "huggingface", "bytes"] = Field(
        description="tiktoken rank file, SentencePiece model, Hugging Face tokenizer.json, or UTF-8 bytes"
    )
    path: str | None = Field(None, description="vocabulary file, relative to the data root")
    name: str | None = Field(None, description="published name: cl100k_base (tiktoken) or a hub id (huggingface)")
    revision: str | None = Field(None, description="commit of a hub id")
    bos: str | int | None = Field(
        None, description="opening separator token, by name or id, if not the vocabulary's own"
    )
    eos: str | int | None = Field(
        None, description="closing separator token, by name or id, if not the vocabulary's own"
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind == "bytes":
            if self.path or self.name:
                raise ValueError("a bytes tokenizer takes neither path nor name")
        elif not (self.path or self.name):
            raise ValueError(f"a {self.kind} tokenizer takes a path (a local file) or a name (a published one)")
        elif self.kind == "sentencepiece" and not self.path:
            raise ValueError("a sentencepiece tokenizer takes a path to a .model file")
        return self


class DomainRule(_Part):
    """How a document gets its domain: a constant, a field, or a part of its path; `map` renames values."""

    constant: str | None = Field(None, min_length=1, description="one domain for the whole source")
    field: str | None = Field(None, description="a field of the row; dots reach into nested ones")
    path: str | None = Field(None, description="a regular expression on the file's name; its first group is the domain")
    map: dict[str, str] = Field(default_factory=dict, description="found value → domain")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(x is not None for x in (self.constant, self.field, self.path)) != 1:
            raise ValueError("give exactly one of: a constant name, {field: …}, {path: …}")
        if self.path is not None:
            try:
                groups = re.compile(self.path).groups
            except re.error as error:
                raise ValueError(f"path {self.path!r} is not a regular expression: {error}") from error
            if groups < 1:
                raise ValueError(f"path {self.path!r} has no group; put parentheses around the domain's name")
        return self


class Source(_Part):
    """One corpus: files of one format, or a Hugging Face data set."""

    name: str = Field(min_length=1)
    format: Literal["jsonl", "parquet", "arrow", "text", "huggingface"]
    paths: tuple[str, ...] = Field((), description="files or globs (** too), relative to the data root")
    exclude: tuple[str, ...] = Field((), description="globs of files to leave out")
    hub: str | None = Field(None, description="Hugging Face data set id; needs revision")
    revision: str | None = Field(None, description="commit of the hub data set: 40 hex digits")
    config: str | None = Field(None, description="configuration of the data set")
    split: str = Field("train", description="split of the data set")
    streaming: bool = Field(default=False, description="read the data set as a stream, without a local copy")
    text: str = Field("text", description="field that holds the text; dots reach into nested ones")
    domain: Annotated[
        DomainRule,
        BeforeValidator(lambda v: _name_mapping(v, "constant"), json_schema_input_type=str | DomainRule),
    ] = Field(description="a constant name, {field: a.b}, or {path: regular expression}")
    carry: tuple[str, ...] = Field((), description="further fields to carry into the index")

    @model_validator(mode="after")
    def _readable(self) -> Self:
        for path in self.paths:
            if Path(path).is_absolute():
                raise ValueError(
                    f"path {path!r} is absolute; write it relative to the data root and give that with --data"
                )
        if self.hub is None and not self.paths:
            raise ValueError(f"source {self.name!r} has no paths")
        if self.hub is not None:
            if self.format != "huggingface":
                raise ValueError(f"hub is for format huggingface, not {self.format}")
            if self.paths:
                raise ValueError("give hub or paths, not both")
            if self.revision is None or not re.fullmatch(r"[0-9a-f]{40}", self.revision):
                raise ValueError(
                    f"hub {self.hub!r} needs its revision as a commit of 40 hex digits, so that the data cannot change"
                )
        if self.format == "text" and (self.domain.field or self.carry):
            raise ValueError("a text file is its whole document and has no fields; use a constant domain or {path: …}")
        return self


class Separator(_Part):
    """What stands around each document: the vocabulary's bos or eos, both, none, or tokens of a literal text."""

    token: Literal["eos", "bos", "bos+eos", "none"] = "none"
    text: str | None = Field(None, min_length=1, description="literal text, tokenized, after each document")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.text is not None and self.token != "none":
            raise ValueError("give a token or a text, not both")
        return self


_EOS = Separator(token="eos")


class Sequence(_Part):
    """One training sequence."""

    length: Length = Field(description="tokens in a sequence; K is 1024")
    separator: Annotated[
        Separator, BeforeValidator(lambda v: _name_mapping(v, "token"), json_schema_input_type=str | Separator)
    ] = Field(_EOS, description="eos, bos, bos+eos, none, or {text: …}")


class LengthRule(_Part):
    """How a domain's tokens are spread over its length buckets. Exactly one form; none of them: natural."""

    threshold: Length | None = Field(None, description="documents of at least this many tokens are long")
    long: Share | None = Field(None, description="raise the long share to this; a domain above it stays as it is")
    keep_short: Share | None = Field(None, description="keep short documents at this rate, long ones as they are")
    shares: tuple[Share, ...] | None = Field(None, description="share of each bucket, shortest first; sums to 1")
    factors: tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...] | None = Field(
        None, description="weight of each bucket against its natural share, shortest first"
    )

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        forms = [n for n in ("long", "keep_short", "shares", "factors") if getattr(self, n) is not None]
        if len(forms) > 1:
            raise ValueError(f"{' and '.join(forms)} are different rules; keep one")
        needs_threshold = forms in (["long"], ["keep_short"])
        if needs_threshold and self.threshold is None:
            raise ValueError(f"{forms[0]} needs a threshold, for example threshold: 4K")
        if not needs_threshold and self.threshold is not None:
            raise ValueError("threshold needs long: SHARE or keep_short: RATE beside it")
        if self.shares is not None and abs(sum(self.shares) - 1) > _SHARES_SUM_WITHIN:
            raise ValueError(f"shares sum to {sum(self.shares):.6g}, not 1")
        if self.factors is not None and not any(self.factors):
            raise ValueError("factors are all zero; at least one bucket must be wanted")
        return self


def _length_rule(value: object) -> object:
    if value == "natural":
        return {}
    if isinstance(value, str):
        raise ValueError(f"{value!r} is not a length rule; write natural, or {{threshold: 4K, long: 0.7}}")
    return value


Rule = Annotated[LengthRule, BeforeValidator(_length_rule, json_schema_input_type=Literal["natural"] | LengthRule)]


class DomainMix(_Part):
    """One domain's share, with what it overrides."""

    share: Share | None = None
    lengths: Rule | None = None
    max_epochs: int | None = Field(None, ge=1, le=MOST_EPOCHS)


def _domain_mix(value: object) -> object:
    return {"share": value} if isinstance(value, (int, float)) and not isinstance(value, bool) else value


MixOfDomain = Annotated[DomainMix, BeforeValidator(_domain_mix, json_schema_input_type=float | DomainMix)]


class Mix(_Part):
    """The designed mixture: shares of domains, lengths inside each, and the cap on repeats."""

    domains: dict[str, MixOfDomain] | Literal["natural"] = Field(
        "natural", description="a share for each domain, or natural: as the corpus is"
    )
    lengths: Rule = LengthRule()
    max_epochs: int = Field(1, ge=1, le=MOST_EPOCHS, description="a document appears at most this often")
    on_shortage: Literal["error"] = Field("error", description="what to do when a cell holds less than is wanted")

    @field_validator("domains", mode="before")
    @classmethod
    def _shape(cls, value: object) -> object:
        if isinstance(value, str) and value != "natural":
            raise ValueError(f"{value!r} is neither natural nor a mapping of domains to shares")
        if isinstance(value, dict) and not value:
            raise ValueError("no domain is named; write natural, or a share for each domain")
        wrong = [key for key in value if not isinstance(key, str)] if isinstance(value, dict) else []
        if wrong:
            raise ValueError(f"YAML reads a name here as {wrong[0]!r}, which is no text; put it in quotes")
        return value

    @model_validator(mode="after")
    def _sums(self) -> Self:
        if self.domains == "natural":
            return self
        shares = {name: d.share for name, d in self.domains.items()}
        given = [s for s in shares.values() if s is not None]
        if given and len(given) < len(shares):
            missing = ", ".join(name for name, s in shares.items() if s is None)
            raise ValueError(f"domains: {missing} has no share while others have; give each a share, or none of them")
        if given and abs(sum(given) - 1) > _SHARES_SUM_WITHIN:
            shown = " + ".join(f"{s:g}" for s in given)
            raise ValueError(f"domains: shares sum to {sum(given):.6g}, not 1 ({shown})")
        return self

    def of(self, domain: str) -> DomainMix:
        """Return what the recipe says of one domain, empty if nothing."""
        return DomainMix() if self.domains == "natural" else self.domains.get(domain, DomainMix())


class Recipe(_Part):
    """A recipe file, whole."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="names the lock and the shards' folder")
    description: str = ""
    tokenizer: TokenizerSpec
    sources: tuple[Source, ...] = Field(min_length=1)
    budget: Tokens = Field(description="real tokens to write; M, B, T are decimal")
    sequence: Sequence
    buckets: tuple[Length, ...] = Field((4096, 16384, 65536), description="edges between length buckets, rising")
    mix: Mix = Mix()
    holdout: float = Field(0, ge=0, lt=1, description="share of documents that no plan ever draws")
    packing: Literal["concat"] = "concat"
    seed: int = 0
    duplicates: Literal["keep-first", "keep"] = Field("keep-first", description="what to do with equal texts")
    on_bad_row: Literal["stop", "skip"] = Field("stop", description="stop at the first bad row, or skip and count")
    max_bad_rows: int = Field(1000, ge=0, description="with skip: stop when more rows than this are bad")
    max_document_bytes: Tokens = Field(4_000_000_000, description="a longer text is a bad row; decimal units")
    shard_tokens: Tokens = Field(256_000_000, description="tokens in a shard, before rounding to whole sequences")

    @field_validator("buckets")
    @classmethod
    def _rising(cls, edges: tuple[int, ...]) -> tuple[int, ...]:
        if any(a >= b for a, b in pairwise(edges)):
            raise ValueError(f"edges must rise, got {', '.join(map(show_length, edges))}")
        return edges

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        names = [s.name for s in self.sources]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"sources: two are named {twice[0]!r}; names must differ")
        if self.budget < self.sequence.length:
            raise ValueError(
                f"budget: {self.budget:,} tokens is less than one sequence of {self.sequence.length:,}; "
                "raise the budget or shorten sequence.length"
            )
        if self.shard_tokens < self.sequence.length:
            raise ValueError(
                f"shard_tokens: {self.shard_tokens:,} is less than one sequence of {self.sequence.length:,}"
            )
        self._check_rule("mix.lengths", self.mix.lengths)
        if self.mix.domains != "natural":
            for name, domain in self.mix.domains.items():
                if domain.lengths is not None:
                    self._check_rule(f"mix.domains.{name}.lengths", domain.lengths)
        return self

    def _check_rule(self, where: str, rule: LengthRule) -> None:
        count = len(self.buckets) + 1
        for field in ("shares", "factors"):
            values = getattr(rule, field)
            if values is not None and len(values) != count:
                raise ValueError(
                    f"{where}: {field} has {len(values)} numbers for {count} buckets ({', '.join(self.bucket_names)})"
                )
        if rule.threshold is not None and rule.threshold not in self.buckets:
            edges = ", ".join(map(show_length, self.buckets))
            raise ValueError(
                f"{where}: threshold {show_length(rule.threshold)} is not an edge of buckets [{edges}]; add it there"
            )

    @property
    def bucket_names(self) -> tuple[str, ...]:
        """Names of the length buckets, shortest first: `<4K`, `4K-16K`, `≥16K`."""
        edges = [show_length(e) for e in self.buckets]
        if not edges:
            return ("all",)
        inner = [f"{a}-{b}" for a, b in pairwise(edges)]
        return (f"<{edges[0]}", *inner, f"≥{edges[-1]}")

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
        """Sequences in every shard but the last."""
        return self.shard_tokens // self.sequence.length

    @property
    def shard_count(self) -> int:
        """Number of shards."""
        return -(-self.sequences // self.shard_sequences)

    def what(self) -> dict[str, Any]:
        """Return what the recipe makes, without where it lies: the part that enters the fingerprint."""
        dump = self.model_dump(mode="json", exclude={"description"}, exclude_none=True)
        for source in dump["sources"]:
            for key in ("paths", "exclude", "format", "streaming"):
                del source[key]
        dump["tokenizer"].pop("path", None)
        return dump

    @property
    def fingerprint(self) -> str:
        """32 hex digits that name what the recipe makes."""
        return fingerprint(self.what())


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a recipe file, for editors; published as `manifests/recipe.schema.json`."""
    schema = Recipe.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "mixture recipe"} | schema
