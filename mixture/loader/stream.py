"""The sequences of a phase by number: tokens and spans as arrays, from shards here or in an object store. No torch.

    stream = Stream.open("manifests/quickstart.lock.json", work="work")
    rows = stream.rows(stream.taken(0, 8))       # the first eight: tokens int64 (8, length), spans

Nothing is opened before it is asked for: of 1,000 shards those are opened whose rows are wanted. Each row is held to
its 64-bit hash before it is handed out, so that no damaged row is trained on. Before all that, one listing shows
whether every shard is there, as large as the lock says.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mixture import lockfile
from mixture.errors import LockError, StoreError, nearest
from mixture.hashing import U64
from mixture.loader import Ints, Spans, numbered
from mixture.loader.shard import Piece, Shard, check_there
from mixture.loader.state import State
from mixture.lockfile import Lock
from mixture.pack.shuffle import Shuffle, taken
from mixture.plan.window import rules
from mixture.shards.pack import shards_folder
from mixture.shards.read import REMEDY
from mixture.shards.record import domain_hashes, hash_each, span_facts
from mixture.storage import Place, as_place, each, files_in, need
from mixture.workspace import Workspace

#: Places of the order that are worked out at once, so that short steps do not pay for the arithmetic of each.
_PLACES = 4096


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


@dataclass(frozen=True)
class _Run:
    """Rows [first, stop) of a piece, wanted side by side; the first is that row of the shard, and of the phase."""

    shard: Shard
    piece: Piece
    first: int
    stop: int
    row: int
    sequence: int

    def __len__(self) -> int:
        return self.stop - self.first

    def one(self, nth: int) -> _Run:
        """Return one of its rows."""
        return _Run(self.shard, self.piece, self.first + nth, self.first + nth + 1, self.row + nth, self.sequence + nth)

    def spans(self) -> tuple[int, int]:
        """Return which spans of the piece are of these rows."""
        return self._bounds(self.piece.borders, len(self.piece.ids))

    def marks(self) -> tuple[int, int]:
        """Return which marks of the piece are of these rows."""
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
        self._firsts: Ints = np.cumsum([0] + [facts["sequences"] for facts in self._facts], dtype=np.int64)
        self._folder = str(folders[phase])
        self._check = check
        self._codes = {name.encode(): number for number, name in enumerate(self.domains)}
        self._hashed = domain_hashes(self.domains)
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
        return int(self._firsts[-1])

    def __getstate__(self) -> dict[str, Any]:
        kept = ("_opened", "_block", "_pid")
        return {name: value for name, value in vars(self).items() if name not in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()

    def _forget(self) -> None:
        self._opened: dict[int, Shard] = {}
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
        raw = _Raw.of(runs)
        if (np.diff(raw.borders) < 0).any() or (np.diff(raw.mark_borders) < 0).any():
            raise runs[0].damaged("its rows are out of order")
        codes = self._coded(raw, runs)
        if self._check:
            self._hold(raw, codes, runs)
        spans = raw.spans(codes)
        self._look(spans, runs)
        tokens = np.empty((len(sequences), self.length), np.int64)
        if len(real) == len(sequences):
            _copy(runs, tokens)
            return Rows(sequences, tokens, spans)
        index = np.full(len(sequences), -1)
        index[real] = np.arange(len(real))
        tokens.fill(0)
        tokens[real] = _copy(runs, np.empty((len(real), self.length), np.int64))
        return Rows(sequences, tokens, spans.take(index))

    def costs(self, sequences: Ints) -> Ints:
        """Return Σ len² over the spans of each sequence, int64, shape (n,); tokens are not read. See `rows`."""
        sums = []
        for run in self._runs(sequences):
            low, high = run.spans()
            start, stop = (column[low:high].astype(np.int64) for column in run.piece.numbers[:2])
            until = np.zeros(len(start) + 1, np.int64)
            np.cumsum((stop - start) ** 2, out=until[1:])
            # Borders between those of a run may be damaged, too; rows are held to their hashes later.
            inside = run.piece.borders[run.first : run.stop + 1].astype(np.int64) - low
            sums.append(np.diff(until[np.clip(inside, 0, high - low)]))
        return np.concatenate([np.empty(0, np.int64), *sums])

    def fetch(self, sequences: Ints) -> None:
        """Bring the tokens of some sequences here, where shards lie in an object store; many requests at once."""
        if not isinstance(as_place(self._folder), Path):
            self._fetch(self._runs(sequences[sequences >= 0]))

    def _runs(self, sequences: Ints) -> list[_Run]:
        if not len(sequences):
            return []
        low, high = int(sequences.min()), int(sequences.max())
        if low < 0 or high >= len(self):
            wrong = low if low < 0 else high
            raise StoreError(f"sequence {wrong:,}: the phase has {len(self):,}, numbered from 0; give one of those")
        number = np.searchsorted(self._firsts, sequences, side="right") - 1
        row = sequences - self._firsts[number]
        self._open(number)
        runs: list[_Run] = []
        for shard, at, sequence in zip(number.tolist(), row.tolist(), sequences.tolist(), strict=True):
            opened = self._opened[shard]
            which, first = divmod(at, opened.per_piece)
            last = runs[-1] if runs else None
            if last is not None and first and last.sequence + len(last) == sequence:
                runs[-1] = _Run(opened, last.piece, last.first, last.stop + 1, last.row, last.sequence)
            else:
                runs.append(_Run(opened, opened.piece(which), first, first + 1, at, sequence))
        return runs

    def _open(self, numbers: Ints) -> None:
        if self._pid != os.getpid():
            # Clients of object stores do not outlive a fork.
            self._forget()
        lacking = [number for number in np.unique(numbers).tolist() if number not in self._opened]
        if not lacking:
            return
        folder = as_place(self._folder)

        def open_one(number: int) -> Shard:
            facts = self._facts[number]
            return Shard(folder / facts["shard"], facts, self.length, check=self._check)

        self._opened.update(zip(lacking, each(open_one, lacking, folder), strict=True))

    def _fetch(self, runs: Sequence[_Run]) -> None:
        wanted = [run.shard.wanted(run.piece, [(run.first, run.stop)]) for run in runs]
        by_mirror: dict[int, tuple[Any, list[tuple[int, int]]]] = {}
        for one in wanted:
            if one is not None:
                by_mirror.setdefault(id(one[0]), (one[0], []))[1].extend(one[1])
        if by_mirror:
            need(by_mirror.values())

    def _coded(self, raw: _Raw, runs: Sequence[_Run]) -> Ints:
        """Return the number of each span's domain."""
        names = raw.domains()
        if names is None:
            raise runs[0].damaged("names of domains lead out of the file")
        coded = names.dictionary_encode()
        codes = [self._codes.get(name, -1) for name in coded.dictionary.to_pylist()]
        if -1 in codes:
            name = coded.dictionary[codes.index(-1)].as_py().decode(errors="replace")
            raise runs[0].damaged(f"it has a domain {name!r} that the lock does not know")
        return np.array(codes, np.int64)[_indices(coded)]

    def _hold(self, raw: _Raw, codes: Ints, runs: Sequence[_Run]) -> None:
        """Hold each row to its hash."""
        facts = span_facts(raw.numbers, raw.words, self._hashed[codes])
        tokens = [row for run in runs for row in run.piece.tokens[run.first : run.stop]]
        found = hash_each(tokens, (raw.borders, facts), (raw.mark_borders, raw.marks))
        hashes = np.frombuffer(bytes.fromhex("".join(found)), ">u8")
        wanted = [run.shard.hashes[run.row : run.row + len(run)] for run in runs if run.shard.hashes is not None]
        wrong = np.flatnonzero(hashes != np.concatenate([np.empty(0, np.uint64), *wanted]))
        if len(wrong):
            rows = [run.one(nth) for run in runs for nth in range(len(run))]
            at = int(wrong[0])
            raise rows[at].damaged(f"its hash is {found[at]}, not the one that was written down")

    def _look(self, spans: Spans, runs: Sequence[_Run]) -> None:
        """Refuse spans that lie outside their rows: whoever does without hashes has no other protection."""
        if len(spans.start) and (
            spans.start.min() < 0 or spans.stop.max() > self.length or (spans.stop <= spans.start).any()
        ):
            raise runs[0].damaged("spans lie outside their sequences")


def _copy(runs: Sequence[_Run], out: Ints) -> Ints:
    at = 0
    for run in runs:
        until = at + len(run)
        # The one copy: from the mapped file, widened.
        out[at:until] = run.piece.tokens[run.first : run.stop]
        at = until
    return out


def _indices(coded: pa.DictionaryArray) -> Ints:
    return np.from_dlpack(coded.indices).astype(np.int64)


@dataclass(frozen=True)
class _Raw:
    """The spans of runs of rows, end to end, as shards have them; attributes are as in `Piece` and `Spans`."""

    borders: Ints
    numbers: tuple[npt.NDArray[Any], ...]
    words: tuple[U64, U64]
    domain_sizes: npt.NDArray[np.int32]
    domain_bytes: npt.NDArray[np.uint8]
    mark_borders: Ints
    marks: npt.NDArray[Any]

    @staticmethod
    def of(runs: Sequence[_Run]) -> _Raw:
        cut = [(run.piece, *run.spans()) for run in runs]
        ids = _joined([piece.ids[low:high] for piece, low, high in cut], np.empty((0, 2), ">u8"))
        texts = [piece.domain_at[low : high + 1] for piece, low, high in cut]
        data = [piece.domain_bytes[at[0] : at[-1]] for (piece, *_), at in zip(cut, texts, strict=True)]
        return _Raw(
            borders=_rebased([run.piece.borders[run.first : run.stop + 1] for run in runs]),
            numbers=tuple(
                _joined([piece.numbers[which][low:high] for piece, low, high in cut], np.empty(0, np.int64))
                for which in range(5)
            ),
            words=(ids[:, 0].astype(np.uint64), ids[:, 1].astype(np.uint64)),
            domain_sizes=_joined([at[1:] - at[:-1] for at in texts], np.empty(0, np.int32)),
            domain_bytes=_joined(data, np.empty(0, np.uint8)),
            mark_borders=_rebased([run.piece.mark_borders[run.first : run.stop + 1] for run in runs]),
            marks=_joined([run.piece.marks[slice(*run.marks())] for run in runs], np.empty(0, np.int32)),
        )

    def domains(self) -> pa.BinaryArray | None:
        """Return the spans' domains; None if their sizes are not those of their bytes."""
        offsets = np.zeros(len(self.domain_sizes) + 1, np.int32)
        np.cumsum(self.domain_sizes, out=offsets[1:])
        if len(self.domain_sizes) and (self.domain_sizes.min() < 0 or offsets[-1] != len(self.domain_bytes)):
            return None
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(self.domain_bytes)]
        return pa.BinaryArray.from_buffers(pa.binary(), len(self.domain_sizes), buffers)

    def spans(self, domain: Ints) -> Spans:
        start, stop, offset, length = (column.astype(np.int64) for column in self.numbers[:4])
        document = numbered((*self.words, self.numbers[4], domain))
        marks = self.marks.astype(np.int64)
        return Spans(start, stop, offset, length, document, self.borders, marks, self.mark_borders, domain)


def _joined(parts: list[npt.NDArray[Any]], none: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else none


def _rebased(parts: list[npt.NDArray[Any]]) -> Ints:
    """Join borders of runs, so that those of each go on where the run before ended."""
    out = np.zeros(sum(len(part) - 1 for part in parts) + 1, np.int64)
    at = 0
    for part in parts:
        until = at + len(part) - 1
        out[at + 1 : until + 1] = part[1:]
        out[at + 1 : until + 1] += out[at] - part[0]
        at = until
    return out
