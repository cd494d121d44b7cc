"""Long context, counted: how many tokens have at least c tokens of their own document before them.

A document of n tokens has max(0, n - c) of them; a stretch [start, stop) of one that stands alone in a sequence has
max(0, stop - start - c), for what was cut off before it is out of sight.

    a document of 10 tokens, c = 4: tokens 4 … 9, so 6; cut in two halves of 5, each has 1: 2 in all
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mixture.plan.cells import Counts

#: The thresholds c, in tokens.
CONTEXTS = (1 << 10, 4 << 10, 8 << 10, 32 << 10, 64 << 10, 128 << 10)


def context_sums(domain: Counts, start: Counts, stop: Counts, domains: int) -> Counts:
    """Count the tokens of stretches of documents by what stands before them, per domain.

    Args:
        domain: number of each stretch's domain, shape (n,).
        start: where in its document the first token stands of which something is seen, shape (n,): 0, or where the
            stretch begins if the rest of the document is out of sight.
        stop: where it ends, shape (n,).
        domains: number of domains.

    Returns:
        Shape (domains, 1 + len(CONTEXTS)): all tokens, then those with at least c before them.
    """
    size = stop - start
    sums = [np.bincount(domain, size, domains)]
    for limit in CONTEXTS:
        long = size > limit
        # Each threshold leaves fewer stretches than the one before.
        domain, size = domain[long], size[long]
        sums.append(np.bincount(domain, size - limit, domains))
    return np.stack(sums, axis=1).astype(np.int64)


def as_rows(sums: Counts, domains: Sequence[str]) -> dict[str, list[int]]:
    """Return the sums by domain, JSON-able; domains without a token are left out."""
    return {name: [int(x) for x in sums[number]] for number, name in enumerate(domains) if sums[number, 0]}


def add(total: dict[str, list[int]], more: dict[str, Any]) -> dict[str, list[int]]:
    """Add sums by domain."""
    merged = dict(total)
    for name, values in more.items():
        merged[name] = [a + b for a, b in zip(merged[name], values, strict=True)] if name in merged else list(values)
    return merged
