"""Published distributions of tokens over document lengths, for `lengths: {like: {published: NAME}}`.

Read from Figure 2 of Fu et al. 2024 (arXiv 2402.10171), ±.005: SlimPajama, LLaMA-2 tokens. What the figure leaves to 1
is beyond 128K in the natural mixture, and a matter of reading in the others; each row is scaled to sum to 1.
"""

from __future__ import annotations

from dataclasses import dataclass

K = 1024


@dataclass(frozen=True)
class Published:
    """Shares of tokens by document length, as printed.

    Attributes:
        edges: edges between the shares, in tokens.
        shares: one more than edges, shortest first.
    """

    edges: tuple[int, ...]
    shares: tuple[float, ...]


_EDGES = (K, 2 * K, 4 * K, 8 * K, 16 * K, 32 * K, 64 * K, 128 * K)

PUBLISHED: dict[str, Published] = {
    "slimpajama": Published(_EDGES, (0.255, 0.197, 0.158, 0.115, 0.097, 0.069, 0.035, 0.027, 0.047)),
    "fu-cut-128k": Published(_EDGES, (0.261, 0.201, 0.163, 0.120, 0.101, 0.072, 0.042, 0.038, 0.0)),
    "fu-per-source": Published(_EDGES, (0.095, 0.061, 0.076, 0.271, 0.225, 0.142, 0.073, 0.055, 0.0)),
    "fu-global": Published(_EDGES, (0.060, 0.047, 0.065, 0.249, 0.230, 0.165, 0.097, 0.086, 0.0)),
    "fu-up-arxiv": Published(_EDGES, (0.043, 0.029, 0.038, 0.160, 0.240, 0.268, 0.157, 0.066, 0.0)),
    "fu-up-books": Published(_EDGES, (0.056, 0.036, 0.046, 0.163, 0.140, 0.112, 0.142, 0.305, 0.0)),
    "fu-up-github": Published(_EDGES, (0.060, 0.043, 0.057, 0.249, 0.240, 0.167, 0.106, 0.078, 0.0)),
}
