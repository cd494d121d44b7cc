"""The pool that a phase draws from: which documents may be drawn, of which cell, and in what order.

A document's *key* decides when its turn comes: its draw, a 64-bit hash of (seed, `draw`, id, occurrence). With a weight
w it is draw / w instead, so that under any threshold t a document is in with probability min(1, t·w): sequential
Poisson sampling (Ohlsson 1998). That quotient is compared by the bits of its floating point number, which rise with it.

A document that appeared s times already waits for level s: level 0 of a cell is the documents that never appeared,
level 1 adds those that appeared once, and so on. So text is fresh as long as there is fresh text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mixture.hashing import U64, draw, fraction
from mixture.index.rows import IndexReader, Rows
from mixture.plan.cells import Counts, Grid
from mixture.storage import Place, as_place, read_record, write_json

#: Instead of a cell: why a document is not drawn from.
HELD_OUT, EMPTY, FILTERED, ASIDE = -1, -2, -3, -4

BIN_BITS = 12
BINS = 1 << BIN_BITS


@dataclass(frozen=True)
class Threshold:
    """Where a cell's quota ends.

    Attributes:
        level: every document appears until it has appeared this often.
        at: (key, id words, occurrence) of the last document that appears once more; None if none does.
        kept: tokens of that document's last appearance that are written.
        cut: whether that is less than all of them.
        documents: distinct documents that the quota touches.
        unique: their tokens, each counted once.
    """

    level: int
    at: tuple[int, int, int, int] | None
    kept: int
    cut: bool
    documents: int
    unique: int

    @staticmethod
    def from_json(value: dict[str, Any]) -> Threshold:
        """Read what `asdict` wrote."""
        at = value["at"]
        return Threshold(**value | {"at": None if at is None else tuple(at)})


@dataclass(frozen=True)
class Weights:
    """A column of weights, and its range.

    Attributes:
        path: the column, one row per row of the index.
        lightest: the least weight above 0.
        heaviest: the greatest.
    """

    path: str
    lightest: float
    heaviest: float

    @property
    def bits(self) -> tuple[int, int]:
        """How far the bits of a key are shifted to give its bin, and what is then subtracted."""
        octaves = np.log2(self.heaviest / self.lightest) + BIN_BITS
        mantissa = max(0, int(np.log2(BINS / octaves)))
        shift = 52 - mantissa
        top = int(np.array([1 / self.lightest]).view(np.uint64)[0]) >> shift
        return shift, top - (BINS - 1)


@dataclass(frozen=True)
class Pool:
    """All that decides who may be drawn and in what order, besides the quotas.

    Attributes:
        index: index files in the order of their ids.
        grid: the cells.
        holdout: share of each domain's documents that is never drawn; the hash knows no seed, so later recipes hold
            out the same.
        separators: tokens written around each document.
        seed: the recipe's.
        weights: relative chances inside cells, or None.
        seen: column of appearances in earlier runs, or None.
        most_seen: the most appearances of a document, earlier runs and phases together.
        earlier: thresholds of the phases before this one.
        pilot: share of the documents that a pilot draws from; 1 for all.
        lengths: whether the supply tells how tokens lie inside cells.
    """

    index: tuple[str, ...]
    grid: Grid
    holdout: tuple[float, ...]
    separators: int
    seed: int
    weights: Weights | None = None
    seen: str | None = None
    most_seen: int = 0
    earlier: tuple[tuple[Threshold, ...], ...] = ()
    pilot: float = 1.0
    lengths: bool = False

    def write(self, path: Place) -> None:
        """Publish the pool as JSON, for tasks."""
        write_json(path, asdict(self))

    @staticmethod
    def read(path: Place) -> Pool:
        """Read what `write` published."""
        value = read_record(path, "index", "grid") or {}
        grid = Grid(tuple(value["grid"]["domains"]), tuple(tuple(e) for e in value["grid"]["edges"]))
        earlier = tuple(tuple(Threshold.from_json(t) for t in found) for found in value["earlier"])
        weights = None if value["weights"] is None else Weights(**value["weights"])
        made = {"grid": grid, "earlier": earlier, "weights": weights}
        lists = {name: tuple(value[name]) for name in ("index", "holdout")}
        return Pool(**value | lists | made)

    def reader(self) -> IndexReader:
        """Open the index."""
        weights = as_place(self.weights.path) if self.weights and self.weights.path else None
        seen = as_place(self.seen) if self.seen else None
        return IndexReader([as_place(path) for path in self.index], self.grid.domains, weights, seen)

    def of(self, files: Sequence[Place]) -> Pool:
        """Return the pool over files that hold some of its documents, weights and appearances in columns of theirs."""
        weights = self.weights and replace(self.weights, path="")
        return replace(self, index=tuple(map(str, files)), weights=weights, seen=None)

    def look(self, rows: Rows) -> Candidates:
        """Find each document's cell, key and appearances so far."""
        cell = self.grid.cell(rows.domain, rows.tokens)
        draws = draw(self.seed, "draw", rows.hi, rows.lo, rows.occurrence.view(np.uint64))
        key = draws if rows.weight is None else _weighted(draws, rows.weight)
        if self.pilot < 1:
            cell[draw(self.seed, "pilot", rows.hi, rows.lo) >= np.uint64(fraction(self.pilot))] = ASIDE
        if rows.weight is not None:
            cell[rows.weight == 0] = FILTERED
        if any(self.holdout):
            limits = np.array([fraction(share) for share in self.holdout], np.uint64)
            cell[draw(0, "holdout", rows.hi, rows.lo) < limits[rows.domain]] = HELD_OUT
        cell[rows.tokens == 0] = EMPTY
        seen = np.zeros(len(rows), np.int64) if rows.seen is None else rows.seen.astype(np.int64, copy=False)
        found = Candidates(rows, cell, key, seen, rows.tokens + self.separators)
        for thresholds in self.earlier:
            found = replace(found, seen=found.seen + appearances(found, thresholds)[0])
        return found

    def bins(self, key: U64) -> Counts:
        """Return the bin of each key, which rises with it: 0 … BINS - 1."""
        if self.weights is None:
            return (key >> np.uint64(64 - BIN_BITS)).astype(np.int64)
        shift, base = self.weights.bits
        return np.clip((key >> np.uint64(shift)).astype(np.int64) - base, 0, BINS - 1)

    def candidates(
        self, reader: IndexReader, first: int, stop: int, columns: Sequence[str] = ()
    ) -> Iterator[Candidates]:
        """Look at the row groups [first, stop)."""
        for rows in reader.groups_between(first, stop, columns):
            yield self.look(rows)


@dataclass(frozen=True)
class Candidates:
    """Documents that were looked at, as arrays of shape (n,).

    Attributes:
        rows: the documents.
        cell: the cell, or why there is none (below 0).
        key: when their turn comes, uint64.
        seen: how often they appeared already.
        written: their tokens as written, separators included.
    """

    rows: Rows
    cell: Counts
    key: U64
    seen: Counts
    written: Counts


def _weighted(draws: U64, weight: npt.NDArray[np.float64]) -> U64:
    uniform = ((draws >> np.uint64(11)) | np.uint64(1)).astype(np.float64) * 2.0**-53
    return (uniform / np.where(weight > 0, weight, 1.0)).view(np.uint64)


def appearances(found: Candidates, thresholds: Sequence[Threshold]) -> tuple[Counts, Counts]:
    """Return how often each document appears under a cell's threshold, and how much of its last appearance is written.

    Returns:
        times: shape (n,), appearances besides those that were seen.
        last: shape (n,), tokens as written of the last of them.
    """
    rows, inside = found.rows, found.cell >= 0
    safe = np.maximum(found.cell, 0)
    at = np.array([t.at or (0, 0, 0, 0) for t in thresholds], np.uint64)
    partial = np.array([t.at is not None for t in thresholds])[safe]
    level = np.array([t.level for t in thresholds], np.int64)[safe]
    limit = at[:, 0][safe]
    below = found.key < limit
    equal = found.key == limit
    # Two documents of one key are as rare as can be; then ids decide, then the numbers of equal texts.
    ties = np.flatnonzero(equal)
    if len(ties):
        mine = np.stack([rows.hi[ties], rows.lo[ties], rows.occurrence[ties].astype(np.uint64)], axis=1)
        limits = at[safe[ties], 1:]
        rank = [tuple(a) < tuple(b) for a, b in zip(mine.tolist(), limits.tolist(), strict=True)]
        below[ties] = rank
        equal[ties] = (mine == limits).all(axis=1)
    turn = partial & (below | equal) & (found.seen <= level)
    times = np.where(inside, np.maximum(level - found.seen, 0) + turn, 0)
    kept = np.array([t.kept for t in thresholds], np.int64)[safe]
    return times, np.where(turn & equal, kept, found.written)
