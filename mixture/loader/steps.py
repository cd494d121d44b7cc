"""Step after step of one rank, as numpy arrays; `loader.batch` has the same as tensors.

    steps = Steps(stream, batch=512, micro=4, rank=0, ranks=8)
    for step in steps:              # 512 sequences, 64 of them here
        for arrays in step:         # 16 times 4 rows
            …
        save(steps.state.state_dict())

The state counts whole steps: one that was begun, and not ended, begins again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Self, TypeVar

import numpy as np
import numpy.typing as npt

from mixture.errors import MixtureError
from mixture.loader import Ints, Spans, geometry
from mixture.loader.ahead import Ahead
from mixture.loader.order import Dealt, Share, deal
from mixture.loader.state import State
from mixture.loader.stream import Rows, Stream

T = TypeVar("T")

#: The label of places that do not count.
IGNORED = -100


@dataclass(frozen=True)
class Arrays:
    """A micro-batch.

    Attributes:
        input_ids: int64, shape (rows, length).
        labels: the token after each place, -100 where none is learnt, int64, shape (rows, length).
        position_ids: int64, shape (rows, length).
        cu_seqlens: where segments begin in the flattened rows, and their places, int32, shape (segments + 1,).
        max_seqlen: places of the longest segment.
        sequences: numbers in the phase, -1 for a blank row.
        spans: of these rows.
        state: what is taken once this micro-batch is; it counts whole steps.
    """

    input_ids: Ints
    labels: Ints
    position_ids: Ints
    cu_seqlens: npt.NDArray[np.int32]
    max_seqlen: int
    sequences: tuple[int, ...]
    spans: Spans
    state: State

    @staticmethod
    def of(rows: Rows, state: State, *, documents: bool, trace: tuple[int, int] | None = None) -> Arrays:
        """Work out the geometry of some rows.

        Args:
            rows: tokens and spans.
            state: see the attribute.
            documents: whether each document is on its own: positions and attention begin anew, and its first token is
                not predicted. Else each row is one segment.
            trace: see `Stream.trace`.
        """
        length = rows.tokens.shape[1]
        if documents:
            boundaries = geometry.cu_seqlens(rows.spans, length)
        else:
            boundaries = (np.arange(rows.spans.rows + 1) * length).astype(np.int32)
        count = rows.spans.rows
        return Arrays(
            input_ids=rows.tokens,
            labels=geometry.labels(
                rows.tokens, rows.spans, mask_starts=documents, shift=True, ignore=IGNORED, trace=trace
            ),
            position_ids=geometry.positions_in(boundaries).reshape(count, length),
            cu_seqlens=boundaries,
            max_seqlen=geometry.max_seqlen(boundaries),
            sequences=tuple(rows.sequences.tolist()),
            spans=rows.spans,
            state=state,
        )


@dataclass(frozen=True)
class Walk:
    """The way of one rank through a phase.

    Attributes:
        stream: the phase.
        share: which part of each step is this rank's.
        state: where it begins.
        documents: see `Arrays.of`.
        balance: whether ranks are made level in Σ len²; only with `documents`.

    Raises:
        LockError: the state is not of this stream.
    """

    stream: Stream
    share: Share
    state: State
    documents: bool = True
    balance: bool = True

    def __post_init__(self) -> None:
        self.stream.check_state(self.state)

    @property
    def left(self) -> int:
        """Sequences that are left."""
        return len(self.stream) - self.state.sequences

    def __len__(self) -> int:
        return self.share.micros(self.left)

    def steps(self) -> Iterator[Dealt]:
        """Yield who takes what, step after step."""
        stream = self.stream
        costs = stream.costs if self.documents and self.balance else None
        return deal(len(stream), self.share, self.state.sequences, stream.taken, costs)

    def micros(self, first: int = 0, every: int = 1) -> Iterator[tuple[Dealt, Arrays]]:
        """Yield micro-batches, each with its step: all from the first on, or every n-th, as workers take turns."""
        number = 0
        for step in self.steps():
            count = len(step.mine)
            wanted = [nth for nth in range(count) if number + nth >= first and not (number + nth - first) % every]
            if wanted:
                self.stream.fetch(step.mine[wanted].reshape(-1))
            for nth in wanted:
                taken = step.stop if nth == count - 1 else step.first
                yield step, self.arrays(step.mine[nth], self.stream.state(taken))
            number += count

    def arrays(self, sequences: Ints, state: State) -> Arrays:
        """Return some sequences as a micro-batch."""
        stream = self.stream
        return Arrays.of(stream.rows(sequences), state, documents=self.documents, trace=stream.trace)


class Step(Generic[T]):
    """One step: iterate it once, for the micro-batches of this rank.

    Attributes:
        number: of the step, counted in batches from the start of the phase.
        sequences: of all ranks, in the order of the stream's, int64, shape (count,).
        digest: 64-bit hash of which rank takes what; the same on all ranks, unless their files differ.
    """

    def __init__(self, number: int, dealt: Dealt, micros: Iterator[T], taken: Callable[[int], None]) -> None:
        self.number = number
        self.sequences, self.digest = dealt.sequences, dealt.digest
        self._dealt, self._micros, self._taken = dealt, micros, taken
        self._count = self._left = len(dealt.mine)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[T]:
        while self._left:
            self._left -= 1
            yield next(self._micros)
        self._taken(self._dealt.stop)


class StepsOf(ABC, Generic[T]):
    """The steps of one rank; see `Steps`."""

    def __init__(  # noqa: PLR0913 - a user's choices, by name
        self,
        stream: Stream,
        *,
        batch: int,
        micro: int = 1,
        rank: int = 0,
        ranks: int = 1,
        documents: bool = True,
        balance: bool = True,
        state: State | None = None,
        ahead: int = 2,
    ) -> None:
        self.share = Share(batch, micro, rank, ranks)
        self.stream = stream
        self._state = stream.state() if state is None else state
        self._walk = Walk(stream, self.share, self._state, documents, balance)
        if ahead < 0:
            raise MixtureError(f"ahead is {ahead}: give 0 for no thread, or how many micro-batches are made in advance")
        self._ahead = ahead
        self._thread: Ahead[tuple[Dealt, T]] | None = None

    @abstractmethod
    def _made(self, arrays: Arrays) -> T:
        """Return a micro-batch in the form that the loop wants."""

    def _took(self, sequences: int) -> None:
        self._state = self.stream.state(sequences)

    @property
    def accumulate(self) -> int:
        """Micro-batches of a whole step."""
        return self.share.accumulate

    @property
    def state(self) -> State:
        """What is taken by now: all steps that were iterated, or left behind."""
        return self._state

    def __len__(self) -> int:
        return self.share.steps(len(self.stream) - self._state.sequences)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the read-ahead."""
        if self._thread is not None:
            self._thread.close()
            self._thread = None

    def __iter__(self) -> Iterator[Step[T]]:
        """Yield the steps that are left.

        Raises:
            StoreError: a shard or a row of it is damaged, or cannot be read.
        """
        self.close()
        walk = Walk(self.stream, self.share, self._state, self._walk.documents, self._walk.balance)
        things = ((dealt, self._made(arrays)) for dealt, arrays in walk.micros())
        micros: Iterator[tuple[Dealt, T]] = things
        if self._ahead:
            micros = self._thread = Ahead(things, self._ahead)
        try:
            for dealt, first in micros:
                step = Step(dealt.first // self.share.batch, dealt, _from(first, micros), self._took)
                yield step
                for _ in step:
                    # What the loop left of it; the next step begins after it.
                    pass
        finally:
            self.close()


def _from(first: T, rest: Iterator[tuple[Dealt, T]]) -> Iterator[T]:
    yield first
    for _, micro in rest:
        yield micro


class Steps(StepsOf[Arrays]):
    """The steps of one rank, as numpy arrays.

    Args:
        stream: the phase.
        batch: sequences of a step, over all ranks.
        micro: rows that a rank takes at once.
        rank: which data-parallel rank.
        ranks: how many there are.
        documents: whether each document is on its own: positions and attention begin anew, and its first token is not
            predicted from the one before.
        balance: whether ranks are made level in Σ len², where `documents` are on their own.
        state: where to begin; at the start of the phase by default.
        ahead: micro-batches that a thread makes in advance; 0 for no thread.

    Raises:
        MixtureError: the batch does not share out.
        LockError: the state is not of this stream.
    """

    def _made(self, arrays: Arrays) -> Arrays:
        return arrays
