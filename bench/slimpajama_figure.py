"""Figure 2 of Fu et al. 2024 (arXiv 2402.10171): what seven mixtures of SlimPajama hold; the shape's own rows.

A row of the figure is the token share of a mixture by the length of the piece, after documents are laid end to end and
cut into sequences of 131,072. `mixture_row` computes it from `SHAPE` without drawing a document; that the two agree
within .01 is a test, and how the shape was fitted to it stands in `bench.slimpajama_shape`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bench.slimpajama_shape import DOMAINS, EDGES, KEEP_SHORT, NATURAL, SEQUENCE, THRESHOLD, Floats, cells

#: Edges of the columns of Figure 2; what lies beyond the last is in no column.
FIGURE_EDGES = (1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
FIGURE_COLUMNS = ("0-1K", "1-2K", "2-4K", "4-8K", "8-16K", "16-32K", "32-64K", "64-128K", ">4K")
#: Token share by document length, as read from Figure 2 (±.005). `original` has about .047 beyond 128K besides.
FIGURE_2 = {
    "original": (0.255, 0.197, 0.158, 0.115, 0.097, 0.069, 0.035, 0.027, 0.390),
    "fu-cut-128k": (0.261, 0.201, 0.163, 0.120, 0.101, 0.072, 0.042, 0.038, 0.373),
    "fu-per-source": (0.095, 0.061, 0.076, 0.271, 0.225, 0.142, 0.073, 0.055, 0.766),
    "fu-global": (0.060, 0.047, 0.065, 0.249, 0.230, 0.165, 0.097, 0.086, 0.827),
    "fu-up-arxiv": (0.043, 0.029, 0.038, 0.160, 0.240, 0.268, 0.157, 0.066, 0.891),
    "fu-up-books": (0.056, 0.036, 0.046, 0.163, 0.140, 0.112, 0.142, 0.305, 0.862),
    "fu-up-github": (0.060, 0.043, 0.057, 0.249, 0.240, 0.167, 0.106, 0.078, 0.840),
}
BEYOND_128K = 0.047


def _by_domain(*shares: float) -> dict[str, float]:
    return dict(zip(("c4", "cc", "stackexchange", "wikipedia", "github", "arxiv", "books"), shares, strict=True))


#: Token share by domain, as read from the paper (±.005). The authors' budgets count characters, so they drift.
DOMAIN_SHARES = {
    "original": _by_domain(0.266, 0.533, 0.031, 0.034, 0.050, 0.042, 0.042),
    "fu-per-source": _by_domain(0.246, 0.521, 0.037, 0.040, 0.059, 0.052, 0.042),
    "fu-global": _by_domain(0.132, 0.585, 0.011, 0.022, 0.061, 0.095, 0.092),
    "fu-up-arxiv": _by_domain(0.111, 0.238, 0.017, 0.018, 0.026, 0.566, 0.019),
    "fu-up-books": _by_domain(0.124, 0.264, 0.018, 0.020, 0.030, 0.026, 0.514),
    "fu-up-github": _by_domain(0.115, 0.244, 0.017, 0.018, 0.558, 0.024, 0.019),
}
#: The domain that a preset raises; the others stay in proportion.
RAISED = {name: name.removeprefix("fu-up-") for name in FIGURE_2 if name.startswith("fu-up-")}


def cut_shares(lengths: npt.ArrayLike, weights: npt.ArrayLike, sequence: int, edges: Sequence[int]) -> Floats:
    """Return the expected token share of each bucket of piece lengths, after concatenating and cutting.

    A document of n tokens starts anywhere in a sequence of S, each place alike. For j below both n and S, the cut that
    leaves a first piece of j falls on one place of S, and so does the cut that leaves a last piece of j; so pieces of
    exactly j hold 2j/S tokens of it, and pieces shorter than L hold L(L-1)/S for L up to min(n, S). All that is left
    is in pieces of min(n, S): the document uncut, or whole sequences.

    Args:
        lengths: tokens of documents as written, separators included, shape (n,).
        weights: how many there are of each, shape (n,); only their proportions matter.
        sequence: tokens of a sequence.
        edges: edges between the K buckets, ascending; a whole sequence lies at `sequence`, so an edge there sets
            pieces that fill one apart.

    Returns:
        Shares that sum to 1, shape (len(edges) + 1,).
    """
    length, weight = np.asarray(lengths, np.float64), np.asarray(weights, np.float64)
    total = float(weight @ length)
    reached = [0.0]
    for edge in edges:
        if edge > sequence:
            reached.append(total)
            continue
        short = length < edge
        reached.append(float(weight[short] @ length[short] + weight[~short].sum() * edge * (edge - 1) / sequence))
    return np.diff([*reached, total]) / total


def as_figure(shares: npt.ArrayLike, *, cut: bool = True) -> Floats:
    """Return shares by `FIGURE_EDGES` as Figure 2 counts them, shape (9,), the last for all from 4K.

    Args:
        shares: of the nine buckets, the last from 128K on.
        cut: whether they are of pieces: then those that fill a sequence are left out and the rest is the whole.
    """
    bucket = np.asarray(shares, np.float64)
    bucket = bucket[:-1] / bucket[:-1].sum() if cut else bucket
    return np.append(bucket[:8], bucket[3:].sum())


def mixture_domains(preset: str) -> dict[str, float] | None:
    """Return the domain shares that a preset fixes, summing to 1; None where it fixes none (`fu-global`)."""
    if preset == "fu-global":
        return None
    total = sum(NATURAL.values())
    natural = {name: share / total for name, share in NATURAL.items()}
    if preset not in RAISED:
        return natural
    raised = RAISED[preset]
    share = DOMAIN_SHARES[preset][raised]
    rest = (1 - share) / (1 - natural[raised])
    return {name: share if name == raised else rest * value for name, value in natural.items()}


def mixture_cells(preset: str, threshold: int = THRESHOLD, keep_short: float = KEEP_SHORT) -> Floats:
    """Return the token share of each domain and bin of `EDGES` that a preset draws, shape (D, bins), summing to 1.

    Args:
        preset: a key of `FIGURE_2`.
        threshold: tokens from which a document is long; an edge of `EDGES`.
        keep_short: rate at which shorter ones are kept, in presets that have a length rule.
    """
    tokens, _ = cells()
    if preset not in ("original", "fu-cut-128k"):
        tokens = tokens * np.where(np.array(EDGES[:-1]) >= threshold, 1.0, keep_short)
    fixed = mixture_domains(preset)
    if fixed is not None:
        tokens = tokens / tokens.sum(axis=1, keepdims=True) * np.array([fixed[name] for name in DOMAINS])[:, None]
    shares: Floats = tokens / tokens.sum()
    return shares


def mixture_row(preset: str, threshold: int = THRESHOLD, keep_short: float = KEEP_SHORT) -> Floats:
    """Return the row of Figure 2 that the shape gives for a preset, shape (9,): see `mixture_cells`, `as_figure`.

    Bins' means stand for their documents: no bin straddles a column's edge, so nothing is lost.
    """
    tokens = mixture_cells(preset, threshold, keep_short).sum(axis=0)
    _, means = cells()
    if preset == "original":
        column = np.searchsorted(FIGURE_EDGES, EDGES[:-1], "right")
        return as_figure(np.bincount(column, tokens, len(FIGURE_EDGES) + 1), cut=False)
    # One token more: the separator.
    return as_figure(cut_shares(means + 1, tokens / means, SEQUENCE, FIGURE_EDGES))
