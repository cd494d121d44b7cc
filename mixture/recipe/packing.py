"""How documents are laid into sequences, and what is done to a sequence's documents: packings and transforms."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_serializer, model_validator

from mixture.recipe.quantities import Length, Part, Share

Kind = Literal["concat", "best-fit", "intact", "split-by-length", "vsl"]
#: Which keys go with which packing.
_OWN = {"split-by-length": ("long", "short"), "vsl": ("smallest", "batch", "odds", "cycles")}


class Packing(Part):
    """From documents to sequences; what a key is for is said of the packing that it goes with."""

    kind: Kind = Field("concat", description="which packing")
    long: Share | None = Field(None, description="split-by-length: share of sequences that are one document each")
    short: Length | None = Field(None, description="split-by-length: the longest piece in a packed sequence")
    smallest: Length | None = Field(None, description="vsl: pieces below this go to mixed sequences")
    batch: int | None = Field(None, ge=1, description="vsl: sequences in a row of one piece length")
    odds: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        None, min_length=1, description="vsl: chances of the piece lengths to come next, shortest first"
    )
    cycles: int | None = Field(None, ge=1, description="vsl: how often the curriculum starts anew in a shard")

    @model_validator(mode="after")
    def _own_keys(self) -> Self:
        given = [name for name in type(self).model_fields if name != "kind" and getattr(self, name) is not None]
        for name in given:
            if name not in _OWN.get(self.kind, ()):
                owner = next(kind for kind, names in _OWN.items() if name in names)
                raise ValueError(f"{name} goes with kind {owner}, not {self.kind}")
        if self.kind == "split-by-length" and self.long is None:
            raise ValueError("split-by-length needs long: the share of sequences that are one document each")
        return self

    @model_serializer
    def _plain(self) -> Any:
        """Write the kind alone where nothing else is said."""
        said = {name: getattr(self, name) for name in type(self).model_fields}
        said = {name: list(v) if isinstance(v, tuple) else v for name, v in said.items() if v is not None}
        return said if len(said) > 1 else self.kind

    @property
    def together(self) -> int:
        """Sequences that form a batch, which no shard may divide."""
        return (self.batch or 1) if self.kind == "vsl" else 1

    def options(self, *names: str) -> dict[str, Any]:
        """Return what is said besides the kind, or those of these names that are."""
        said = {name: getattr(self, name) for name in names or _OWN.get(self.kind, ())}
        return {name: value for name, value in said.items() if value is not None}

    @staticmethod
    def of(value: object) -> Packing:
        """Read what a lock says."""
        return Packing.model_validate(kind_mapping(value))


def kind_mapping(value: object) -> object:
    """Let a packing's name stand for it."""
    return {"kind": value} if isinstance(value, str) else value


class Related(Part):
    """Related documents stand together in the stream."""

    by: Literal["bm25", "keywords", "embeddings"] = Field("bm25", description="what makes documents related")
    domains: tuple[str, ...] = Field((), description="in these domains; in all where none is named")
    column: str | None = Field(None, min_length=1, description="embeddings: a carried column, or a table's, of vectors")
    run: Length | None = Field(None, description="tokens that stand together; the sequence length where not given")

    @model_validator(mode="after")
    def _has_column(self) -> Self:
        if (self.column is None) == (self.by == "embeddings"):
            raise ValueError("column names the vectors of by: embeddings; give both or none")
        return self


class Interleave(Part):
    """The documents of a sequence take turns, part by part."""

    parts: int = Field(4, ge=2, description="parts that each document of a sequence is cut into")


class Utk(Part):
    """Untie the Knots (arXiv 2409.04774): documents of a sequence are cut, and their parts shuffled."""

    probability: Share = Field(0.3, description="share of sequences that are knotted")
    parts: int = Field(3, ge=2, description="parts that a document is cut into, at most")
    room: int = Field(64, ge=2, description="places of each sequence that are kept for marks")
    head: str | int | None = Field(None, description="mark before a part that continues one: a token's name, or an id")
    tail: str | int | None = Field(None, description="mark after a part that is not the last: a token's name, or an id")
    trace: int | None = Field(
        None, ge=1, description="ids for back-tracing: after its last part, the slots where a document's parts stood"
    )


class Transforms(Part):
    """What is done to the stream and to the documents of a sequence."""

    related: Related | None = Field(None, description="related documents share a sequence")
    interleave: Interleave | None = Field(None, description="documents of a sequence take turns, part by part")
    utk: Utk | None = Field(None, description="Untie the Knots: parts of documents, shuffled, with marks at the seams")

    @model_validator(mode="after")
    def _one_of_sequences(self) -> Self:
        if self.interleave is not None and self.utk is not None:
            raise ValueError("interleave and utk both cut the documents of a sequence; give one of them")
        return self


def check(packing: Packing, transforms: Transforms, length: int, align: int) -> str:
    """Return why a packing and transforms do not go with each other or with a sequence; nothing where they do."""
    packings = (
        _against_vsl(packing, length, align)
        if packing.kind == "vsl"
        else _against_short(packing, transforms, length, align)
    )
    return next(itertools.chain(_against_transforms(packing, transforms, length, align), packings), "")


def _against_transforms(packing: Packing, transforms: Transforms, length: int, align: int) -> Iterator[str]:
    cuts = "utk" if transforms.utk else "interleave" if transforms.interleave else ""
    if transforms.related is not None and packing.kind != "concat":
        yield f"transforms.related: it orders the stream, packing {packing.kind} orders it anew; use packing: concat"
    if cuts and packing.kind == "vsl":
        yield f"transforms.{cuts}: it cuts pieces, and packing vsl wants them whole; use another packing"
    if cuts and align > 1:
        yield f"transforms.{cuts}: it cuts documents anywhere, and sequence.align {align} asks where; give one of them"
    if transforms.utk is not None and transforms.utk.room > length // 2:
        yield f"transforms.utk.room: {transforms.utk.room:,} is above half of sequence.length {length:,}"


def _against_short(packing: Packing, transforms: Transforms, length: int, align: int) -> Iterator[str]:
    room = transforms.utk.room if transforms.utk else 0
    if packing.short is not None and packing.short >= length - room:
        less = f" less transforms.utk.room {room:,}" if room else ""
        yield f"packing.short: {packing.short:,} is not below sequence.length {length:,}{less}"
    if packing.short is not None and packing.short % align:
        yield f"packing.short: {packing.short:,} is not a multiple of sequence.align {align:,}"


def _against_vsl(packing: Packing, length: int, align: int) -> Iterator[str]:
    smallest = packing.smallest or 1
    if align > 1:
        yield f"sequence.align: {align} does not go with packing vsl, which lays pieces at multiples of their length"
    for name, value in (("sequence.length", length), ("packing.smallest", smallest)):
        if value & (value - 1):
            yield f"{name}: {value:,} is not a power of two, and packing vsl cuts documents into powers of two"
    if smallest > length:
        yield f"packing.smallest: {smallest:,} is above sequence.length {length:,}"
    lengths = length.bit_length() - smallest.bit_length() + 1
    if packing.odds is not None and len(packing.odds) != lengths:
        yield (
            f"packing.odds: {len(packing.odds)} odds for {lengths} lengths of pieces, the powers of two from "
            f"{smallest:,} to {length:,}"
        )
