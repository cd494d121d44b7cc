"""Drawn documents in the order of the circle, where related ones stand by their runs: files that slices are read from.

    drawn, by id      doc_id  domain  n_tokens  …
    laid              doc_id  domain  n_tokens  …  at  tie  path          by (at, tie)

`at` and `tie` take the place of an id's two words: of a run, or of the document itself where it is not related. One
more pass over what was drawn, made only where a recipe relates documents; tables of relations are read, no token is.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mixture import schemas
from mixture.engine import Engine, Task
from mixture.errors import StoreError
from mixture.hashing import U64, id_words
from mixture.index.rows import IndexReader, Rows
from mixture.plan.draw import Drawn
from mixture.plan.pool import Pool
from mixture.plan.related import Ints, run_words
from mixture.related.relate import Relations, block_file
from mixture.storage import Place, as_place, remove
from mixture.storage.tables import open_parquet
from mixture.tokens.store import damaged, read_parquet, write_parquet

_GROUP_ROWS = 1 << 15
#: Columns of laid files, besides those of drawn ones.
COLUMNS = ("at", "tie", "path")
_PREFIX = "laid-"


def lay(drawn: Drawn, relations: Relations, cuts: dict[str, int], engine: Engine) -> Drawn:
    """Lay the drawn documents on the circle; return where they are now.

    Args:
        drawn: what was drawn; its files are replaced.
        relations: which documents are related.
        cuts: after how many tokens the paths of each related domain are cut, by name.
        engine: where tasks run.
    """
    domains = [[name, relations.domains.index(name), relations.blocks[name], cut] for name, cut in sorted(cuts.items())]
    tasks = [
        Task(
            "mixture.plan.laid:lay_file",
            {
                "drawn": str(path),
                "relations": str(relations.folder),
                "domains": domains,
                "target": str(_laid(path)),
            },
            0,
            path.stem,
        )
        for path in (*drawn.once, *drawn.often)
    ]
    for _ in engine.run(tasks, "plan"):
        pass
    for task in tasks:
        remove(as_place(task.arguments["drawn"]))
    return replace(drawn, once=tuple(map(_laid, drawn.once)), often=tuple(map(_laid, drawn.often)))


def _laid(path: Place) -> Place:
    return path.with_name(f"{_PREFIX}{path.name}")


def lay_file(drawn: str, relations: str, domains: list[tuple[str, int, int, int]], target: str) -> None:
    """Task: lay one file of drawn documents.

    Args:
        drawn: the file, sorted by id.
        relations: folder of the relations.
        domains: of each related domain: name, number, blocks, and after how many tokens its paths are cut.
        target: the file to write.
    """
    table = read_parquet(as_place(drawn))
    hi, lo = id_words(table["doc_id"])
    at, tie, path = hi.copy(), lo.copy(), np.zeros(len(hi), np.int64)
    of_domain, coded = schemas.coded(table["domain"])
    names = coded.to_pylist()
    for name, number, blocks, cut in domains:
        mine = np.flatnonzero(of_domain == names.index(name)) if name in names else np.empty(0, np.int64)
        if len(mine):
            related, before = _look_up(as_place(relations), number, blocks, hi[mine], lo[mine])
            at[mine], tie[mine] = run_words(name, related, before, blocks, cut)
            path[mine] = related & 0xFFFFFFFF
    # Stable: inside a run documents stay in the order of the index, so that equal texts do.
    order = np.lexsort([tie, at])
    for label, values in zip(COLUMNS, (at, tie, path), strict=True):
        table = table.append_column(label, schemas.column(values))
    write_parquet(as_place(target), table.take(schemas.column(order)), group_rows=_GROUP_ROWS)


def _look_up(folder: Place, domain: int, blocks: int, hi: U64, lo: U64) -> tuple[Ints, Ints]:
    """Return `related` and `before` of documents of one domain, given by rising id."""
    found: npt.NDArray[np.int64] = np.empty((2, len(hi)), np.int64)
    bits = blocks.bit_length() - 1
    of_block = hi >> np.uint64(64 - bits) if bits else np.zeros_like(hi)
    edges = np.searchsorted(of_block, np.arange(blocks + 1, dtype=np.uint64))
    for block in np.flatnonzero(np.diff(edges)).tolist():
        mine = slice(int(edges[block]), int(edges[block + 1]))
        path = block_file(folder, domain, block)
        table = read_parquet(path, ["doc_id", "related", "before"])
        at = _find(*id_words(table["doc_id"]), hi[mine], lo[mine])
        if (at < 0).any():
            raise StoreError(damaged(path, ValueError("it lacks a document that was drawn")))
        found[0, mine] = schemas.numbers(table["related"])[at]
        found[1, mine] = schemas.numbers(table["before"])[at]
    return found[0], found[1]


def _find(hi: U64, lo: U64, wanted_hi: U64, wanted_lo: U64) -> Ints:
    """Return where ids stand among sorted ones, -1 where they do not."""
    if not len(hi):
        return np.full(len(wanted_hi), -1, np.int64)
    at = np.minimum(np.searchsorted(hi, wanted_hi), len(hi) - 1)
    same = (hi[at] == wanted_hi) & (lo[at] == wanted_lo)
    for lost in np.flatnonzero(~same).tolist():
        # Leading words may be equal by chance: then the others are looked at, one by one.
        first, stop = np.searchsorted(hi, wanted_hi[lost], "left"), np.searchsorted(hi, wanted_hi[lost], "right")
        place = np.flatnonzero(lo[first:stop] == wanted_lo[lost])
        at[lost] = first + place[0] if len(place) else -1
    return at


@dataclass(frozen=True)
class LaidReader:
    """Reads laid files by stretches of the circle, as `IndexReader` reads an index by ranges of ids.

    Attributes:
        reader: of the same files.
        paths: the files.
    """

    reader: IndexReader
    paths: tuple[Place, ...]

    @property
    def most_occurrences(self) -> int:
        """See `IndexReader`."""
        return self.reader.most_occurrences

    def between(self, first: int, stop: int, columns: Sequence[str]) -> Iterator[Rows]:
        """Yield the documents whose `at` lies in [first, stop), with further columns and those of `COLUMNS`."""
        for number, (least, most) in enumerate(self._groups):
            if least >= stop or most < first:
                continue
            for rows in self.reader.groups_between(number, number + 1, (*columns, *COLUMNS)):
                at = schemas.numbers(rows.table["at"])
                inside = at >= np.uint64(first)
                if stop < 1 << 64:
                    inside &= at < np.uint64(stop)
                if inside.any():
                    yield rows.take(inside)

    @functools.cached_property
    def _groups(self) -> tuple[tuple[int, int], ...]:
        """The least and the largest `at` of each row group."""
        found = []
        for path in self.paths:
            try:
                metadata = open_parquet(path).metadata
            except (pa.ArrowException, OSError) as error:
                raise StoreError(damaged(path, error)) from error
            column = metadata.schema.names.index("at")
            for group in range(metadata.num_row_groups):
                facts = metadata.row_group(group).column(column).statistics
                found.append((int(facts.min), int(facts.max)))
        return tuple(found)


def take_words(rows: Rows) -> tuple[U64, U64, Ints]:
    """Return what places documents on the circle and in a slice, and their places on a path, shape (n,) each."""
    if COLUMNS[0] not in rows.table.column_names:
        return rows.hi, rows.lo, np.zeros(len(rows), np.int64)
    at, tie, path = (schemas.numbers(rows.table[name]) for name in COLUMNS)
    return at, tie, path


def reader_of(pool: Pool, paths: Sequence[Place]) -> IndexReader | LaidReader:
    """Return who reads the drawn documents of a pool, laid or not."""
    laid = any(path.name.startswith(_PREFIX) for path in paths)
    return LaidReader(pool.reader(), tuple(paths)) if laid else pool.reader()
