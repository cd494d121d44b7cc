"""Rows of several shards, side by side: runs of rows that lie together, their spans gathered, their tokens widened.

    sequences 70 71 9 500      ─►  runs (shard 0, rows 70-71), (shard 0, row 9), (shard 3, row 20)
    spans of each run          ─►  one table of 8 numbers a span: just what the hash of a row is made of

A run costs a dozen slices of a few numbers and a copy of its tokens, so that a few rows of 32K tokens each, drawn from
anywhere, come at the speed of that copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mixture.errors import StoreError
from mixture.hashing import GOLDEN, U64
from mixture.loader import Ints, Spans
from mixture.loader.shard import Piece, Shard
from mixture.shards.read import REMEDY
from mixture.shards.record import HASHED, hash_each

#: Columns of `Gathered.facts`: those of `HASHED`, two words of the id, the hash of the domain's name.
_COLUMNS = len(HASHED) + 3
_COPY, _ID, _DOMAIN = 4, 5, 7
_STEP = np.int64(GOLDEN - (1 << 64))


@dataclass(frozen=True)
class Run:
    """Rows [first, stop) of a piece, wanted side by side.

    Attributes:
        shard: their shard.
        piece: of it.
        first: row of the piece.
        stop: past the last one.
        row: number of the first in the shard.
        sequence: number of the first in the phase.
    """

    shard: Shard
    piece: Piece
    first: int
    stop: int
    row: int
    sequence: int

    def __len__(self) -> int:
        return self.stop - self.first

    def one(self, nth: int) -> Run:
        """Return one of its rows."""
        return Run(self.shard, self.piece, self.first + nth, self.first + nth + 1, self.row + nth, self.sequence + nth)

    def spans(self) -> tuple[int, int]:
        """Return which spans of the piece are of these rows.

        Raises:
            StoreError: the shard is damaged.
        """
        return self._bounds(self.piece.borders, len(self.piece.ids))

    def marks(self) -> tuple[int, int]:
        """Return which marks of the piece are of these rows; see `spans`."""
        return self._bounds(self.piece.mark_borders, len(self.piece.marks))

    def _bounds(self, borders: npt.NDArray[Any], most: int) -> tuple[int, int]:
        low, high = int(borders[self.first]), int(borders[self.stop])
        if not 0 <= low <= high <= most:
            raise self.damaged("spans or marks lead out of the file")
        return low, high

    def damaged(self, why: str) -> StoreError:
        """Return the sentence for rows that are not what was written."""
        last = self.row + len(self) - 1
        where = f"row {self.row:,}" if len(self) == 1 else f"rows {self.row:,} to {last:,}"
        return StoreError(f"{self.shard.path}: {where} (sequence {self.sequence:,}): damaged, {why}; {REMEDY}")


@dataclass(frozen=True)
class Gathered:
    """Spans and marks of runs, end to end.

    Attributes:
        borders: spans of row r are [borders[r], borders[r+1]), int64, shape (rows + 1,).
        facts: of each span what its row's hash is made of, see `shards.record.span_facts`, int64, shape (m, 8).
        domain: number of each span's domain, -1 for one that the lock does not know, int64, shape (m,).
        mark_borders: as `borders`, of marks, shape (rows + 1,).
        marks: their places, int64, shape (k,).
    """

    borders: Ints
    facts: Ints
    domain: Ints
    mark_borders: Ints
    marks: Ints

    def spans(self) -> Spans:
        """Return the spans; a document's number is 64 bits of its id, mixed with its copy and domain."""
        columns = np.ascontiguousarray(self.facts.T)
        document = columns[_ID] ^ columns[_DOMAIN] ^ (columns[_COPY] * _STEP)
        start, stop, doc_offset, doc_length = columns[:_COPY]
        return Spans(
            start, stop, doc_offset, doc_length, document, self.borders, self.marks, self.mark_borders, self.domain
        )


def gather(runs: Sequence[Run], hashed: Ints) -> Gathered:
    """Gather what is known of the rows of some runs.

    Args:
        runs: the rows.
        hashed: hash of each domain's name, and 0 for one that is not known, int64, shape (domains + 1,).

    Raises:
        StoreError: a shard is damaged.
    """
    bounds = [run.spans() for run in runs]
    total = sum(high - low for low, high in bounds)
    facts = np.empty((total, _COLUMNS), np.int64)
    domain = np.empty(total, np.int64)
    at = 0
    for run, (low, high) in zip(runs, bounds, strict=True):
        piece, until = run.piece, at + high - low
        into = facts[at:until]
        for column, numbers in enumerate(piece.numbers):
            into[:, column] = numbers[low:high]
        into[:, _ID:_DOMAIN] = piece.ids[low:high]
        domain[at:until] = piece.domain[low:high]
        at = until
    facts[:, _DOMAIN] = hashed[domain]
    borders = _rebased(runs, [run.piece.borders for run in runs], bounds)
    if not any(len(run.piece.marks) for run in runs):
        return Gathered(borders, facts, domain, np.zeros(len(borders), np.int64), np.empty(0, np.int64))
    held = [run.marks() for run in runs]
    marks = np.concatenate([run.piece.marks[low:high] for run, (low, high) in zip(runs, held, strict=True)])
    mark_borders = _rebased(runs, [run.piece.mark_borders for run in runs], held)
    return Gathered(borders, facts, domain, mark_borders, marks.astype(np.int64))


def _rebased(runs: Sequence[Run], borders: Sequence[npt.NDArray[Any]], bounds: Sequence[tuple[int, int]]) -> Ints:
    """Join the borders of runs, so that those of each go on where the run before ended."""
    out = np.zeros(sum(map(len, runs)) + 1, np.int64)
    at, before = 1, 0
    for run, mine, (low, high) in zip(runs, borders, bounds, strict=True):
        if len(run) == 1:
            out[at] = before + high - low
        else:
            inside = mine[run.first + 1 : run.stop + 1]
            if (inside[1:] < inside[:-1]).any() or inside[0] < low:
                raise run.damaged("its rows are out of order")
            out[at : at + len(run)] = inside
            out[at : at + len(run)] += before - low
        at, before = at + len(run), before + high - low
    return out


def hold(runs: Sequence[Run], found: Gathered) -> None:
    """Hold each row to its hash.

    Raises:
        StoreError: a row is damaged; it is named.
    """
    tokens = [row for run in runs for row in run.piece.tokens[run.first : run.stop]]
    digests = hash_each(tokens, (found.borders, found.facts), (found.mark_borders, found.marks))
    hashes = np.array(digests, np.uint64)
    wanted: list[U64] = [run.shard.hashes[run.row : run.row + len(run)] for run in runs if run.shard.hashes is not None]
    wrong = np.flatnonzero(hashes != (wanted[0] if len(wanted) == 1 else np.concatenate(wanted)))
    if len(wrong):
        rows = [run.one(nth) for run in runs for nth in range(len(run))]
        at = int(wrong[0])
        raise rows[at].damaged(f"its hash is {digests[at]:016x}, not the one that was written down")


def look(runs: Sequence[Run], found: Gathered, length: int) -> None:
    """Refuse spans that cannot be: whoever does without hashes has no other protection.

    Raises:
        StoreError: spans lie outside their rows, or are of a domain that the lock does not know.
    """
    start, stop = found.facts[:, 0], found.facts[:, 1]
    outside = (start < 0) | (stop > length) | (stop <= start) | (found.domain < 0)
    if outside.any():
        row = int(np.searchsorted(found.borders, np.flatnonzero(outside)[0], side="right")) - 1
        rows = [run.one(nth) for run in runs for nth in range(len(run))]
        raise rows[row].damaged("it has a span outside the sequence, or of a domain that the lock does not know")


def widen(runs: Sequence[Run], out: Ints) -> Ints:
    """Copy the tokens of runs, the one copy that there is; return `out`, int64, shape (rows, length)."""
    at = 0
    for run in runs:
        until = at + len(run)
        out[at:until] = run.piece.tokens[run.first : run.stop]
        at = until
    return out
