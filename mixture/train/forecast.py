"""What a run would be: its steps, its size and the memory it asks for; nothing is built and nothing is trained."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from mixture.errors import ConfigError
from mixture.train.build import rope_of, setting_of, source_of
from mixture.train.flops import Shape, step_flops
from mixture.train.memory import Memory, estimate
from mixture.train.model import outline
from mixture.train.run import Leg, Run, legs_of
from mixture.train.schedule import Rates


@dataclass(frozen=True)
class PhaseForecast:
    """What a phase would be.

    Attributes:
        name: the phase's; empty where the recipe has none.
        sequences: that are taken.
        length: places in each.
        batch: sequences of a step.
        steps: how many.
        tokens: places of all sequences.
        lr: learning rate of its first, its middle and its last step.
        rope: how positions are encoded.
        memory: bytes of each GPU, by what they hold.
        flops: of all steps, forward and backward, were every sequence one document: attention inside documents is less.
    """

    name: str
    sequences: int
    length: int
    batch: int
    steps: int
    tokens: int
    lr: tuple[float, float, float]
    rope: dict[str, Any]
    memory: Memory
    flops: float

    @property
    def parts(self) -> dict[str, int]:
        """Bytes of each GPU by what they hold, and all of them."""
        return asdict(self.memory) | {"total": self.memory.total}


@dataclass(frozen=True)
class Forecast:
    """What a run would be.

    Attributes:
        name: the config's.
        parameters: of the model.
        ranks: GPUs that the memory is estimated for.
        phases: one each.
    """

    name: str
    parameters: int
    ranks: int
    phases: tuple[PhaseForecast, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it for machines."""
        phases = [asdict(phase) | {"memory": phase.parts} for phase in self.phases]
        return asdict(self) | {"phases": phases}


def forecast_of(run: Run, ranks: int) -> Forecast:
    """Say what a run would be on so many GPUs.

    Raises:
        MixtureError: it could not start.
    """
    parallel = run.config.parallel
    if ranks % (parallel.cp * parallel.replicate):
        raise ConfigError(
            f"parallel: replicate {parallel.replicate} × cp {parallel.cp} does not divide {ranks} GPUs; give --ranks a "
            f"multiple of {parallel.cp * parallel.replicate}"
        )
    legs = legs_of(run)
    rates = Rates.of(run.config, [leg.stretch for leg in legs])
    vocabulary = int(run.lock.tokenizer["vocabulary"])
    told, parameters = [], 0
    for number, leg in enumerate(legs):
        if not leg.stretch.steps:
            continue
        length = leg.stream.length
        trainee = outline(source_of(run.config), length=length, vocabulary=vocabulary, rope=rope_of(leg.config.rope))
        shape = Shape.of(trainee.config)
        parameters = shape.parameters
        told.append(_phase(number, leg, shape, rates, asdict(trainee.rope), ranks))
    return Forecast(run.config.name, parameters, ranks, tuple(told))


def _phase(number: int, leg: Leg, shape: Shape, rates: Rates, rope: dict[str, Any], ranks: int) -> PhaseForecast:
    stretch, length = leg.stretch, leg.stream.length
    at = (0, stretch.steps // 2, stretch.steps - 1)
    first, middle, last = (rates.lr(number, step) for step in at)
    return PhaseForecast(
        name=stretch.name,
        sequences=stretch.sequences,
        length=length,
        batch=stretch.batch,
        steps=stretch.steps,
        tokens=stretch.tokens(stretch.steps),
        lr=(first, middle, last),
        rope=rope,
        memory=estimate(shape, setting_of(leg, ranks // leg.config.parallel.replicate)),
        flops=step_flops(shape, stretch.sequences * length, stretch.sequences * length * (length + 1) // 2),
    )
