"""Packings: from the lengths of a stream's documents to pieces of sequences. Pure: no tokens, no files.

    lengths ─ packing ─► pieces ─ order ─► pieces ─ transform ─► pieces, marks        (`layout.lay` does all)

A packing is a function of (lengths, sequence length) that returns `Pieces`; a new one is one function and one line in
`packing`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from mixture.recipe.packing import Packing

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pieces:
    """Stretches of documents laid into sequences, by sequence, then by place; arrays of shape (m,).

    Attributes:
        row: which of the given lengths the piece is of.
        offset: where the piece starts in it.
        size: tokens in the piece.
        sequence: the sequence that it lies in, counted from 0.
        start: where it starts in that sequence.
    """

    row: Ints
    offset: Ints
    size: Ints
    sequence: Ints
    start: Ints

    @property
    def sequences(self) -> int:
        """How many sequences there are."""
        return int(self.sequence[-1]) + 1 if len(self.sequence) else 0

    def of_sequences(self, first: int, stop: int) -> Pieces:
        """Return the pieces of sequences [first, stop), numbered from 0."""
        low, high = np.searchsorted(self.sequence, [first, stop])
        found = self.take(slice(low, high))
        return replace(found, sequence=found.sequence - first)

    def take(self, which: npt.NDArray[Any] | slice) -> Pieces:
        """Return the pieces at a mask, at positions or in a range."""
        return Pieces(*(column[which] for column in vars(self).values()))

    def then(self, other: Pieces) -> Pieces:
        """Return these sequences with those of other pieces after them."""
        after = replace(other, sequence=other.sequence + self.sequences)
        return Pieces(*map(np.concatenate, zip(vars(self).values(), vars(after).values(), strict=True)))

    @staticmethod
    def none() -> Pieces:
        """Return no pieces."""
        return Pieces(*(np.empty(0, np.int64) for _ in range(5)))


@dataclass(frozen=True)
class Marks:
    """Tokens that a transform writes into sequences, by sequence, then by place; arrays of shape (k,).

    Attributes:
        sequence: the sequence.
        start: the place in it.
        token: the id written there.
    """

    sequence: Ints
    start: Ints
    token: Ints

    @staticmethod
    def none() -> Marks:
        """Return no marks."""
        return Marks(*(np.empty(0, np.int64) for _ in range(3)))

    def of_sequences(self, first: int, stop: int) -> Marks:
        """Return the marks of sequences [first, stop), numbered from 0."""
        low, high = np.searchsorted(self.sequence, [first, stop])
        return Marks(self.sequence[low:high] - first, self.start[low:high], self.token[low:high])


@dataclass(frozen=True)
class Packer:
    """A packing, ready to use.

    Attributes:
        lay: lays documents of given lengths, int64, shape (n,), into sequences of a length.
        whole: whether a document stays whole in the window of the stream in which it begins; else it is cut where the
            window ends.
        order: (pieces, seed, window) → the sequences in the order in which they are written, shape (sequences,); None
            for the order in which the packing made them.
    """

    lay: Callable[[Ints, int], Pieces]
    whole: bool
    order: Callable[[Pieces, int, int], Ints] | None


def packing(rule: Packing) -> Packer:
    """Return the packing that a recipe names."""
    from mixture.pack.best_fit import best_fit
    from mixture.pack.concat import concat
    from mixture.pack.intact import intact
    from mixture.pack.order import shuffled
    from mixture.pack.split_by_length import split_by_length
    from mixture.pack.vsl import curriculum, vsl

    return {
        "concat": lambda: Packer(concat, whole=False, order=None),
        "best-fit": lambda: Packer(best_fit, whole=True, order=shuffled),
        "intact": lambda: Packer(intact, whole=True, order=shuffled),
        "split-by-length": lambda: Packer(partial(split_by_length, **rule.options()), whole=True, order=shuffled),
        "vsl": lambda: Packer(
            partial(vsl, **rule.options("smallest")),
            whole=False,
            order=partial(curriculum, **rule.options()),
        ),
    }[rule.kind]()
