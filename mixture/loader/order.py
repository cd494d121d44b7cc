"""Which rank takes which sequence in which step: arithmetic, the same for all ranks.

A step is the next `batch` sequences of the order, whatever the number of ranks. They are dealt to the ranks in
micro-batches; where the phase ends in mid-step, blanks fill up what is left:

    7 sequences a … g, batch 4, micro 1, two ranks        step 0   rank 0: a | c      rank 1: b | d
                                                          step 1   rank 0: e | g      rank 1: f | blank

With costs, each rank gets the nearly same sum, its costliest sequences first (`loader.balance`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import xxhash

from mixture.errors import MixtureError
from mixture.loader import Ints
from mixture.loader.balance import Costs, balanced

#: Stands for a row without a sequence.
BLANK = -1


@dataclass(frozen=True)
class Share:
    """How steps are dealt out, and whose share this is.

    Attributes:
        batch: sequences of a step, over all ranks.
        micro: rows that a rank takes at once.
        rank: which data-parallel rank, from 0.
        ranks: how many there are; ranks · micro divides the batch.
    """

    batch: int
    micro: int = 1
    rank: int = 0
    ranks: int = 1

    def __post_init__(self) -> None:
        for name in ("batch", "micro", "ranks"):
            if getattr(self, name) < 1:
                raise MixtureError(f"{name} is {getattr(self, name)}: give at least 1")
        if not 0 <= self.rank < self.ranks:
            raise MixtureError(f"rank {self.rank} of {self.ranks}: ranks are numbered from 0 to {self.ranks - 1}")
        together = self.ranks * self.micro
        if self.batch % together:
            below = self.batch // together * together
            near = f"{below + together:,}" if not below else f"{below:,} or {below + together:,}"
            each = f"{self.ranks} ranks" + (f" · {self.micro} rows" if self.micro > 1 else "")
            raise MixtureError(
                f"a step of {self.batch:,} sequences does not share out over {each}: "
                f"choose a batch of {near}, or ranks and rows that divide it"
            )

    @property
    def together(self) -> int:
        """Rows that all ranks take at once."""
        return self.ranks * self.micro

    @property
    def accumulate(self) -> int:
        """Micro-batches of a whole step on each rank."""
        return self.batch // self.together

    def steps(self, left: int) -> int:
        """Return how many steps so many sequences are."""
        return -(-left // self.batch)

    def micros(self, left: int) -> int:
        """Return how many micro-batches of each rank so many sequences are."""
        return left // self.batch * self.accumulate + -(-(left % self.batch) // self.together)

    def deal(self, count: int, costs: Costs | None = None) -> Ints:
        """Deal one step; return numbers among its sequences, BLANK for none, int64, shape (ranks, micros, micro).

        Args:
            count: sequences of this step, at most `batch`.
            costs: of each, to make the ranks level, shape (count,); else they are dealt as they come.
        """
        rows = -(-count // self.together) * self.together
        if costs is None or self.ranks == 1:
            dealt = np.arange(rows).reshape(-1, self.ranks, self.micro).swapaxes(0, 1)
        else:
            filled = np.concatenate([costs, np.zeros(rows - count, costs.dtype)])
            dealt = balanced(filled, self.ranks).reshape(self.ranks, -1, self.micro)
        return np.where(dealt < count, dealt, BLANK)


@dataclass(frozen=True)
class Dealt:
    """One step, as one rank sees it.

    Attributes:
        first: place of its first sequence in the order.
        sequences: of all ranks, in the order, int64, shape (count,).
        mine: those of this rank, BLANK for none, int64, shape (micro-batches, micro).
        digest: 64-bit hash of who takes what; other ranks have the same, unless their files differ.
    """

    first: int
    sequences: Ints
    mine: Ints
    digest: int

    @property
    def stop(self) -> int:
        """Place past its last sequence."""
        return self.first + len(self.sequences)


def deal(
    total: int,
    share: Share,
    first: int,
    taken: Callable[[int, int], Ints],
    costs: Callable[[Ints], Costs] | None = None,
) -> Iterator[Dealt]:
    """Yield the steps from a place of the order to its end.

    Args:
        total: sequences of the phase.
        share: how they are dealt.
        first: the place of the first sequence that was not taken yet.
        taken: which sequences stand at places [first, stop).
        costs: of some sequences, to make ranks level.
    """
    for place in range(first, total, share.batch):
        sequences = taken(place, min(place + share.batch, total))
        of_all = share.deal(len(sequences), None if costs is None or share.ranks == 1 else costs(sequences))
        mine = of_all[share.rank]
        digest = xxhash.xxh3_64_intdigest(sequences[of_all].tobytes())
        yield Dealt(place, sequences, np.where(mine == BLANK, BLANK, sequences[mine]), digest)
