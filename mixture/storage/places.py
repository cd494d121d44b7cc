"""Places: a folder of this machine, or a prefix of an object store, by the same name and the same operations.

    as_place("/data/work")           a path of this machine: a `pathlib.Path`, too
    as_place("s3://bucket/work")     objects; `/`, `.name`, `.parent`, `.exists()`, `.stat()`, `.unlink()` as on paths

Object stores are reached through fsspec: s3:// (s3fs), gs:// (gcsfs), az:// (adlfs). Credentials, regions and endpoints
come from the usual environment of each, never from us. Listings are never cached: other processes write there, too.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

from mixture.errors import StoreError
from mixture.storage.faults import Place, refusals
from mixture.storage.scratch import scratch
from mixture.storage.tries import CLIENT_TRIES, CONNECT_SECONDS, READ_SECONDS, tried

if TYPE_CHECKING:
    from upath import UPath


#: Clients of object stores: the package, and what each is told. Each tries what fails a few times; see `tries`.
_CLIENTS: dict[str, tuple[str, str, dict[str, Any]]] = {}
_S3 = {
    "use_listings_cache": False,
    "config_kwargs": {
        "retries": {"mode": "standard", "total_max_attempts": CLIENT_TRIES},
        "connect_timeout": CONNECT_SECONDS,
        "read_timeout": READ_SECONDS,
    },
}
for _name in ("s3", "s3a"):
    _CLIENTS[_name] = ("s3fs", "s3", _S3)
for _name in ("gs", "gcs"):
    _CLIENTS[_name] = ("gcsfs", "gs", {"use_listings_cache": False})
for _name in ("az", "abfs", "abfss"):
    _CLIENTS[_name] = ("adlfs", "az", {"use_listings_cache": False})

_THREADS = 32

T = TypeVar("T")
R = TypeVar("R")


def as_place(place: str | os.PathLike[str] | UPath) -> Place:
    """Return the place that a name means.

    Args:
        place: a path of this machine, or a URL of an object store.

    Raises:
        StoreError: nothing here can reach such a URL.
    """
    text = str(place)
    scheme, found, rest = text.partition("://")
    if not found or scheme == "file":
        return Path(rest if found else text)
    if scheme not in _CLIENTS:
        raise StoreError(f"{text}: {scheme}:// is not known; give a folder, s3://, gs:// or az://")
    package, extra, options = _CLIENTS[scheme]
    from upath import UPath

    path: UPath = UPath(text, **options)
    try:
        with refusals(path):
            client = path.fs  # imports it
    except ImportError as error:
        raise StoreError(f"{text}: needs {package}; pip install 'mixture[{extra}]', on every node") from error
    if extra == "s3":
        # s3fs tries again what botocore, below it, tried often enough: minutes would become hours.
        client.retries = 1
    return path


def is_remote(path: Place) -> TypeGuard[UPath]:
    """Say whether a place is an object store's."""
    return not isinstance(path, Path)


def read_bytes(path: Place) -> bytes:
    """Read a small file, or object, in one request.

    Raises:
        FileNotFoundError: there is none.
        OSError: it cannot be read.
    """
    if isinstance(path, Path):
        return path.read_bytes()
    # s3fs would ask for the size first.
    how = {"max_concurrency": 1} if path.protocol in ("s3", "s3a") else {}
    whole: bytes = tried(lambda: path.fs.cat_file(path.path, **how))
    return whole


def stamp(path: Place) -> list[Any]:
    """Return what tells whether a file changed: its size first, then times, or the object's tag.

    Raises:
        OSError: it cannot be looked at.
    """
    if isinstance(path, Path):
        stat = path.stat()
        return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
    facts = path.fs.info(path.path)
    if facts["type"] != "file":
        raise IsADirectoryError(f"{path}: a prefix, not an object")
    tags = [facts.get(name) for name in ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "mtime")]
    return [facts["size"], *(str(tag) for tag in tags if tag)]


def size_of(path: Place) -> int | None:
    """Return a file's bytes; None where there is no such file.

    Raises:
        StoreError: it cannot be looked at.
    """
    with refusals(path):
        try:
            return int(stamp(path)[0])
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None


def files_in(folder: Place) -> dict[str, int]:
    """Return the names and sizes of the files in a folder, in one listing; nothing where there is no folder.

    Raises:
        StoreError: the object store refuses.
    """
    if isinstance(folder, Path):
        try:
            with os.scandir(str(folder)) as entries:
                return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
        except (FileNotFoundError, NotADirectoryError):
            return {}
    with refusals(folder):
        try:
            found = folder.fs.ls(folder.path, detail=True)
        except FileNotFoundError:
            return {}
    return {entry["name"].rpartition("/")[2]: entry["size"] for entry in found if entry["type"] == "file"}


def each(function: Callable[[T], R], items: Iterable[T], near: Place) -> list[R]:
    """Call a function on each item, in order; many at once where it has to wait for an object store.

    Args:
        function: what to call.
        items: on what.
        near: a place like those that the function looks at.
    """
    if not is_remote(near):
        return [function(item) for item in items]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(function, items))


def matches(folder: Place, pattern: str) -> list[Place]:
    """Return the files under a folder that a pattern matches, in no order.

    Raises:
        OSError: the folder cannot be listed.
        StoreError: the object store refuses.
    """
    if isinstance(folder, Path):
        return [path for path in folder.glob(pattern) if path.is_file()]
    with refusals(folder):
        found = folder.fs.glob(f"{folder.path.rstrip('/')}/{pattern}", detail=True)
    base = folder.path.rstrip("/")
    return [folder / name.removeprefix(base).lstrip("/") for name, facts in found.items() if facts["type"] == "file"]


def below(path: Place, folder: Place) -> str:
    """Return the name of a file in a folder, or in folders of it, with forward slashes."""
    if isinstance(path, Path) and isinstance(folder, Path):
        return path.relative_to(folder).as_posix()
    return str(path).removeprefix(str(folder)).lstrip("/")


def in_order(paths: Iterable[Place]) -> list[Place]:
    """Return places by their names."""
    return sorted(paths, key=str)


def exists(path: Place) -> bool:
    """Say whether there is such a file, object or folder.

    Raises:
        StoreError: it cannot be looked at.
    """
    with refusals(path):
        return bool(path.exists())


def check_bucket(folder: Place) -> None:
    """Tell an object store's prefix without objects from one in a bucket that is not there.

    Raises:
        StoreError: there is no such bucket, or the store refuses.
    """
    if isinstance(folder, Path):
        return
    with refusals(folder):
        try:
            folder.fs.ls(folder.path)
        except FileNotFoundError as error:
            if "bucket" in str(error).replace(folder.path, ""):
                raise


def is_folder(path: Place) -> bool:
    """Say whether there is such a folder; a prefix of an object store is one if any object lies under it."""
    with refusals(path):
        return path.is_dir()


def make_folder(path: Place) -> None:
    """Make a folder and those above it; an object store needs none.

    Raises:
        StoreError: it cannot be made.
    """
    if isinstance(path, Path):
        with refusals(path):
            path.mkdir(parents=True, exist_ok=True)


def remove_folder(path: Place) -> None:
    """Remove a folder, or all objects under a prefix, if there is one."""
    if isinstance(path, Path):
        shutil.rmtree(path, ignore_errors=True)
        return
    with refusals(path), contextlib.suppress(FileNotFoundError):
        path.fs.rm(path.path, recursive=True)


def spill(folder: Place) -> str:
    """Return where a query on files of a folder may put what does not fit into memory; it need not be there yet."""
    return str(folder / "spill" if isinstance(folder, Path) else scratch() / "spill")


@contextlib.contextmanager
def workbench(folder: Place) -> Iterator[Path]:
    """Lend a folder of this machine for files that are of use to one process only: in `folder`, if that is here.

    Raises:
        StoreError: it cannot be made.
    """
    if isinstance(folder, Path):
        make_folder(folder)
        yield folder
        return
    with tempfile.TemporaryDirectory(dir=scratch()) as aside:
        yield Path(aside)
