"""The store's parts, mapped into memory, and what a task needs of them brought near beforehand.

    part-00003.arrow     | ids | offsets |     tokens      |
    rows 7, 8, 12, 5000           ▬          ▬▬▬        ▬

Ids are hashes and parts are sorted by them, so the documents of a slice of the stream lie side by side in every part.
They are fetched from an object store in few requests. Of a disk they are asked for at once as well: copied in the order
of the stream, which is none to a disk, they would be waited for one by one.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mixture import schemas
from mixture.errors import StoreError
from mixture.storage import Mirror, Place, each, mirror, need, read_ahead
from mixture.storage.tables import mapped
from mixture.tokens.store import Tokens, damaged

if TYPE_CHECKING:
    from upath import UPath


@dataclass(frozen=True)
class OpenPart:
    """A part mapped into memory: nothing is read until it is touched.

    Attributes:
        path: the part.
        offsets: where each document starts in `tokens`, int64, shape (n + 1,).
        tokens: all tokens, uint16 or uint32, flat.
        mirror: of a part in an object store, what stands for it: only what was fetched may be touched.
    """

    path: Place
    offsets: npt.NDArray[np.int64]
    tokens: Tokens
    mirror: Mirror | None
    _begin: int

    def bytes_of(self, column: npt.NDArray[Any], first: int, stop: int) -> tuple[int, int]:
        """Return where elements [first, stop) of `offsets` or `tokens` lie in the file."""
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
#: Gaps up to so many bytes are read along from a disk: as many as systems read ahead of their own accord.
_LOCAL_GAP = 128 << 10


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
    source.seek(0)
    begin = source.read_buffer().address
    return OpenPart(path, schemas.numbers(lists.offsets), schemas.numbers(lists.values), mirror, begin)


def fetch_rows(parts: Sequence[tuple[OpenPart, npt.NDArray[np.int64]]]) -> int:
    """Bring the tokens of some documents of parts here, from an object store; return the bytes fetched.

    Each part gives one stretch of offsets and one or a few of tokens, asked for many parts at once. Of parts on a disk
    the system is told what will be read; that is not waited for.

    Args:
        parts: open parts, each with the numbers of rows.

    Raises:
        StoreError: the object store refuses.
    """
    wanted = [(part, np.unique(rows)) for part, rows in parts if len(rows)]
    for part, rows in wanted:
        if isinstance(part.path, Path):
            read_ahead(part.path, _joined(*_places(part, rows)))
    remote = [(part, part.mirror, rows) for part, rows in wanted if part.mirror is not None]
    came = need(
        (mirror, [_in_blocks(*part.bytes_of(part.offsets, int(rows[0]), int(rows[-1]) + 2))])
        for part, mirror, rows in remote
    )
    places = [_places(part, rows) for part, _, rows in remote]
    stretches = (np.stack(pair, axis=1).tolist() for pair in places)
    pieces = [(mirror, found) for (_, mirror, _), found in zip(remote, stretches, strict=True)]
    return came + need(pieces, worth_a_gap(places))


def _places(part: OpenPart, rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return where the tokens of some documents begin and end in a part's file, shape (n,) each."""
    base, _ = part.bytes_of(part.tokens, 0, 0)
    size = part.tokens.itemsize
    return base + part.offsets[rows] * size, base + part.offsets[rows + 1] * size


def _joined(start: npt.NDArray[np.int64], stop: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Join stretches of a local file, rising, where the gap between them is not worth a request."""
    apart = np.flatnonzero(start[1:] - stop[:-1] > _LOCAL_GAP)
    begins, ends = np.append(start[0], start[apart + 1]), np.append(stop[apart], stop[-1])
    return list(zip(begins.tolist(), ends.tolist(), strict=True))


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
