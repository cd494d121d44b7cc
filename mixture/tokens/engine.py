"""The fast engine: gigatoken, fed many documents at once.

It remembers every word that it has seen, which is where its speed comes from: on text it comes to rest within some
megabytes, but on noise it grows by about 200 MB for each 64 MB read. So its growth is watched, and past a bound it is
built anew (a tenth of a second). Memory decides about speed alone; the tokens are the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mixture.tokens.backends import I64, U32

#: Memory that the engine's cache may take before it is built anew, in bytes.
CACHE_BYTES = 512 << 20
#: Where the system does not tell how much memory is used: tokens between two builds, in bytes.
_BLIND_BYTES = 128 << 20


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
        return self._encode([text.encode()])[0]

    def encode(self, texts: Sequence[bytes]) -> tuple[U32, I64]:
        """Return flat tokens and n+1 offsets of n documents given as UTF-8."""
        before = _resident()
        tokens, offsets = self._encode(texts)
        self._watch(before, tokens.nbytes)
        return tokens, offsets

    def _encode(self, texts: Sequence[bytes]) -> tuple[U32, I64]:
        # An array of the `awkward` library, which holds just these two.
        layout = self._backend.encode_batch(list(texts), parallel=False).layout
        return layout.content.data, layout.offsets.data

    def _watch(self, before: int | None, output: int) -> None:
        """Build the backend anew once it has grown over its bound."""
        after = _resident()
        if before is None or after is None:
            self._grown += self._cache_bytes * output // _BLIND_BYTES
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
