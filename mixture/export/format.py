"""What an exporter is: a function that writes one shard as files of another format, and one that lists them all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mixture.errors import StoreError
from mixture.shards.read import OpenShard
from mixture.storage import HashingWriter, Place
from mixture.tokens.store import Tokens


@dataclass(frozen=True)
class Options:
    """How a format is written, besides the format itself.

    Attributes:
        unit: what Megatron calls a document: `row`, a sequence; or `document`, a span.
        padded: whether some place of the phase holds no real token.
    """

    unit: str = "row"
    padded: bool = False


@dataclass(frozen=True)
class File:
    """A file that an exporter published.

    Attributes:
        file: its name, relative to the phase's folder.
        size: bytes.
        hash: XXH3-128, 32 hex digits.
        sequences: rows of the shard that it holds, or lists.
        tokens: ids that it holds.
        columns: encodings of its columns, by name, where the format's index lists them.
    """

    file: str
    size: int
    hash: str
    sequences: int = 0
    tokens: int = 0
    columns: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return what a record keeps; what is empty is left out."""
        return {name: value for name, value in asdict(self).items() if value or name == "size"}


@dataclass(frozen=True)
class Format:
    """A format that shards can be written in.

    Attributes:
        summary: one line for people.
        write: writes one shard. Takes the shard, the path of its files without their suffix, and the options.
        finish: writes what lists the files of all shards, if the format has such. Takes the phase's folder and files.
        units: what `Options.unit` may be.
    """

    summary: str
    write: Callable[[OpenShard, Place, Options], list[File]]
    finish: Callable[[Place, Sequence[File]], list[File]] | None = None
    units: tuple[str, ...] = ("row",)


def written(path: Place, out: HashingWriter, sequences: int = 0, tokens: int = 0) -> File:
    """Return the record of a file that was published in the phase's folder."""
    return File(path.name, out.size, out.digest, sequences, tokens)


def signed(tokens: Tokens, shard: Place) -> npt.NDArray[np.int32]:
    """Return tokens as int32, same shape; without a copy where they are uint32.

    Raises:
        StoreError: an id does not fit.
    """
    if tokens.dtype == np.uint16:
        return tokens.astype(np.int32)
    values = tokens.view(np.int32)
    if values.size and int(values.min()) < 0:
        raise StoreError(
            f"{shard}: it holds the id {int(tokens.max()):,}, but this format's 32-bit ids end at {2**31 - 1:,}; "
            "export to mds, olmo or parquet instead"
        )
    return values


def put(out: HashingWriter, values: npt.NDArray[Any]) -> None:
    """Write an array's values, in order, as they lie in memory."""
    if values.size:
        out.write(np.ascontiguousarray(values).reshape(-1).data)
