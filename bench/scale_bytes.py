"""What shards fetch of a token store that lies in an object store: requests, and bytes per byte written.

An index of SlimPajama's shape, a real plan over it, real windows; what each window needs goes through the program's
own `fetch_rows`, with a count in place of the network. How much it is follows from two numbers, not from the size:

    documents of a part in a slice of the stream    16,000 in a part / 256 slices = 62 at 600 shards
    drawn                                           share of a part's tokens that the plan takes

so a small index with as many slices as the large job gives that job's figures: bytes per byte written are the same,
requests per shard grow with the number of parts, in proportion.

    nodes that make k consecutive shards keep what they fetched: the next shard of the same slice finds it there
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from bench import slimpajama
from bench.measure import Rounds
from bench.plan import planner, recipe
from mixture import schemas
from mixture.engine.local import Local
from mixture.index.build import Index
from mixture.plan.records import Plan
from mixture.plan.window import Windows, read_window, windows
from mixture.storage.mirror import Mirror, Stretches, merged, without
from mixture.storage.transfer import Range, cut
from mixture.tokens import parts as opened
from mixture.tokens.parts import HEAD_BYTES, OpenPart, fetch_rows

Ints = npt.NDArray[np.int64]
# In its package, a function has the module's name.
mirrors: Any = importlib.import_module("mixture.storage.mirror")
#: Bytes of a token in the store, and in the shard.
_TOKEN = np.dtype(np.uint32)
_HEADER = 512
_ID_BYTES = 16
_LENGTH = 8192
#: Consecutive windows that are looked at, and the runs of shards that one node makes.
WINDOWS = 64
RUNS = (1, 4, 16, 64)


@dataclass
class Part:
    """A part of the store as far as fetching knows it: where its bytes would lie, and which were fetched.

    Attributes:
        offsets: where each document starts, int64, shape (n + 1,); behind them in memory, as in the file, the tokens.
        path: names it.
        size: bytes of its file.
        have: as of a `Mirror`.
    """

    offsets: Ints
    path: str
    size: int = 0
    have: list[tuple[int, int]] = field(default_factory=list)

    def opened(self) -> OpenPart:
        """Return it as `open_part` does; its tokens are not there, only their place."""
        n = len(self.offsets) - 1
        room = np.empty(8 * (n + 2), np.uint8)
        offsets = room[: 8 * (n + 1)].view(np.int64)
        offsets[:] = self.offsets
        begin = _HEADER + _ID_BYTES * n
        self.size = begin + 8 * (n + 1) + _TOKEN.itemsize * int(self.offsets[-1])
        tokens = cast("Any", room[8 * (n + 1) :].view(_TOKEN))
        return OpenPart(
            cast("Any", self), offsets, tokens, cast("Mirror", self), room.__array_interface__["data"][0] - begin
        )


@dataclass
class Counted:
    """What was asked of the store.

    Attributes:
        requests: ranges that were read.
        bytes: in them.
    """

    requests: int = 0
    bytes: int = 0

    def fetch(self, wanted: Sequence[tuple[Any, Stretches]]) -> int:
        """Count what `mirror._fetch` would fetch."""
        came = 0
        for one, whole in wanted:
            for start, stop in without(whole, one.have):
                self.requests += sum(1 for _ in cut(Range(one.path, start, stop)))
                came += stop - start
            one.have = merged([*one.have, *whole])
        self.bytes += came
        return came


@contextmanager
def counting(spare: float) -> Iterator[Counted]:
    """Count instead of fetching; `spare` stands for `opened.SPARE`."""
    counted, before = Counted(), (mirrors._fetch, opened.SPARE)  # noqa: SLF001
    mirrors._fetch, opened.SPARE = counted.fetch, spare  # noqa: SLF001
    try:
        yield counted
    finally:
        mirrors._fetch, opened.SPARE = before  # noqa: SLF001


def parts_of(index: Index) -> list[Ints]:
    """Return where each document of each part starts among its tokens, by an index."""
    table = pq.read_table(index.table, columns=["part", "row", "n_tokens"])
    part, row, tokens = (schemas.numbers(table[name]) for name in ("part", "row", "n_tokens"))
    order = np.lexsort((row, part))
    borders = np.searchsorted(part[order], np.arange(int(part.max()) + 2))
    lengths = tokens[order]
    return [
        np.concatenate([[0], np.cumsum(lengths[first:stop])])
        for first, stop in zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True)
    ]


@dataclass(frozen=True)
class Window:
    """What a window needs: rows by part, and its tokens."""

    rows: dict[int, Ints]
    tokens: int


def window(plan: Plan, cut_: Windows, number: int) -> Window:
    """Read a window of a plan."""
    planned = plan.phases[0]
    table, _ = read_window(planned.folder, planned.starts, cut_.stretch(number), cut_.rules, number)
    part, row = schemas.numbers(table["part"]), schemas.numbers(table["row"])
    order = np.argsort(part, kind="stable")
    names, first = np.unique(part[order], return_index=True)
    rows = np.split(row[order], first[1:])
    size = int((schemas.numbers(table["doc_stop"]) - schemas.numbers(table["doc_start"])).sum())
    return Window(dict(zip(names.tolist(), rows, strict=True)), size)


def fetched(offsets: Sequence[Ints], found: Sequence[Window], run: int, spare: float) -> dict[str, float]:
    """Return what nodes that make runs of consecutive shards fetch, per shard and part; bytes per byte written.

    Args:
        offsets: of the parts' documents.
        found: consecutive windows; a whole number of runs.
        run: shards that one node makes, keeping what it fetched.
        spare: see `counting`.
    """
    opens = 0
    with counting(spare) as counted:
        for first in range(0, len(found), run):
            parts = [Part(starts, f"part-{number:06d}") for number, starts in enumerate(offsets)]
            opened: dict[int, OpenPart] = {}
            for one in found[first : first + run]:
                for number in one.rows.keys() - opened.keys():
                    opened[number] = parts[number].opened()
                fetch_rows([(opened[number], rows) for number, rows in one.rows.items()])
            opens += len(opened)
    written = _TOKEN.itemsize * sum(one.tokens for one in found)
    # To open a part is to ask for its size and for its head.
    return {
        "requests": (counted.requests + 2 * opens) / len(found) / len(offsets),
        "read": (counted.bytes + HEAD_BYTES * opens) / written,
        "opened": HEAD_BYTES * opens / written,
    }


@dataclass(frozen=True)
class Case:
    """A job whose shards are looked at.

    Attributes:
        name: what it is called.
        drawn: tokens of the plan over tokens of the corpus; above 1 with copies.
        mix: how the recipe mixes, besides its caps.
        shards: of the job.
        documents: in a part of its store.
    """

    name: str
    drawn: float
    mix: dict[str, Any]
    shards: int = 600
    documents: int = slimpajama.DOCUMENTS_PER_PART


_NATURAL: dict[str, Any] = {"lengths": "natural"}
CASES = (
    Case("15 %, as it is", 0.15, _NATURAL),
    Case("50 %", 0.5, _NATURAL),
    Case("90 %", 0.9, _NATURAL),
    Case("3 copies", 3.0, _NATURAL | {"max_epochs": 4}),
    # 150B of SlimPajama's 627B, in 59,166 files of one part each: docs/150b-on-slurm.md.
    Case("24 %, .7 of it long", 0.24, {"on_shortage": "redistribute"}, 586, 9_940),
    # 1,000 documents of a part fall on 1,024 slices as 16,000 on 16,384: one each.
    Case("90 %, 60,000 shards", 0.9, _NATURAL, 3750, 1000),
)


def bench(documents: int, rounds: Rounds, spares: Sequence[float] = (opened.SPARE,)) -> list[dict[str, Any]]:
    """Plan each case over an index of so many documents; return a row for each run of shards."""
    rows = []
    for number, case in enumerate(CASES):
        place = rounds.temp / f"bytes-{number}"
        index, plan = _planned(case, documents, place)
        offsets, cut_ = parts_of(index), windows(plan.lock, 0)
        first = cut_.count // 3
        found = [window(plan, cut_, n) for n in range(first, min(first + WINDOWS, cut_.count - 1))]
        for run in RUNS:
            whole = found[: len(found) // run * run]
            for spare in spares:
                about = {"case": case.name, "run": run, "spare": spare, "shards": cut_.count, "parts": len(offsets)}
                slices = len(plan.phases[0].starts) - 1
                rows.append(about | {"slices": slices} | fetched(offsets, whole, run, spare))
    return rows


def _planned(case: Case, documents: int, place: Path) -> tuple[Index, Plan]:
    before = slimpajama.DOCUMENTS_PER_PART
    slimpajama.DOCUMENTS_PER_PART = case.documents
    try:
        index = slimpajama.make_index(place / "index", documents)
    finally:
        slimpajama.DOCUMENTS_PER_PART = before
    budget = int(index.tokens * case.drawn)
    asked = recipe(budget, **case.mix)
    shape = {"sequence": asked.sequence and asked.sequence.model_copy(update={"length": _LENGTH})}
    per_shard = max(_LENGTH, budget // case.shards // _LENGTH * _LENGTH)
    asked = asked.model_copy(update=shape | {"shard_tokens": per_shard})
    with Local(1) as engine:
        return index, planner(asked, index, place / "work", engine).plan(place / "lock")
