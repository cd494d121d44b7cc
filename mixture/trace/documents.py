"""The documents of the index, found by id or by the row that they were read from: two reads, no scan.

id, or 8 of its digits    ─ statistics of the index's row groups ─► one row group ─► the rows of that id
file, row                 ─ stretches.parquet ─► part of the store ─ its table of documents ─► id
file, row of a join       ─ rows.parquet beside the joined documents ─► id
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from mixture import schemas
from mixture.errors import StoreError, TraceError, nearest
from mixture.hashing import U64, id_words
from mixture.lockfile import Lock
from mixture.storage import Place, exists, read_record
from mixture.storage.tables import open_parquet
from mixture.tokens.members import document_of
from mixture.tokens.store import damaged, groups_between, part_names, part_path, read_between, read_parquet
from mixture.workspace import Workspace

_COLUMNS = (
    "source",
    "domain",
    "n_tokens",
    "n_bytes",
    "part",
    "row",
    "input_file",
    "input_row",
    "occurrence",
    "occurrences",
)
_FEWEST_DIGITS = 8


@dataclass(frozen=True)
class Document:
    """A row of the index; see `schemas.INDEX`.

    Attributes:
        doc_id: 16 bytes.
        place: the row's number in the index.
    """

    doc_id: bytes
    place: int
    source: str
    domain: str
    n_tokens: int
    n_bytes: int
    part: int
    row: int
    input_file: str
    input_row: int
    occurrence: int
    occurrences: int

    def to_json(self) -> dict[str, Any]:
        """Return what people ask for."""
        names = ("source", "domain", "n_tokens", "n_bytes", "occurrence", "occurrences")
        fields = {"doc_id": self.doc_id.hex()} | {name: getattr(self, name) for name in names}
        return fields | {"file": self.input_file, "row": self.input_row}


@dataclass(frozen=True)
class Read:
    """What was read in one row of an input file.

    Attributes:
        source: of the recipe.
        doc_id: of the document that it became, or that it was joined into; None if it became none.
        part: number of the store's part that holds it, and its row there; None for a row that was joined.
        why: why it became no document, as far as the store knows.
        joined: whether the source joins rows.
    """

    source: str
    doc_id: bytes | None
    part: tuple[int, int] | None = None
    why: str = ""
    joined: bool = False


class Documents:
    """The index that a lock was planned over.

    Args:
        folder: the index's.
        lock: names the input files.
        workspace: where the store lies.

    Raises:
        StoreError: the index is not there, or damaged.
    """

    def __init__(self, folder: Place, lock: Lock, workspace: Workspace) -> None:
        record = read_record(folder / "index.json", "how", "stretches")
        if record is None:
            raise StoreError(f"{folder}: the index is not here; run `mixture bucket` of the recipe to make it again")
        self.folder, self.lock, self.workspace = folder, lock, workspace
        self.how: dict[str, Any] = record["how"]
        self._path = folder / "index.parquet"
        try:
            coded = ["source", "domain", "input_file"]
            self._file = open_parquet(self._path, read_dictionary=coded)
        except (pa.ArrowException, OSError) as error:
            raise StoreError(damaged(self._path, error)) from error

    @functools.cached_property
    def parts(self) -> list[str]:
        """Names of the store's parts, as the index numbers them."""
        return part_names(self.folder / "parts.json")

    @property
    def store(self) -> Place:
        """The token store's folder."""
        return self.workspace.store(self.how["store"])

    def named(self, digits: str) -> list[Document]:
        """Return the rows of the document that an id, or the beginning of one, names.

        Raises:
            TraceError: no document has such an id, or several begin like that.
        """
        given = digits.lower().removeprefix("0x")
        if not _FEWEST_DIGITS <= len(given) <= 32 or set(given) - set("0123456789abcdef"):
            raise TraceError(
                f"{digits}: not a document's id; give its 32 hex digits, or the first {_FEWEST_DIGITS} or more of them"
            )
        first, last = (bytes.fromhex(given + digit * (32 - len(given))) for digit in "0f")
        found = list(self._between(first, last))
        ids = list(dict.fromkeys(row.doc_id for row in found))
        if not ids:
            raise TraceError(f"{digits}: no document of this corpus has that id; check it, or name --file and --row")
        if len(ids) > 1:
            raise TraceError(
                f"{digits}: {len(ids)} documents begin like that, {ids[0].hex()} and {ids[1].hex()} among them; give "
                "more digits"
            )
        return found

    def with_ids(self, ids: Iterable[bytes]) -> dict[bytes, list[Document]]:
        """Return the rows of some documents; those that are not in the index are left out."""
        groups: dict[int, list[bytes]] = {}
        for one in sorted(set(ids)):
            for group in groups_between(self._file.metadata, one, one):
                groups.setdefault(group, []).append(one)
        found: dict[bytes, list[Document]] = {}
        for group, wanted in groups.items():
            for row in self._rows(group, wanted):
                found.setdefault(row.doc_id, []).append(row)
        return found

    def _between(self, first: bytes, last: bytes) -> Iterator[Document]:
        for group in groups_between(self._file.metadata, first, last):
            hi, lo = self._ids(group)
            low, high = (int.from_bytes(word[:8], "big") for word in (first, last))
            near = np.arange(np.searchsorted(hi, np.uint64(low)), np.searchsorted(hi, np.uint64(high), "right"))
            pairs = zip(near.tolist(), hi[near].tolist(), lo[near].tolist(), strict=True)
            inside = [at for at, *words in pairs if first <= b"".join(w.to_bytes(8, "big") for w in words) <= last]
            yield from self._taken(group, inside)

    def _rows(self, group: int, wanted: list[bytes]) -> list[Document]:
        hi, lo = self._ids(group)
        words = np.frombuffer(b"".join(wanted), ">u8").astype(np.uint64).reshape(-1, 2)
        low, high = (np.searchsorted(hi, words[:, 0], side) for side in ("left", "right"))
        rows = [
            at
            for begin, end, tail in zip(low.tolist(), high.tolist(), words[:, 1].tolist(), strict=True)
            for at in range(begin, end)
            if int(lo[at]) == tail
        ]
        return self._taken(group, rows)

    def _ids(self, group: int) -> tuple[U64, U64]:
        try:
            return id_words(self._file.read_row_group(group, ["doc_id"])["doc_id"])
        except (pa.ArrowException, OSError) as error:
            raise StoreError(damaged(self._path, error)) from error

    def _taken(self, group: int, rows: list[int]) -> list[Document]:
        if not rows:
            return []
        before = sum(self._file.metadata.row_group(earlier).num_rows for earlier in range(group))
        try:
            table = self._file.read_row_group(group, ["doc_id", *_COLUMNS])
        except (pa.ArrowException, OSError) as error:
            raise StoreError(damaged(self._path, error)) from error
        taken = table.take(schemas.column(np.array(rows, np.int64))).to_pylist()
        return [Document(place=before + at, **row) for at, row in zip(rows, taken, strict=True)]

    def read_in(self, file: str, row: int) -> list[Read]:
        """Return what was read in a row of an input file, one answer for each source that reads the file.

        Raises:
            TraceError: the lock knows no such file, or it has no such row.
            StoreError: the store is not there.
        """
        owners = dict.fromkeys(entry["source"] for entry in self.lock.inputs if entry["name"] == file)
        if not owners:
            names = {entry["name"] for entry in self.lock.inputs}
            raise TraceError(f"--file {file}: not an input of {self.lock.name!r}; {nearest(file, names)}")
        if row < 0:
            raise TraceError(f"--row {row}: rows count from 0")
        return [
            self._joined(source, file, row) if self.how["sources"][source]["join"] else self._single(source, file, row)
            for source in owners
        ]

    def _joined(self, source: str, file: str, row: int) -> Read:
        names = [entry["name"] for entry in self.lock.inputs if entry["source"] == source]
        folder = self.workspace.joined(self.how["sources"][source]["join"]["folder"])
        found = document_of(folder, names.index(file), row)
        why = "" if found else "it was rejected, or joined into a document over the size limit, or is past the end"
        return Read(source, found, None, why, joined=True)

    def _single(self, source: str, file: str, row: int) -> Read:
        stretches = [s for s in self.stretches(file) if s["source"] == source]
        rows = max((s["first_row"] + s["rows"] for s in stretches), default=0)
        if row >= rows:
            raise TraceError(f"--row {row:,}: {file} has {rows:,} rows, numbered from 0; give one of those")
        here = next(s for s in stretches if s["first_row"] <= row < s["first_row"] + s["rows"])
        table = self.part_documents(here["part"])
        wanted = (schemas.numbers(table["input"]) == here["input"]) & (
            schemas.numbers(table["input_row"]) == row - here["first_row"]
        )
        at = np.flatnonzero(wanted)
        if not len(at):
            return Read(source, None, None, "it was rejected, or is blank")
        return Read(source, table["doc_id"][int(at[0])].as_py(), (here["part"], int(at[0])))

    def chunks(self, source: str, file: str) -> list[int]:
        """Return the first row of each chunk of a file of a source that joins.

        Raises:
            StoreError: the joined documents are not there.
        """
        names = [entry["name"] for entry in self.lock.inputs if entry["source"] == source]
        path = self.workspace.joined(self.how["sources"][source]["join"]["folder"]) / "joined.json"
        record = read_record(path, "chunks")
        if record is None:
            raise StoreError(f"{path}: missing; run `mixture tokenize` of the recipe to make it again")
        return list(record["chunks"].get(str(names.index(file)), [0]))

    def stretches(self, file: str) -> list[dict[str, Any]]:
        """Return which rows of an input file lie in which part: rows of `schemas.STRETCHES`, by row."""
        table = read_between(self.folder / "stretches.parquet", file, file)
        names = table["input_file"].combine_chunks().dictionary_encode() if len(table) else None
        if names is None or file not in names.dictionary.to_pylist():
            return []
        code = names.dictionary.to_pylist().index(file)
        return list(table.take(schemas.column(np.flatnonzero(schemas.numbers(names.indices) == code))).to_pylist())

    def part_documents(self, part: int) -> pa.Table:
        """Return a part's own table of documents, `schemas.PART_DOCUMENTS` without lengths."""
        path = part_path(self.store, self.parts[part]).with_suffix(".documents.parquet")
        if not exists(self.store):
            raise StoreError(
                f"{self.store}: the store is not here; run `mixture tokenize` of the recipe to make it again"
            )
        return read_parquet(path, ["doc_id", "input", "input_row"])
