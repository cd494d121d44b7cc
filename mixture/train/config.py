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

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from mixture import lockfile
from mixture.errors import ConfigError, nearest
from mixture.hashing import fingerprint
from mixture.recipe import NAME
from mixture.recipe.quantities import Part
from mixture.storage import Place
from mixture.train.amount import Length as Extent
from mixture.train.rules import (
    BatchRule,
    CheckpointRule,
    EventRule,
    LossRule,
    ModelRule,
    MonitorRule,
    OptimizerChange,
    OptimizerRule,
    OrderRule,
    ParallelRule,
    RopeRule,
    ScheduleRule,
)
from mixture.yamlfile import Form


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
    monitor: MonitorRule | None = Field(None, description="examine checkpoints while the ranks wait; none by default")
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
    if path.name.endswith(".lock.json"):
        raise ConfigError(f"{path}: a lock; name a config in which it stands: {FORM.start}")
    return FORM.load(path)


def parse(text: str, where: str = "config") -> TrainConfig:
    """Check a config given as YAML text; see `load`."""
    return FORM.parse(text, where)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a config file, for editors; published as `manifests/train.schema.json`."""
    schema = TrainConfig.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema | {"title": "mixture training config"}
