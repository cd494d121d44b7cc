"""Which blocks of scores FlexAttention visits, by arithmetic on places.

What a query sees is one stretch of keys, and from query to query both its ends move forward, never back. So the blocks
that a block of queries looks at lie side by side, and those that are seen whole lie side by side among them. Segments
of 3 and 5 places, blocks of 2 × 2 (here they are of 128 × 128):

    query              0 1 | 2 3 | 4 5 | 6 7
    first key          0 0 | 0 3 | 3 3 | 3 3
    last key           0 1 | 2 3 | 4 5 | 6 7
    blocks of keys     0   | 0 1 | 1 2 | 1 2 3
    … seen whole                       | 2

Torch's own `create_block_mask` looks at every pair of places: 16G of them at 128K.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.attention.flex_attention import BlockMask

from mixture.train.context import Ints, Piece

#: Places in a block: what FlexAttention's kernels are made for.
BLOCK = 128


def reach(piece: Piece, window: int | None) -> tuple[Ints, Ints]:
    """Return the first and the last key that each query of a piece sees, int64, shape (queries,).

    Both rise with the query. Segments [0 3 8], no window: first 0 0 0 3 3 3 3 3, last 0 1 2 3 4 5 6 7.
    """
    queries, keys = piece.query_bounds, piece.key_bounds
    segment = np.repeat(np.arange(len(queries) - 1), np.diff(queries))
    last = keys[1:][segment] - queries[1:][segment] + np.arange(queries[-1])
    first = keys[:-1][segment]
    return (first if window is None else np.maximum(first, last - window + 1)), last


def block_mask(piece: Piece, window: int | None, device: torch.device) -> BlockMask:
    """Return the blocks that a piece's queries look at.

    A block of queries looks at the blocks from its first query's first key to its last query's last. Between its last
    query's first key and its first query's last they are full: no mask is applied there.
    """
    first, last = reach(piece, window)
    count, n_keys = len(first), int(piece.key_bounds[-1])
    start = np.arange(0, count, BLOCK)
    end = np.minimum(start + BLOCK, count) - 1
    low, high = first[start] // BLOCK, last[end] // BLOCK
    full_low, full_high = -(-first[end] // BLOCK), (last[start] + 1) // BLOCK
    none = full_high <= full_low
    full_low, full_high = np.where(none, high + 1, full_low), np.where(none, high + 1, full_high)

    def put(values: Ints) -> torch.Tensor:
        return torch.from_numpy(values.astype(np.int32)).to(device)

    # From here on there are as many numbers as pairs of blocks, so they are made where they are used.
    column = torch.arange(-(-n_keys // BLOCK), dtype=torch.int32, device=device)[None]
    before = put(full_low - low)[:, None]
    partial = torch.where(column < before, put(low)[:, None] + column, put(full_high)[:, None] + column - before)
    full = put(full_low)[:, None] + column
    firsts, lasts = put(first), put(last)

    def sees(_batch: torch.Tensor, _head: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        return (firsts[query] <= key) & (key <= lasts[query])

    most = column.shape[1] - 1
    return BlockMask.from_kv_blocks(
        put(high - low + 1 - full_high + full_low)[None, None],
        partial.clamp(max=most)[None, None],
        put(full_high - full_low)[None, None],
        full.clamp(max=most)[None, None],
        BLOCK_SIZE=BLOCK,
        mask_mod=sees,
        seq_lengths=(count, n_keys),
    )
