"""Boards that draw a run's curves: TensorBoard's files, and Weights & Biases.

Neither is needed to train: TensorBoard is left out, and said so, where it is not installed; Weights & Biases is used
where it is installed, without its server where nobody is logged in there (`wandb sync` sends it later).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mixture.errors import ConfigError
from mixture.hashing import fingerprint


class TensorBoard:
    """Writes event files that TensorBoard reads.

    Args:
        folder: where they go; those of earlier runs stay.
        step: steps that were done before: points of later ones are hidden.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """Add a point to every curve."""
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is held back."""
        self._writer.close()


def tensorboard(folder: Path, say: Callable[[str], None], *, step: int) -> TensorBoard | None:
    """Open TensorBoard's files, or say that it is not installed."""
    try:
        return TensorBoard(folder, step)
    except ModuleNotFoundError as error:
        say(f"events: no files for TensorBoard, {error.name} is not installed: pip install tensorboard")
        return None


class WandB:
    """A run of Weights & Biases.

    Args:
        module: the library.
        out: the run's folder; the same folder is the same run, also after a stop.
        name: what it is called.
        project: where it is listed.
        config: shown beside the curves.
    """

    def __init__(self, module: Any, out: Path, name: str, project: str, config: dict[str, Any]) -> None:
        import os

        known = module.api.api_key is not None
        self._run = module.init(
            project=project,
            name=name,
            id=fingerprint([name, str(out.absolute())])[:16],
            resume="allow",
            dir=str(out),
            config=config,
            mode=os.environ.get("WANDB_MODE") or ("online" if known else "offline"),
        )

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """Add a point to every curve."""
        self._run.log(scalars, step=step)

    def close(self) -> None:
        """Send what is held back."""
        self._run.finish()


def wandb(out: Path, name: str, project: str, config: dict[str, Any], *, demanded: bool) -> WandB | None:
    """Open a run of Weights & Biases, or return None where it is not installed.

    Raises:
        ConfigError: it is demanded, and not installed.
    """
    try:
        import wandb as module
    except ModuleNotFoundError:
        if demanded:
            raise ConfigError(
                "events.wandb: true, but wandb is not installed: pip install wandb, or write auto or false"
            ) from None
        return None
    return WandB(module, out, name, project, config)
