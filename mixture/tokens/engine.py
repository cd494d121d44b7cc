"""The fast engine: gigatoken, fed one document at a time.

It remembers every word that it has seen, which is where its speed comes from: on text it comes to rest within some
megabytes, but on noise it grows by about 200 MB for each 64 MB read. So its growth is watched, and past a bound it is
built anew (a tenth of a second). Memory decides about speed alone; the tokens are the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mixture.tokens.backends import I64, U32

#: Memory that the engine's cache may take before it is built anew, in bytes.
CACHE_BYTES = 512 << 20
#: Where the system does not tell how much memory is used: text between two builds, in bytes.
_BLIND_BYTES = 128 << 20
#: Of most texts; where there are fewer, the tokens move to a larger room.
_BYTES_PER_TOKEN = 3


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
        self.builds = 1

    def encode_text(self, text: str) -> U32:
        """Return the tokens of one text, shape (tokens,)."""
        tokens: U32 = self._backend.encode(text)
        return tokens

    def encode(self, texts: Sequence[bytes]) -> tuple[U32, I64]:
        """Return flat tokens and n+1 offsets of n documents given as UTF-8."""
        before = _resident()
        encode, size = self._backend.encode, sum(map(len, texts))
        room: U32 = np.empty(size // _BYTES_PER_TOKEN + 1024, dtype=np.uint32)
        at, stops = 0, [0]
        for text in texts:
            tokens = encode(text)
            stop = at + len(tokens)
            if stop > len(room):
                room = np.concatenate([room[:at], np.empty(stop + at // 2, dtype=np.uint32)])
            room[at:stop] = tokens
            at = stop
            stops.append(at)
        self._watch(size, before, room.nbytes)
        return room[:at], np.array(stops, dtype=np.int64)

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
