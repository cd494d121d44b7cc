"""The suite: what is measured of every checkpoint, as a short YAML file that people write, checked at birth.

    levels: [behaviour, probability, mechanism]
    tasks: {niah: {samples: 2}, json_kv: {}}
    lengths: [4K, 16K, 64K]                       tokens of prompts; or how many columns up to the window: 10
    depths: 5                                     rows of the grid; or the places: [0, 0.5, 1]
    epsilon: {score: 0.02, perplexity: 2%}        the least gain that is worth a doubling of the tokens

A key that is left out has a default, and an empty suite is a sound one: its lengths fit the model's window. What of it
decides numbers (`what()`) is kept with the table, so that rows of two suites never stand in one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from mixture.errors import MonitorError, nearest
from mixture.monitor.saturation import EPSILON
from mixture.monitor.tasks import TASKS, depths_of
from mixture.monitor.verdicts import Epsilon
from mixture.recipe.quantities import Length, Part, length, show_length
from mixture.yamlfile import Form

Level = Literal["behaviour", "probability", "mechanism"]
LEVELS: tuple[Level, ...] = ("behaviour", "probability", "mechanism")
Count = Annotated[int, Field(ge=1, le=10**6)]
_PERCENT = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*%")


def _lengths(value: object) -> object:
    """Read lengths of prompts: a number of columns, or a list as [4K, 16K]."""
    if isinstance(value, (list, tuple)):
        if not value:
            raise ValueError("an empty list measures nothing; give lengths, as [4K, 16K]")
        return tuple(sorted({length(one) for one in value}))
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{value!r} is neither a number of columns, as 10, nor a list of lengths, as [4K, 16K]")
    if not 1 <= value <= 1000:
        raise ValueError(
            f"{value} columns; give 1 to 1000 of them, or [{show_length(value) if value > 0 else '4K'}] for a length"
        )
    return value


def _depths(value: object) -> object:
    """Read depths of needles: a number of rows, or a list of places from 0 to 1."""
    if isinstance(value, (list, tuple)):
        strange = [one for one in value if isinstance(one, bool) or not isinstance(one, (int, float))]
        if strange or not value or not all(0 <= one <= 1 for one in value):
            raise ValueError("depths are places from 0, the start, to 1, the end, as [0, 0.5, 1]")
        return tuple(sorted({float(one) for one in value}))
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1000:
        raise ValueError(f"{value!r} is neither a number of rows, as 10, nor a list of places, as [0, 0.5, 1]")
    return value


def _epsilon(value: object) -> object:
    """Read a least gain: 0.02 in the metric's unit, or 2% of its value."""
    if isinstance(value, str) and (found := _PERCENT.fullmatch(value.strip())):
        return {"value": float(found[1]) / 100, "relative": True}
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return {"value": float(value)}
    if isinstance(value, Mapping):
        return value
    raise ValueError(f"{value!r} is no least gain; write 0.02 in the metric's unit, or 2% of its value")


Lengths = Annotated[int | tuple[int, ...], BeforeValidator(_lengths, json_schema_input_type=int | list[int | str])]
Depths = Annotated[int | tuple[float, ...], BeforeValidator(_depths, json_schema_input_type=int | list[float])]


class Least(Part):
    """The least gain of a metric that counts."""

    value: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    relative: bool = False


class GridRule(Part):
    """A grid of prompts; what it leaves out is the suite's."""

    lengths: Lengths | None = Field(None, description="tokens of prompts, as [4K, 16K], or how many columns")
    depths: Depths | None = Field(None, description="places of the needle, as [0, 0.5, 1], or how many rows")
    samples: Count | None = Field(None, description="prompts of each cell")


class Grid(Part):
    """A grid with nothing left out."""

    lengths: Lengths
    depths: Depths
    samples: Count

    @property
    def places(self) -> tuple[float, ...]:
        """The depths themselves."""
        return depths_of(self.depths) if isinstance(self.depths, int) else self.depths


#: Of a task that the suite says nothing more of.
GRIDS: Mapping[str, Grid] = {
    "niah": Grid(lengths=10, depths=10, samples=1),
    **{name: Grid(lengths=4, depths=5, samples=1) for name in TASKS if name != "niah"},
}


class TextRule(Part):
    """The text that needles are hidden in, and that losses are measured on."""

    files: tuple[str, ...] = Field((), description="files and folders of text; none: what the lock's recipe holds out")
    field: str = Field("text", min_length=1, description="of a row of JSON lines or Parquet, that holds its text")
    domains: tuple[str, ...] = Field((), description="domains of the hold-out; none: all of them")
    tokens: Length = Field(4 << 20, description="tokens of a haystack that are enough")
    unchecked: bool = Field(False, description="take files without asking the lock whether they were trained on")


class HoldoutRule(Part):
    """Loss on held-out documents."""

    documents: Count = Field(16, description="of each cell of domain × length")
    lengths: tuple[Length, ...] | None = Field(None, description="edges of documents' lengths (the recipe's buckets)")
    positions: tuple[Length, ...] = Field((256, 1024, 4096, 16384, 65536), description="edges of places, rising")

    @field_validator("lengths", "positions")
    @classmethod
    def _rising(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and list(value) != sorted(set(value)):
            raise ValueError(f"edges must rise, got {', '.join(map(show_length, value))}")
        return value


class LongRule(Part):
    """LongPPL, over held-out documents that are longer than the short context."""

    short: Length = Field(4096, description="tokens of the short context")
    step: Length = Field(1024, description="how far its windows are apart")
    texts: Count = Field(8, description="documents, the longest of those held out")


class HeadsRule(GridRule):
    """Retrieval scores of heads, and the check that silences the best of them."""

    task: str = Field("niah", description="what they are asked")
    causal: Annotated[int, Field(ge=0, le=10**6)] = Field(8, description="prompts of the causal check; 0 for none")
    draws: Count = Field(3, description="how often as many other heads are silenced")

    @field_validator("task")
    @classmethod
    def _known(cls, value: str) -> str:
        return _task(value)


def _task(name: str) -> str:
    if name not in TASKS:
        raise ValueError(f"no task is named {name!r}; {nearest(name, TASKS)} (known: {', '.join(TASKS)})")
    return name


def _tasks(value: object) -> object:
    """Let a list of names stand for tasks of which nothing more is said."""
    return {str(name): {} for name in value} if isinstance(value, (list, tuple)) else value


Tasks = Annotated[dict[str, GridRule], BeforeValidator(_tasks, json_schema_input_type=list[str] | dict[str, Any])]


class Suite(Part):
    """A suite, whole."""

    levels: tuple[Level, ...] = Field(LEVELS, min_length=1, description="which levels are measured")
    tasks: Tasks = Field(
        default_factory=lambda: {name: GridRule() for name in TASKS}, description="questions, and their grids"
    )
    lengths: Lengths | None = Field(None, description="of every grid that says nothing else")
    depths: Depths | None = Field(None, description="likewise")
    samples: Count | None = Field(None, description="likewise")
    window: Length | None = Field(None, description="positions that are used, where not the model's own window")
    seed: int = Field(0, description="of all prompts")
    text: TextRule = TextRule()
    holdout: HoldoutRule | None = HoldoutRule()
    longppl: LongRule | None = LongRule()
    interference: Annotated[int, Field(ge=0, le=10**6)] = Field(8, description="prompts of it; 0 for none")
    heads: HeadsRule = HeadsRule()
    batch: Length = Field(32 << 10, description="tokens that run through the model at once")
    device: str = Field("auto", min_length=1, description="cpu, cuda; auto: the GPU where there is one")
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field("auto", description="of weights")
    epsilon: dict[str, Annotated[Least, BeforeValidator(_epsilon, json_schema_input_type=float | str)]] = Field(
        default_factory=dict, description="by metric, the least gain that counts: 0.02, or 2% of its value"
    )

    @field_validator("levels")
    @classmethod
    def _once(cls, value: tuple[Level, ...]) -> tuple[Level, ...]:
        return tuple(level for level in LEVELS if level in value)

    @field_validator("tasks")
    @classmethod
    def _known(cls, value: dict[str, GridRule]) -> dict[str, GridRule]:
        for name in value:
            _task(name)
        return value

    def grid(self, task: str) -> Grid:
        """Return the grid of a task."""
        return self._over(self.tasks.get(task, GridRule()), GRIDS[task])

    @property
    def heads_grid(self) -> Grid:
        """The grid of the prompts by which heads are scored."""
        return self._over(self.heads, Grid(lengths=4, depths=5, samples=1))

    def _over(self, said: GridRule, usual: Grid) -> Grid:
        found = {}
        for name in ("lengths", "depths", "samples"):
            options = (getattr(said, name), getattr(self, name), getattr(usual, name))
            found[name] = next(option for option in options if option is not None)
        return Grid.model_validate(found)

    @property
    def epsilons(self) -> dict[str, Epsilon]:
        """The least gains that differ from the usual ones, by metric."""
        return {name: Epsilon(least.value, least.relative) for name, least in self.epsilon.items()}

    def what(self) -> dict[str, Any]:
        """Return what of it decides numbers, JSON-able: not where they are computed, nor how they are judged."""
        left_out = {"levels", "batch", "device", "dtype", "epsilon"}
        said = self.model_dump(mode="json", exclude=left_out | {"tasks", "lengths", "depths", "samples", "heads"})
        grids = {name: self.grid(name).model_dump(mode="json") for name in sorted(self.tasks)}
        heads = self.heads.model_dump(mode="json") | self.heads_grid.model_dump(mode="json")
        return said | {"tasks": grids, "heads": heads}


FORM = Form(Suite, "suite", MonitorError, "manifests/monitor-quickstart.yaml is one")
#: Metrics that have a least gain of their own.
KNOWN_EPSILONS = tuple(EPSILON)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a suite, for editors; published as `manifests/monitor.schema.json`."""
    schema = Suite.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema | {"title": "mixture monitor suite"}
