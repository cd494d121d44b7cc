"""One window of the stream, laid out: documents into sequences, sequences into order, parts into place.

    sizes 5, 9, 2 ─ align ─ packing ─ order ─ transform ─► which token of which document stands where

A window is what one shard holds. Its layout follows from the sizes of its documents, the rules and the seed alone, so
whoever asks where a token is (`pack`, `trace`, a re-mix) makes it again instead of keeping it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mixture.pack import Ints, Marks, Packer, Pieces, packing
from mixture.pack.order import arrange
from mixture.recipe.packing import Packing, Transforms


@dataclass(frozen=True)
class Knots:
    """Ids of the marks that Untie the Knots writes.

    Attributes:
        head: before a part that continues one.
        tail: after a part that is not the last.
        trace: first id and number of those that name slots, or None.
    """

    head: int
    tail: int
    trace: tuple[int, int] | None = None

    @property
    def highest(self) -> int:
        """The largest id among them."""
        return max(self.head, self.tail, sum(self.trace) - 1 if self.trace else 0)

    def to_json(self) -> dict[str, Any]:
        """Return what a lock or a task says."""
        return {"head": self.head, "tail": self.tail, "trace": list(self.trace) if self.trace else None}

    @staticmethod
    def of(value: dict[str, Any] | None) -> Knots | None:
        """Read what a lock or a task says; None for nothing."""
        return Knots(**value | {"trace": tuple(value["trace"]) if value["trace"] else None}) if value else None


@dataclass(frozen=True)
class Rules:
    """All that a layout follows from, besides the documents.

    Attributes:
        length: places in a sequence.
        align: documents start at multiples of it.
        packing: which packing.
        transforms: what is done to sequences.
        knots: ids of marks, if a transform writes some.
        seed: the recipe's.
    """

    length: int
    align: int
    packing: Packing
    transforms: Transforms
    knots: Knots | None
    seed: int

    @property
    def capacity(self) -> int:
        """Places of a sequence that documents may take; the others are kept for marks."""
        return self.length - (self.transforms.utk.room if self.transforms.utk else 0)

    @property
    def packer(self) -> Packer:
        """The packing, ready to use; it counts in units of `align` places, so that no piece begins between them."""
        short = self.packing.short
        return packing(self.packing.model_copy(update={"short": short // self.align}) if short else self.packing)

    @property
    def tiles(self) -> bool:
        """Whether sequences lie in the stream end to end, none with padding but the last."""
        return self.packing.kind == "concat" and self.align == 1 and self.capacity == self.length

    def to_json(self) -> dict[str, Any]:
        """Return what a task carries."""
        return {
            "length": self.length,
            "align": self.align,
            "packing": self.packing.model_dump(mode="json"),
            "transforms": self.transforms.model_dump(mode="json", exclude_none=True, exclude={"related"}),
            "knots": None if self.knots is None else self.knots.to_json(),
            "seed": self.seed,
        }

    @staticmethod
    def from_json(value: dict[str, Any]) -> Rules:
        """Read what a task carries."""
        said = {"packing": Packing.of(value["packing"]), "transforms": Transforms.model_validate(value["transforms"])}
        return Rules(**value | said | {"knots": Knots.of(value["knots"])})


@dataclass(frozen=True)
class Layout:
    """Where the documents of a window stand.

    Attributes:
        packed: pieces as the packing laid them.
        pieces: where they stand after the transforms: the same tokens in the same sequences.
        marks: tokens that a transform wrote.
    """

    packed: Pieces
    pieces: Pieces
    marks: Marks

    @property
    def sequences(self) -> int:
        """How many sequences the window fills."""
        return self.packed.sequences


def lay(sizes: Ints, rules: Rules, window: int) -> Layout:
    """Lay the documents of a window into sequences.

    Args:
        sizes: tokens of each document, separators included, in the order of the stream, int64, shape (n,).
        rules: how.
        window: number of the window in the stream: draws are addressed by it.
    """
    packer, align = rules.packer, rules.align
    packed = packer.lay(-(-sizes // align), rules.capacity // align)
    if align > 1:
        offset = packed.offset * align
        size = np.minimum(packed.size * align, sizes[packed.row] - offset)
        packed = Pieces(packed.row, offset, size, packed.sequence, packed.start * align)
    if packer.order is not None:
        packed = arrange(packed, packer.order(packed, rules.seed, window))
    pieces, marks = _transformed(packed, rules, window)
    return Layout(packed, pieces, marks)


def _transformed(packed: Pieces, rules: Rules, window: int) -> tuple[Pieces, Marks]:
    turns, utk = rules.transforms.interleave, rules.transforms.utk
    if turns is not None:
        from mixture.pack.interleave import interleave

        return interleave(packed, parts=turns.parts), Marks.none()
    if utk is not None and rules.knots is not None:
        from mixture.pack.utk import utk as untie

        how = utk.model_dump(include={"probability", "parts", "room"}) | vars(rules.knots)
        return untie(packed, rules.length, seed=rules.seed, window=window, **how)
    return packed, Marks.none()
