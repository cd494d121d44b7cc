"""Content hashes, fingerprints, and randomness with an address.

A draw is a pure function of (seed, purpose, document, occurrence), written down here in integer arithmetic modulo
2^64, so that no library release can move a document. The mixer is SplitMix64's finaliser (Steele, Lea, Flood:
"Fast splittable pseudorandom number generators", OOPSLA 2014).

    >>> ids = np.array([[1, 2]], dtype=np.uint64)
    >>> int(draw(42, "draw", ids[:, 0], ids[:, 1])[0]) == int(draw(42, "draw", ids[:, 0], ids[:, 1])[0])
    True
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

U64 = npt.NDArray[np.uint64]

#: frac(golden ratio) · 2^64: successive multiples are spread over the circle better than any other step.
GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def mix(x: U64) -> U64:
    """Scramble each 64-bit word; a bijection on uint64 arrays of any shape."""
    # In place: half the time goes into fresh memory otherwise.
    out = x >> np.uint64(30)
    out ^= x
    out *= np.uint64(0xBF58476D1CE4E5B9)
    shifted = out >> np.uint64(27)
    out ^= shifted
    out *= np.uint64(0x94D049BB133111EB)
    np.right_shift(out, np.uint64(31), out=shifted)
    out ^= shifted
    return out


def _mix_int(x: int) -> int:
    return int(mix(np.array([x & _MASK], dtype=np.uint64))[0])


@functools.cache
def key(seed: int, purpose: str) -> int:
    """Return the 64-bit key of one stream of draws.

    The purpose's bytes are folded in one at a time, so two purposes of any length never share a stream by padding.
    """
    state = _mix_int(seed + GOLDEN)
    for byte in purpose.encode():
        state = _mix_int(state ^ byte)
    return state


def draw(seed: int, purpose: str, hi: U64, lo: U64, occurrence: U64 | None = None) -> U64:
    """Return one uniform 64-bit draw per document.

    Args:
        seed: the recipe's seed; any integer.
        purpose: what is drawn (`draw`, `order`, `holdout`, …): streams are independent of each other.
        hi: leading 64 bits of each document's id, shape (n,).
        lo: trailing 64 bits, shape (n,).
        occurrence: number of each exact duplicate among its equals, shape (n,); 0 for all by default.
    """
    first = mix(hi ^ np.uint64(key(seed, purpose)))
    first ^= lo
    out = mix(first)
    if occurrence is None or not occurrence.any():
        return out
    return np.where(occurrence == 0, out, mix(out + occurrence * np.uint64(GOLDEN)))


def fraction(share: float) -> int:
    """Return the threshold below which a uniform 64-bit draw falls with probability `share`."""
    return min(int(share * 2.0**64), _MASK) if share > 0 else 0


def document_ids(texts: Iterable[memoryview | bytes]) -> bytes:
    """Return the concatenated 16-byte ids (XXH3-128, big-endian) of documents given as UTF-8."""
    digest = xxhash.xxh3_128_digest
    return b"".join([digest(text) for text in texts])


def id_words(ids: pa.Array | pa.ChunkedArray) -> tuple[U64, U64]:
    """Split a fixed_size_binary(16) column into its leading and trailing 64-bit words, shape (n,) each."""
    array = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
    words = np.frombuffer(array.buffers()[1], dtype=">u8", count=2 * len(array), offset=16 * array.offset)
    return words[0::2].astype(np.uint64), words[1::2].astype(np.uint64)


def id_array(hi: U64, lo: U64) -> pa.Array:
    """Join two word columns into a fixed_size_binary(16) column; the inverse of `id_words`."""
    pairs = np.stack([hi, lo], axis=1).astype(">u8")
    return id_column(pairs.tobytes())


def id_column(ids: bytes) -> pa.Array:
    """Wrap ids, laid end to end (`document_ids`), as a fixed_size_binary(16) column, without a copy."""
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(ids) // 16, [None, pa.py_buffer(ids)])


def canonical(value: Any) -> bytes:
    """Return the one JSON spelling of a value: sorted keys, no spaces, UTF-8, no NaN."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def fingerprint(value: Any) -> str:
    """Return 32 hex digits that name a JSON value."""
    return xxhash.xxh3_128_hexdigest(canonical(value))
