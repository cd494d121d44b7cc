"""Where documents come from and what is known of them: tokenizer, sources, domains, scores, separators."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_serializer, model_validator

from mixture.recipe.quantities import Length, Part, name_mapping


class TokenizerSpec(Part):
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


def _check_group(pattern: str, what: str) -> None:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"path {pattern!r} is not a regular expression: {error}") from error
    if groups < 1:
        raise ValueError(f"path {pattern!r} has no group; put parentheses around the {what}")


class DomainRule(Part):
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
            _check_group(self.path, "domain's name")
        return self


class JoinKey(Part):
    """What the rows of one document have in common: the value of a field, or a part of their files' names."""

    field: str | None = Field(None, min_length=1, description="a field of the row; dots reach into nested ones")
    path: str | None = Field(None, description="a regular expression on the file's name; its first group is the key")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.field is None) == (self.path is None):
            raise ValueError("give exactly one of: the name of a field, {path: …}")
        if self.path is not None:
            _check_group(self.path, "key")
        return self


class JoinOrder(Part):
    """How the rows of one document follow each other: by a field, or by what the files at paths import."""

    field: str | None = Field(None, min_length=1, description="a field of the row; dots reach into nested ones")
    dependency: str | None = Field(
        None, min_length=1, description="field of a source file's path: imported files come first, the rest by path"
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.field is None) == (self.dependency is None):
            raise ValueError("give exactly one of: the name of a field, {dependency: field of the path}")
        return self

    @model_serializer
    def _plain(self) -> Any:
        """Write a field alone, as recipes do."""
        return self.field if self.dependency is None else {"dependency": self.dependency}

    @property
    def by(self) -> str:
        """The field that rows are sorted by, and imports looked up in."""
        return self.dependency or self.field or ""


class Join(Part):
    """Rows that make one document together, as the files of a repository do."""

    by: Annotated[
        JoinKey, BeforeValidator(lambda v: name_mapping(v, "field"), json_schema_input_type=str | JoinKey)
    ] = Field(description="a field, or {path: regular expression}: rows with the same value become one document")
    order: Annotated[
        JoinOrder | None,
        BeforeValidator(lambda v: name_mapping(v, "field"), json_schema_input_type=str | JoinOrder | None),
    ] = Field(
        None,
        description="field by which they follow each other, or {dependency: field of their paths}; rows that lack it "
        "come last",
    )
    separator: str = Field("\n\n", description="text between two rows")


class Source(Part):
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
        BeforeValidator(lambda v: name_mapping(v, "constant"), json_schema_input_type=str | DomainRule),
    ] = Field(description="a constant name, {field: a.b}, or {path: regular expression}")
    carry: tuple[str, ...] = Field((), description="further fields to carry into the index")
    join: Join | None = Field(None, description="rows that make one document together")

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
        if self.format == "text" and self.join is not None and (self.join.by.field or self.join.order):
            raise ValueError("a text file has no fields to join by; write join: {by: {path: …}}, in the order of names")
        return self


#: Tokens in an n-gram that documents must not share with evaluation files; docs/decontamination.md says why.
NGRAM = 32
#: What is computed of a text; `mixture.scores.definitions` says how.
Measure = Literal["gzip_ratio", "type_token_ratio"]


class Score(Part):
    """A number about each document, or a table of some, for `where` and `weight`."""

    measure: Measure | None = Field(None, description="what to compute of the text")
    perplexity: str | None = Field(None, min_length=1, description="KenLM model, relative to the data root")
    sentencepiece: str | None = Field(None, min_length=1, description="model that cuts words for the KenLM model")
    table: str | None = Field(None, min_length=1, description="Parquet files with a doc_id, relative to the data root")
    contamination: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...] | None,
        BeforeValidator(lambda v: (v,) if isinstance(v, str) else v, json_schema_input_type=str | list[str] | None),
    ] = Field(None, description="evaluation files or globs, relative to the data root: count n-grams shared with them")
    ngram: int | None = Field(None, ge=4, le=10_000, description=f"tokens in an n-gram; {NGRAM} by default")
    text: str | None = Field(None, min_length=1, description="field of the evaluation files' text; text by default")
    name: str = Field("", pattern=r"^([A-Za-z_][A-Za-z0-9_]*)?$", description="name of the column, or of the table")

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: object) -> object:
        if isinstance(value, dict) and not value.get("name"):
            kinds = [kind for kind in ("perplexity", "contamination") if kind in value]
            usual = kinds[0] if kinds else value.get("measure", "")
            return value | {"name": usual if isinstance(usual, str) else ""}
        return value

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(x is not None for x in (self.measure, self.perplexity, self.table, self.contamination)) != 1:
            raise ValueError(
                "give exactly one of: a measure, {perplexity: model}, {contamination: files}, {table: files, name: …}"
            )
        if self.contamination == ():
            raise ValueError("contamination names no evaluation file; give files or globs: [eval/*.jsonl]")
        if self.contamination is None and (self.ngram is not None or self.text is not None):
            raise ValueError("ngram and text say how contamination is looked for; give its evaluation files too")
        if self.sentencepiece is not None and self.perplexity is None:
            raise ValueError("sentencepiece cuts words for a perplexity; give both or none")
        if not self.name:
            raise ValueError(f"table {self.table!r} has no name; add name: …, which it keeps wherever its files lie")
        for path in (self.perplexity, self.sentencepiece, self.table, *(self.contamination or ())):
            if path is not None and Path(path).is_absolute():
                raise ValueError(
                    f"path {path!r} is absolute; write it relative to the data root and give that with --data"
                )
        return self

    @property
    def kind(self) -> str:
        """What it is: the measure, `perplexity`, `contamination` or `table`."""
        named = (("perplexity", self.perplexity), ("contamination", self.contamination))
        return self.measure or next((kind for kind, given in named if given), "table")

    def what(self) -> dict[str, Any]:
        """Return what enters the recipe's fingerprint: no paths; the stage adds the contents' hashes to its record."""
        what: dict[str, Any] = {"kind": self.kind, "name": self.name}
        if self.sentencepiece:
            what["words"] = "sentencepiece"
        if self.contamination:
            what |= {"ngram": self.ngram or NGRAM, "text": self.text or "text"}
        return what


class Separator(Part):
    """What stands around each document: the vocabulary's bos or eos, both, none, or tokens of a literal text."""

    token: Literal["eos", "bos", "bos+eos", "none"] = "none"
    text: str | None = Field(None, min_length=1, description="literal text, tokenized, after each document")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.text is not None and self.token != "none":
            raise ValueError("give a token or a text, not both")
        return self


_EOS = Separator(token="eos")


class Sequence(Part):
    """One training sequence."""

    length: Length = Field(description="tokens in a sequence; K is 1024")
    separator: Annotated[
        Separator, BeforeValidator(lambda v: name_mapping(v, "token"), json_schema_input_type=str | Separator)
    ] = Field(_EOS, description="eos, bos, bos+eos, none, or {text: …}")
    align: Length = Field(
        1, description="documents start at multiples of this many places; 2·CP for context parallelism"
    )

    @model_validator(mode="after")
    def _aligned(self) -> Self:
        if self.length % self.align:
            raise ValueError(f"length {self.length:,} is not a multiple of align {self.align:,}")
        return self
