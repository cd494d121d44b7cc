"""Packings: from the lengths of a stream's documents to pieces of sequences. Pure: no tokens, no files.

A packing is a function of (lengths, sequence length) that returns `Pieces`; a new one is one function and one line
here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

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


def packing(name: str) -> Callable[[Ints, int], Pieces]:
    """Return the packing of that name; recipes only hold known names."""
    from mixture.pack import concat

    return {"concat": concat.concat}[name]
