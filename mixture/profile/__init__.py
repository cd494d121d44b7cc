"""Where and how a job runs: engine, resources of each stage, storage. It never changes what is made.

A profile is a file that people write, `pipelines/<name>.yaml`:

    engine: slurm
    work: /shared/work
    resources: {cpus: 4, memory: 16G, time: 4h, tasks_per_job: 8}
    stages:
      pack: {cpus: 2, tasks_per_job: 16}
    slurm: {partition: cpu}

`profile.of("pack")` is what stands for all stages, with what the stage says itself: 2 cpus, 16 tasks in a job, 16 GiB.
`file` reads one and names the line of an error. Places are taken as they are: `work: shared/work` is relative to the
current directory, not to the profile; `~` and `$VARIABLES` are those of the machine that reads the profile.
"""

from __future__ import annotations

import os
import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from mixture.errors import nearest
from mixture.recipe.quantities import Part

#: The stages that have tasks, by the names of their commands.
STAGES = ("tokenize", "score", "plan", "pack", "verify", "export")
#: What a profile may give resources of its own: those, and the job that drives a detached run.
PLACES = (*STAGES, "driver")

_MEMORY = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*([KMGT])i?B?", re.IGNORECASE)
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_LEAST_MEMORY = 1 << 20
_TIME = re.compile(r"(?:(\d{1,9})d)?\s*(?:(\d{1,9})h)?\s*(?:(\d{1,9})m)?\s*(?:(\d{1,9})s)?", re.IGNORECASE)
_CLOCK = re.compile(r"(?:(\d{1,9})-)?(\d{1,9}):(\d\d)(?::(\d\d))?")
_MOST_SECONDS = 366 * 24 * 3600
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


def memory(value: object) -> int:
    """Parse `16G`, `512M` (powers of 1024), or bytes, into bytes.

    Raises:
        ValueError: no such quantity, or less than 1M.
    """
    match = _MEMORY.fullmatch(str(value).strip())
    if isinstance(value, int) and not isinstance(value, bool):
        amount = value
    elif match:
        amount = int(float(match[1]) * _UNITS[match[2].upper()])
    else:
        raise ValueError(f"{value!r} is not an amount of memory; write it as 16G or 512M")
    if amount < _LEAST_MEMORY:
        raise ValueError(f"{value} is {amount:,} bytes, less than 1M; write it as 16G or 512M")
    return amount


def seconds(value: object) -> int:
    """Parse `4h`, `1d12h`, `90m`, `30s`, `02:30:00` or `1-12:00:00` into seconds.

    Raises:
        ValueError: no such duration, or more than a year.
    """
    text = str(value).strip()
    match = _CLOCK.fullmatch(text)
    if match and match[1] is None and match[4] is None:
        raise ValueError(f"{value!r} may be hours or minutes; write it as {match[2]}h{match[3]}m or {text}:00")
    match = match or _TIME.fullmatch(text)
    if not match or not text:
        raise ValueError(f"{value!r} is not a duration; write it as 4h, 90m, 1d12h or 02:30:00")
    days, hours, minutes, rest = (int(part or 0) for part in match.groups())
    total = ((days * 24 + hours) * 60 + minutes) * 60 + rest
    if not 0 < total <= _MOST_SECONDS:
        what = "more than a year" if total else "no time at all"
        raise ValueError(f"{value!r} is {what}; write it as 4h, 90m, 1d12h or 02:30:00")
    return total


def expanded(value: str) -> str:
    """Put the home folder and variables of the environment into a place.

    Raises:
        ValueError: the place is empty, or a variable is not set.
    """
    if not value.strip():
        raise ValueError("is empty; name a folder, or leave the key out")
    for match in _VARIABLE.finditer(value):
        name = match[1] or match[2]
        if not os.environ.get(name):
            raise ValueError(f"{value!r}: {match[0]} is not set in the environment; set it, or write the place out")
    return os.path.expanduser(_VARIABLE.sub(lambda match: os.environ[match[1] or match[2]], value))  # noqa: PTH111


Memory = Annotated[int, BeforeValidator(memory, json_schema_input_type=int | str)]
Seconds = Annotated[int, BeforeValidator(seconds, json_schema_input_type=str)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Root = Annotated[str, AfterValidator(expanded)]


class Resources(Part):
    """What the jobs of a stage are given. What is not said here is as for all stages, then as the default."""

    cpus: Count | None = Field(None, description="processor cores of a job; as many tasks run in it at once (1)")
    memory: Memory | None = Field(None, description="memory of a job, as 16G (what the cluster gives)")
    time: Seconds | None = Field(None, description="time limit of a job, as 4h or 1d12h (what the cluster gives)")
    tasks_per_job: Count | None = Field(None, description="tasks that one job runs (1)")
    retries: Annotated[int, Field(ge=0, le=100)] | None = Field(
        None, description="how often a task is run again when something outside kills it (2)"
    )
    partition: str | None = Field(None, description="Slurm: the partition")
    account: str | None = Field(None, description="Slurm: the account that pays")
    flags: tuple[str, ...] | None = Field(None, description="Slurm: further options of sbatch, as --qos=long")

    def over(self, usual: Resources) -> Resources:
        """Return these, with what they do not say taken from `usual`."""
        mine = {name: value for name, value in self if value is not None}
        return usual.model_copy(update=mine)


#: Which knob says how many tasks run at once, by engine.
_AT_ONCE = {
    "slurm": "slurm.most_running",
    "dask": "dask.workers, or as many as the cluster has",
    "ray": "as many as the cluster has room for",
}

#: What holds where a profile says nothing.
DEFAULTS = Resources(cpus=1, tasks_per_job=1, retries=2)


class SlurmRules(Part):
    """How jobs are handed to Slurm."""

    partition: str | None = Field(None, description="the partition of every stage")
    account: str | None = Field(None, description="the account of every stage")
    flags: tuple[str, ...] = Field((), description="further options of sbatch for every stage, as --qos=long")
    logs: Root | None = Field(
        None, description="folder of the jobs' logs, on a shared file system (in the work directory)"
    )
    most_elements: Count = Field(1000, description="elements of one job array at most; the cluster's limit holds, too")
    most_running: Count | None = Field(None, description="elements that run at once at most (the cluster decides)")


class DaskRules(Part):
    """Which Dask cluster runs tasks: one that is there, or one that is started."""

    address: str | None = Field(None, description="the scheduler's address, as tcp://10.0.0.1:8786")
    cluster: str | None = Field(None, description="a class that starts one, as dask_jobqueue.SLURMCluster")
    options: dict[str, Any] = Field(default_factory=dict, description="what the class is given")
    workers: Count | None = Field(None, description="how many workers it is scaled to")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.address is None) == (self.cluster is None):
            raise ValueError("give exactly one of: address, cluster")
        return self


class RayRules(Part):
    """Which Ray cluster runs tasks."""

    address: str = Field("auto", description="the cluster's address; auto: the one that this machine belongs to")


class Profile(Part):
    """Where and how a job runs."""

    engine: Literal["local", "slurm", "dask", "ray"] = Field("local", description="who runs tasks")
    work: Root | None = Field(None, description="the work directory: a folder, or s3://, gs://, az:// and a prefix")
    data: Root | None = Field(None, description="what a recipe's paths are relative to: a folder or a prefix")
    scratch: str | None = Field(
        None, description="a node's own folder for what is fetched from object storage; its variables are the node's"
    )
    workers: Count | None = Field(None, description="processes of the local engine (all cores)")
    python: str | None = Field(None, description="the interpreter on the nodes (the one that submits)")
    setup: tuple[str, ...] = Field((), description="lines of shell that a job runs first: modules, environments")
    resources: Resources = Field(default_factory=Resources, description="of every stage")
    stages: dict[str, Resources] = Field(default_factory=dict, description="of single stages")
    slurm: SlurmRules = Field(default_factory=SlurmRules, description="with engine: slurm")
    dask: DaskRules | None = Field(None, description="with engine: dask")
    ray: RayRules = Field(default_factory=RayRules, description="with engine: ray")

    @field_validator("stages")
    @classmethod
    def _known(cls, value: dict[str, Resources]) -> dict[str, Resources]:
        for name in value:
            if name not in PLACES:
                raise ValueError(f"{name}: no such stage; {nearest(name, PLACES)}")
        return value

    @model_validator(mode="after")
    def _with_its_engine(self) -> Self:
        if self.engine == "dask" and self.dask is None:
            raise ValueError("engine: dask needs one that is there, as dask: {address: tcp://HOST:8786}, or a cluster")
        if self.engine != "local" and self.workers is not None:
            raise ValueError(
                f"workers: counts processes of the local engine; engine: {self.engine} takes resources.cpus, and "
                f"{_AT_ONCE[self.engine]}"
            )
        return self

    def of(self, stage: str) -> Resources:
        """Return the resources of a stage's jobs: cpus, tasks_per_job and retries are given."""
        usual = DEFAULTS
        if self.engine == "slurm":
            rules = self.slurm
            usual = Resources(partition=rules.partition, account=rules.account, flags=rules.flags or None).over(usual)
        return self.stages.get(stage, Resources()).over(self.resources.over(usual))


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a profile file, for editors; published as `pipelines/profile.schema.json`."""
    schema = Profile.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema | {"title": "mixture profile"}
