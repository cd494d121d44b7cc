"""Long sequences of one document each, all else end to end (ProLong: Gao et al., arXiv 2410.02660).

    lengths 11, 3, 1 in sequences of 4:   a a a a | a a a a | a a a b | b b c ·
                                          └─ one document ─┘ └─ short part ───┘

Long sequences are chunks of a single document, so all that a token attends to is its own document. What is left of a
document after its chunks, which the authors' tool drops, goes to the short part with all shorter documents: laid end to
end in the order of the stream, as theirs are, cut where a sequence is full. So nothing is dropped, only the last
sequence has padding, and short documents are cut as `concat` cuts them; where they should be whole, use `best_fit`.
"""

from __future__ import annotations

import numpy as np

from mixture.pack import Ints, Pieces
from mixture.pack.best_fit import chunks
from mixture.pack.concat import concat


def intact(lengths: Ints, length: int) -> Pieces:
    """Cut long documents into sequences of their own, and lay what is left of them and the short ones end to end.

    The sequences of one document come first, in the order of the documents.

    Args:
        lengths: tokens of each document, int64, shape (n,), none below 0; those of 0 give no piece.
        length: tokens in a sequence, above 0.
    """
    count = lengths // length
    row = np.flatnonzero(lengths % length)
    return chunks(count, length).then(end_to_end(row, (count * length)[row], (lengths % length)[row], length))


def end_to_end(row: Ints, offset: Ints, size: Ints, length: int) -> Pieces:
    """Lay stretches of documents end to end, cut where a sequence is full.

    Args:
        row: which document each is of, int64, shape (k,).
        offset: where each starts in it, shape (k,).
        size: tokens of each, above 0, shape (k,).
        length: tokens in a sequence.
    """
    laid = concat(size, length)
    return Pieces(row[laid.row], offset[laid.row] + laid.offset, laid.size, laid.sequence, laid.start)
