"""What a step has to compute, whoever computes it: model FLOPs, and how much of the hardware they use (MFU).

    forward + backward of a step of T tokens:   6 · N · T  +  12 · layers · heads · head_dim · P

N counts the weights of matrix products: attention, MLP and the output layer; not the look-up of embeddings, nor norms.
Each is used in one multiplication and one addition forward, and twice that backward. P counts the pairs of a query and
a key that it may look at: causal, inside a document where documents are masked, so n (n + 1) / 2 for a segment of n
tokens. Of each pair and head, head_dim multiplications and additions are for the score and as many for the value.

That is appendix B of PaLM (Chowdhery et al. 2022, arXiv 2204.02311) and the formula of Megatron-LM (Narayanan et al.
2021, arXiv 2104.04473), but for P: they count every pair of a sequence, we count the half that a causal mask leaves,
and of that what document masks leave. So MFU is never flattered by work that nobody needed. What activation
checkpointing computes again is not counted either. Grouped queries change N, not P.

    a layer of hidden 2, 1 head of 2, intermediate 4; vocabulary 8; segments of 3 and 1 tokens
    N = 4·2·2 + 3·2·4 + 2·8 = 56      T = 4      P = 6 + 1      FLOPs = 6·56·4 + 12·1·1·2·7 = 1,512
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

#: Dense bfloat16 FLOP/s of GPUs with float32 sums, from their makers' data sheets, by words of the name that the driver
#: gives them. The first that is found counts, so `H100 PCIe` comes before `H100`.
PEAKS = {
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "GH200": 989e12,
    "H100": 989e12,
    "H200 NVL": 835e12,
    "H200": 989e12,
    "H800": 989e12,
    "H20": 148e12,
    "GB300": 2500e12,
    "GB200": 2500e12,
    "B300": 2250e12,
    "B200": 2250e12,
    "B100": 1750e12,
    "A100": 312e12,
    "A800": 312e12,
    "A10G": 70e12,
    "A10": 125e12,
    "A30": 165e12,
    "A40": 150e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "RTX 6000 Ada": 364e12,
    "RTX A6000": 155e12,
    "RTX 5090": 209e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
    "MI325X": 1307e12,
    "MI300X": 1307e12,
    "MI250X": 191e12,
}


@dataclass(frozen=True)
class Shape:
    """The numbers of a decoder with gated MLPs, as Llama, Qwen and Mistral have them.

    Attributes:
        layers: how many.
        hidden: width of the residual stream.
        heads: of queries.
        kv_heads: of keys and values.
        head_dim: width of a head.
        intermediate: width of the MLP.
        vocabulary: rows of the embedding.
        tied: whether the output layer is the embedding.
    """

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    tied: bool = False

    @staticmethod
    def of(config: Any) -> Shape:
        """Read a Hugging Face config: anything with its attributes."""
        heads = config.num_attention_heads
        return Shape(
            layers=config.num_hidden_layers,
            hidden=config.hidden_size,
            heads=heads,
            kv_heads=getattr(config, "num_key_value_heads", None) or heads,
            head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
            intermediate=config.intermediate_size,
            vocabulary=config.vocab_size,
            tied=bool(getattr(config, "tie_word_embeddings", False)),
        )

    @property
    def layer(self) -> int:
        """Weights of the matrix products of one layer."""
        attention = 2 * self.hidden * (self.heads + self.kv_heads) * self.head_dim
        return attention + 3 * self.hidden * self.intermediate

    @property
    def matrices(self) -> int:
        """Weights of all matrix products of a forward pass, the output layer's among them: N above."""
        return self.layers * self.layer + self.hidden * self.vocabulary

    @property
    def parameters(self) -> int:
        """Weights that are trained: matrices, embedding and norms; biases are not counted."""
        embedding = 0 if self.tied else self.hidden * self.vocabulary
        return self.matrices + embedding + (2 * self.layers + 1) * self.hidden


def attended(boundaries: npt.NDArray[Any]) -> int:
    """Return how many pairs of a query and a key there are under a causal mask inside segments.

    Args:
        boundaries: `cu_seqlens` of the segments, integers, shape (segments + 1,).
    """
    ends = boundaries.astype(np.int64)
    size = ends[1:] - ends[:-1]
    return int((size * (size + 1) // 2).sum())


def step_flops(shape: Shape, tokens: int, pairs: int) -> float:
    """Return the model FLOPs of a step, forward and backward.

    Args:
        shape: of the model.
        tokens: of the step, over all ranks.
        pairs: `attended` of all its segments.
    """
    return 6.0 * shape.matrices * tokens + 12.0 * shape.layers * shape.heads * shape.head_dim * pairs


def peak_flops(gpu: str) -> float | None:
    """Return how many dense bfloat16 FLOP/s a GPU can do, by the name that its driver gives it; None if unknown."""
    return next((peak for name, peak in PEAKS.items() if re.search(rf"\b{name}\b", gpu, re.IGNORECASE)), None)


def mfu(flops: float, seconds: float, gpus: int, peak: float) -> float:
    """Return model FLOPs over what the GPUs could have done meanwhile, from 0 to 1.

    Args:
        flops: of a step.
        seconds: that it took.
        gpus: how many took part.
        peak: FLOP/s of each.
    """
    return flops / (seconds * gpus * peak)
