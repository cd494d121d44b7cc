"""The token store: Arrow files of one record batch, documents sorted by id, each with a Parquet file of their lengths.

    part-00003.arrow              doc_id, tokens                       read by `pack` alone, by ranges
    part-00003.documents.parquet  doc_id, n_tokens, n_bytes, input …   read by `bucket`
    part-00003.json               written last: the part is whole; knows its name, the size and hash of both files

Ids are hashes, so a range of ids is one contiguous range of bytes in every part: whoever wants a slice of the stream
reads parts' ranges, not documents.
"""

from __future__ import annotations

import bisect
import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from mixture import schemas
from mixture.errors import StoreError
from mixture.hashing import U64, id_array
from mixture.storage import (
    Mirror,
    Place,
    as_place,
    each,
    file_digest,
    mirror,
    need,
    publish,
    read_json,
    size_of,
    write_json,
)
from mixture.storage import read_record as read_json_record
from mixture.storage.tables import mapped, open_parquet

if TYPE_CHECKING:
    from upath import UPath

Tokens = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]


@dataclass(frozen=True)
class PartFiles:
    """The files of one part of the store."""

    folder: Place
    index: int

    @property
    def name(self) -> str:
        """The part's name in its record and in the index: unit and number."""
        return f"{self.folder.name}/{self.index:05d}"

    @property
    def tokens(self) -> Place:
        """Arrow file of ids and tokens."""
        return self.folder / f"part-{self.index:05d}.arrow"

    @property
    def documents(self) -> Place:
        """Parquet file of ids and lengths."""
        return self.folder / f"part-{self.index:05d}.documents.parquet"

    @property
    def record(self) -> Place:
        """JSON record; its presence means that the part is whole."""
        return self.folder / f"part-{self.index:05d}.json"

    def columns(self, key: str) -> Place:
        """Parquet file of the columns that a recipe reads besides the text, aligned with `documents`."""
        return self.folder / f"part-{self.index:05d}.columns-{key}.parquet"


def part_path(folder: Place, name: str) -> Place:
    """Return the tokens of the part that an index or a plan names."""
    unit, _, index = name.partition("/")
    return PartFiles(folder / unit, int(index)).tokens


def part_names(path: Place) -> list[str]:
    """Read the names of the parts that an index numbers: `parts.json` beside it.

    Raises:
        StoreError: missing or damaged.
    """
    names = read_json(path)
    if not isinstance(names, list):
        raise StoreError(damaged(path, ValueError("no list of names")))
    return names


def write_part(
    files: PartFiles,
    ids: tuple[U64, U64],
    tokens: npt.NDArray[np.uint32],
    offsets: npt.NDArray[np.int64],
    documents: dict[str, npt.NDArray[Any]],
    token: pa.DataType,
    facts: dict[str, Any],
) -> dict[str, Any]:
    """Publish one part; return its record.

    Args:
        files: where it goes.
        ids: words of the documents' ids, sorted, shape (n,) each.
        tokens: all tokens, flat.
        offsets: where each document starts in `tokens`, shape (n + 1,).
        documents: `n_bytes, input, input_row`, shape (n,) each.
        token: the vocabulary's token type.
        facts: what else the record says.
    """
    doc_id = id_array(*ids)
    values = schemas.column(tokens.astype(token.to_pandas_dtype(), copy=False))
    lists = pa.LargeListArray.from_arrays(
        schemas.column(offsets), values, type=schemas.store_part(token).field("tokens").type
    )
    batch = pa.record_batch([doc_id, lists], schema=schemas.store_part(token))
    with publish(files.tokens) as out, pa.ipc.new_file(pa.PythonFile(out, "w"), batch.schema) as writer:
        writer.write_batch(batch)
    columns = {name: schemas.column(values) for name, values in ({"n_tokens": np.diff(offsets)} | documents).items()}
    table = pa.table({"doc_id": doc_id} | columns).cast(schemas.PART_DOCUMENTS)
    beside = write_parquet(files.documents, table)
    record: dict[str, Any] = {
        "part": files.name,
        "documents": len(doc_id),
        "tokens": int(offsets[-1]),
        "bytes": int(documents["n_bytes"].sum()),
    }
    record |= {"hash": out.digest, "size": out.size, "documents_file": beside} | facts
    write_json(files.record, record)
    return record


#: Columns in which hardly a value comes twice: a dictionary of them only costs time.
_DISTINCT = frozenset({"doc_id", "row", "token_offset", "input_row", "position", "doc_stop"})


def parquet_options(names: Sequence[str]) -> dict[str, Any]:
    """Return how tables of the work directory are written: a checksum of each page, ids as they are.

    Ids are hashes: compressing them saves nothing, and reading them back takes five times as long.
    """
    return {
        "compression": {name: "none" if name == "doc_id" else "zstd" for name in names},
        "compression_level": {name: 1 for name in names if name != "doc_id"},
        "use_dictionary": [name for name in names if name not in _DISTINCT],
        # Names of parts of a large corpus pass the usual megabyte; then each is written out.
        "dictionary_pagesize_limit": 8 << 20,
        "write_page_checksum": True,
    }


def write_parquet(path: Place, table: pa.Table, *, group_rows: int | None = None) -> list[Any]:
    """Publish a table as Parquet (see `parquet_options`); return the file's size and hash, for a record."""
    with publish(path) as out:
        options = parquet_options(table.column_names)
        pq.write_table(table, pa.PythonFile(out, "w"), row_group_size=group_rows, **options)
    return [out.size, out.digest]


def read_parquet(path: Place, columns: Sequence[str] | None = None) -> pa.Table:
    """Read what `write_parquet` published.

    Raises:
        StoreError: missing or damaged.
    """
    try:
        # `read_table` goes through data sets, and so through pandas (see `schemas.column`).
        with open_parquet(path) as file:
            return file.read(columns)
    except (pa.ArrowException, OSError) as error:
        raise StoreError(damaged(path, error)) from error


def groups_between(facts: pq.FileMetaData, first: Any, last: Any) -> range:
    """Return the row groups of a table, sorted by its first column, that may hold values from `first` to `last`."""
    groups = range(facts.num_row_groups if facts.num_rows else 0)
    begins = lambda group: facts.row_group(group).column(0).statistics.min  # noqa: E731
    low = max(0, bisect.bisect_left(groups, first, key=begins) - 1)
    return range(low, max(low, bisect.bisect_right(groups, last, key=begins)))


def read_between(path: Place, first: Any, last: Any, columns: Sequence[str] | None = None) -> pa.Table:
    """Read the row groups of a table, sorted by its first column, that may hold values from `first` to `last`.

    Raises:
        StoreError: missing or damaged.
    """
    try:
        with open_parquet(path) as file:
            return file.read_row_groups(list(groups_between(file.metadata, first, last)), columns)
    except (pa.ArrowException, OSError, AttributeError) as error:
        raise StoreError(damaged(path, error)) from error


def widest(kinds: Collection[pa.DataType]) -> pa.DataType:
    """Return the type that columns of several types fit: numbers for numbers, else text; nulls fit any."""
    found = {kind for kind in kinds if not pa.types.is_null(kind)}
    if len(found) <= 1:
        return next(iter(found), pa.null())
    numeric = all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in found)
    return pa.float64() if numeric else pa.large_string()


def damaged(path: Place, error: Exception) -> str:
    """Return the sentence for an unreadable file of the work directory; every stage makes again what is gone."""
    cause = " ".join(str(error).split()).rstrip(". ")
    return f"{path}: missing or damaged ({cause}); remove it if it is there, `mixture run` makes it again"


_FIELDS = ("part", "documents", "tokens", "bytes", "hash", "size", "documents_file", "rows", "rejected", "samples")


def read_record(files: PartFiles, listed: Mapping[str, int] | None = None) -> dict[str, Any] | None:
    """Return the record of a part, or None if the part is not whole: no record, or a file of it gone or cut short.

    Args:
        files: the part's.
        listed: names and sizes in its folder, if they were listed: then no file is looked at but the record.
    """
    names = (files.documents, files.tokens)
    record = read_json_record(files.record, *_FIELDS)
    if record is None:
        return None
    sizes = [size_of(path) if listed is None else listed.get(path.name) for path in names]
    return record if sizes[0] is not None and sizes[1] == record["size"] else None


def check_parts(parts: Sequence[tuple[str, str]]) -> None:
    """Task: hold the tokens of parts, given by path, to the hashes in their records.

    Raises:
        StoreError: a part's bytes have changed since it was written.
    """
    for path, expected in parts:
        try:
            found = file_digest(as_place(path))
        except OSError as error:
            raise StoreError(damaged(as_place(path), error)) from error
        if found != expected:
            raise StoreError(damaged(as_place(path), ValueError(f"hash {found}, its record says {expected}")))


@dataclass(frozen=True)
class OpenPart:
    """A part mapped into memory: nothing is read until it is touched.

    Attributes:
        offsets: where each document starts in `tokens`, int64, shape (n + 1,).
        tokens: all tokens, uint16 or uint32, flat.
        mirror: of a part in an object store, what stands for it: only what was fetched may be touched.
    """

    offsets: npt.NDArray[np.int64]
    tokens: Tokens
    mirror: Mirror | None = None
    _begin: int = 0

    def bytes_of(self, column: npt.NDArray[Any], first: int, stop: int) -> tuple[int, int]:
        """Return where elements [first, stop) of `offsets` or `tokens` lie in the file."""
        if self.mirror is None:
            return 0, 0
        begin = column.__array_interface__["data"][0] - self._begin
        return begin + first * column.itemsize, begin + stop * column.itemsize


def open_part(path: Place) -> OpenPart:
    """Map a part's tokens, all of them.

    Raises:
        StoreError: missing or damaged.
    """
    return _open_part(path, None)


#: What is fetched of a part to map it: the schema and the batch's header, half a kilobyte. Read as a stream, a file
#: needs no footer, and thousands of parts half as many requests.
HEAD_BYTES = 1 << 10
_MAGIC_BYTES = 8
#: Offsets are fetched in blocks of so many bytes: the next slice of the stream needs those beside them.
OFFSETS_BLOCK = 2 << 10


def open_parts(paths: Sequence[Place]) -> list[OpenPart]:
    """Map the tokens of parts; of parts in an object store only their heads are fetched, see `fetch_rows`.

    Raises:
        StoreError: missing or damaged.
    """
    # A part never changes, so that the tasks of a process need look at it only once.
    remote = [path for path in paths if not isinstance(path, Path)]
    found = each(_kept_mirror, remote, remote[0]) if remote else []
    if not all(one.keep() for one in found):
        # On a full disk mirrors that stood idle make room for others.
        _kept_mirror.cache_clear()
        found = each(_kept_mirror, remote, remote[0])
    need((one, [(0, HEAD_BYTES)]) for one in found)
    by_path = {str(one.path): one for one in found}
    return [_open_part(path, by_path.get(str(path))) for path in paths]


@functools.lru_cache(maxsize=1 << 14)
def _kept_mirror(path: UPath) -> Mirror:
    return mirror(path)


def _open_part(path: Place, mirror: Mirror | None) -> OpenPart:
    try:
        source = mapped(path if mirror is None else mirror.file)
        if mirror is None:
            batch = pa.ipc.open_file(source).get_batch(0)
        else:
            source.seek(_MAGIC_BYTES)
            batch = pa.ipc.open_stream(source).read_next_batch()
    except (pa.ArrowException, OSError, IndexError, StopIteration) as error:
        raise StoreError(damaged(path, error)) from error
    lists = batch.column("tokens")
    begin = 0
    if mirror is not None:
        source.seek(0)
        begin = source.read_buffer().address
    return OpenPart(schemas.numbers(lists.offsets), schemas.numbers(lists.values), mirror, begin)


def fetch_rows(parts: Sequence[tuple[OpenPart, npt.NDArray[np.int64]]]) -> int:
    """Bring the tokens of some documents of parts here, where parts lie in an object store; return the bytes fetched.

    Ids are hashes and parts are sorted by id, so that the documents of a slice of the stream lie side by side: each
    part gives one stretch of offsets and one or a few of tokens, asked for many parts at once.

    Args:
        parts: open parts, each with the numbers of rows.

    Raises:
        StoreError: the object store refuses.
    """
    remote = [(part, np.unique(rows)) for part, rows in parts if part.mirror is not None and len(rows)]
    came = need(
        (part.mirror, [_in_blocks(*part.bytes_of(part.offsets, int(rows[0]), int(rows[-1]) + 2))])
        for part, rows in remote
        if part.mirror is not None
    )
    places = [_places(part, rows) for part, rows in remote]
    stretches = (np.stack(pair, axis=1).tolist() for pair in places)
    wanted = [(part.mirror, found) for (part, _), found in zip(remote, stretches, strict=True) if part.mirror]
    return came + need(wanted, worth_a_gap(places))


def _places(part: OpenPart, rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return where the tokens of some documents begin and end in a part's file, shape (n,) each."""
    base, _ = part.bytes_of(part.tokens, 0, 0)
    size = part.tokens.itemsize
    return base + part.offsets[rows] * size, base + part.offsets[rows + 1] * size


#: What is fetched of gaps between documents, as a share of what is needed.
SPARE = 0.15


def worth_a_gap(places: Sequence[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]) -> int:
    """Return the widest gap between documents that is fetched along with them.

    A gap costs its bytes and saves one request. So the narrowest are taken first, over all parts together, as long as
    they come to `SPARE` of the bytes that are needed: there are no fewer requests for as few bytes.

    Args:
        places: of each part, where its documents begin and end, rising, shape (n,) each.
    """
    gaps = np.sort(np.concatenate([np.zeros(0, np.int64), *(start[1:] - stop[:-1] for start, stop in places)]))
    needed = sum(int((stop - start).sum()) for start, stop in places)
    affordable = int(np.searchsorted(np.cumsum(gaps), SPARE * needed, "right"))
    # One byte less than the first that is too much: there may be many as wide as that.
    return int(gaps[affordable]) - 1 if affordable < len(gaps) else int(gaps[-1]) if len(gaps) else 0


def _in_blocks(start: int, stop: int) -> tuple[int, int]:
    return start // OFFSETS_BLOCK * OFFSETS_BLOCK, -(-stop // OFFSETS_BLOCK) * OFFSETS_BLOCK
