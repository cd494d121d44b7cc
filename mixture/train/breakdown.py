"""Loss by domain and by position in the document, counted from spans.

    cells of ("books", "code") and edges [4, 8]:       0 books <4   1 books 4-8   2 books ≥8   3 code <4   …
    a row: span [0, 6) of books from token 0 on, span [6, 8) of code from token 7 on

    token at place    0  1  2  3  4  5  6  7
    its cell          0  0  0  0  1  1  4  5       positions 0 1 2 3 4 5 of books, 7 8 of code
    predicted here    0  0  0  1  1  4  5  -1      the cell of the token that a place predicts: one to the left

The position is the token's own place in its document, which is how many tokens stand before it there (in other
sequences, too, where the document was cut). A step's sums have a fixed shape, so ranks add them up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mixture.loader import Ints, Spans
from mixture.recipe import bucket_names

if TYPE_CHECKING:
    from torch import Tensor

#: `table["books"]["4K-16K"]` is {"loss": mean, "tokens": labels}.
Table = dict[str, dict[str, dict[str, float]]]


@dataclass(frozen=True)
class Cells:
    """Cells of domain × position.

    Attributes:
        domains: names, in the order of the spans' codes.
        edges: positions where a bucket ends and the next begins, rising.
    """

    domains: tuple[str, ...]
    edges: tuple[int, ...]

    @property
    def buckets(self) -> tuple[str, ...]:
        """Names of the buckets of positions: `<4K`, `4K-16K`, `≥16K`."""
        return bucket_names(self.edges)

    @property
    def size(self) -> int:
        """How many cells there are."""
        return len(self.domains) * len(self.buckets)

    def of(self, spans: Spans, length: int) -> Ints:
        """Return the cell of the token that each place predicts, int64, shape (rows, length).

        It is -1 where there is none: at a row's last place, and before padding and marks. Tokens of an opening
        separator have position 0.

        Args:
            spans: of `rows` rows.
            length: places in a row.
        """
        out = np.full((spans.rows, length), -1, np.int64)
        size = spans.stop - spans.start
        begin = np.repeat(spans.row * length + spans.start, size)
        inside = np.arange(len(begin)) - np.repeat(np.cumsum(size) - size, size)
        position = np.maximum(inside + np.repeat(spans.doc_offset, size), 0)
        bucket = np.searchsorted(np.array(self.edges, np.int64), position, side="right")
        out.reshape(-1)[begin + inside] = np.repeat(spans.domain, size) * len(self.buckets) + bucket
        out[:, :-1] = out[:, 1:]
        out[:, -1:] = -1
        return out

    def table(self, sums: Sequence[Sequence[float]]) -> Table:
        """Return mean losses and numbers of labels by domain and bucket; cells without labels are left out.

        Args:
            sums: of losses, and numbers of labels, of each cell, shape (2, size).
        """
        out: Table = {}
        for number, (loss, tokens) in enumerate(zip(*sums, strict=True)):
            if tokens:
                domain, bucket = divmod(number, len(self.buckets))
                cell = {"loss": loss / tokens, "tokens": int(tokens)}
                out.setdefault(self.domains[domain], {})[self.buckets[bucket]] = cell
        return out


def tally(cells: Tensor, losses: Tensor, labels: Tensor, size: int) -> Tensor:
    """Return the sum of losses and the number of labels of each cell, float64, shape (2, size); such sums add up.

    Args:
        cells: of the places, -1 for none, int64, any shape, on the device of the losses.
        losses: of the places, float32, as many.
        labels: of the places, as many; negative where none is learnt.
        size: how many cells there are.
    """
    import torch

    cells, losses, labels = cells.reshape(-1), losses.reshape(-1), labels.reshape(-1)
    # Places that do not count go to a cell of their own: no shape depends on data, so a GPU need not be waited for.
    counted = (labels >= 0) & (cells >= 0)
    where = torch.where(counted, cells, size)
    sums = torch.zeros(2, size + 1, dtype=torch.float64, device=losses.device)
    sums[0].index_add_(0, where, torch.where(counted, losses, 0.0).double())
    sums[1].index_add_(0, where, counted.double())
    return sums[:, :size]
