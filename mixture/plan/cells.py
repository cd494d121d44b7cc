"""Cells: domain × length bucket. Each domain may have edges of its own, so cells stand in one flat row.

books  edges 4K, 64K  →  cells 0 1 2        code  edges 4K  →  cells 3 4
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixture.recipe import Buckets, bucket_names

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Grid:
    """The cells of some domains.

    Attributes:
        domains: their names.
        edges: of each domain: edges between its buckets, rising, in the document's own tokens.
    """

    domains: tuple[str, ...]
    edges: tuple[tuple[int, ...], ...]

    @staticmethod
    def of(domains: Sequence[str], buckets: Buckets) -> Grid:
        """Lay a recipe's buckets over domains."""
        return Grid(tuple(domains), tuple(buckets.of(name) for name in domains))

    @functools.cached_property
    def starts(self) -> Counts:
        """First cell of each domain, and behind the last one the number of cells; shape (D+1,)."""
        return np.cumsum([0, *(len(edges) + 1 for edges in self.edges)])

    @property
    def size(self) -> int:
        """Number of cells."""
        return int(self.starts[-1])

    def span(self, domain: int) -> slice:
        """Return where the cells of one domain stand."""
        return slice(int(self.starts[domain]), int(self.starts[domain + 1]))

    @functools.cached_property
    def owner(self) -> Counts:
        """The domain of each cell, shape (cells,)."""
        return np.repeat(np.arange(len(self.domains)), np.diff(self.starts))

    @functools.cached_property
    def names(self) -> tuple[tuple[str, str], ...]:
        """Domain and bucket of each cell."""
        pairs = zip(self.domains, self.edges, strict=True)
        return tuple((name, bucket) for name, edges in pairs for bucket in bucket_names(edges))

    def sums(self, cells: Counts) -> Counts:
        """Sum over the buckets of each domain: shape (cells,) to (D,)."""
        found: Counts = np.add.reduceat(cells, self.starts[:-1])
        return found

    @functools.cached_property
    def _table(self) -> tuple[int, Counts]:
        """A shift, and the cell of each domain for each value of tokens >> shift: shape (D, values).

        All edges are multiples of 1 << shift, so a shifted length lies between the same edges as the length.
        """
        every = sorted({edge for edges in self.edges for edge in edges})
        together = np.bitwise_or.reduce(every) if every else 1 << 62
        shift = int(together & -together).bit_length() - 1
        lengths = np.arange((max(every, default=0) >> shift) + 1) << shift
        inner = [np.searchsorted(np.array(edges, np.int64), lengths, side="right") for edges in self.edges]
        return shift, np.array(inner, np.int64).reshape(len(self.domains), -1) + self.starts[:-1, None]

    def cell(self, domain: npt.NDArray[np.integer], tokens: Counts) -> Counts:
        """Return each document's cell, shape (n,).

        Args:
            domain: number of each document's domain, shape (n,).
            tokens: its own tokens, shape (n,).
        """
        shift, table = self._table
        values = table.shape[1]
        place = tokens >> shift
        np.minimum(place, values - 1, out=place)
        place += domain.astype(np.int64) * values
        found: Counts = table.reshape(-1)[place]
        return found
