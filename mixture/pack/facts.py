"""What a packing did to documents, in whole numbers: facts of shards add up to those of a phase exactly.

Sequences of 8, with document a of 6 tokens, b of 4 and c of 3:

    a a a a a a b b | b b c c c · · ·

2 sequences, 16 places, 13 tokens, 4 pieces, 3 documents, 1 cut (b goes on), 1 truncated (b does not end where it
begins). Context is what stands before each token of its own document in the same piece: 15 + 1 + 1 + 3 = 20. Cost is
the sum of squared piece lengths, what attention under a document mask computes: 36 + 4 + 4 + 9 = 53.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mixture.pack import Ints, Pieces

_COUNTS = ("sequences", "single", "places", "tokens", "pieces", "cuts", "context", "cost")


@dataclass(frozen=True)
class Facts:
    """Facts of packed sequences of one length; D domains.

    Attributes:
        sequences: how many.
        single: sequences with one piece alone: what stands there is of one document.
        places: that they have: tokens, marks and padding.
        tokens: of documents, separators included.
        pieces: stretches of documents.
        cuts: pieces that do not begin their document.
        begun: documents that begin, per domain, shape (D,).
        truncated: of those, documents that do not end in the piece that begins them, per domain, shape (D,).
        context: sum over tokens of how many tokens of the same piece stand before.
        cost: sum over pieces of their squared length.
        domains: their names; none where facts were measured and not yet named. Named facts add up by name.
    """

    sequences: int
    single: int
    places: int
    tokens: int
    pieces: int
    cuts: int
    begun: tuple[int, ...]
    truncated: tuple[int, ...]
    context: int
    cost: int
    domains: tuple[str, ...] = ()

    @property
    def documents(self) -> int:
        """Pieces that begin a document."""
        return sum(self.begun)

    @property
    def length(self) -> int:
        """Places in a sequence; 0 where there is none."""
        return self.places // self.sequences if self.sequences else 0

    @property
    def fill(self) -> float:
        """Share of places that hold tokens."""
        return _ratio(self.tokens, self.places)

    @property
    def padding(self) -> float:
        """Share of places that hold no token of a document."""
        return _ratio(self.places - self.tokens, self.places)

    @property
    def cuts_per_document(self) -> float:
        """How often a document is cut."""
        return _ratio(self.cuts, self.documents)

    @property
    def truncation(self) -> tuple[float, ...]:
        """Share of documents that do not end in the piece that begins them, per domain."""
        return tuple(_ratio(part, whole) for part, whole in zip(self.truncated, self.begun, strict=True))

    @property
    def mean_context(self) -> float:
        """Tokens of its own document that a token sees before it in its sequence, on average."""
        return _ratio(self.context, self.tokens)

    @property
    def pieces_per_sequence(self) -> float:
        """Documents in a sequence, on average, counting those that are there in part."""
        return _ratio(self.pieces, self.sequences)

    @property
    def single_share(self) -> float:
        """Share of sequences that are of one document each."""
        return _ratio(self.single, self.sequences)

    @property
    def relative_cost(self) -> float:
        """Cost of attention under a document mask over that of full sequences: Σ size² / (tokens · length)."""
        return _ratio(self.cost, self.tokens * self.length)

    @staticmethod
    def none(domains: int) -> Facts:
        """Return the facts of no sequence: what a sum starts from."""
        return Facts(0, 0, 0, 0, 0, 0, (0,) * domains, (0,) * domains, 0, 0)

    def __add__(self, other: Facts) -> Facts:
        if not (self.domains and other.domains) and len(self.begun) != len(other.begun):
            raise ValueError(
                f"facts of {len(self.begun)} and of {len(other.begun)} domains without names do not add up"
            )
        counts = {name: getattr(self, name) + getattr(other, name) for name in _COUNTS}
        names = self.domains if self.domains == other.domains else tuple(sorted({*self.domains, *other.domains}))
        mine, others = self._rows(names), other._rows(names)
        begun, truncated = ([a[at] + b[at] for a, b in zip(mine, others, strict=True)] for at in (0, 1))
        return Facts(**counts, begun=tuple(begun), truncated=tuple(truncated), domains=names)

    def _rows(self, names: tuple[str, ...]) -> list[tuple[int, int]]:
        """Return documents and truncated ones of the domains of these names, in their order."""
        rows = list(zip(self.begun, self.truncated, strict=True))
        if self.domains in ((), names):
            return rows
        known = dict(zip(self.domains, rows, strict=True))
        return [known.get(name, (0, 0)) for name in names]

    def to_json(self, domains: Sequence[str] = ()) -> dict[str, Any]:
        """Return plain values, with the domains' names, or with these."""
        rows = zip(domains or self.domains, self.begun, self.truncated, strict=True)
        counts = {name: getattr(self, name) for name in _COUNTS}
        return counts | {"domains": {name: {"documents": begun, "truncated": cut} for name, begun, cut in rows}}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Facts:
        """Read what `to_json` wrote; further keys are left alone."""
        rows = value["domains"].values()
        return Facts(
            **{name: int(value[name]) for name in _COUNTS},
            begun=tuple(int(row["documents"]) for row in rows),
            truncated=tuple(int(row["truncated"]) for row in rows),
            domains=tuple(value["domains"]),
        )


def measure(
    pieces: Pieces,
    begins: npt.NDArray[np.bool_],
    ends: npt.NDArray[np.bool_],
    domain: Ints,
    domains: int,
    sequences: int,
    length: int,
) -> Facts:
    """Return the facts of the pieces of one window or shard.

    Args:
        pieces: m of them.
        begins: whether each starts its document, shape (m,).
        ends: whether each ends its document, shape (m,).
        domain: number of each one's domain, from 0, int64, shape (m,).
        domains: how many domains there are.
        sequences: how many sequences there are.
        length: places in each; tokens · length must be below 2^63.
    """
    size = pieces.size
    cost, tokens = int(np.dot(size, size)), int(size.sum())
    return Facts(
        sequences=sequences,
        single=int(np.count_nonzero(np.bincount(pieces.sequence) == 1)),
        places=sequences * length,
        tokens=tokens,
        pieces=len(size),
        cuts=int(np.count_nonzero(~begins)),
        begun=_per_domain(domain[begins], domains),
        truncated=_per_domain(domain[begins & ~ends], domains),
        context=(cost - tokens) // 2,
        cost=cost,
    )


def _per_domain(domain: Ints, domains: int) -> tuple[int, ...]:
    return tuple(np.bincount(domain, minlength=domains).tolist())


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
