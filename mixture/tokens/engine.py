"""The fast engine: gigatoken, fed from Arrow buffers without a copy.

    texts (large_binary: n+1 offsets, bytes)  →  one call  →  tokens (uint32), n+1 offsets (int64)

It remembers every word that it has seen, which is where its speed comes from: on text it comes to rest within some
megabytes, but on noise it grows by about 200 MB for each 64 MB read. So its growth is watched, and past a bound it is
built anew (a tenth of a second). Memory decides about speed alone; the tokens are the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mixture.tokens.backends import I64, U32, buffers

#: Memory that the engine's cache may take before it is built anew, in bytes.
CACHE_BYTES = 512 << 20
#: Where the system does not tell how much memory is used: text between two builds, in bytes.
_BLIND_BYTES = 128 << 20
#: A batch saves about 5 µs a document and imports awkward, which takes a second: after so many documents given one at
#: a time it has paid for itself, whatever comes after.
_BATCH_AFTER = 200_000


class Engine:
    """A gigatoken backend that stands in for a reference tokenizer.

    Args:
        build: makes the backend, anew each time.
        cache_bytes: bound on what the backend may remember.
    """

    def __init__(self, build: Callable[[], Any], cache_bytes: int = CACHE_BYTES) -> None:
        self._build = build
        self._backend = build()
        self._cache_bytes = cache_bytes
        self._grown = 0
        self._given = 0
        self.builds = 1

    def encode_text(self, text: str) -> U32:
        """Return the tokens of one text, shape (tokens,)."""
        tokens: U32 = self._backend.encode(text)
        return tokens

    def encode(self, texts: pa.LargeBinaryArray, *, batch: bool | None = None) -> tuple[U32, I64]:
        """Return flat tokens and n+1 offsets of n documents given as UTF-8.

        Args:
            texts: the documents; no nulls.
            batch: give them in one call rather than one by one; by default once many have been given.
        """
        offsets, content = buffers(texts)
        size = int(offsets[-1] - offsets[0])
        before = _resident()
        if batch is None:
            batch = self._given > _BATCH_AFTER
        self._given += len(texts)
        tokens, starts = (self._in_one if batch else self._one_by_one)(offsets, content)
        self._watch(size, before, tokens.nbytes + starts.nbytes)
        return tokens, starts

    def _one_by_one(self, offsets: I64, content: Any) -> tuple[U32, I64]:
        view, places = memoryview(content), offsets.tolist()
        parts = [self._backend.encode(bytes(view[a:b])) for a, b in pairwise(places)]
        starts = np.zeros(len(places), dtype=np.int64)
        np.cumsum([len(part) for part in parts], out=starts[1:])
        return (np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint32)), starts

    def _in_one(self, offsets: I64, content: Any) -> tuple[U32, I64]:
        import awkward as ak

        characters = ak.contents.NumpyArray(content, parameters={"__array__": "char"})
        strings = ak.contents.ListOffsetArray(ak.index.Index64(offsets), characters, parameters={"__array__": "string"})
        layout = self._backend.encode_batch(ak.Array(strings), parallel=False).layout
        starts = np.asarray(layout.offsets.data, dtype=np.int64)
        tokens = np.asarray(layout.content.data, dtype=np.uint32)
        return tokens[starts[0] : starts[-1]], starts - starts[0]

    def _watch(self, size: int, before: int | None, output: int) -> None:
        """Build the backend anew once it has grown over its bound."""
        after = _resident()
        if before is None or after is None:
            self._grown += self._cache_bytes * size // _BLIND_BYTES
        else:
            self._grown += max(0, after - before - output)
        if self._grown > self._cache_bytes:
            self._backend = None
            self._backend = self._build()
            self._grown = 0
            self.builds += 1


def _resident() -> int | None:
    """Return this process's memory in bytes, where the system tells cheaply."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return None
