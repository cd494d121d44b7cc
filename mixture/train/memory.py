"""How much memory a step needs on each GPU, before anything is built: an estimate, and what to do where it is too much.

With P parameters over S ranks (FSDP2), T places on a rank (micro · length / cp), h the hidden width, q and k the widths
of queries and of keys (heads · head_dim, kv_heads · head_dim), i that of the MLP, V the vocabulary, and b bytes of a
number in matrix products (2 with bf16, else 4):

    parameters    4 P / S                  float32, as are the two below
    gradients     4 P / S
    moments       8 P / S                  AdamW's two
    gathered      (2 b + 4) · W            weights gathered for use, their gradients, and those in float32 to be summed:
                                           W is two layers (one is fetched ahead) and what all of the step is gathered,
                                           embedding and output
    activations   layers · kept · T        kept: all of a layer, or with checkpointing its input alone, b h,
                  + (b · (3 i + 2 h) + all) · T     … of which one layer at a time is then made again, beside the
                                           gradients that run through it
                  + (4 + 4 b) h · T        around the layers: embedding, last norm, what the loss is computed from
    logits        8 · chunk · V            float32 logits of a chunk of places, and as much to exponentiate them
                  + (4 + b) · V h          the output's gradient, made with the loss
    context       4 b k · micro · length   keys and values of all places, and their gradients, where cp > 1
    reserve       2 GiB                    CUDA, communication, what the allocator cannot use

    all of a layer, for a place:  2 (4 + 2 b) h  norms: input in float32, normalised, output
                                + b (2 q + 2 k)  query, key, value, and what attention gives
                                + 4 b i          gate, its activation, up, their product
                                + 4 · heads      the softmax's normaliser

That is what transformers' layers keep without `compile`, with an attention that keeps no scores; compiled ones keep
less. The parts are summed as if all stood at their highest at once, so it errs on the side of too much. Biases are not
counted. For the way of counting see Korthikanti et al. 2022, arXiv 2205.05198.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from mixture.train.flops import Shape

_GIB = 1 << 30
_RESERVE = 2 * _GIB
_MOST_RANKS = 4096
_LEAST_CHUNK = 512


@dataclass(frozen=True)
class Setting:
    """What memory depends on, besides the model.

    Attributes:
        shards: ranks that hold a part of each parameter, those of cp among them.
        cp: ranks that share each sequence.
        micro: sequences at once.
        length: places in a sequence.
        checkpointing: whether activations are computed again.
        chunk: places whose logits exist at once.
        bf16: whether matrix products are in bfloat16.
    """

    shards: int
    cp: int
    micro: int
    length: int
    checkpointing: bool
    chunk: int
    bf16: bool


@dataclass(frozen=True)
class Memory:
    """Bytes of each GPU at the height of a step, by what they hold; see the module."""

    parameters: int
    gradients: int
    moments: int
    gathered: int
    activations: int
    logits: int
    context: int
    reserve: int = _RESERVE

    @property
    def total(self) -> int:
        """All of them."""
        return sum(vars(self).values())


def estimate(shape: Shape, setting: Setting) -> Memory:
    """Return what a step needs on each GPU, in bytes."""
    size = 2 if setting.bf16 else 4
    held = -(-shape.parameters // setting.shards)
    places = setting.micro * setting.length // setting.cp
    root = shape.hidden * (shape.vocabulary * (1 if shape.tied else 2) + 1)
    whole = _layer_bytes(shape, size)
    kept = size * shape.hidden if setting.checkpointing else whole
    at_once = (whole if setting.checkpointing else 0) + size * (3 * shape.intermediate + 2 * shape.hidden)
    around = (4 + 4 * size) * shape.hidden
    chunk = min(setting.chunk, places)
    keys = shape.kv_heads * shape.head_dim
    return Memory(
        parameters=4 * held,
        gradients=4 * held,
        moments=8 * held,
        gathered=(2 * size + 4) * (2 * shape.layer + root),
        activations=(shape.layers * kept + at_once + around) * places,
        logits=8 * chunk * shape.vocabulary + (4 + size) * shape.vocabulary * shape.hidden,
        context=4 * size * keys * setting.micro * setting.length if setting.cp > 1 else 0,
    )


def _layer_bytes(shape: Shape, size: int) -> int:
    """Return what a layer keeps of one place for its backward pass, in bytes."""
    norms = 2 * (4 + 2 * size) * shape.hidden
    attention = 2 * size * (shape.heads + shape.kv_heads) * shape.head_dim + 4 * shape.heads
    return norms + attention + 4 * size * shape.intermediate


def missing(shape: Shape, setting: Setting, capacity: int) -> str | None:
    """Say how much memory a step lacks and what would mend it; None where it fits.

    Args:
        shape: of the model.
        setting: how it is trained.
        capacity: bytes of a GPU.
    """
    memory = estimate(shape, setting)
    if memory.total <= capacity:
        return None
    parts = sorted(vars(memory).items(), key=lambda part: -part[1])[:3]
    most = ", ".join(f"{name} {_gib(size)}" for name, size in parts)
    said = (
        f"a step with sequences of {setting.length:,} needs about {_gib(memory.total)} on each GPU, which has "
        f"{_gib(capacity)}: {_gib(memory.total - capacity)} are missing ({most})"
    )
    found = []
    for knob in _knobs(setting):
        fitting = next((option for option in knob if _fits(shape, option[1], capacity)), None)
        if fitting is not None:
            found.append(f"{fitting[0]} ({_gib(estimate(shape, fitting[1]).total)})")
    # More GPUs are no advice to one who has not tried what costs none.
    costly = all("GPU" in option or "cp" in option for option in found)
    if costly and not (setting.checkpointing and setting.micro == 1 and found):
        found.append(_together(shape, setting, capacity))
    return f"{said}; what would fit: {', or '.join(found)}"


def _fits(shape: Shape, setting: Setting, capacity: int) -> bool:
    return estimate(shape, setting).total <= capacity


def _knobs(setting: Setting) -> Iterator[list[tuple[str, Setting]]]:
    """Yield what may be changed, one thing each, from a little to much: what to write, and what it comes to."""
    if not setting.checkpointing:
        yield [("checkpointing: full", replace(setting, checkpointing=True))]
    if setting.micro > 1:
        fewer = [n for n in range(setting.micro - 1, 0, -1) if not setting.micro % n]
        yield [(f"batch.micro: {n}", replace(setting, micro=n)) for n in fewer]
    halves = [setting.chunk >> n for n in range(1, 32) if setting.chunk >> n >= _LEAST_CHUNK]
    yield [(f"loss.chunk: {n}", replace(setting, chunk=n)) for n in halves]
    yield list(_wider(setting))
    yield [(f"{n} GPUs", replace(setting, shards=n)) for n in _doubled(setting.shards)]


def _wider(setting: Setting) -> Iterator[tuple[str, Setting]]:
    for cp in _doubled(setting.cp):
        if setting.micro * setting.length % (2 * cp):
            return
        ranks = max(setting.shards, cp)
        on = f" on {ranks} GPUs" if ranks > setting.shards else ""
        yield f"parallel.cp: {cp}{on}", replace(setting, cp=cp, shards=ranks)


def _doubled(count: int) -> list[int]:
    return [count << n for n in range(1, 13) if count << n <= _MOST_RANKS]


def _together(shape: Shape, setting: Setting, capacity: int) -> str:
    """Say what would fit if everything is changed at once."""
    least = replace(setting, checkpointing=True, micro=1, chunk=min(setting.chunk, _LEAST_CHUNK))
    base = f"checkpointing: full, batch.micro: 1 and loss.chunk: {least.chunk}"
    if _fits(shape, least, capacity):
        return f"{base} ({_gib(estimate(shape, least).total)})"
    for cp in [least.cp, *_doubled(least.cp)]:
        for shards in [least.shards, *_doubled(least.shards)]:
            option = replace(least, cp=cp, shards=max(shards, cp))
            if least.length % (2 * cp) == 0 and _fits(shape, option, capacity):
                also = f"parallel.cp: {cp} on {option.shards} GPUs"
                return f"{base}, with {also} ({_gib(estimate(shape, option).total)})"
    return "nothing that can be set: take a smaller model or shorter sequences"


def _gib(size: int) -> str:
    return f"{size / _GIB:.3g} GiB" if size < 999 * _GIB else f"{size / _GIB:,.0f} GiB"
