"""The sequences of a phase by number: tokens and spans as arrays, from shards here or in an object store. No torch.

    stream = Stream.open("manifests/quickstart.lock.json", work="work")
    rows = stream.rows(stream.taken(0, 8))       # the first eight: tokens int64 (8, length), spans

Nothing is opened before it is asked for: of 1,000 shards those are opened whose rows are wanted. Each row is held to
its 64-bit hash before it is handed out, so that no damaged row is trained on. Before all that, one listing shows
whether every shard is there, as large as the lock says.
"""

from __future__ import annotations

import bisect
import itertools
import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mixture import lockfile
from mixture.errors import LockError, StoreError, nearest
from mixture.loader import Ints, Spans
from mixture.loader.gather import Run, gather, hold, look, widen
from mixture.loader.room import empty
from mixture.loader.shard import Piece, Shard, check_there
from mixture.loader.state import State
from mixture.lockfile import Lock
from mixture.pack.shuffle import Shuffle, taken
from mixture.plan.window import rules
from mixture.shards.pack import shards_folder
from mixture.shards.record import domain_hashes
from mixture.storage import Place, as_place, each, files_in, need
from mixture.workspace import Workspace

#: Places of the order that are worked out at once, so that short steps do not pay for the arithmetic of each.
_PLACES = 4096
#: Pieces that are kept open; each takes a few kilobytes, and two bytes a span.
_PIECES = 1 << 14


@dataclass(frozen=True)
class Rows:
    """Some sequences.

    Attributes:
        sequences: their numbers in the phase, -1 for a blank row, int64, shape (n,).
        tokens: int64, shape (n, length); zeros in a blank row.
        spans: of these rows; none in a blank row.
    """

    sequences: Ints
    tokens: Ints
    spans: Spans


class Stream:
    """One phase of a lock, as its trainer reads it; it may be pickled, and used in processes that fork.

    Args:
        lock: what was packed.
        folders: where the shards of each phase lie.
        phase: which phase, from 0.
        shuffle: in which order sequences are taken; as they were written by default.
        check: hold each row to its hash.

    Attributes:
        lock: as given.
        phase: as given.
        name: of the phase; empty where the recipe has none.
        length: places in a sequence.
        domains: what `Spans.domain` numbers.
        shuffle: as given.
        trace: first id and number of the ids for back-tracing, if Untie the Knots writes some: they are learnt.

    Raises:
        LockError: nothing was packed yet, or there is no such phase.
        StoreError: shards are missing or cut short.
    """

    def __init__(
        self,
        lock: Lock,
        folders: Sequence[Place],
        phase: int = 0,
        *,
        shuffle: Shuffle = Shuffle(),  # noqa: B008 - frozen
        check: bool = True,
    ) -> None:
        if not 0 <= phase < len(lock.phases):
            raise LockError(f"phase {phase}: the lock of {lock.name!r} has {len(lock.phases)}, numbered from 0")
        found = lock.phases[phase]
        if not found["shards"]:
            raise LockError(f"the lock of {lock.name!r} lists no shards yet; run `mixture pack` first")
        self.lock, self.phase, self.shuffle = lock, phase, shuffle
        self.name = str(found["name"])
        self.length = int(found["stream"]["sequence_length"])
        self.domains: tuple[str, ...] = tuple(dict.fromkeys(cell["domain"] for cell in found["cells"]))
        how = rules(lock, phase)
        self.trace = None if how.knots is None else how.knots.trace
        self._group = how.packing.together
        self._fingerprint = lock.fingerprint
        self._facts: list[dict[str, Any]] = found["shards"]
        #: The first sequence of each shard, and the number of all.
        self._firsts = list(itertools.accumulate((int(facts["sequences"]) for facts in self._facts), initial=0))
        self._folder = str(folders[phase])
        self._remote = not isinstance(as_place(self._folder), Path)
        self._check = check
        self._codes = {name.encode(): number for number, name in enumerate(self.domains)}
        self._hashed = np.append(domain_hashes(self.domains), np.uint64(0)).view(np.int64)
        self._forget()
        place = as_place(self._folder)
        check_there(place, self._facts, files_in(place))

    @staticmethod
    def open(
        lock: str | os.PathLike[str],
        *,
        work: str | os.PathLike[str] = "work",
        shards: str | os.PathLike[str] | None = None,
        phase: int | str = 0,
        shuffle: Shuffle = Shuffle(),  # noqa: B008 - frozen
        check: bool = True,
    ) -> Stream:
        """Open a phase by the names of files.

        Args:
            lock: the lock file.
            work: the work directory.
            shards: the folder of the shards, if they are not in the work directory; one folder for each phase in it,
                under its usual name, where the recipe has phases.
            phase: number or name.
            shuffle: see `Stream`.
            check: see `Stream`.

        Raises:
            LockError: no lock there, or no such phase in it.
            StoreError: shards are missing or cut short.
        """
        found = lockfile.read(as_place(lock))
        if found is None:
            raise LockError(f"{lock}: no lock there; run `mixture run` first, or check the name")
        names = [str(one["name"]) for one in found.phases]
        if isinstance(phase, str) and phase not in names:
            raise LockError(f"phase {phase!r}: the lock of {found.name!r} has no such phase; {nearest(phase, names)}")
        number = names.index(phase) if isinstance(phase, str) else phase
        place = Workspace(as_place(work), Path())
        folders = [shards_folder(place, found, one) for one in range(len(names))]
        if shards is not None:
            given = as_place(shards)
            folders = [given] if len(folders) == 1 else [given / folder.name for folder in folders]
        return Stream(found, folders, number, shuffle=shuffle, check=check)

    def __len__(self) -> int:
        return self._firsts[-1]

    def __getstate__(self) -> dict[str, Any]:
        own = ("_opened", "_kept", "_block", "_pid")
        return {name: value for name, value in vars(self).items() if name not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()

    def _forget(self) -> None:
        self._opened: dict[int, Shard] = {}
        self._kept: deque[tuple[Shard, int]] = deque()
        self._block: tuple[int, Ints] = (0, np.empty(0, np.int64))
        self._pid = os.getpid()

    def state(self, sequences: int = 0) -> State:
        """Return the state in which so many sequences of this phase are taken."""
        return State(self._fingerprint, self.phase, sequences)

    def check_state(self, state: State) -> None:
        """Refuse a state that is not of this stream.

        Raises:
            LockError: it is of another lock or phase, or beyond the end.
        """
        if state.lock != self._fingerprint:
            raise LockError(
                f"the loader's state is of lock {state.lock[:12]}, this one ({self.lock.name!r}) is "
                f"{self._fingerprint[:12]}: go on with the lock that training began with, or begin anew"
            )
        if state.phase != self.phase:
            raise LockError(
                f"the loader's state is of phase {state.phase}, this stream is phase {self.phase}: "
                f"open the lock with phase={state.phase}"
            )
        if not 0 <= state.sequences <= len(self):
            raise LockError(
                f"the loader's state has {state.sequences:,} sequences taken, the phase has {len(self):,}: "
                "it was damaged, or edited"
            )

    def taken(self, first: int, stop: int) -> Ints:
        """Return which sequences stand at places [first, stop) of the order, int64, shape (stop - first,).

        Raises:
            ValueError: places that are not there.
        """
        at, block = self._block
        if not at <= first <= stop <= at + len(block):
            until = min(max(stop, first + _PLACES), len(self))
            how = self.shuffle
            at, block = first, taken(len(self), how.window, how.seed, first, until, self._group)
            self._block = at, block
        return block[first - at : stop - at]

    def rows(self, sequences: Ints) -> Rows:
        """Return some sequences.

        Args:
            sequences: their numbers in the phase, -1 for a blank row, int64, shape (n,).

        Raises:
            StoreError: a row is damaged, and named; a shard is; the object store refuses; no such sequence.
        """
        real = np.flatnonzero(sequences >= 0)
        runs = self._runs(sequences[real])
        self._fetch(runs)
        found = gather(runs, self._hashed)
        if runs and self._check:
            hold(runs, found)
        elif runs:
            look(runs, found, self.length)
        spans, tokens = found.spans(), empty((len(sequences), self.length))
        if len(real) == len(sequences):
            return Rows(sequences, widen(runs, tokens), spans)
        index = np.full(len(sequences), -1)
        index[real] = np.arange(len(real))
        tokens.fill(0)
        tokens[real] = widen(runs, np.empty((len(real), self.length), np.int64))
        return Rows(sequences, tokens, spans.take(index))

    def tokens(self, sequences: Ints) -> Ints:
        """Return the tokens of some sequences, int64, shape (n, length), not held to their hashes; see `rows`."""
        runs = self._runs(sequences)
        self._fetch(runs)
        return widen(runs, empty((len(sequences), self.length)))

    def costs(self, sequences: Ints) -> Ints:
        """Return Σ len² over the spans of each sequence, int64, shape (n,); tokens are not read. See `rows`."""
        found = gather(self._runs(sequences), self._hashed)
        until = np.zeros(len(found.facts) + 1, np.int64)
        np.cumsum((found.facts[:, 1] - found.facts[:, 0]) ** 2, out=until[1:])
        return np.diff(until[found.borders])

    def fetch(self, sequences: Ints) -> None:
        """Bring the tokens of some sequences here, where shards lie in an object store; many requests at once."""
        if self._remote:
            self._fetch(self._runs(sequences[sequences >= 0]))

    def _runs(self, sequences: Ints) -> list[Run]:
        numbers: list[int] = sequences.tolist()
        wrong = [number for number in numbers if not 0 <= number < len(self)]
        if wrong:
            raise StoreError(f"sequence {wrong[0]:,}: the phase has {len(self):,}, numbered from 0; give one of those")
        # A few numbers at a time: bisection of a list is faster than numpy.
        shards = [bisect.bisect_right(self._firsts, number) - 1 for number in numbers]
        self._open(shards)
        runs: list[Run] = []
        for shard, sequence in zip(shards, numbers, strict=True):
            opened = self._opened[shard]
            row = sequence - self._firsts[shard]
            which, first = divmod(row, opened.per_piece)
            last = runs[-1] if runs else None
            if last is not None and first and last.sequence + len(last) == sequence:
                runs[-1] = Run(opened, last.piece, last.first, last.stop + 1, last.row, last.sequence)
            else:
                runs.append(Run(opened, self._piece(opened, which), first, first + 1, row, sequence))
        return runs

    def _piece(self, shard: Shard, number: int) -> Piece:
        piece = shard.pieces.get(number)
        if piece is None:
            piece = shard.piece(number)
            self._kept.append((shard, number))
            if len(self._kept) > _PIECES:
                oldest, which = self._kept.popleft()
                oldest.pieces.pop(which, None)
        return piece

    def _open(self, numbers: Sequence[int]) -> None:
        if self._pid != os.getpid():
            # Clients of object stores do not outlive a fork.
            self._forget()
        lacking = sorted({number for number in numbers if number not in self._opened})
        if not lacking:
            return
        folder = as_place(self._folder)

        def open_one(number: int) -> Shard:
            facts = self._facts[number]
            return Shard(folder / facts["shard"], facts, self.length, self._codes, check=self._check)

        self._opened.update(zip(lacking, each(open_one, lacking, folder), strict=True))

    def _fetch(self, runs: Sequence[Run]) -> None:
        if not self._remote:
            return
        by_shard: dict[Shard, list[tuple[Piece, int, int]]] = {}
        for run in runs:
            by_shard.setdefault(run.shard, []).append((run.piece, run.first, run.stop))
        need(found for shard, rows in by_shard.items() for found in shard.wanted(rows))
