"""Long sequences and packed ones in a wanted ratio (ProLong: Gao et al., arXiv 2410.02660: 60 % long is best).

    lengths 24, 4, 2, 1 in sequences of 8, long .5, short 2:
    a a a a a a a a | a a a a a a a a | a a b b c c a a | b b a a a a d ·
    └─ one document each ───────────┘   └─ packed, no piece above 2 ────┘

A long sequence is a chunk of a single document, a packed one holds pieces of at most `short` tokens: so the ratio is
one of long and of short contexts. Where documents offer more chunks than wanted, the chunks that come last in the
stream are cut up for packed sequences; where they offer fewer, all are used, and the ratio is what it can be.
"""

from __future__ import annotations

import numpy as np

from mixture.pack import Ints, Pieces
from mixture.pack.best_fit import chunks, packed
from mixture.pack.order import ranked
from mixture.pack.runs import spread

#: A packed sequence holds pieces of at most this part of it, where nothing else is said.
_PARTS = 8


def split_by_length(lengths: Ints, length: int, long: float = 0.6, short: int | None = None) -> Pieces:
    """Give a share of the sequences to chunks of single documents, and pack the rest in short pieces.

    Long sequences come first, in the order of the documents.

    Args:
        lengths: tokens of each document, int64, shape (n,), none below 0; those of 0 give no piece.
        length: tokens in a sequence, above 0.
        long: wanted share of sequences that are a chunk of one document, from 0 to 1.
        short: tokens of the longest piece in a packed sequence, below `length`; an eighth of it where not given.

    Raises:
        ValueError: `short` is not from 1 to below `length`.
    """
    if short is not None and not 1 <= short < length:
        raise ValueError(f"short: {short:,} is not from 1 to below the sequence length {length:,}")
    count = _kept(lengths, length, long)
    row, offset, size = _cut(lengths, count * length, short or max(1, length // _PARTS))
    return chunks(count, length).then(packed(row, offset, size, length))


def _kept(lengths: Ints, length: int, long: float) -> Ints:
    """Return how many chunks each document gives, shape (n,): the first in the stream, up to the wanted number.

    A chunk more is a packed sequence less, so the number of sequences does not depend on the ratio (but for padding).
    """
    offered = lengths // length
    sequences = -(-int(lengths.sum()) // length)
    wanted = int(long * sequences + 0.5)
    kept: Ints = np.clip(wanted - (np.cumsum(offered) - offered), 0, offered)
    return kept


def _cut(lengths: Ints, begin: Ints, most: int) -> tuple[Ints, Ints, Ints]:
    """Cut what each document has from `begin` on into pieces of `most`, and a last one: row, offset and size.

    First pieces of all documents come first, then the second ones: packed in that order, pieces of one document lie in
    different sequences where they can.
    """
    pieces = -(-(lengths - begin) // most)
    row, nth = spread(pieces)
    order = ranked(nth)
    row, offset = row[order], (begin[row] + nth * most)[order]
    return row, offset, np.minimum(lengths[row] - offset, most)
