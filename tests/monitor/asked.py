"""A probe, as far as the mechanistic level looks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Asked:
    """What `mixture.monitor.copying.Question` asks for."""

    prompt: Any
    answer: Any
    needle: tuple[int, int]
    length: int = 0
    depth: float = 0.5
    seed: int = 0
    task: str = "chain"
