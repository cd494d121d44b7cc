"""Cutting a table into chunks by the sizes that its file states: small groups share a chunk, a large one is divided.

groups of 3, 4, 20, 1 MB, chunks of 8 MB  ->  [0, 1], [2: 1st third], [2: 2nd third], [2: 3rd third], [3]
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias, TypeVar

Item = TypeVar("Item")
#: Rows start … stop-1 of one item, as (item, start, stop).
Stretch: TypeAlias = tuple[Item, int, int]


def cut(items: Iterable[Item], measure: Callable[[Item], tuple[int, int]], limit: int) -> Iterator[list[Stretch[Item]]]:
    """Divide consecutive groups of rows into chunks of about `limit` bytes.

    Args:
        items: groups of rows, in file order; taken one by one, at most one further than the chunk given.
        measure: rows and bytes of a group.
        limit: bytes of a chunk, about.

    Yields:
        One chunk: the stretches (group, first row, row after the last) that it consists of; no stretch is empty.
    """
    shared: list[Stretch[Item]] = []
    held = 0
    for item in items:
        rows, size = measure(item)
        if not rows:
            continue
        if shared and held + size > limit:
            yield shared
            shared, held = [], 0
        if size <= limit:
            shared.append((item, 0, rows))
            held += size
            continue
        pieces = min(-(-size // limit), rows)
        edges = [rows * piece // pieces for piece in range(pieces + 1)]
        for start, stop in itertools.pairwise(edges):
            yield [(item, start, stop)]
    if shared:
        yield shared
