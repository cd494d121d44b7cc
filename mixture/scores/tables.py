"""A table of scores: Parquet files with a `doc_id` and columns about the documents."""

from __future__ import annotations

from dataclasses import dataclass

from mixture.storage import Place


@dataclass(frozen=True)
class ScoreTable:
    """Parquet files that form one table.

    Attributes:
        name: names it to people.
        parts: the files, all with the same columns.
        ours: made from texts here, so that rows with the same id hold the same values; in a table of another tool an
            id must not come twice.
    """

    name: str
    parts: tuple[Place, ...]
    ours: bool = False
