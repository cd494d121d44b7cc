"""Budgets and lengths as people write them: `500M`, `0.5B` are decimal, `4K`, `1M` of a length are binary."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

_DECIMAL = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_BINARY = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_NUMBER = re.compile(r"(-?[\d_]*\.?\d+)\s*([A-Za-z]?)")
SHARES_SUM_WITHIN = 1e-6
#: Far above any corpus, and far below where 64-bit sums and the fractions of floating point end.
_MOST_TOKENS = 10**15


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


class Part(BaseModel):
    """A part of a recipe: frozen, and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def name_mapping(value: object, key: str) -> object:
    """Let a plain string stand for a mapping with one key."""
    return {key: value} if isinstance(value, str) else value
