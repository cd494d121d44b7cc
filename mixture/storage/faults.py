"""What storage refuses, in one sentence each: the operating system's errors, and those of object stores' clients."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from mixture.errors import StoreError
from mixture.storage.scratch import scratch_root

if TYPE_CHECKING:
    from upath import UPath  # a tenth of a second that no command on a file system has to wait for

#: A path of this machine, or one of an object store; see `places`.
Place: TypeAlias = "Path | UPath"

_DISK_ERRORS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EROFS: "the file system is read-only",
    errno.EFBIG: "the file is over the size limit of this file system or shell",
}

_PLACES = "place (--work, --out)"

#: Packages whose errors are a store's refusal; their clients raise them as they come.
_CLIENTS = ("botocore", "aiobotocore", "aiohttp", "gcsfs", "google", "azure", "adlfs", "fsspec", "urllib3")
#: What clients say, in the order in which it is looked for, and what it means with the next move.
_REFUSALS = (
    (
        ("Unable to locate credentials", "NoCredentials", "PartialCredentials", "DefaultCredentials", "Anonymous"),
        "no credentials were found; give them by the environment that its client reads (as AWS_PROFILE), on every node",
    ),
    (
        ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "Access Key Id", "signature"),
        "the credentials are refused; renew those in the environment of its client",
    ),
    (("QuotaExceeded", "quota"), "the quota is used up; free some space, or give another place"),
    (
        ("AccessDenied", "Forbidden", "PermissionError", "(403)", "Access Denied"),
        "access is denied; give credentials that may read, write and list there",
    ),
    (
        ("NoSuchBucket", "specified bucket", "ContainerNotFound", "bucket does not exist"),
        "there is no such bucket; make it, or check the name",
    ),
    (("IsADirectoryError",), "a prefix, where an object is wanted; name what is in it"),
    (("FileNotFoundError", "NoSuchKey", "(404)", "Not Found"), "there is no such object; check the name"),
    (
        ("EndpointConnection", "ConnectTimeout", "ConnectionRefused", "Cannot connect", "Connect call failed"),
        "the store cannot be reached; check the network and the endpoint (as AWS_ENDPOINT_URL), then run again",
    ),
)

#: Paths and URLs in a message.
_NAMES = re.compile(r"\S*/\S*")


def explain(error: BaseException, path: Place) -> str:
    """Return one sentence for a refusal, with the next move."""
    if not isinstance(path, Path):
        return f"{path}: {_refusal(error)}"
    if not isinstance(error, OSError):
        return f"{path}: {_in_a_line(error)}; mend that, then run the same command again"
    code = error.errno or 0
    cause = _DISK_ERRORS.get(code) or error.strerror or str(error)
    place = Path(str(error.filename)) if error.filename else path
    if code in (errno.EEXIST, errno.ENOTDIR):
        return f"{place}: a file stands where a folder is needed; move it, or give another folder"
    if code == errno.EISDIR:
        return f"{place}: a folder stands where a file is needed; move it, or give another name"
    if code in (errno.ENOSPC, errno.EDQUOT):
        # What a quota leaves, nobody tells.
        free = _free_bytes(path) if code == errno.ENOSPC else None
        left = f" ({free / 1e6:,.1f} MB free)" if free is not None else ""
        other = "scratch folder (scratch: of the profile, or MIXTURE_SCRATCH)" if _is_scratch(place) else _PLACES
        return f"{place}: {cause}{left}; free some space or give another {other}, then run the same command again"
    moves = {errno.ENOENT: "check the name", errno.ENAMETOOLONG: "give a shorter one"}
    return f"{place}: {cause}; {moves.get(code, 'mend that, or give another place, then run the same command again')}"


def _is_scratch(path: Path) -> bool:
    return path.is_relative_to(scratch_root())


def _refusal(error: BaseException) -> str:
    chain: list[BaseException] = []
    seen: BaseException | None = error
    while seen is not None and seen not in chain:
        chain.append(seen)
        seen = seen.__cause__ or seen.__context__
    # An object's name says nothing of what is wrong with it, be it `quota/403.json`.
    told = _NAMES.sub("", " ".join(f"{type(one).__name__} {one}" for one in chain))
    for words, meaning in _REFUSALS:
        if any(word in told for word in words):
            return meaning
    return f"the store did not do it ({_in_a_line(error)}); run the same command again"


def _in_a_line(error: BaseException) -> str:
    said = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return " ".join(said.split()).rstrip(". ") or type(error).__name__


def is_refusal(error: BaseException) -> bool:
    """Say whether an error is what storage answers, of this machine or of an object store."""
    if isinstance(error, OSError | asyncio.TimeoutError):
        return True
    return any(kind.__module__.partition(".")[0] in _CLIENTS for kind in type(error).__mro__)


@contextlib.contextmanager
def refusals(path: Place) -> Iterator[None]:
    """Turn what storage refuses in this block into a `StoreError`."""
    try:
        yield
    except Exception as error:
        if not is_refusal(error):
            raise
        raise StoreError(explain(error, path)) from error


def _free_bytes(path: Path) -> int | None:
    for folder in (path, *path.parents):
        with contextlib.suppress(OSError):
            stat = os.statvfs(folder)
            return stat.f_bavail * stat.f_frsize
    return None
