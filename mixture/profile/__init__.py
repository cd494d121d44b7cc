"""Where and how a job runs: engine, resources of each stage, storage. It never changes what is made.

A profile is a file that people write, `pipelines/<name>.yaml`:

    engine: slurm
    work: /shared/work
    resources: {cpus: 4, memory: 16G, time: 4h, tasks_per_job: 8}
    stages:
      pack: {cpus: 2, tasks_per_job: 16}
    slurm: {partition: cpu}

`resources.of("pack")` is what stands for all stages, with what the stage says itself.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from mixture.errors import nearest
from mixture.recipe.quantities import Part

#: What a profile may give resources of its own: the stages that have tasks, and the job that drives a detached run.
PLACES = ("tokenize", "score", "plan", "pack", "verify", "export", "driver")

_MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT])i?B?", re.IGNORECASE)
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_TIME = re.compile(r"(?:(\d+)d)?\s*(?:(\d+)h)?\s*(?:(\d+)m)?\s*(?:(\d+)s)?", re.IGNORECASE)
_CLOCK = re.compile(r"(?:(\d+)-)?(\d+):(\d\d)(?::(\d\d))?")


def memory(value: object) -> int:
    """Parse `16G`, `512M` (powers of 1024) into bytes.

    Raises:
        ValueError: no such quantity.
    """
    match = _MEMORY.fullmatch(str(value).strip())
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    if match is None or not float(match[1]):
        raise ValueError(f"{value!r} is not an amount of memory; write it as 16G or 512M")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def seconds(value: object) -> int:
    """Parse `4h`, `1d12h`, `90m`, `30s`, `02:30:00` or `1-12:00:00` into seconds.

    Raises:
        ValueError: no such duration.
    """
    text = str(value).strip()
    match = _CLOCK.fullmatch(text)
    if match:
        days, hours, minutes, rest = (int(part or 0) for part in match.groups())
    else:
        match = _TIME.fullmatch(text)
        if not match or not text:
            raise ValueError(f"{value!r} is not a duration; write it as 4h, 90m, 1d12h or 02:30:00")
        days, hours, minutes, rest = (int(part or 0) for part in match.groups())
    total = ((days * 24 + hours) * 60 + minutes) * 60 + rest
    if not total:
        raise ValueError(f"{value!r} is no time at all; write it as 4h, 90m, 1d12h or 02:30:00")
    return total


Memory = Annotated[int, BeforeValidator(memory, json_schema_input_type=int | str)]
Seconds = Annotated[int, BeforeValidator(seconds, json_schema_input_type=str)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]


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


#: What holds where a profile says nothing.
DEFAULTS = Resources(cpus=1, tasks_per_job=1, retries=2)


class SlurmRules(Part):
    """How jobs are handed to Slurm."""

    partition: str | None = Field(None, description="the partition of every stage")
    account: str | None = Field(None, description="the account of every stage")
    flags: tuple[str, ...] = Field((), description="further options of sbatch for every stage, as --qos=long")
    logs: str | None = Field(
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
    work: str | None = Field(None, description="the work directory: a folder, or s3://, gs://, az:// and a prefix")
    data: str | None = Field(None, description="what a recipe's paths are relative to: a folder or a prefix")
    scratch: str | None = Field(None, description="a node's own folder for what is fetched from object storage")
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
                raise ValueError(f"no stage {name!r}; {nearest(name, PLACES)}")
        return value

    @model_validator(mode="after")
    def _with_its_engine(self) -> Self:
        if self.engine == "dask" and self.dask is None:
            raise ValueError("dask: engine: dask needs an address or a cluster")
        return self

    def of(self, stage: str) -> Resources:
        """Return the resources of a stage's jobs: cpus, tasks_per_job and retries are given."""
        usual = DEFAULTS
        if self.engine == "slurm":
            rules = self.slurm
            usual = Resources(partition=rules.partition, account=rules.account, flags=rules.flags or None).over(usual)
        return self.stages.get(stage, Resources()).over(self.resources.over(usual))
