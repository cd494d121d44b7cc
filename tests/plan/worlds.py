"""Small corpora as index files, with all that decides who is drawn: weights, appearances, hold-outs, earlier phases."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mixture import schemas
from mixture.engine import Silence
from mixture.engine.local import Local
from mixture.hashing import draw, id_array
from mixture.index.aligned import write_aligned
from mixture.plan.cells import Counts, Grid
from mixture.plan.draw import Drawn, Survey, draw_documents, survey
from mixture.plan.pool import Candidates, Pool, Threshold, Weights, appearances

ENGINE = Local(1)
_GROUP = 64


@dataclass(frozen=True)
class Documents:
    """Documents in the order of the index, as arrays of shape (n,)."""

    hi: np.ndarray[Any, Any]
    lo: np.ndarray[Any, Any]
    domain: np.ndarray[Any, Any]
    tokens: Counts
    occurrence: Counts
    occurrences: Counts
    weight: np.ndarray[Any, Any]
    seen: Counts

    def __len__(self) -> int:
        return len(self.hi)

    @staticmethod
    def sorted(**columns: Any) -> Documents:
        """Put documents in order and number those of one id and domain."""
        order = np.lexsort([columns["domain"], columns["lo"], columns["hi"]])
        found = {name: np.asarray(values)[order] for name, values in columns.items()}
        keys = list(zip(found["hi"].tolist(), found["lo"].tolist(), found["domain"].tolist(), strict=True))
        first = {key: number for number, key in reversed(list(enumerate(keys)))}
        found["occurrence"] = np.array([number - first[key] for number, key in enumerate(keys)])
        counts = {key: keys.count(key) for key in set(keys)} if len(first) < len(keys) else dict.fromkeys(keys, 1)
        found["occurrences"] = np.array([counts[key] for key in keys])
        return Documents(**found)

    def joined(self, other: Documents) -> Documents:
        """Merge two sets of documents."""
        names = ("hi", "lo", "domain", "tokens", "weight", "seen")
        return Documents.sorted(**{name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in names})

    def write(self, path: Path) -> None:
        """Write the index file."""
        count = len(self)
        columns: dict[str, Any] = {
            "doc_id": id_array(self.hi, self.lo),
            "source": pa.array(["all"] * count),
            "domain": pa.array(self.domain.astype(str)),
            "n_tokens": self.tokens,
            "n_bytes": self.tokens,
            "part": pa.array([0] * count, pa.int32()),
            "row": np.arange(count),
            "token_offset": np.cumsum(self.tokens) - self.tokens,
            "input_file": pa.array(["file"] * count),
            "input_row": np.arange(count),
            "occurrence": self.occurrence,
            "occurrences": self.occurrences,
        }
        pq.write_table(pa.table(columns).cast(schemas.INDEX), path, row_group_size=_GROUP, write_page_checksum=True)


def documents(random: np.random.Generator, domains: list[str], count: int, *, alike: bool, seen: int) -> Documents:
    """Draw documents: log-normal lengths, some empty; `alike` for some equal texts, in one domain or in several."""
    hi, lo = (random.integers(0, 2**64, count, np.uint64) for _ in range(2))
    domain = np.array(domains)[random.integers(0, len(domains), count)]
    tokens = random.lognormal(4, 1.2, count).astype(np.int64) * (random.random(count) > 0.03)
    times = random.integers(0, seen + 1, count)
    weight = np.where(random.random(count) < 0.1, 0, 10 ** random.uniform(-3, 3, count)).astype(np.float32)
    if alike:
        twins = random.integers(0, count, count // 4)
        at = random.permutation(count)[: len(twins)]
        hi[at], lo[at], tokens[at] = hi[twins], lo[twins], tokens[twins]
    return Documents.sorted(
        hi=hi, lo=lo, domain=domain, tokens=tokens, weight=weight.astype(np.float64), seen=times.astype(np.int64)
    )


@dataclass(frozen=True)
class World:
    """Documents on disk, and a pool over them."""

    folder: Path
    documents: Documents
    pool: Pool

    @staticmethod
    def make(folder: Path, found: Documents, grid: Grid, *, weighted: bool, seen: bool, **pool: Any) -> World:
        """Write the index and the columns beside it."""
        index = folder / "index.parquet"
        found.write(index)
        if weighted:
            column = folder / "weight.arrow"
            write_aligned(column, "weight", pa.float64(), np.array_split(found.weight, 3))
            above = found.weight[found.weight > 0]
            pool["weights"] = Weights(str(column), float(above.min()), float(above.max()))
        if seen:
            column = folder / "seen.arrow"
            write_aligned(column, "seen", pa.int32(), np.array_split(found.seen.astype(np.int32), 2))
            pool |= {"seen": str(column), "most_seen": int(found.seen.max())}
        return World(folder, found, Pool(index=(str(index),), grid=grid, **pool))

    def after(self, thresholds: tuple[Threshold, ...]) -> World:
        """Return the world that the next phase draws from."""
        pool, more = self.pool, max(t.level + (t.at is not None) for t in thresholds)
        pool = replace(pool, earlier=(*pool.earlier, thresholds), most_seen=max(pool.most_seen, more))
        return replace(self, pool=pool)

    def joined(self, folder: Path, name: str, more: Documents) -> World:
        """Return the world with one domain more, in a folder of its own, which is made."""
        folder.mkdir(exist_ok=True)
        pool, names = self.pool, sorted({*self.pool.grid.domains, name})
        at = names.index(name)
        edges, holdout = list(pool.grid.edges), list(pool.holdout)
        edges.insert(at, (77,))
        holdout.insert(at, 0.3)
        return World.make(
            folder,
            self.documents.joined(more),
            Grid(tuple(names), tuple(edges)),
            weighted=pool.weights is not None,
            seen=pool.seen is not None,
            holdout=tuple(holdout),
            separators=pool.separators,
            seed=pool.seed,
        )

    def survey(self) -> Survey:
        return survey(self.pool, self.folder, ENGINE, Silence())

    def draw(self, found: Survey, quota: Counts) -> Drawn:
        return draw_documents(self.pool, found, quota, self.folder, ENGINE, Silence())

    def look(self) -> Candidates:
        """Look at all documents at once."""
        reader = self.pool.reader()
        groups = list(reader.groups_between(0, len(reader.groups)))
        parts = {name: [getattr(group, name) for group in groups] for name in vars(groups[0]) if name != "table"}
        joined = {name: None if found[0] is None else np.concatenate(found) for name, found in parts.items()}
        return self.pool.look(replace(groups[0], **joined))


def in_turn(here: World) -> list[list[int]]:
    """Return the documents of each cell in the order in which their turn comes, the obvious way."""
    found, pool = here.documents, here.pool
    number = {name: d for d, name in enumerate(pool.grid.domains)}
    draws = draw(pool.seed, "draw", found.hi, found.lo, found.occurrence.astype(np.uint64))
    chance = draw(0, "holdout", found.hi, found.lo) / 2.0**64
    queues: list[list[tuple[Any, ...]]] = [[] for _ in range(pool.grid.size)]
    for n in range(len(found)):
        d = number[str(found.domain[n])]
        if not found.tokens[n] or chance[n] < pool.holdout[d] or (pool.weights and not found.weight[n]):
            continue
        key: Any = int(draws[n])
        if pool.weights:
            key = ((key >> 11) | 1) / 2.0**53 / found.weight[n]
        bucket = sum(edge <= found.tokens[n] for edge in pool.grid.edges[d])
        queues[pool.grid.span(d).start + bucket].append((key, found.hi[n], found.lo[n], found.occurrence[n], n))
    return [[entry[-1] for entry in sorted(queue)] for queue in queues]


def drawn_in_turn(queue: list[int], written: Counts, seen: Counts, quota: int) -> tuple[dict[int, int], int, int]:
    """Draw the documents of one cell one by one, those that appeared least first, until a quota is met.

    Returns:
        How often each appears, and the last one drawn with how many of its tokens are written; -1 where none was.
    """
    times, last, kept, level = dict.fromkeys(queue, 0), -1, 0, 0
    while quota:
        for n in queue:
            if quota and seen[n] <= level:
                last, kept = n, min(int(written[n]), quota)
                times[n] += 1
                quota -= kept
        level += 1
    return times, last, kept


def check(here: World, thresholds: tuple[Threshold, ...], quota: Counts, seen: Counts) -> Counts:
    """Hold thresholds to the obvious way; return how often every document appears."""
    candidates = here.look()
    times, last = appearances(candidates, thresholds)
    written = here.documents.tokens + here.pool.separators
    expected = np.zeros(len(here.documents), np.int64)
    for queue, at, amount in zip(in_turn(here), thresholds, quota.tolist(), strict=True):
        counts, end, kept = drawn_in_turn(queue, written, seen, amount)
        expected[list(counts)] = list(counts.values())
        touched = [n for n, count in counts.items() if count]
        assert at.documents == len(touched)
        assert sum(int(written[n]) * (counts[n] - 1) + int(last[n]) for n in touched) == amount
        assert at.cut == (end >= 0 and kept < written[end])
        once = [kept if n == end and counts[n] == 1 else int(written[n]) for n in touched]
        assert at.unique == sum(once)
        if at.cut:
            assert last[end] == kept
    assert times.tolist() == expected.tolist()
    return expected
