"""Probes: a prompt of an exact number of tokens with something in it to find, and what a right model says next.

    prompt  … The secret phrase of Lisbon is: amber violin harbor seven. … Question: … Answer:     4,096 tokens
    answer  ˽amber violin harbor seven                          needle (1873, 1877): where these tokens stand in it

Everything is drawn by address (seed, task, length, depth, sample), so another length, another depth or more samples
change none of the probes that were there. Prompts are laid together from pieces as tokens (`codec`), so places are
exact and an answer has the tokens that stand in its needle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from mixture.errors import MonitorError
from mixture.hashing import draw, key

I64 = npt.NDArray[np.int64]
T = TypeVar("T")

#: A depth is addressed by this many steps from 0 to 1, so that .1 + .2 and .3 draw alike.
_DEPTH_STEPS = 1 << 20
_AHEAD = 1 << 10


@dataclass(frozen=True)
class Probe:
    """One question about one long text.

    Attributes:
        task: as `niah`.
        length: tokens of the prompt.
        depth: where the needle stands in the text, 0 the start and 1 the end.
        seed: number of the sample in its cell.
        prompt: everything up to and including `Answer:`, int64, shape (length,).
        answer: what a right model says next, int64, shape (m,).
        needle: first and last + 1 place in the prompt of the tokens to be copied; where several stand apart, of the
            first.
        sentence: first and last + 1 place of all that holds the needle.
        expected: strings that belong in the decoded answer.
        copied: whether the needle's tokens are the answer's, token by token.

    Raises:
        MonitorError: on construction, when it contradicts itself.
    """

    task: str
    length: int
    depth: float
    seed: int
    prompt: I64
    answer: I64
    needle: tuple[int, int]
    sentence: tuple[int, int]
    expected: tuple[str, ...]
    copied: bool

    def __post_init__(self) -> None:
        name = f"probe {self.task}, {self.length:,} tokens, depth {self.depth:g}, sample {self.seed}"
        if self.prompt.shape != (self.length,):
            raise MonitorError(f"{name}: its prompt has {len(self.prompt):,} tokens; lay it out anew")
        if not len(self.answer) or not self.expected:
            raise MonitorError(f"{name}: it has no answer; give what a right model says")
        (first, stop), (begin, end) = self.needle, self.sentence
        if not 0 <= begin <= first < stop <= end <= self.length:
            raise MonitorError(f"{name}: needle {self.needle} is not inside its sentence {self.sentence}")
        if self.copied and not np.array_equal(self.prompt[first:stop], self.answer):
            raise MonitorError(f"{name}: the needle's tokens are not the answer's, so it is not to be copied")


class Lots:
    """Draws for one address: the same numbers on every machine and with every version of every library.

    Args:
        seed: any integer.
        purpose: what is drawn.
        address: further integers, as length, depth and sample.
    """

    def __init__(self, seed: int, purpose: str, *address: int) -> None:
        here = np.array([key(seed, purpose)], np.uint64)
        for word in address:
            here = draw(seed, purpose, here, np.array([word % (1 << 64)], np.uint64))
        self._seed, self._purpose, self._here = seed, purpose, here
        self._drawn, self._next = 0, 0
        self._ahead = np.zeros(0, np.uint64)

    def words(self, count: int) -> npt.NDArray[np.uint64]:
        """Return the next uniform 64-bit words, shape (count,)."""
        if self._next + count > len(self._ahead):
            # Many are drawn at once: a draw of one takes as long as one of a thousand.
            numbers = np.arange(self._drawn, self._drawn + count + _AHEAD, dtype=np.uint64)
            fresh = draw(self._seed, self._purpose, np.broadcast_to(self._here, numbers.shape), numbers)
            self._ahead, self._next = np.concatenate([self._ahead[self._next :], fresh]), 0
            self._drawn += len(numbers)
        self._next += count
        return self._ahead[self._next - count : self._next]

    def below(self, bound: int) -> int:
        """Return the next integer in [0, bound)."""
        return int(self.words(1)[0]) * bound >> 64

    def one(self, things: Sequence[T]) -> T:
        """Return one of some things."""
        return things[self.below(len(things))]

    def order(self, count: int) -> I64:
        """Return 0 … count - 1 shuffled, shape (count,)."""
        return np.argsort(self.words(count), kind="stable")

    def some(self, things: Sequence[T], count: int) -> list[T]:
        """Return `count` different ones of some things, in random order."""
        return [things[place] for place in self.order(len(things))[:count].tolist()]

    def hexadecimal(self, digits: int) -> str:
        """Return a string of random hexadecimal digits."""
        return "".join(f"{int(word):016x}" for word in self.words(-(-digits // 16)))[:digits]


def lots(seed: int, task: str, length: int, depth: float, sample: int) -> Lots:
    """Return the draws of one probe."""
    return Lots(seed, f"probe {task}", length, round(depth * _DEPTH_STEPS), sample)


class Sheet:
    """A prompt that is being laid together from pieces."""

    def __init__(self) -> None:
        self._pieces: list[Sequence[int] | I64] = []
        self.length = 0

    def add(self, *pieces: Sequence[int] | I64) -> tuple[int, int]:
        """Add pieces at the end; return the places where they stand, first and last + 1."""
        first = self.length
        for piece in pieces:
            self._pieces.append(piece)
            self.length += len(piece)
        return first, self.length

    def tokens(self) -> I64:
        """Return all of it, shape (length,)."""
        return np.concatenate([np.zeros(0, np.int64), *(np.asarray(piece, np.int64) for piece in self._pieces)])

    def probe(
        self,
        cell: tuple[str, float, int],
        needle: tuple[int, int],
        sentence: tuple[int, int],
        expected: Sequence[str],
        answer: Sequence[int] | None = None,
    ) -> Probe:
        """Return the probe whose prompt this is.

        Args:
            cell: task, depth, sample.
            needle: see `Probe`.
            sentence: likewise.
            expected: likewise.
            answer: its tokens, where they are not the needle's.
        """
        prompt, (task, depth, sample) = self.tokens(), cell
        said = prompt[slice(*needle)] if answer is None else np.asarray(answer, np.int64)
        known = (tuple(expected), answer is None)
        return Probe(task, self.length, depth, sample, prompt, said, needle, sentence, *known)


def too_short(task: str, length: int, needed: int, what: str) -> MonitorError:
    """Return the error for a length that cannot hold a probe.

    Args:
        task: its name.
        length: tokens that were asked for.
        needed: the fewest that do.
        what: what takes them.
    """
    return MonitorError(f"{task}: {what} take {needed:,} tokens, a length of {length:,} was asked for; give more")
