"""The bytes of a file, decompressed, and every way in which a file can be broken, as one sentence.

    books.jsonl.zst  ->  blocks of at most a few MB  ->  b'{"text": "The Project Gut…'

Frames of zstd and members of gzip may follow one another (`cat a.gz b.gz`, pzstd). The file must end where the last
of them ends: a reader that stops at the first missing byte would pass a torn download off as a smaller corpus.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa
import zstandard

from mixture.corpus.documents import InputFile
from mixture.errors import InputError
from mixture.storage import Place, open_read

_GZIP = (".gz",)
_ZSTD = (".zst", ".zstd")
_PLAIN_BLOCK = 1 << 22
_GZIP_BLOCK = 1 << 17
_GZIP_OUT = 1 << 20
# zstd gives all that a block of input holds at once, at worst 128 KiB for 4 bytes: small blocks bound that.
_ZSTD_BLOCK = 1 << 15
# What `zstd --long=31` writes; the window lies in memory, and only as large as the frame says.
_ZSTD_WINDOW = 1 << 31

_SIGNATURES = (
    (b"\x1f\x8b", "gzip data", "name it .gz"),
    (b"\x28\xb5\x2f\xfd", "zstd data", "name it .zst"),
    (b"BZh", "bzip2 data", "compress it with gzip or zstd instead"),
    (b"\xfd7zXZ\x00", "xz data", "compress it with gzip or zstd instead"),
    (b"PK\x03\x04", "a zip archive", "unpack it"),
    (b"PAR1", "a Parquet file", "say format: parquet"),
    (b"ARROW1", "an Arrow file", "say format: arrow"),
    (b"\xff\xff\xff\xff", "an Arrow stream", "say format: arrow"),
)


def compressed(path: Place) -> bool:
    """Say whether a file's suffix names a compression."""
    return path.suffix.lower() in _GZIP + _ZSTD


def blocks(file: InputFile) -> Iterator[bytes]:
    """Yield a file's bytes in order, decompressed by its suffix, in blocks of bounded size.

    Raises:
        InputError: it cannot be opened, is not compressed as its suffix says, is damaged, or ends too early.
    """
    suffix = file.path.suffix.lower()
    with guard(file, "gzip" if suffix in _GZIP else "zstd"), open_read(file.path) as raw:
        if suffix in _GZIP:
            yield from _gunzip(raw)
        elif suffix in _ZSTD:
            yield from _unzstd(raw)
        else:
            while block := raw.read(_PLAIN_BLOCK):
                yield block


def _gunzip(raw: BinaryIO) -> Iterator[bytes]:
    member = zlib.decompressobj(wbits=31)
    begun = False
    while block := raw.read(_GZIP_BLOCK):
        while block:
            if member.eof:
                # Members may be followed by zeros (tapes, padded blocks), which hold nothing.
                block = block.lstrip(b"\0")
                if not block:
                    break
                member = zlib.decompressobj(wbits=31)
            begun = True
            if out := member.decompress(block, _GZIP_OUT):
                yield out
            block = member.unused_data if member.eof else member.unconsumed_tail
    while not member.eof:
        out = member.decompress(b"", _GZIP_OUT) if begun else b""
        if not out and not member.eof:
            raise EOFError
        yield out


def _unzstd(raw: BinaryIO) -> Iterator[bytes]:
    decoder = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    frame = decoder.decompressobj()
    while block := raw.read(_ZSTD_BLOCK):
        while block:
            if frame.eof:
                frame = decoder.decompressobj()
            if out := frame.decompress(block):
                yield out
            block = frame.unused_data if frame.eof else b""
    if not frame.eof:
        raise EOFError


@contextlib.contextmanager
def guard(file: InputFile, kind: str) -> Iterator[None]:
    """Turn whatever a library says of a broken file into one sentence that names it.

    Args:
        file: the file that is being read.
        kind: what it should be, for the sentence: `gzip`, `Parquet`, …

    Raises:
        InputError: in place of errors of the operating system, of Arrow, and of the decompressors.
    """
    try:
        yield
    except InputError:
        raise
    except EOFError as error:
        size = file.path.stat().st_size
        raise InputError(
            f"{file.name}: the {kind} data is cut short (the file ends after {size:,} bytes, inside a compressed "
            "block); fetch or write the file again"
        ) from error
    except (zlib.error, zstandard.ZstdError) as error:
        raise InputError(
            f"{file.name}: not whole {kind} data ({error}); check that the suffix fits the content, or fetch the "
            "file again"
        ) from error
    except OSError as error:
        if error.errno is None:  # Arrow's own "IOError": the bytes are wrong, not the disk.
            raise InputError(_damaged(file, kind, error)) from error
        raise InputError(
            f"{file.name}: cannot be read ({error.strerror}); check that it is a file that you may read"
        ) from error
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise InputError(_damaged(file, kind, error)) from error


def _damaged(file: InputFile, kind: str, error: Exception) -> str:
    cause = (str(error).splitlines() or [""])[0].rstrip(". ")
    return f"{file.name}: not a whole {kind} file ({cause}); check its format, or fetch or write it again"


def check_signature(file: InputFile, head: bytes, wanted: str) -> None:
    """Refuse a file whose first bytes say that it is something else.

    Args:
        file: the file, for the sentence.
        head: its first bytes, decompressed by its suffix; a dozen are enough.
        wanted: what it should be, for the sentence.

    Raises:
        InputError: the bytes begin like a compressed file, an archive, or a binary table.
    """
    for magic, what, move in _SIGNATURES:
        if head.startswith(magic):
            raise InputError(f"{file.name}: {what}, not {wanted}; {move}")
