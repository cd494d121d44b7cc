"""The parts of a training config, each checked at birth; what they mean together is `config`'s matter.

model: {path: m}      ─▶  ModelRule          batch: {tokens: 4M}         ─▶  BatchRule
rope: {kind: yarn …}  ─▶  RopeRule           schedule: {kind: wsd …}     ─▶  ScheduleRule
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_serializer, model_validator

from mixture.errors import ConfigError
from mixture.pack.shuffle import Shuffle
from mixture.recipe.quantities import Length, Part, show_length, tokens
from mixture.train.amount import NOTHING, Amount
from mixture.train.amount import Length as Extent

_FLOAT = re.compile(r"[-+]?\d+(?:\.\d*)?[eE][-+]?\d+")
Count = Annotated[int, Field(ge=1, le=10**9)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _nothing(value: object) -> object:
    """Let `none` stand for nothing."""
    return None if value == "none" else value


def _numbers(value: Any) -> Any:
    """Turn `1e-5` into a number: YAML 1.1 takes it for text, as it has no dot."""
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return float(value) if isinstance(value, str) and _FLOAT.fullmatch(value) else value


def _base(value: object) -> object:
    """Read a base of rotary embeddings: `8M`, `8_000_000` or `8e6`."""
    return tokens(value) if isinstance(value, str) and not _FLOAT.fullmatch(value) else value


def _window(value: object) -> object:
    """Read a window of a shuffle: `none`, `all`, or a number of sequences."""
    return value if value in {"none", "all"} else _counted(value)


def _counted(value: object) -> int:
    try:
        return tokens(value)
    except ValueError as error:
        raise ValueError(
            f"{value!r} is no number of sequences; write none, all, or a window as 64K or 50000"
        ) from error


class ModelRule(Part):
    """Which model is trained: one that is there, or a new one of random weights."""

    path: str | None = Field(None, min_length=1, description="a Hugging Face folder: config.json and safetensors")
    config: Annotated[dict[str, Any], BeforeValidator(_numbers)] | None = Field(
        None, description="a Hugging Face config; its weights are drawn from `seed`: {model_type: llama, …}"
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.path is None) == (self.config is None):
            raise ValueError("give exactly one of: path, config")
        if self.config is not None and not isinstance(self.config.get("model_type"), str):
            raise ValueError("config: model_type is missing: llama, qwen2, qwen3, mistral")
        return self


#: Which numbers each kind of position encoding takes, and which it needs.
_ROPES: dict[str, tuple[set[str], set[str]]] = {
    "model": (set(), set()),
    "base": ({"base"}, {"base"}),
    "linear": ({"factor"}, {"factor"}),
    "yarn": ({"factor", "original", "base"}, {"factor"}),
}


class RopeRule(Part):
    """How rotary position embeddings reach beyond the length that the model was trained at."""

    kind: Literal["model", "base", "linear", "yarn"] = Field(
        "model",
        description="model: as it has them; base: another base (ABF); linear: positions divided by factor; yarn",
    )
    base: Annotated[Positive, BeforeValidator(_base, json_schema_input_type=float | str)] | None = Field(
        None, description="base of the frequencies, as 8M; with kind: base or yarn"
    )
    factor: Annotated[float, Field(ge=1, allow_inf_nan=False)] | None = Field(
        None, description="how many times longer; with kind: linear or yarn"
    )
    original: Length | None = Field(None, description="length the model was trained at; with kind: yarn (its config's)")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        taken, needed = _ROPES[self.kind]
        given = {name for name in ("base", "factor", "original") if getattr(self, name) is not None}
        for name in sorted(given - taken):
            kinds = " or ".join(kind for kind, (known, _) in _ROPES.items() if name in known)
            raise ValueError(f"{name}: kind: {self.kind} takes none; leave it out, or write kind: {kinds}")
        for name in sorted(needed - given):
            raise ValueError(f"needs {name} with kind: {self.kind}: {type(self).model_fields[name].description}")
        return self


class BatchRule(Part):
    """How much a step learns from."""

    tokens: Length | None = Field(None, description="tokens of a step, over all ranks: 4M is 32 sequences of 128K")
    sequences: Count | None = Field(None, description="or sequences of a step, over all ranks")
    micro: Count = Field(1, description="sequences that one rank takes at once")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.tokens is not None and self.sequences is not None:
            raise ValueError("give exactly one of: tokens, sequences")
        return self

    def of(self, length: int) -> int:
        """Return the sequences of a step, for sequences of so many places.

        Raises:
            ConfigError: not one fits.
        """
        count = self.sequences if self.tokens is None else self.tokens // length
        if not count:
            raise ConfigError(
                f"batch.tokens: {self.tokens or 0:,} is less than a sequence of {length:,}; give {show_length(length)} "
                "or more"
            )
        return count


class _Adam(Part):
    """What AdamW is told, besides the learning rate."""

    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = Field(
        (0.9, 0.95), description="decay of the first and second moments"
    )
    eps: Positive = Field(1e-8, description="added to the root of the second moment")
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        0.1, description="of matrices; norms and biases have none"
    )
    clip: Annotated[Positive | None, BeforeValidator(_nothing, json_schema_input_type=float | Literal["none"])] = Field(
        1.0, description="the largest norm of a step's gradient, or none"
    )

    @field_serializer("clip", when_used="json")
    def _told(self, value: float | None) -> float | str:
        """Tell one that is not clipped from one of which nothing is said."""
        return "none" if value is None else value


class OptimizerRule(_Adam):
    """AdamW, with decoupled weight decay."""

    lr: Positive = Field(description="the highest learning rate, as 2e-5; the schedule is a factor of it")


class OptimizerChange(_Adam):
    """What a phase changes of the optimizer."""

    lr: Positive | None = Field(None, description="the highest learning rate of this phase")


class ScheduleRule(Part):
    """How the learning rate moves, as a factor of `optimizer.lr`; see `mixture.train.schedule`."""

    kind: Literal["constant", "cosine", "wsd"] = Field(
        "constant", description="after the warm-up: constant; cosine down to floor; warm-up, stable, decay"
    )
    warmup: Extent = Field(NOTHING, description="length of the linear warm-up: 100M, 100 steps or 0.01")
    floor: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="share of lr at the end, with cosine (0.1) and wsd (0)"
    )
    decay: Extent | None = Field(None, description="length of the decay at the end, with wsd (0.1)")
    shape: Literal["linear", "sqrt", "cosine"] | None = Field(
        None, description="of the decay, with wsd: linear, 1-sqrt or cosine (sqrt)"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        takes = {"constant": (), "cosine": ("floor",), "wsd": ("floor", "decay", "shape")}[self.kind]
        for name in ("floor", "decay", "shape"):
            if getattr(self, name) is not None and name not in takes:
                kinds = "cosine or wsd" if name == "floor" else "wsd"
                raise ValueError(f"{name}: kind: {self.kind} takes none; leave it out, or write kind: {kinds}")
        return self

    @property
    def anchored(self) -> bool:
        """Whether it depends on where the run ends."""
        return self.kind != "constant" or (self.warmup.kind == "share" and bool(self.warmup))


class OrderRule(Part):
    """In which order the sequences of a phase are taken, and who takes which of a step's."""

    shuffle: Annotated[
        Literal["none", "all"] | int,
        BeforeValidator(_window, json_schema_input_type=int | str),
    ] = Field("none", description="none: the stream's order, mixed already; all; or windows of so many sequences: 64K")
    seed: int = Field(0, description="of the shuffle")
    balance: bool = Field(True, description="deal a step's sequences to ranks by the cost of attention")

    def of(self, sequences: int) -> Shuffle:
        """Return the order of a phase of so many sequences."""
        if self.shuffle == "none":
            return Shuffle()
        return Shuffle(sequences if self.shuffle == "all" else int(self.shuffle), self.seed)


class LossRule(Part):
    """How the loss is computed."""

    chunk: Count = Field(4096, description="places whose logits exist at once")


class ParallelRule(Part):
    """How ranks divide the work; what is left of them shards parameters (FSDP2)."""

    cp: Count = Field(1, description="ranks that share each sequence (context parallelism)")
    replicate: Count = Field(1, description="groups of ranks that each hold all parameters between them")


class CheckpointRule(Part):
    """When the state of the run is kept."""

    every: Extent = Field(Amount("steps", 100), description="how often: 100 steps, or 1B tokens")
    keep: Count = Field(3, description="how many of the newest stay")
    asynchronous: bool = Field(True, description="write while training goes on")
    export: bool = Field(True, description="write the weights as safetensors at the end, for Hugging Face")

    @model_validator(mode="after")
    def _often(self) -> Self:
        if self.every.kind == "share" or not self.every:
            raise ValueError("every: write 100 steps, or 1B for tokens")
        return self


class GateRule(Part):
    """What an examination may decide of a run."""

    stop: bool = Field(False, description="end the run when behaviour, probability and mechanism are saturated")
    advance: bool = Field(
        False, description="go to the next phase when short context has recovered and the needle is always found"
    )
    margin: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        0.01, description="by how much short context may stay behind what it was before training"
    )
    perfect: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="score of a cell in which the needle is found"
    )


class MonitorRule(Part):
    """When the run examines itself; the ranks wait for it."""

    every: Extent = Field(description="how often: 100M tokens, or 500 steps; a checkpoint is saved there")
    suite: str | None = Field(None, min_length=1, description="the suite's file; without one a sound default")
    text: tuple[str, ...] = Field((), description="files of text for it; none: what the lock's recipe holds out")
    tokenizer: str | None = Field(
        None, min_length=1, description="the tokenizer's file, where the lock does not say it"
    )
    first: bool = Field(True, description="examine the model before the first step, too")
    gates: GateRule = GateRule()

    @model_validator(mode="after")
    def _often(self) -> Self:
        if self.every.kind == "share" or not self.every:
            raise ValueError("every: write 500 steps, or 100M for tokens")
        return self


class EventRule(Part):
    """What is told of a run, and where."""

    every: Count = Field(1, description="steps between two lines of the terminal")
    tensorboard: bool = Field(True, description="write TensorBoard's files too")
    wandb: Literal["auto", True, False] = Field("auto", description="Weights & Biases; auto: where it is installed")
    project: str = Field("mixture", min_length=1, description="the project's name in Weights & Biases")
    positions: tuple[Length, ...] = Field(
        (1024, 4096, 16384, 65536), description="edges of the positions in a document that losses are told by, rising"
    )
    spike: Annotated[Positive | None, BeforeValidator(_nothing, json_schema_input_type=float | Literal["none"])] = (
        Field(6.0, description="how far above the recent losses a loss is a spike, in robust deviations; or none")
    )
    peak_flops: Positive | None = Field(None, description="what a GPU can do in a second, where its name says nothing")

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if list(self.positions) != sorted(set(self.positions)):
            shown = ", ".join(map(show_length, self.positions))
            raise ValueError(f"positions: edges must rise, got {shown}")
        return self
