"""How positions are told to the model, and how that is stretched for longer sequences.

A head's pair of dimensions i of d turns by p · b^(-2i/d) at position p. A model trained to L positions has not seen its
slow pairs come round, so beyond L it meets angles that are new to it. Four ways to go on:

    model   as it has it
    base    a larger b slows all pairs, the fast ones least (ABF: adjusted base frequency, arXiv 2309.16039)
    linear  positions are divided by a factor (arXiv 2306.15595)
    yarn    slow pairs are divided by the factor, fast ones stay, those between are mixed; and scores are sharpened, by
            1/t = (0.1 ln(factor) + 1)² (arXiv 2309.00071, §3)

Transformers does the arithmetic, from `config.rope_parameters`; here they are set, held to the sequences' length,
changed while a model lives, and kept with its checkpoints:

    Rope("base", base=8e6) ─ apply ─▶ config.rope_parameters {"rope_type": "default", "rope_theta": 8e6}
                                       config.max_position_embeddings 65536
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from transformers import PretrainedConfig

from mixture.errors import TrainError, nearest

_KINDS = ("model", "base", "linear", "yarn")
_WANTS = {"model": (), "base": ("base",), "linear": ("factor",), "yarn": ("factor",)}
_TAKES = {
    "model": (),
    "base": ("base",),
    "linear": ("factor", "base"),
    "yarn": ("factor", "original", "base", "temperature"),
}
#: JSON of one number, text or list.
Parameter = float | int | str | bool | list[float] | None


@dataclass(frozen=True)
class Rope:
    """A way to stretch.

    Attributes:
        kind: which one.
        base: b, for `base`; the others keep the model's own where it is not given.
        factor: how many times longer than `original`, for `linear` and `yarn`.
        original: positions that the model was trained to; its own number where it is not given.
        temperature: what `yarn` multiplies queries and keys by, √(1/t); 0.1 ln(factor) + 1 where it is not given.

    Raises:
        TrainError: at birth, for a kind that there is not, or a number that is missing, idle or impossible.
    """

    kind: Literal["model", "base", "linear", "yarn"] = "model"
    base: float | None = None
    factor: float | None = None
    original: int | None = None
    temperature: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise TrainError(f"rope.kind: {self.kind!r} is not one; {nearest(self.kind, _KINDS)}")
        for name, least in (("base", 1.0), ("factor", 1.0), ("original", 1), ("temperature", 1e-6)):
            value = getattr(self, name)
            if value is None and name in _WANTS[self.kind]:
                raise TrainError(f"rope.{name} is missing: kind: {self.kind} needs it")
            if value is not None and name not in _TAKES[self.kind]:
                raise TrainError(f"rope.{name}: kind: {self.kind} takes none; leave it out")
            if value is not None and not least <= value < float("inf"):
                raise TrainError(f"rope.{name}: {value} must be at least {least:g}")


@dataclass(frozen=True)
class RopeRecord:
    """The rotary embedding that is in force; kept with checkpoints.

    Attributes:
        rope: how it was asked for.
        parameters: transformers' `rope_parameters`.
        positions: transformers' `max_position_embeddings`.
    """

    rope: Rope
    parameters: dict[str, Parameter]
    positions: int

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON knows it."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> RopeRecord:
        """Read back what `to_json` gave."""
        return cls(Rope(**value["rope"]), value["parameters"], value["positions"])


def apply(
    config: PretrainedConfig, rope: Rope, length: int, *, fresh: bool = False
) -> tuple[PretrainedConfig, RopeRecord]:
    """Return a model's config stretched for sequences of a length; the one given is left as it is.

    Args:
        config: as the model comes.
        rope: how.
        length: places of the longest sequence.
        fresh: whether the weights are random, so that any positions are as good as others.

    Raises:
        TrainError: the model has no rotary embedding of the plain form, or what is asked for does not reach `length`.
    """
    config = copy.deepcopy(config)
    parameters = getattr(config, "rope_parameters", None)
    if not isinstance(parameters, dict) or "rope_theta" not in parameters:
        if rope.kind == "model":
            return config, RopeRecord(rope, {}, int(getattr(config, "max_position_embeddings", 0)))
        raise TrainError(
            f"rope.kind: {rope.kind} needs a model with one rotary embedding for all layers, and {config.model_type!r} "
            "has none such; leave `rope` out"
        )
    own = int(config.max_position_embeddings)
    original = rope.original or int(parameters.get("original_max_position_embeddings") or own)
    if rope.base is not None:
        parameters = parameters | {"rope_theta": float(rope.base)}
    if rope.kind in ("linear", "yarn"):
        parameters = _stretched(parameters, rope, original)
    covered = {
        "model": max(own, length) if fresh else own,
        "base": max(own, length),
    }.get(rope.kind, int(original * (rope.factor or 1)))
    if length > covered:
        raise TrainError(_too_long(rope, length, covered, original))
    config.rope_parameters, config.max_position_embeddings = parameters, covered
    return config, RopeRecord(rope, dict(parameters), covered)


def _stretched(parameters: dict[str, Any], rope: Rope, original: int) -> dict[str, Any]:
    """Replace whatever stretched the embedding before; the base and the share of a head that turns stay."""
    kept = {name: parameters[name] for name in ("rope_theta", "partial_rotary_factor") if name in parameters}
    out = kept | {"rope_type": rope.kind, "factor": float(rope.factor or 1)}
    if rope.kind == "yarn":
        out["original_max_position_embeddings"] = original
        if rope.temperature is not None:
            out["attention_factor"] = float(rope.temperature)
    return out


def _too_long(rope: Rope, length: int, covered: int, original: int) -> str:
    if rope.kind == "model":
        return (
            f"sequences of {length:,} places are longer than the {covered:,} positions that the model was made for; "
            f"stretch it, as with rope: {{kind: yarn, factor: {-(-length // covered)}}} or {{kind: base, base: …}}"
        )
    return (
        f"rope.factor: {rope.factor:g} × {original:,} positions are {covered:,}, and sequences have {length:,} places; "
        f"give {-(-length // original)} or more"
    )


def remake(model: torch.nn.Module) -> int:
    """Make a model's rotary buffers anew from its config, where they lie; return how many embeddings there were.

    Needed after a model's memory was allocated (the buffers are in no checkpoint), and after its config was changed.
    """
    found = [module for module in model.modules() if "RotaryEmbedding" in type(module).__name__]
    for module in found:
        device = next(module.buffers()).device
        with torch.device("cpu"):
            new = type(module)(config=module.config)
        for name, buffer in new.named_buffers():
            setattr(module, name, buffer.to(device))
        for name, value in vars(new).items():
            if not name.startswith("_") and name not in ("training", "config"):
                setattr(module, name, value)
    return len(found)
