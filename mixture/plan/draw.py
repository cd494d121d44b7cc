"""Which documents meet a quota: whole epochs, then those whose draw falls under the cell's threshold, to the token.

A document's draw depends on the seed and its id alone, so a larger quota keeps every document of a smaller one, and no
other domain has a say. Two passes over the index find each cell's threshold without sorting the index: the first sums
tokens per cell and per 1/4096 of the draws' range; the second looks at the documents of the one bin where the quota
ends.

    cell of 3 documents of 40, 50, 60 tokens as written, quota 220: one epoch (150), then 70 more
    draws .2 (50 tokens), .5 (40), .9 (60): 50 + 20 of the second document, which is cut
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixture.hashing import U64, draw, fraction
from mixture.index.rows import Rows
from mixture.plan.quota import Counts, Supply

_BIN_BITS = 12
_BINS = 1 << _BIN_BITS


@dataclass(frozen=True)
class CellMap:
    """From a document to its cell.

    Attributes:
        domains: number of domains.
        edges: edges between buckets, shape (K-1,).
        separators: tokens written around each document.
        holdout: share of documents that are never drawn; the hash knows no seed, so later recipes hold out the same.
    """

    domains: int
    edges: npt.NDArray[np.int64]
    separators: int
    holdout: float

    @property
    def cells(self) -> int:
        """Number of cells."""
        return self.domains * self.buckets

    @property
    def buckets(self) -> int:
        """Number of length buckets."""
        return len(self.edges) + 1

    def cell(self, rows: Rows) -> npt.NDArray[np.int64]:
        """Return each document's cell, shape (n,); -1 for held out ones, -2 for those without tokens."""
        cell = rows.domain * self.buckets + np.searchsorted(self.edges, rows.tokens, side="right")
        cell = np.where(self.held_out(rows), -1, cell)
        return np.where(rows.tokens == 0, -2, cell)

    def held_out(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """Tell which documents are held out."""
        return draw(0, "holdout", rows.hi, rows.lo) < np.uint64(fraction(self.holdout))

    def written(self, rows: Rows) -> npt.NDArray[np.int64]:
        """Return each document's tokens as written, separators included."""
        return rows.tokens + self.separators


@dataclass(frozen=True)
class Threshold:
    """Where the partial epoch of a cell ends.

    Attributes:
        epochs: times that every document of the cell appears in full.
        at: (draw, id words, occurrence) of the last document of the partial epoch; None if there is no partial epoch.
        kept: tokens of that document that are written.
        cut: whether that is less than all of them.
        documents: distinct documents that the quota touches.
        unique: tokens written at least once.
    """

    epochs: int
    at: tuple[int, int, int, int] | None
    kept: int
    cut: bool
    documents: int
    unique: int


@dataclass(frozen=True)
class Histogram:
    """What a first pass over the index learns.

    Attributes:
        documents: per cell and bin of draws, shape (cells, bins).
        tokens: as written, likewise.
        held_out: documents and tokens held out, per domain, shape (domains, 2).
        empty: documents without tokens.
    """

    documents: Counts
    tokens: Counts
    held_out: Counts
    empty: int

    def supply(self, domains: tuple[str, ...], buckets: tuple[str, ...], edges: tuple[int, ...]) -> Supply:
        """Sum the bins."""
        shape = (len(domains), len(buckets))
        return Supply(
            domains,
            buckets,
            edges,
            self.documents.sum(axis=1).reshape(shape),
            self.tokens.sum(axis=1).reshape(shape),
        )


def survey(batches: Iterable[Rows], cells: CellMap, seed: int) -> Histogram:
    """Sum the index by cell and by bin of the draws."""
    size = cells.cells * _BINS
    documents, tokens = np.zeros(size, np.int64), np.zeros(size, np.int64)
    held_out, empty = np.zeros((cells.domains, 2), np.int64), 0
    for rows in batches:
        cell = cells.cell(rows)
        empty += int((cell == -2).sum())
        out = cell == -1
        held_out[:, 0] += np.bincount(rows.domain[out], minlength=cells.domains)
        held_out[:, 1] += np.bincount(rows.domain[out], rows.tokens[out], cells.domains).astype(np.int64)
        inside = cell >= 0
        bins = (_draws(rows, seed) >> np.uint64(64 - _BIN_BITS)).astype(np.int64)
        place = (cell * _BINS + bins)[inside]
        documents += np.bincount(place, minlength=size)
        # Sums in floating point are exact below 2^53, and a batch is far below that.
        tokens += np.bincount(place, cells.written(rows)[inside], size).astype(np.int64)
    shape = (cells.cells, _BINS)
    return Histogram(documents.reshape(shape), tokens.reshape(shape), held_out, empty)


def _draws(rows: Rows, seed: int) -> U64:
    return draw(seed, "draw", rows.hi, rows.lo, rows.occurrence.astype(np.uint64))


def thresholds(
    batches: Callable[[], Iterable[Rows]], cells: CellMap, seed: int, histogram: Histogram, quota: Counts
) -> tuple[Threshold, ...]:
    """Find where each cell's quota ends, to the token.

    Args:
        batches: starts a pass over the index.
        cells: the cells.
        seed: the recipe's.
        histogram: of the same index, cells and seed.
        quota: tokens wanted of each cell, shape (cells,); 0 where the cell holds nothing.
    """
    held = histogram.tokens.sum(axis=1)
    epochs = np.where(held > 0, quota // np.maximum(held, 1), 0)
    rest = quota - epochs * held
    before = np.cumsum(histogram.tokens, axis=1)
    # The bin in which the running sum first reaches the rest; the documents of all earlier bins are drawn whole.
    last = np.array([int(np.searchsorted(before[c], rest[c], "left")) if rest[c] else -1 for c in range(cells.cells)])
    candidates = _collect(batches, cells, seed, last)
    found: list[Threshold] = []
    for c in range(cells.cells):
        count = int(histogram.documents[c].sum())
        if not rest[c]:
            seen = (count, int(held[c])) if epochs[c] > 0 else (0, 0)
            found.append(Threshold(int(epochs[c]), None, 0, False, *seen))
            continue
        done = int(before[c, last[c]] - histogram.tokens[c, last[c]])
        drawn = int(histogram.documents[c, : last[c]].sum())
        at, tokens, kept, number = _last(candidates[c], int(rest[c]) - done)
        seen = (count, int(held[c])) if epochs[c] else (drawn + number, int(rest[c]))
        found.append(Threshold(int(epochs[c]), at, kept, kept < tokens, *seen))
    return tuple(found)


Candidates = list[tuple[int, int, int, int, int]]


def _collect(batches: Callable[[], Iterable[Rows]], cells: CellMap, seed: int, last: Counts) -> list[Candidates]:
    """Return (draw, hi, lo, occurrence, tokens) of the documents in each cell's last bin."""
    found: list[Candidates] = [[] for _ in range(cells.cells)]
    if (last < 0).all():
        return found
    for rows in batches():
        cell = cells.cell(rows)
        draws = _draws(rows, seed)
        bins = (draws >> np.uint64(64 - _BIN_BITS)).astype(np.int64)
        inside = np.flatnonzero((cell >= 0) & (bins == last[np.maximum(cell, 0)]))
        written = cells.written(rows)
        columns = [x[inside].tolist() for x in (cell, draws, rows.hi, rows.lo, rows.occurrence, written)]
        for c, *rest in zip(*columns, strict=True):
            found[c].append((rest[0], rest[1], rest[2], rest[3], rest[4]))
    return found


def _last(candidates: Candidates, wanted: int) -> tuple[tuple[int, int, int, int], int, int, int]:
    """Return the document that reaches `wanted` tokens, its tokens, how many are kept, and the count up to it."""
    total = 0
    for number, (*at, tokens) in enumerate(sorted(candidates), start=1):
        if total + tokens >= wanted:
            return (at[0], at[1], at[2], at[3]), tokens, wanted - total, number
        total += tokens
    raise ArithmeticError(f"a cell's bin holds {total} tokens, its histogram says at least {wanted}")


def appearances(
    rows: Rows, cells: CellMap, seed: int, found: tuple[Threshold, ...]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return how often each document appears, and how many tokens of its last appearance are written.

    Returns:
        times: shape (n,), whole epochs plus one where the document is in the partial epoch.
        last: shape (n,), tokens as written of appearance number `times - 1`.
    """
    cell = cells.cell(rows)
    inside = cell >= 0
    safe = np.maximum(cell, 0)
    draws = _draws(rows, seed)
    columns = np.array([t.at or (0, 0, 0, 0) for t in found], np.uint64)[safe].T
    partial = np.array([t.at is not None for t in found])[safe]
    below, equal = np.zeros(len(rows), bool), np.ones(len(rows), bool)
    for mine, limit in zip((draws, rows.hi, rows.lo, rows.occurrence.astype(np.uint64)), columns, strict=True):
        below |= equal & (mine < limit)
        equal &= mine == limit
    epochs = np.array([t.epochs for t in found], np.int64)[safe]
    times = np.where(inside, epochs + (partial & (below | equal)), 0)
    kept = np.array([t.kept for t in found], np.int64)[safe]
    last = np.where(partial & equal, kept, cells.written(rows))
    return times, last
