"""Where a few rows of attention look, in every head, without the matrix that they are rows of.

A prompt of n tokens and an answer of m run through the model once, and the rows that predict the answer are watched:

    tokens      p0 p1 … p(n-1) a0 … a(m-2)       n + m - 1 of them: nothing is asked of the last answer token
    rows               n-1     n  … n+m-2        row n-1+i predicts answer token i, so it stands one place before it

    read_rows(model, prompt, answer)  ─▶  Rows: of each layer, head and answer token, the place that is looked at most
                                          and its weight; and the loss of each answer token

Transformers calls an attention function in each layer with queries and keys after the rotary embedding, and hands on to
it what its models do not know: here a `Watch`. The layer's output is computed as in training (mixture.train.attention:
flash attention on a GPU, scaled_dot_product_attention elsewhere, windows without a mask of places × places). The rows
are reduced in float32, the query heads of one key head at a time, before the next layer runs. So what they need is
(heads of a key head × answer tokens × places), and what is kept is (layers × heads × answer tokens).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 the field's name for it
from transformers import AttentionInterface, PreTrainedModel

from mixture.errors import MonitorError, TrainError
from mixture.train.attention import Backend, Layout, attend, choose, lay_out

#: The name under which transformers knows `_watch`.
NAME = "mixture-watched"
#: Kinds of layers whose rule is known: all before a place, or a window of it.
_KINDS = {"full_attention", "sliding_attention"}


@dataclass(frozen=True)
class Rows:
    """What the answer's rows of attention showed.

    Attributes:
        positions: the place with the largest weight, int64, shape (layers, heads, answer tokens).
        weights: that weight, in (0, 1], float32, shape as positions.
        losses: cross-entropy of each answer token with all before it given, in nats, float64, shape (answer tokens,).
    """

    positions: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float32]
    losses: npt.NDArray[np.float64]


class Watch:
    """Collects the rows of one forward pass, layer by layer.

    Args:
        at: the rows, int64 on the model's device, rising, shape (rows,).
        layout: of the forward pass, for the attention of all rows.
    """

    def __init__(self, at: torch.Tensor, layout: Layout) -> None:
        self.at = at
        self.layout = layout
        self.found: list[tuple[torch.Tensor, torch.Tensor]] = []

    def see(self, query: torch.Tensor, key: torch.Tensor, scaling: float | None, window: int | None) -> None:
        """Take the rows of one layer; query (heads, places, d), key (key heads, places, d)."""
        size = scaling if scaling is not None else query.shape[-1] ** -0.5
        self.found.append(largest(query[:, self.at], key, self.at, size, window))


def largest(
    query: torch.Tensor, key: torch.Tensor, at: torch.Tensor, scaling: float, window: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return where each row's weights are largest, and how large.

    Args:
        query: of the rows, after the rotary embedding, shape (heads, rows, d).
        key: of all places, after it, shape (key heads, places, d); key heads divide heads.
        at: the places of the rows, rising, shape (rows,).
        scaling: of the scores.
        window: how many keys a row sees at most, itself among them; None for all before it.

    Returns:
        int64 places and float32 weights, shape (heads, rows) each. Of equal weights one is taken.
    """
    each = query.shape[0] // key.shape[0]
    first, last = int(at[0]), int(at[-1])
    low = 0 if window is None else max(0, first - window + 1)
    seen = torch.arange(low, last + 1, device=key.device)
    hidden = seen[None] > at[:, None]
    if window is not None:
        hidden |= seen[None] <= at[:, None] - window
    positions, weights = [], []
    for group, keys in enumerate(key[:, low : last + 1]):
        # In bfloat16 many scores would be equal; a key head at a time keeps the copy in float32 small.
        part = query[group * each : (group + 1) * each].float() * scaling
        scores = (part @ keys.float().T).masked_fill_(hidden, -torch.inf)
        top, where = scores.max(dim=-1)
        positions.append(where + low)
        weights.append(scores.sub_(top[..., None]).exp_().sum(dim=-1).reciprocal_())
    return torch.cat(positions), torch.cat(weights)


def _watch(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    watch: Watch | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Compute the attention of one layer, as transformers calls it, and let the watch see its rows.

    Raises:
        TrainError: the model does not hand on the watch, or its attention does what is not done here.
    """
    if watch is None:
        raise TrainError("its layers do not hand on what is not theirs to their attention")
    out = attend(
        module,
        query,
        key,
        value,
        attention_mask,
        layout=watch.layout,
        scaling=scaling,
        sliding_window=sliding_window,
        **others,
    )
    watch.see(query[0], key[0], scaling, sliding_window)
    return out


AttentionInterface.register(NAME, _watch)


def read_rows(model: PreTrainedModel, prompt: npt.ArrayLike, answer: npt.ArrayLike) -> Rows:
    """Run a prompt and its answer, teacher-forced, and read where the rows that predict the answer look.

    Args:
        model: of transformers, in evaluation mode, on one device.
        prompt: token ids, shape (n,), n at least 1.
        answer: token ids, shape (m,), m at least 1.

    Raises:
        MonitorError: no prompt, no answer, a token outside the vocabulary, or a model that cannot be watched.
    """
    asked, said = (np.asarray(tokens, np.int64).reshape(-1) for tokens in (prompt, answer))
    _check(model, asked, said)
    device = model.device
    tokens = torch.from_numpy(np.concatenate([asked, said[:-1]])).to(device)
    at = torch.arange(asked.size - 1, tokens.numel(), device=device)
    layout = lay_out(torch.tensor([0, tokens.numel()]), backend=_backend(model), device=device)
    watch = Watch(at, layout)
    with watched(model), torch.no_grad():
        try:
            logits = model(input_ids=tokens[None], use_cache=False, logits_to_keep=at, watch=watch).logits[0]
        except TrainError as error:
            raise _unwatchable(model, str(error)) from error
        losses = F.cross_entropy(logits.float(), torch.from_numpy(said).to(device), reduction="none")
    return Rows(
        torch.stack([positions for positions, _ in watch.found]).cpu().numpy(),
        torch.stack([weights for _, weights in watch.found]).cpu().numpy(),
        losses.double().cpu().numpy(),
    )


@contextmanager
def watched(model: PreTrainedModel) -> Iterator[None]:
    """Let a model compute its attention by `_watch` for the length of a block, then as before.

    Raises:
        MonitorError: its attention cannot be replaced, or its layers see by a rule that is not known here.
    """
    config = model.config
    kinds = set(getattr(config, "layer_types", None) or ()) - _KINDS
    if kinds:
        raise _unwatchable(model, f"it has layers of the kind {min(kinds)!r}")
    if not model.is_backend_compatible() or getattr(config, "attention_chunk_size", None):
        raise _unwatchable(model, "its attention cannot be replaced")
    if model.training:
        raise MonitorError("the model is in training mode, where it may drop what it reads; call its eval() first")
    before = config._attn_implementation  # noqa: SLF001 there is no other way to ask for it
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _unwatchable(model: PreTrainedModel, why: str) -> MonitorError:
    return MonitorError(
        f"model_type: {model.config.model_type}: its heads cannot be watched ({why}); give one of llama, mistral, "
        "qwen2, qwen3"
    )


def _backend(model: PreTrainedModel) -> Backend:
    """Return what computes the attention of all rows; what must be compiled first is not worth it for a few probes."""
    size = getattr(model.config, "head_dim", None) or model.config.hidden_size // model.config.num_attention_heads
    found = choose(model.device, model.dtype, int(size))
    return "sdpa" if found == "flex" else found


def _check(model: PreTrainedModel, prompt: npt.NDArray[np.int64], answer: npt.NDArray[np.int64]) -> None:
    for name, tokens in (("prompt", prompt), ("answer", answer)):
        if not tokens.size:
            raise MonitorError(f"a probe's {name} has no tokens; it needs at least one")
    vocabulary = int(model.config.vocab_size)
    worst = int(max(prompt.max(), answer.max())) if min(prompt.min(), answer.min()) >= 0 else -1
    if not 0 <= worst < vocabulary:
        raise MonitorError(
            f"a probe has token {worst}, and the model's vocabulary is {vocabulary:,}; make probes with the model's "
            "own tokenizer"
        )
