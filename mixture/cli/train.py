"""`mixture train`."""

from __future__ import annotations

import os
import shlex
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mixture.cli.common import Debug, Json, Shards, Watch, named_lock, sentences, show
from mixture.cli.where import Asked, On, Where, Work, place

if TYPE_CHECKING:
    from mixture.train.config import TrainConfig
    from mixture.train.examining import Opening
    from mixture.train.loop import Outcome
    from mixture.train.run import Run

EXAMPLE = (
    "Example:  mixture train manifests/train-quickstart.yaml;  torchrun --nproc-per-node 8 -m mixture train CONFIG"
)

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="How to train.", show_default=False)]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="DIR", help="The run's folder.", show_default="the config's")
]
Changed = Annotated[
    bool, typer.Option("--changed", help="Go on although the config says something else than the checkpoint's.")
]
Anyway = Annotated[bool, typer.Option("--anyway", help="Start although memory seems too small.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show steps, tokens and memory; train nothing.")]
Ranks = Annotated[
    int | None,
    typer.Option("--ranks", metavar="N", min=1, help="With --dry-run: for so many GPUs.", show_default="1"),
]


def command(
    config: ConfigPath,
    out: Out = None,
    changed: Changed = False,
    anyway: Anyway = False,
    dry_run: DryRun = False,
    ranks: Ranks = None,
    shards: Shards = None,
    on: On = None,
    work: Work = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train a model on the shards, on one GPU or many; run again, it goes on where it was."""
    if ranks is not None and not dry_run:
        raise typer.BadParameter("--ranks goes with --dry-run; torchrun --nproc-per-node says how many there are")
    watch = Watch()
    stopped = "stopped; the last checkpoint is whole: run the same command to go on"
    with sentences(debug=debug, watch=watch, stopped=stopped):
        run = _run(config, out, shards, Asked(on, work).where(), _told(on=on, work=work, shards=shards))
        if dry_run:
            _rehearse(run, ranks or int(os.environ.get("WORLD_SIZE", "1")), as_json)
            return
        _need_torch()
        # Threads that spin while they wait take the core from the one that they wait for, where others are at work too:
        # fifteen times slower, on a CPU. Heeded where it is set before torch is loaded.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        from mixture.train.loop import Choices, train

        tell = typer.echo if not as_json else _echo_err
        outcome = train(run, watch.say, tell, Choices(changed, anyway), _opening(run, Asked(on, work).where()))
    if int(os.environ.get("RANK", "0")) == 0:
        show(as_json, _summary(outcome, run), _sentence(outcome, run))
    if outcome.signal is not None:
        raise typer.Exit(130 if outcome.signal == signal.SIGINT else 143)


def _opening(run: Run, where: Where) -> Opening | None:
    """Return what gets ready to examine checkpoints, where the config asks for it."""
    if run.config.monitor is None:
        return None
    from mixture.monitor.in_training import InTraining
    from mixture.workspace import Workspace

    workspace = Workspace(where.work, where.data)
    return lambda run, longest, device, say: InTraining(run, longest, device, workspace, say)


def _echo_err(text: str) -> None:
    typer.echo(text, err=True)


def _need_torch() -> None:
    from importlib.util import find_spec

    from mixture.errors import TrainError

    missing = [name for name in ("torch", "transformers", "safetensors") if find_spec(name) is None]
    if missing:
        raise TrainError(f"training needs {', '.join(missing)}, not installed here: pip install 'mixture[train]'")


def _told(**options: object) -> str:
    """Return options as they were given, for another command that asks for the same shards."""
    return " ".join(f"--{name} {shlex.quote(str(value))}" for name, value in options.items() if value is not None)


def _run(path: Path, out: Path | None, shards: str | None, where: Where, options: str) -> Run:
    """Read what is asked for."""
    from mixture.shards.pack import shards_folder
    from mixture.train.config import load
    from mixture.train.run import Run
    from mixture.workspace import Workspace

    config: TrainConfig = load(path)
    lock = named_lock(Path(config.lock))
    usual = [shards_folder(Workspace(where.work, where.data), lock, number) for number in range(len(lock.phases))]
    folders = usual
    if shards is not None:
        given = place(shards)
        folders = [given] if len(usual) == 1 else [given / folder.name for folder in usual]
    text = path.read_text(encoding="utf-8")
    return Run(config, lock, config.lock, folders, out or Path(config.folder), text, options)


def _rehearse(run: Run, ranks: int, as_json: bool) -> None:
    _need_torch()
    from mixture.report.train import forecast
    from mixture.train.forecast import forecast_of

    told = forecast_of(run, ranks)
    show(as_json, told.to_json(), *([] if as_json else forecast(told)))


def _summary(outcome: Outcome, run: Run) -> dict[str, Any]:
    stand = outcome.stand
    return {
        "out": str(run.out),
        "lock": stand.lock,
        "step": stand.step,
        "begun": outcome.begun,
        "phase": stand.phase,
        "sequences": stand.sequences,
        "tokens": stand.tokens,
        "loss": outcome.loss,
        "export": None if outcome.exported is None else str(outcome.exported),
        "stopped": outcome.signal is not None,
        "gate": outcome.gate or None,
    }


def _sentence(outcome: Outcome, run: Run) -> str:
    stand = outcome.stand
    reached = f"{run.out}: step {stand.step:,}, {stand.tokens:,} tokens"
    if outcome.signal is not None:
        return f"{reached}; stopped, and saved: run the same command to go on"
    if outcome.gate:
        weights = "" if outcome.exported is None else f"; weights in {outcome.exported}"
        return f"{reached}; ended by a gate, {outcome.gate}{weights} (--changed goes on all the same)"
    if stand.step == outcome.begun:
        return f"{reached}; nothing to do, the run has come to its end"
    weights = "" if outcome.exported is None else f"; weights in {outcome.exported}"
    return f"{reached}, loss {outcome.loss:.4f}{weights}"
