"""The config of a training run: a YAML file that people write, checked at birth.

    lock: manifests/quickstart.lock.json      what is trained on
    batch: {tokens: 4M}                       4M of tokens are 32 sequences of 128K
    optimizer: {lr: 2e-5}
    phases:
      long: {rope: {kind: base, base: 128M}, optimizer: {lr: 1e-5}}

`config.of("long")` is what holds in that phase of the recipe: the file, with what the phase says put over it, key by
key. Where a phase gives a `rope`, or a `schedule` of another kind, that replaces the usual one as a whole.

A batch is counted like the lengths that it is made of (K is 1024, M 1024²), so that it divides; `stop` and other
lengths of the run are counted like a recipe's budget (`Amount`).

`config.what()` is the part that decides what is learnt. How it is computed is left out: ranks, micro-batches, chunks,
compilation; and so is where things lie: names, folders, the lock's path (a run's state names the lock by its content).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, field_serializer, model_validator

from mixture import lockfile
from mixture.errors import ConfigError, nearest
from mixture.hashing import fingerprint
from mixture.pack.shuffle import Shuffle
from mixture.recipe import NAME
from mixture.recipe.quantities import Length, Part, show_length, tokens
from mixture.storage import Place
from mixture.train.amount import NOTHING, Amount
from mixture.train.amount import Length as Extent
from mixture.yamlfile import Form

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


class PhaseRule(Part):
    """What differs in a phase of the recipe; what it leaves out is the config's."""

    rope: RopeRule | None = Field(None, description="replaces the config's as a whole")
    batch: BatchRule | None = None
    optimizer: OptimizerChange | None = None
    schedule: ScheduleRule | None = Field(
        None, description="the phase then has a schedule of its own, from its first step to its last"
    )
    documents: bool | None = None
    order: OrderRule | None = None
    checkpointing: Literal["full", "none"] | None = None
    loss: LossRule | None = None


class TrainConfig(Part):
    """A config file, whole."""

    name: str = Field(pattern=NAME, description="names the run")
    lock: str = Field(min_length=1, description="the lock of the mixture that is trained on")
    model: ModelRule
    after: str | None = Field(
        None,
        min_length=1,
        description="a run's folder, or a checkpoint: this run begins with its weights and moments",
    )
    rope: RopeRule = RopeRule()
    batch: BatchRule
    stop: Extent | None = Field(None, description="where training ends: 1B (tokens), 100 steps, 0.5 (of the lock)")
    optimizer: OptimizerRule
    schedule: ScheduleRule = ScheduleRule()
    documents: bool = Field(True, description="mask documents: no attention across them, positions from 0 in each")
    order: OrderRule = OrderRule()
    precision: Literal["bf16", "float32"] = Field("bf16", description="of matrix products; weights are float32")
    checkpointing: Literal["full", "none"] = Field("full", description="compute activations again in the backward pass")
    compile: bool = Field(False, description="compile each layer (torch.compile)")
    loss: LossRule = LossRule()
    parallel: ParallelRule = ParallelRule()
    checkpoints: CheckpointRule = CheckpointRule()
    events: EventRule = EventRule()
    out: str | None = Field(None, min_length=1, description="the run's folder (runs/NAME); --out wins")
    phases: dict[str, PhaseRule] = Field(default_factory=dict, description="what differs in phases of the recipe")
    seed: int = Field(0, description="of random weights")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.batch.tokens is None and self.batch.sequences is None:
            raise ValueError("batch: give one of: tokens, sequences")
        if self.stop is not None and not self.stop:
            raise ValueError("stop: 0 trains on nothing; write 1B, 100 steps or 0.5, or leave it out")
        for name in self.phases:
            try:
                self.of(name)
            except ValidationError as error:
                first = error.errors()[0]
                at = ".".join(["phases", name, *map(str, first["loc"])])
                raise ValueError(f"{at}: {first['msg'].removeprefix('Value error, ')}") from error
        return self

    @property
    def folder(self) -> str:
        """The run's folder, where no option names another."""
        return self.out or f"runs/{self.name}"

    def of(self, phase: str) -> TrainConfig:
        """Return what holds in a phase: what it says itself put over the rest; no `phases` are left in it."""
        said = self.phases.get(phase, PhaseRule()).model_dump(exclude_unset=True)
        merged = self.model_dump(exclude_unset=True, exclude={"phases"})
        for name, value in said.items():
            if value is not None:
                merged[name] = _over(name, merged.get(name), value)
        return TrainConfig.model_validate(merged)

    def what(self) -> dict[str, Any]:
        """Return what decides what is learnt, JSON-able, without where and how it is computed."""
        keys = {"rope", "optimizer", "schedule", "documents"}
        parts: dict[str, Any] = {"batch": {"tokens", "sequences"}, "order": {"shuffle", "seed"}}
        shared = dict.fromkeys(keys, True) | parts
        apart = {"model": {"config"}, "precision": True, "seed": True}
        own = [rule.schedule for rule in self.phases.values() if rule.schedule is not None]
        if any(schedule.anchored for schedule in (self.schedule, *own)):
            apart["stop"] = True
        what = self.model_dump(mode="json", include=shared | apart, exclude_none=True)
        phases = {
            name: rule.model_dump(mode="json", include=shared, exclude_unset=True) for name, rule in self.phases.items()
        }
        return what | {"phases": {name: rule for name, rule in phases.items() if rule}}

    @property
    def fingerprint(self) -> str:
        """32 hex digits that name what decides what is learnt."""
        return fingerprint(self.what())


def _over(name: str, usual: Any, said: Any) -> Any:
    """Put what a phase says of a key over what is usual."""
    if name == "rope" or not isinstance(usual, dict) or not isinstance(said, dict):
        return said
    if name == "schedule" and said.get("kind", usual.get("kind")) != usual.get("kind"):
        return said
    if name == "batch" and said.keys() & {"tokens", "sequences"}:
        usual = {key: value for key, value in usual.items() if key == "micro"}
    return usual | said


def check_phases(config: TrainConfig, names: Sequence[str], lock: str) -> None:
    """Refuse a config that speaks of phases which its lock does not have.

    Args:
        config: the config.
        names: of the lock's phases; one empty name where its recipe has none.
        lock: what the lock is called.

    Raises:
        ConfigError: names the phase, and the nearest.
    """
    for name in config.phases:
        if name not in names:
            known = nearest(name, names) if any(names) else "its recipe has no phases: leave the key out"
            raise ConfigError(f"phases: {lock} has no phase {name!r}; {known}")


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """List what differs between two configs' `what()`, as `optimizer.lr: 1e-05 → 2e-05`."""
    return lockfile.changes(dict(before), dict(after))


FORM = Form(TrainConfig, "config", ConfigError, "manifests/train-quickstart.yaml is one")


def load(path: Place) -> TrainConfig:
    """Read and check a config file.

    Raises:
        ConfigError: missing, not YAML, or not a config; names the line, the field, the value and what is allowed.
    """
    return FORM.load(path)


def parse(text: str, where: str = "config") -> TrainConfig:
    """Check a config given as YAML text; see `load`."""
    return FORM.parse(text, where)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a config file, for editors; published as `manifests/train.schema.json`."""
    schema = TrainConfig.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema | {"title": "mixture training config"}
