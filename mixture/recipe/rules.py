"""What the mixture shall be: shares of domains, lengths inside each, caps on repeats, floors, and what gives way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_serializer, model_validator

from mixture.errors import nearest
from mixture.recipe.published import PUBLISHED
from mixture.recipe.quantities import SHARES_SUM_WITHIN, Length, Part, Share, name_mapping, show_length

#: A cap above this is no cap.
MOST_EPOCHS = 1000

Epochs = Annotated[float, Field(gt=0, le=MOST_EPOCHS)]
Factor = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Like(Part):
    """Whose distribution over the buckets is copied: another domain's, or a published one's."""

    domain: str | None = Field(None, description="a domain of this corpus")
    published: str | None = Field(None, description=f"one of: {', '.join(PUBLISHED)}")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.domain is None) == (self.published is None):
            raise ValueError("give exactly one of: the name of a domain, {published: NAME}")
        if self.published is not None and self.published not in PUBLISHED:
            raise ValueError(f"no published distribution {self.published!r}; {nearest(self.published, PUBLISHED)}")
        return self


class LengthRule(Part):
    """How a domain's tokens are spread over its length buckets. At most one form; none of them: natural."""

    threshold: Length | None = Field(None, description="documents of at least this many tokens are long")
    long: Share | None = Field(None, description="raise the long share to this; a domain above it stays as it is")
    exact: bool = Field(default=False, description="with long: lower a domain that is above the share, too")
    keep_short: Share | None = Field(None, description="keep short documents at this rate, long ones as they are")
    shares: tuple[Share, ...] | None = Field(None, description="share of each bucket, shortest first; sums to 1")
    factors: tuple[Factor, ...] | None = Field(
        None, description="weight of each bucket against its natural share, shortest first"
    )
    power: Annotated[float, Field(ge=-8, le=8)] | None = Field(
        None, description="weight each document by this power of its length: 0 is natural, 0.5 gentle"
    )
    like: (
        Annotated[Like, BeforeValidator(lambda v: name_mapping(v, "domain"), json_schema_input_type=str | Like)] | None
    ) = Field(None, description="copy the distribution of another domain, or {published: NAME}")
    floors: tuple[Share, ...] | None = Field(
        None, description="the least share of each bucket, shortest first, with any form"
    )

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        forms = self._forms()
        if len(forms) > 1:
            raise ValueError(f"{' and '.join(forms)} are different rules; keep one")
        needs_threshold = forms in (["long"], ["keep_short"])
        if needs_threshold and self.threshold is None:
            raise ValueError(f"{forms[0]} needs a threshold, for example threshold: 4K")
        if not needs_threshold and self.threshold is not None:
            raise ValueError("threshold needs long: SHARE or keep_short: RATE beside it")
        if self.exact and self.long is None:
            raise ValueError("exact goes with long: SHARE")
        if self.shares is not None and abs(sum(self.shares) - 1) > SHARES_SUM_WITHIN:
            raise ValueError(f"shares sum to {sum(self.shares):.6g}, not 1")
        if self.factors is not None and not any(self.factors):
            raise ValueError("factors are all zero; at least one bucket must be wanted")
        if self.floors is not None and sum(self.floors) > 1 + SHARES_SUM_WITHIN:
            raise ValueError(f"floors sum to {sum(self.floors):.6g}, more than 1")
        return self

    def _forms(self) -> list[str]:
        names = ("long", "keep_short", "shares", "factors", "power", "like")
        return [name for name in names if getattr(self, name) is not None]

    @property
    def form(self) -> str:
        """Which form the rule has: the name of its key, or `natural`."""
        return next(iter(self._forms()), "natural")

    def check(self, edges: Sequence[int], buckets: Sequence[str]) -> str:
        """Return why the rule does not fit these buckets; empty if it does."""
        for field in ("shares", "factors", "floors"):
            values = getattr(self, field)
            if values is not None and len(values) != len(buckets):
                return f"{field} has {len(values)} numbers for {len(buckets)} buckets ({', '.join(buckets)})"
        if self.threshold is not None and self.threshold not in edges:
            shown = ", ".join(map(show_length, edges))
            return f"threshold {show_length(self.threshold)} is not an edge of buckets [{shown}]; add it there"
        if self.like is not None and self.like.published is not None:
            known = PUBLISHED[self.like.published].edges
            unknown = [edge for edge in edges if edge not in known]
            if unknown:
                return (
                    f"{self.like.published} is published for the edges {', '.join(map(show_length, known))}; "
                    f"take {show_length(unknown[0])} out of buckets"
                )
        return ""


def _length_rule(value: object) -> object:
    if value == "natural":
        return {}
    if isinstance(value, str):
        raise ValueError(f"{value!r} is not a length rule; write natural, or {{threshold: 4K, long: 0.7}}")
    return value


Rule = Annotated[LengthRule, BeforeValidator(_length_rule, json_schema_input_type=Literal["natural"] | LengthRule)]


def _plain_number(value: object) -> object:
    return int(value) if isinstance(value, float) and value == int(value) else value


class Caps(Part):
    """How often text may repeat, over all phases and all that was consumed before."""

    document: Annotated[int, Field(ge=1, le=MOST_EPOCHS)] | None = Field(
        None, description="no document appears more often; default: the cell's epochs, rounded up"
    )
    cell: Epochs | tuple[Epochs, ...] | None = Field(
        None, description="epochs of a cell at most, real numbers; or one for each bucket; default: document's"
    )
    domain: Epochs | None = Field(None, description="epochs of the whole domain at most")

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.document is None and self.cell is None:
            raise ValueError("give the cap of a document or of a cell: max_epochs: 4")
        return self

    @model_serializer
    def _plain(self) -> Any:
        """Write a cap as people do where it is one number."""
        given = {name: value for name, value in self if value is not None}
        return _plain_number(given["cell"]) if list(given) == ["cell"] else given

    def of_cell(self, bucket: int) -> float:
        """Return the epochs of one bucket, at most."""
        if self.cell is None:
            return float(self.document or 1)
        cell = self.cell[bucket] if isinstance(self.cell, tuple) else self.cell
        return cell if self.document is None else min(cell, float(self.document))

    def of_document(self, bucket: int) -> int:
        """Return how often a document of one bucket appears, at most."""
        return min(self.document or MOST_EPOCHS, math.ceil(self.of_cell(bucket)))

    def check(self, buckets: Sequence[str]) -> str:
        """Return why the caps do not fit these buckets; empty if they do."""
        if isinstance(self.cell, tuple) and len(self.cell) != len(buckets):
            return f"{len(self.cell)} numbers for {len(buckets)} buckets ({', '.join(buckets)})"
        return ""


def _caps(value: object) -> object:
    return value if isinstance(value, (dict, Caps)) else {"cell": value}


CapsOf = Annotated[Caps, BeforeValidator(_caps, json_schema_input_type=float | tuple[float, ...] | Caps)]


class DomainMix(Part):
    """One domain's share, with what it overrides."""

    share: Share | None = None
    lengths: Rule | None = None
    max_epochs: CapsOf | None = None
    floor: Share | None = Field(None, description="the least share of the budget that the domain gets")


def _domain_mix(value: object) -> object:
    return {"share": value} if isinstance(value, (int, float)) and not isinstance(value, bool) else value


MixOfDomain = Annotated[DomainMix, BeforeValidator(_domain_mix, json_schema_input_type=float | DomainMix)]


class Mix(Part):
    """The designed mixture: shares of domains, lengths inside each, caps, floors, and what gives way."""

    domains: dict[str, MixOfDomain] | Literal["natural", "global"] = Field(
        "natural",
        description="a share for each domain; or natural: as the corpus is; or global: the length rule is applied to "
        "the corpus as one, and domains get what comes of it",
    )
    lengths: Rule = LengthRule()
    max_epochs: CapsOf = Field(Caps(cell=1), description="a document appears at most this often")
    floor: Share = Field(0.0, description="the least share of the budget that every drawn domain gets")
    on_shortage: Literal["error", "repeat", "redistribute"] = Field(
        "error",
        description="when a cell holds less than is wanted: stop, repeat it beyond its cap, or take the rest from "
        "neighbouring buckets, then from other domains",
    )

    @field_validator("domains", mode="before")
    @classmethod
    def _shape(cls, value: object) -> object:
        if isinstance(value, str) and value not in ("natural", "global"):
            raise ValueError(f"{value!r} is neither natural nor global nor a mapping of domains to shares")
        if isinstance(value, dict) and not value:
            raise ValueError("no domain is named; write natural, or a share for each domain")
        wrong = [key for key in value if not isinstance(key, str)] if isinstance(value, dict) else []
        if wrong:
            raise ValueError(f"YAML reads a name here as {wrong[0]!r}, which is no text; put it in quotes")
        return value

    @model_validator(mode="after")
    def _sums(self) -> Self:
        if isinstance(self.domains, str):
            return self
        shares = {name: d.share for name, d in self.domains.items()}
        given = [s for s in shares.values() if s is not None]
        if given and len(given) < len(shares):
            missing = ", ".join(name for name, s in shares.items() if s is None)
            raise ValueError(f"domains: {missing} has no share while others have; give each a share, or none of them")
        if given and abs(sum(given) - 1) > SHARES_SUM_WITHIN:
            shown = " + ".join(f"{s:g}" for s in given)
            raise ValueError(f"domains: shares sum to {sum(given):.6g}, not 1 ({shown})")
        floors = [self.floor if d.floor is None else d.floor for d in self.domains.values()]
        if sum(floors) > 1 + SHARES_SUM_WITHIN:
            raise ValueError(f"floor: the floors of {len(floors)} domains sum to {sum(floors):.6g}, more than 1")
        return self

    def of(self, domain: str) -> DomainMix:
        """Return what the recipe says of one domain, empty if nothing."""
        return DomainMix() if isinstance(self.domains, str) else self.domains.get(domain, DomainMix())

    def rule(self, domain: str) -> LengthRule:
        """Return a domain's length rule."""
        return self.of(domain).lengths or self.lengths

    def caps(self, domain: str) -> Caps:
        """Return a domain's caps."""
        return self.of(domain).max_epochs or self.max_epochs

    def floor_of(self, domain: str) -> float:
        """Return the least share of the budget that a domain gets."""
        floor = self.of(domain).floor
        return self.floor if floor is None else floor

    def named(self) -> dict[str, Any]:
        """Return the domains that have an entry of their own."""
        return {} if isinstance(self.domains, str) else dict(self.domains)
