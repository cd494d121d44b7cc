"""What of a store is there already: one listing of each unit's folder, and each record read once.

    unit 8c1f…/   done-0-of-2.json  part-00000.arrow 64 MB  part-00000.json {"size": 64 MB, …}   ─▶  share 0 is whole
                                    part-00001.arrow 12 MB  part-00001.json {"size": 64 MB, …}   ─▶  share 1 is not

A store of a trillion tokens has a hundred thousand parts: to ask for each file of each would be most of what a run
waits for where there is nothing to do.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from mixture.engine import Task
from mixture.storage import Place, as_place, files_in
from mixture.storage import read_record as read_json_record
from mixture.tokens.chunks import columns_key, done_mark
from mixture.tokens.store import PartFiles, read_record


class Look:
    """Looks at a store; what it found whole it does not look at again."""

    def __init__(self) -> None:
        self._listed: dict[str, dict[str, int]] = {}
        self._records: dict[str, dict[str, Any]] = {}

    def is_done(self, task: Task) -> bool:
        """Say whether what a task of `tokens.chunks` makes is whole."""
        given = task.arguments
        folder, columns = as_place(given["folder"]), columns_key(json.loads(given["reading"])["columns"])
        names = self._names(folder)
        for key in dict.fromkeys(["", columns]):
            if done_mark(folder, given["start"], given["step"], key).name not in names:
                return False
            mark = self.mark(folder, given["start"], given["step"], key) or {"chunks": ()}
            if not all(self._is_whole(PartFiles(folder, index), columns) for index in mark["chunks"]):
                return False
        return True

    def mark(self, folder: Place, start: int, step: int, columns: str) -> dict[str, Any] | None:
        """Read the mark of a task, or return None where there is none; see `done_mark`."""
        path = done_mark(folder, start, step, columns)
        return self._once(path, lambda: read_json_record(path, "unit", "chunks", "files"))

    def record(self, part: PartFiles) -> dict[str, Any] | None:
        """Read the record of a part, or return None if it is not whole.

        Listings of a network's file system may be old: what one does not show is asked for itself.
        """
        return self._once(part.record, lambda: read_record(part, self._names(part.folder)) or read_record(part))

    def forget(self, folders: Iterable[str]) -> None:
        """List folders anew, after tasks have written there."""
        for folder in folders:
            self._listed.pop(folder, None)

    def _is_whole(self, part: PartFiles, columns: str) -> bool:
        has_columns = not columns or part.columns(columns).name in self._names(part.folder)
        return has_columns and self.record(part) is not None

    def _names(self, folder: Place) -> dict[str, int]:
        name = str(folder)
        if name not in self._listed:
            self._listed[name] = files_in(folder)
        return self._listed[name]

    def _once(self, path: Place, read: Callable[[], dict[str, Any] | None]) -> dict[str, Any] | None:
        found = self._records.get(str(path)) or read()
        # What is not there, or not whole, may be after the tasks have run.
        if found is not None:
            self._records[str(path)] = found
        return found
