"""How much of a run: so many tokens, so many steps, or a share of it.

    100M          100,000,000 tokens (decimal, as a recipe's budget); also 100M tokens
    100 steps     steps
    0.01          a hundredth of what it is a part of; also 1%

A bare number from 1 on is refused: nobody knows whether `warmup: 500` meant tokens or steps. 0 is nothing of anything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from mixture.recipe.quantities import tokens

Kind = Literal["tokens", "steps", "share"]

_STEPS = re.compile(r"([\d_,]+)\s*steps?")
_TOKENS = re.compile(r"([\d_.]+\s*[KMBT])(?:\s*tokens?)?|([\d_,]+)\s*tokens?", re.IGNORECASE)
_SHARE = re.compile(r"(\d*\.\d+|\d+\.|\d+(?:\.\d*)?e-\d+)|(\d+(?:\.\d+)?)\s*%", re.IGNORECASE)
_UNITS = (("T", 10**12), ("B", 10**9), ("M", 10**6), ("K", 10**3))


@dataclass(frozen=True)
class Amount:
    """A length of a run.

    Attributes:
        kind: what it counts.
        value: how many tokens or steps, or which share from 0 to 1.
    """

    kind: Kind
    value: int | float

    def __str__(self) -> str:
        """Write it as people do, so that `amount` reads it again."""
        if not self.value:
            return "0"
        if self.kind == "share":
            return repr(float(self.value))
        if self.kind == "steps":
            return f"{self.value} steps"
        unit, size = next(((u, s) for u, s in _UNITS if self.value % s == 0), (" tokens", 1))
        return f"{self.value // size}{unit}"

    def __bool__(self) -> bool:
        """Say whether it is more than nothing."""
        return self.value > 0

    def steps(self, *, of: int, tokens_a_step: float) -> int:
        """Return how many steps it is, rounded up: a length that is not nothing is a step at least.

        Args:
            of: steps of that which a share is a part of.
            tokens_a_step: how many tokens a step has, on average.
        """
        if self.kind == "steps":
            return int(self.value)
        exact = self.value * of if self.kind == "share" else self.value / tokens_a_step
        # A share of 0.07 of 100 steps is 7.000000000000001 of them.
        return -int(-round(exact, 6) // 1)


#: Nothing of a run.
NOTHING = Amount("share", 0.0)


def amount(value: object) -> Amount:
    """Read a length of a run: `100M`, `100 steps`, `0.01`, `1%`.

    Raises:
        ValueError: it is none, or a bare number that may be tokens or steps.
    """
    if isinstance(value, Amount):
        return value
    text = str(value).strip()
    if isinstance(value, bool) or not text:
        raise ValueError(_wrong(value))
    if text == "0":
        return NOTHING
    if found := _STEPS.fullmatch(text):
        return Amount("steps", int(re.sub("[_,]", "", found[1])))
    if found := _TOKENS.fullmatch(text):
        return Amount("tokens", tokens(found[1] or re.sub("[_,]", "", found[2])))
    if found := _SHARE.fullmatch(text):
        share = float(found[1]) if found[1] else float(found[2]) / 100
        if share > 1:
            raise ValueError(f"{value} is more than all of it; write a share from 0 to 1, 100M or 100 steps")
        return Amount("share", share)
    if re.fullmatch(r"[\d_,]+", text):
        raise ValueError(f"{value} may be tokens or steps; write {text} steps, or {text} tokens")
    raise ValueError(_wrong(value))


def _wrong(value: object) -> str:
    return f"{value!r} is not a length of a run; write it as 100M (tokens), 100 steps or 0.01 (a share)"


def _schema() -> dict[str, Any]:
    return {"anyOf": [{"type": "string"}, {"type": "number", "minimum": 0, "maximum": 1}]}


#: An `Amount` as a field of a config.
Length = Annotated[Amount, BeforeValidator(amount), PlainSerializer(str), WithJsonSchema(_schema())]
