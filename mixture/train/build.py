"""A model, its optimizer and their ranks, made of a config: what a run has in memory before its first step.

outline (shapes) ─ does it fit? ─ spread ─ materialise ─ AdamW ─▶ Built
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.optim import AdamW

from mixture.errors import TrainError
from mixture.loader.order import Share
from mixture.train.config import TrainConfig
from mixture.train.context import check_length
from mixture.train.flops import Shape, peak_flops
from mixture.train.memory import Setting, missing
from mixture.train.model import Source, Trainee, outline
from mixture.train.parallel import optimizer, spread
from mixture.train.rope import Rope, apply
from mixture.train.rules import RopeRule
from mixture.train.run import Leg, Run
from mixture.train.weights import materialise
from mixture.train.world import Say, World


@dataclass(frozen=True)
class Built:
    """What is trained, and by what.

    Attributes:
        trainee: the model, spread over the ranks.
        optimizer: AdamW.
        shape: of the model, for FLOPs and memory.
        peak: bf16 FLOP/s of one GPU; None where nobody knows.
    """

    trainee: Trainee
    optimizer: AdamW
    shape: Shape
    peak: float | None

    def enter(self, leg: Leg) -> dict[str, Any]:
        """Make ready for a phase; return how positions are encoded in it."""
        record = self.trainee.set_rope(rope_of(leg.config.rope), leg.stream.length)
        self.trainee.chunk = leg.config.loss.chunk
        rules = leg.config.optimizer
        for group in self.optimizer.param_groups:
            group["betas"], group["eps"] = rules.betas, rules.eps
            group["weight_decay"] = rules.weight_decay if group["decays"] else 0.0
        return asdict(record)


def rope_of(rule: RopeRule) -> Rope:
    """Return what a config says of rotary embeddings."""
    return Rope(**rule.model_dump())


def source_of(config: TrainConfig) -> Source:
    """Return where a config's model comes from."""
    path = config.model.path
    return Source(None if path is None else Path(path), config.model.config, config.seed)


def setting_of(leg: Leg, sharders: int) -> Setting:
    """Return what decides how much memory a phase needs.

    Args:
        leg: the phase.
        sharders: ranks that hold a part of each parameter.
    """
    config = leg.config
    return Setting(
        shards=sharders,
        cp=config.parallel.cp,
        micro=config.batch.micro,
        length=leg.stream.length,
        checkpointing=config.checkpointing == "full",
        chunk=config.loss.chunk,
        bf16=config.precision == "bf16",
    )


def build(run: Run, legs: tuple[Leg, ...], first: Leg, world: World, say: Say, *, anyway: bool) -> Built:
    """Build what a run trains.

    Args:
        run: the run.
        legs: all of its phases, for what memory must hold.
        first: the phase that comes first.
        world: the ranks.
        say: is told what the user should know.
        anyway: go on although memory seems too small.

    Raises:
        TrainError: no such model, not the tokenizer's, or it does not fit.
    """
    config = run.config
    if world.device.type == "cpu":
        say("no GPU here: training runs on the CPU")
    vocabulary = int(run.lock.tokenizer["vocabulary"])
    trainee = outline(
        source_of(config), length=first.stream.length, vocabulary=vocabulary, rope=rope_of(first.config.rope)
    )
    for note in trainee.notes:
        say(note)
    shape = Shape.of(trainee.config)
    for leg in legs:
        if leg.stretch.steps:
            apply(trainee.original, rope_of(leg.config.rope), leg.stream.length, fresh=trainee.source.fresh)
            _check(leg, shape, world, say, anyway=anyway)
    spread(
        trainee,
        world,
        precision=config.precision,
        checkpointing=config.checkpointing,
        compiled=config.compile,
    )
    materialise(trainee, world.device)
    rules = config.optimizer
    made = optimizer(
        trainee, world.device, lr=rules.lr, betas=rules.betas, eps=rules.eps, weight_decay=rules.weight_decay
    )
    peak = config.events.peak_flops
    if peak is None and world.device.type == "cuda":
        name = torch.cuda.get_device_name(world.device)
        peak = peak_flops(name)
        if peak is None:
            say(f"what a {name!r} can do is not known, so MFU is left out: say events.peak_flops in the config")
    return Built(trainee, made, shape, peak)


def _check(leg: Leg, shape: Shape, world: World, say: Say, *, anyway: bool) -> None:
    """Look whether a phase's steps can be shared, and whether they fit.

    Raises:
        MixtureError: not.
    """
    check_length(leg.config.batch.micro * leg.stream.length, world.cp)
    Share(leg.stretch.batch, leg.config.batch.micro, world.data_rank, world.data_ranks)
    if world.device.type != "cuda":
        return
    setting = setting_of(leg, world.sharders)
    capacity = torch.cuda.get_device_properties(world.device).total_memory
    problem = missing(shape, setting, capacity)
    if problem is None:
        return
    if not anyway:
        raise TrainError(f"{problem}; --anyway starts all the same")
    say(problem)
