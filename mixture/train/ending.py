"""What a run's folder says of its end.

OUT/end.json     {"step": 900, "tokens": 7372800}        the run has come to its end, and nothing comes after
"""

from __future__ import annotations

from pathlib import Path

from mixture.storage import read_record, remove, write_json
from mixture.train.checkpoint import Stand

END = "end.json"


def ended_at(out: Path) -> int | None:
    """Return the step at which a run came to its end; None where it has not.

    Raises:
        StoreError: the record is damaged.
    """
    record = read_record(out / END, "step")
    return None if record is None else int(record["step"])


def mark_end(out: Path, stand: Stand) -> None:
    """Say that a run has come to its end.

    Raises:
        StoreError: the folder cannot be written.
    """
    write_json(out / END, {"step": stand.step, "tokens": stand.tokens})


def unmark_end(out: Path) -> None:
    """Say that a run goes on."""
    remove(out / END)
