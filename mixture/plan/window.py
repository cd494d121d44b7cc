"""Windows: the stretches of a planned stream that are packed one by one, each into a shard.

    stream   |········ window 0 ········|········ window 1 ········|·· 2 ··|
    shards     shard-00000-of-00003       shard-00001-of-00003       …

A window is as long as a shard. Packings that keep documents whole take those that begin in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from mixture import schemas
from mixture.lockfile import Lock
from mixture.pack import Pieces
from mixture.pack.facts import Facts, measure
from mixture.pack.layout import Knots, Layout, Rules, lay
from mixture.plan.stretch import read_stretch, sizes
from mixture.recipe.packing import Packing, Transforms
from mixture.storage import Place


@dataclass(frozen=True)
class Windows:
    """How a phase's stream is cut into windows, and how each is laid out.

    Attributes:
        rules: what the layout follows from.
        size: tokens of the stream in each window but the last.
        tokens: tokens of the stream.
    """

    rules: Rules
    size: int
    tokens: int

    @property
    def count(self) -> int:
        """How many there are."""
        return -(-self.tokens // self.size)

    def stretch(self, number: int) -> tuple[int, int]:
        """Return the positions of a window's first token, and past its last."""
        return number * self.size, min((number + 1) * self.size, self.tokens)

    def of(self, position: int) -> int:
        """Return the window of a position of the stream."""
        return position // self.size


def windows(lock: Lock, phase: int) -> Windows:
    """Return how a lock's phase is laid out."""
    stream = lock.phases[phase]["stream"]
    return Windows(rules(lock, phase), stream["shard_sequences"] * stream["sequence_length"], stream["tokens"])


def rules(lock: Lock, phase: int) -> Rules:
    """Return what the layout of a lock's phase follows from."""
    stream, recipe = lock.phases[phase]["stream"], lock.recipe["content"]
    return Rules(
        length=stream["sequence_length"],
        align=stream["align"],
        packing=Packing.of(recipe["packing"]),
        transforms=Transforms.model_validate(recipe.get("transforms", {})),
        knots=Knots.of(lock.tokenizer.get("knots")),
        seed=recipe["seed"],
    )


def read_window(
    folder: Place, starts: Sequence[int], stretch: tuple[int, int], rules: Rules, number: int, *, skipped: int = 0
) -> tuple[pa.Table, Layout]:
    """Read a window of a plan and lay it out.

    Args:
        folder: the plan's.
        starts: where its slices begin in the stream, see `read_stretch`.
        stretch: the window's positions.
        rules: how it is laid out.
        number: the window's.
        skipped: how many slices there are before those that `starts` speaks of.

    Returns:
        The documents, `schemas.PLAN`, and where they stand; `Pieces.row` counts the former.

    Raises:
        StoreError: the plan is gone or damaged.
    """
    table = read_stretch(folder, starts, *stretch, whole=rules.packer.whole, skipped=skipped)
    return table, lay(sizes(table), rules, number)


def piece_facts(table: pa.Table, pieces: Pieces, around: Sequence[int], length: int) -> Facts:
    """Return what a packing did to the documents of a window.

    Args:
        table: the documents, `schemas.PLAN`, shape (n,).
        pieces: of them.
        around: separator tokens before and after each document.
        length: places in a sequence.
    """
    codes, names = schemas.coded(table["domain"])
    opens = schemas.numbers(table["doc_start"])[pieces.row] + pieces.offset
    closes = schemas.numbers(table["doc_length"])[pieces.row] + around[1]
    counts = {"domains": len(names), "sequences": pieces.sequences, "length": length}
    found = measure(pieces, opens == -around[0], opens + pieces.size == closes, codes[pieces.row], **counts)
    return replace(found, domains=tuple(names.to_pylist()))
