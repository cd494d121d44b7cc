"""Runs: stretches of a path of related documents that stand together in the stream. Pure: places in, places out.

    path of a block, 40K tokens a document      d7 d2 | d9 d4 | d0 …          run: 64K
    drawn                                       d7 d2   d9      d0
    stream                                      … d9 …… d7 d2 …… d0 …         runs among other documents

A run takes the place that a document has elsewhere: a point on the circle of ids says which slice its copies belong
to (`order.id_ranges`), an addressed hash where it stands inside (`order.place`). So domains stay mixed, copies of a run
lie as far apart as copies of a document, and no document stands twice in one run: its copies are in copies of the run.

The point lies in the range of ids of the run's block, at a hash: blocks narrower than a slice are read where the slice
is read anyway, and a block that is wider lends each slice some of its runs, drawn by chance, not one end of its path.
Runs are cut on the whole path, in terms of all its documents. So a run does not hang on which of them are drawn, and
is cut longer where few are (`run_tokens`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mixture.hashing import U64, draw, key

Ints = npt.NDArray[np.int64]


def run_tokens(run: int, supply: int, wanted: int) -> int:
    """Return after how many tokens of a whole path it is cut: about `run` of them are drawn.

    A power of two times `run`, the nearest to run · supply / wanted: a budget that grows a little cuts alike.

    Args:
        run: tokens that are to stand together.
        supply: tokens of the domain.
        wanted: tokens drawn of it, with repeats.

    >>> run_tokens(1000, 100, 100), run_tokens(1000, 100, 300), run_tokens(1000, 100, 20), run_tokens(1000, 100, 15)
    (1000, 1000, 4000, 8000)
    """
    length = run
    # The middle of an octave: beyond it the next power is nearer.
    while 0 < 2 * (wanted * length) ** 2 < (supply * run) ** 2:
        length *= 2
    return length


def run_words(domain: str, related: Ints, before: Ints, blocks: int, cut: int) -> tuple[U64, U64]:
    """Return what takes the place of the two words of an id for each document: equal for the documents of one run.

    Args:
        domain: its name.
        related: block · 2^32 + place on its path, shape (n,).
        before: tokens of the block's documents that stand before it there, shape (n,).
        blocks: of the domain; a power of two.
        cut: after how many tokens a path is cut.

    Returns:
        hi: a point in the range of ids of the run's block, at a hash of the run, shape (n,).
        lo: block and number of the run, shape (n,).
    """
    block, run = (related >> 32).astype(np.uint64), (before // cut).astype(np.uint64)
    owner = np.uint64(key(0, f"domain {domain}"))
    at = draw(0, "run", block + owner, run)
    bits = blocks.bit_length() - 1
    if bits:
        at = (block << np.uint64(64 - bits)) | (at >> np.uint64(bits))
    return at, (block << np.uint64(40)) | run


def stream_order(places: U64, path: Ints, hi: U64, lo: U64, copy: Ints) -> Ints:
    """Return the order of a slice's rows: by place; in a run by path; then by what they are. Shape (n,).

    Args:
        places: where each row, or its run, stands in the slice.
        path: place of each document on its block's path; 0 where documents are not related.
        hi: leading words of the ids.
        lo: trailing words.
        copy: number of each copy.
    """
    order: Ints = np.argsort(places)
    if (np.diff(places[order]) == 0).any():
        order = np.lexsort([copy, lo, hi, path, places])
    return order
