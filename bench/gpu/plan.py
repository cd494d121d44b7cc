"""What is compared: a model, lengths, and the setting that all contestants have in common.

    Plan(size=0.5B, lengths=(8K, 32K, 128K), steps=10, batch=128K)
    at 8K      16 sequences a step, 4 at once
    at 128K     1 sequence a step

Rows are fed flattened, so `together` places at once are the same work at any length, but for attention.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mixture.train.flops import Shape


@dataclass(frozen=True)
class Size:
    """A model and the steps that suit it.

    Attributes:
        fields: of a Llama's config.
        lengths: of sequences.
        batch: tokens of a step.
        together: tokens that a GPU takes at once, where a sequence is not longer.
        steps: of each run.
        warm_up: of them, those that do not count.
        precision: of matrix products.
        sources: of the recipe.
    """

    fields: dict[str, Any]
    lengths: tuple[int, ...]
    batch: int
    together: int
    steps: int
    warm_up: int
    precision: str
    sources: tuple[dict[str, Any], ...]

    @property
    def shape(self) -> Shape:
        """The model's numbers, for its FLOPs."""
        fields = self.fields
        return Shape(
            layers=fields["num_hidden_layers"],
            hidden=fields["hidden_size"],
            heads=fields["num_attention_heads"],
            kv_heads=fields["num_key_value_heads"],
            head_dim=fields["head_dim"],
            intermediate=fields["intermediate_size"],
            vocabulary=fields["vocab_size"],
            tied=fields["tie_word_embeddings"],
        )


def _llama(layers: int, hidden: int, heads: tuple[int, int, int], intermediate: int, vocabulary: int) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
        "head_dim": heads[2],
        "intermediate_size": intermediate,
        "vocab_size": vocabulary,
        "tie_word_embeddings": True,
        "max_position_embeddings": 128 << 10,
        "rope_theta": 500_000.0,
    }


#: Code that every machine with Python and torch has; half of its bytes lie in files of more than 64K.
_CODE = (
    {
        "name": "stdlib",
        "format": "text",
        "paths": ["python://stdlib/**/*.py"],
        "exclude": ["python://stdlib/**/site-packages/**/*.py"],
        "domain": "library",
    },
    {"name": "torch", "format": "text", "paths": ["python://site-packages/torch/**/*.py"], "domain": "torch"},
)
_LITTLE = (
    {
        "name": "stdlib",
        "format": "text",
        "paths": ["python://stdlib/json/*.py", "python://stdlib/email/*.py", "python://stdlib/asyncio/*.py"],
        "domain": "library",
    },
)
#: Llama 3's, so that logits have the width that they have in practice; the tokens themselves are bytes.
_WIDE = 128_256

SIZES = {
    "toy": Size(
        _llama(2, 64, (4, 2, 16), 192, 512), (512, 1 << 10, 2 << 10), 2 << 10, 1 << 10, 4, 1, "float32", _LITTLE
    ),
    "0.5B": Size(
        _llama(18, 1280, (10, 2, 128), 3584, _WIDE),
        (8 << 10, 32 << 10, 128 << 10),
        128 << 10,
        32 << 10,
        10,
        3,
        "bf16",
        _CODE,
    ),
    "1B": Size(
        _llama(16, 2048, (16, 4, 128), 8192, _WIDE),
        (8 << 10, 32 << 10, 128 << 10),
        128 << 10,
        32 << 10,
        10,
        3,
        "bf16",
        _CODE,
    ),
}


@dataclass(frozen=True)
class Setting:
    """Everything that contestants have in common at one length; JSON-able, for processes of their own.

    Attributes:
        length: places of a sequence.
        batch: sequences of a step.
        micro: of them, those that a GPU takes at once.
        steps: of a run.
        lock: the mixture's lock file.
        work: its work directory.
        weights: folder of the first weights.
        documents: whether documents are masked.
        precision: "bf16" or "float32".
        lr: learning rate, constant.
        seed: of what is random besides the weights.
    """

    length: int
    batch: int
    micro: int
    steps: int
    lock: str
    work: str
    weights: str
    documents: bool
    precision: str
    lr: float = 3e-4
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.1
    clip: float = 1.0
    seed: int = 0

    @property
    def tokens(self) -> int:
        """Tokens of a step."""
        return self.batch * self.length


def rows(size: Size, length: int) -> tuple[int, int]:
    """Return the sequences of a step, and of them those that are taken at once, which divide them.

    Args:
        size: says how many tokens a step has, and how many are taken at once.
        length: of a sequence.
    """
    step = max(1, size.batch // length)
    most = max(1, size.together // length)
    return step, max(rows for rows in range(1, min(most, step) + 1) if step % rows == 0)
