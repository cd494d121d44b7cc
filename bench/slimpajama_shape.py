"""The shape of SlimPajama (627B tokens, seven domains): how each domain's tokens lie over document lengths.

The corpus cannot be shipped, its shape can. A domain's row of `SHAPE` says, bin by bin of `EDGES`, how many of its
tokens lie in documents of that length: of C4's, .044 in documents of 128 to 191 tokens.

Where the numbers come from. Figure 2 of Fu et al. (arXiv 2402.10171) gives seven mixtures by document length, read to
±.005; their code gives the domains' shares, the median documents, and how they cut. The shape is the solution of a
chain of linear programs over tokens per (domain, bin): the mixtures' rows are linearised in the shape, the largest
miss over all rows, and over the domain shares of `fu-global`, is made least, then the shape is smoothed (least total
bend of each domain's density over log length, one hump) while no miss exceeds .0094. Held throughout: domain shares
exactly, medians within 3 %, the row `original` within .005, tokens in documents of 8K and more within 10 % of the
counts in LongWanjuan (`LONG_TOKENS`). GitHub is the exception, 25 % above: held inside 10 %, the largest miss is .014.
A likely reason, not checked: theirs is a count of bytes or by another tokenizer, and code has few bytes to a token.

What the fit says about the figure, tested by fitting without it:

    length rule   documents of 3,840 tokens and more count as long, shorter ones are kept at .1. The authors compare
                  characters / 3.68 with 4,096, and most prose has more characters to a token. One number for all
                  domains; fitted anew at 4,096 the largest miss is .019, at 3,584 .014
    pieces        all rows but `original` show pieces after cutting into sequences of 131,072. It fits as if pieces that
                  fill a whole sequence were left out and the row were of the rest: `as_figure`. With them counted, in
                  the last column, no shape came nearer than .025; `fu-up-books` would show .42 there, figure: .305
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: Tokens of the whole corpus.
TOKENS = 627_000_000_000
#: Sequence length of the mixtures.
SEQUENCE = 131_072
#: The length rule that fits every row: tokens from which a document is long, and the rate at which others stay.
THRESHOLD = 3840
KEEP_SHORT = 0.1

#: Share of each domain's tokens in the whole, from the authors' code.
NATURAL = {
    "cc": 0.53374772,
    "c4": 0.26609933,
    "github": 0.05004782,
    "arxiv": 0.04290379,
    "books": 0.0414836,
    "wikipedia": 0.03402128,
    "stackexchange": 0.03169647,
}
DOMAINS = tuple(NATURAL)
#: Tokens of the median document of each domain, from the authors' code.
MEDIANS = {
    "cc": 1066,
    "c4": 315,
    "github": 520,
    "arxiv": 14565,
    "books": 121602,
    "wikipedia": 409,
    "stackexchange": 507,
}
#: Billions of tokens in documents of about 8K tokens and more, counted by LongWanjuan.
LONG_TOKENS = {
    "cc": 87.2,
    "c4": 8.2,
    "github": 8.7,
    "arxiv": 25.6,
    "books": 25.1,
    "wikipedia": 3.7,
    "stackexchange": 0.094,
}

#: Edges of the bins of `SHAPE`, in tokens. Every power of two is one, so a bin lies in one row of the census.
# fmt: off
EDGES = (
    32, 64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 2560, 3072, 3584, 3840, 4096, 6144, 8192, 12288, 16384,
    24576, 32768, 49152, 65536, 98304, 131072, 196608, 262144, 524288, 1048576,
)
#: Hundred-thousandths of the domain's tokens in each bin. Inside a bin lengths are log-uniform.
SHAPE = {
    "cc": (
        49, 194, 114, 81, 114, 2054, 5847, 6243, 11749, 9810, 6976, 5290, 4184, 1787, 1624, 9151, 6071, 7963,
        5228, 5676, 2826, 2291, 1352, 1519, 804, 747, 256, 0, 0,
    ),
    "c4": (
        24, 2256, 4456, 4566, 8415, 7375, 12373, 10183, 14392, 8924, 6186, 4264, 3051, 1201, 1032, 4444, 1452,
        2046, 1452, 1369, 491, 14, 10, 14, 10, 0, 0, 0, 0,
    ),
    "github": (
        291, 380, 264, 1530, 4048, 4214, 7831, 6899, 11616, 8253, 4400, 2296, 1030, 191, 27, 4446, 7629, 8249,
        4077, 4827, 3290, 4446, 3155, 4446, 2117, 28, 20, 0, 0,
    ),
    "arxiv": (
        11, 11, 6, 4, 14, 10, 14, 10, 114, 81, 62, 51, 43, 19, 18, 114, 1700, 9209, 11367, 22833, 13043, 13933,
        6728, 5032, 1893, 2667, 1893, 4560, 4560,
    ),
    "books": (
        0, 0, 0, 0, 6, 4, 6, 4, 6, 4, 31, 26, 22, 10, 9, 57, 40, 57, 40, 57, 40, 57, 2085, 11060, 13610, 27302,
        18852, 26605, 10,
    ),
    "wikipedia": (
        49, 194, 2992, 4031, 8371, 7848, 13747, 11664, 13149, 6994, 4090, 2476, 1486, 485, 353, 2215, 1572,
        2215, 1572, 2215, 1572, 2215, 1572, 2215, 1572, 2215, 921, 0, 0,
    ),
    "stackexchange": (
        10, 629, 1327, 2420, 5496, 5378, 9665, 8337, 13833, 9816, 7614, 6221, 5260, 2354, 2202, 13834, 5083,
        494, 4, 6, 4, 6, 4, 3, 0, 0, 0, 0, 0,
    ),
}
# fmt: on


def _sum_of_lengths(low: int, high: int) -> float:
    """Return the sum over n in [low, high) of n · ln(1 + 1/n): tokens, not yet divided by ln of the bin's width."""
    return high * math.log(high) - low * math.log(low) - (math.lgamma(high + 1) - math.lgamma(low + 1))


@functools.cache
def cells() -> tuple[Floats, Floats]:
    """Return tokens per cell, summing to 1, and mean length per bin; shapes (D, bins) and (bins,)."""
    table = np.array([SHAPE[name] for name in DOMAINS], np.float64)
    natural = np.array([NATURAL[name] for name in DOMAINS])
    tokens = table / table.sum(axis=1, keepdims=True) * (natural / natural.sum())[:, None]
    means = np.array([_sum_of_lengths(low, high) / math.log(high / low) for low, high in itertools.pairwise(EDGES)])
    return tokens, means


def scaled_supply(edges: Sequence[int], tokens: int = TOKENS) -> tuple[tuple[str, ...], Ints, Ints]:
    """Return what a corpus of the shape is expected to hold, without drawing a document.

    Args:
        edges: edges between the length buckets, ascending.
        tokens: tokens of the corpus, separators excluded.

    Returns:
        The D domains, sorted; documents and tokens per domain and bucket, shape (D, len(edges) + 1).
    """
    cell_tokens, means = cells()
    documents = cell_tokens / means
    part = np.array([below(edge) for edge in edges]).reshape(len(edges), 2, len(means))
    order = [DOMAINS.index(name) for name in sorted(DOMAINS)]
    tables = []
    for number, table in enumerate((documents, cell_tokens)):
        reached = np.concatenate(
            [np.zeros((len(DOMAINS), 1)), table @ part[:, number].T, table.sum(1)[:, None]], axis=1
        )
        tables.append(np.rint(np.diff(reached, axis=1)[order] * tokens).astype(np.int64))
    return tuple(sorted(DOMAINS)), tables[0], tables[1]


def below(edge: int) -> Floats:
    """Return the part of each bin's documents, and of its tokens, that is shorter than an edge; shape (2, bins)."""
    out = np.zeros((2, len(EDGES) - 1))
    for number, (low, high) in enumerate(itertools.pairwise(EDGES)):
        inside = min(max(edge, low), high)
        out[:, number] = (
            math.log(inside / low) / math.log(high / low),
            _sum_of_lengths(low, inside) / _sum_of_lengths(low, high),
        )
    return out
