"""Sealed records: small JSON files that know when a byte of them changed.

A JSON record, written after everything that it speaks of, is what makes an output *whole*.
Every record ends in a seal: the XXH3-128 of its name and of all its other bytes. White space and the case of a key are
bytes too, so no flipped bit passes, and neither do two records that changed places.

    {                                                      {"a": 1}, written to part-00003.json
     "a": 1,
     "seal": "52a93ab4ad8bc6d4dac8f5ae0e4a2a6f"
    }
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import xxhash

from mixture.errors import StoreError
from mixture.storage.faults import Place, refusals
from mixture.storage.places import read_bytes
from mixture.storage.publish import publish


def write_json(path: Place, value: Any, *, name: str | None = None) -> list[Any]:
    """Publish a sealed JSON record, keys in the order given, one field a line, ending in a newline.

    Returns the file's size and hash, for a record that speaks of it.

    Args:
        path: the file.
        value: what it says; anything but a mapping is wrapped as `{"value": …}`.
        name: what the seal calls the file, by default its name; a file that people rename has a name of its own.
    """
    wrapped = {"value": value} if _is_wrapped(value) else value
    text = json.dumps(wrapped, indent=1, ensure_ascii=False, allow_nan=False)
    body = (text.removesuffix("\n}") if wrapped else "{").encode()
    with publish(path) as out:
        out.write(body + (b"," if wrapped else b"") + _seal_line(body, path.name if name is None else name))
    return [out.size, out.digest]


def read_json(path: Place, *, name: str | None = None) -> Any:
    """Read a sealed JSON record, or return None where there is none.

    Args:
        path: the file.
        name: as it was sealed, see `write_json`.

    Raises:
        StoreError: the file is there but is not JSON, or is not what was written under this name.
    """
    return next(_found(path, path.name if name is None else name), None)


def read_record(path: Place, *fields: str) -> dict[str, Any] | None:
    """Read a JSON record that has at least these fields, or return None where there is none.

    Raises:
        StoreError: the file is there but is no such record, or its seal does not fit.
    """
    for value in _found(path, path.name):
        if not isinstance(value, dict) or not all(name in value for name in fields):
            raise StoreError(f"{path}: damaged, not a record of {', '.join(fields)}; remove it and run again")
        return value
    return None


def _found(path: Place, name: str) -> Iterator[Any]:
    """Yield what a record says, or nothing where there is none."""
    with refusals(path):
        try:
            whole = read_bytes(path)
        except (FileNotFoundError, NotADirectoryError):
            return
    body = unsealed(whole, name)
    try:
        value = json.loads(whole if body is None else body)
    except (ValueError, RecursionError) as error:
        cause = " ".join(str(error).split())
        raise StoreError(f"{path}: damaged, not JSON ({cause}); remove it and run again") from error
    if body is None:
        why = "its seal does not fit its bytes" if SEAL in whole else "it has no seal, or is of an older version"
        raise StoreError(f"{path}: damaged, {why}; remove it and run again")
    yield value["value"] if isinstance(value, dict) and value.keys() == {"value"} else value


#: What the last field of a record begins with.
SEAL = b'\n "seal": "'
_SEAL_BYTES = len(SEAL) + 32 + len(b'"\n}\n')


def unsealed(whole: bytes, name: str) -> bytes | None:
    """Return the JSON that a sealed file holds, without the seal; None if the seal does not fit.

    Args:
        whole: the file's bytes.
        name: what the seal calls it.
    """
    body = whole[:-_SEAL_BYTES].removesuffix(b",")
    comma = b"" if body == b"{" else b","
    return body + b"\n}" if whole == body + comma + _seal_line(body, name) else None


def _seal_line(body: bytes, name: str) -> bytes:
    seal = xxhash.xxh3_128_hexdigest(name.encode(errors="surrogateescape") + b"\n" + body)
    return SEAL + seal.encode() + b'"\n}\n'


def _is_wrapped(value: Any) -> bool:
    return not isinstance(value, dict) or value.keys() == {"value"}
