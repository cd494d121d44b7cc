"""Where a command runs: what the command line says, else the profile, else this machine and the current directory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from mixture.engine import Engine
    from mixture.profile import Profile
    from mixture.storage import Place

# Places are text here: a `Path` would make s3:/bucket of s3://bucket.
On = Annotated[
    Path | None,
    typer.Option(
        "--on",
        metavar="PROFILE",
        help="Where it runs: a file as pipelines/slurm.yaml.",
        envvar="MIXTURE_ON",
        show_default="this machine",
    ),
]
Work = Annotated[
    str | None,
    typer.Option(
        "--work",
        metavar="DIR",
        help="Where stores, plans and shards go.",
        envvar="MIXTURE_WORK",
        show_default="the profile's, or work",
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="What the recipe's paths are relative to.",
        envvar="MIXTURE_DATA",
        show_default="the profile's, or here",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", "-j", metavar="N", min=1, help="Processes.", show_default="the profile's, or all cores"),
]

WORK = "work"
DATA = ""
_SCRATCH = "MIXTURE_SCRATCH"


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def place(text: str) -> Place:
    """Return the place that a name means, absolute.

    Raises:
        StoreError: nothing here can reach such a URL.
    """
    from mixture.storage import as_place

    found = as_place(text)
    return found.absolute() if isinstance(found, Path) else found


@dataclass(frozen=True)
class Where:
    """Where a command runs.

    Attributes:
        profile: who runs tasks, and with what; of the local engine, `workers` is known.
        work: the work directory.
        data: what a recipe's paths are relative to.
    """

    profile: Profile
    work: Place
    data: Place

    @contextlib.contextmanager
    def engine(self, say: Callable[[str], None]) -> Iterator[Engine]:
        """Start the profile's engine, and end it; see `engine_for`."""
        from mixture.engine.choose import engine_for

        chosen: AbstractContextManager[Engine] = engine_for(self.profile, self.work, say)
        with _scratch(self.profile), chosen as engine:
            yield engine


@dataclass(frozen=True)
class Asked:
    """What the command line says of where it runs; None where it says nothing.

    Attributes:
        on: the profile's file.
        work: the work directory.
        data: the data root.
        workers: processes.
    """

    on: Path | None = None
    work: str | None = None
    data: str | None = None
    workers: int | None = None

    def where(self) -> Where:
        """Join it with the profile.

        Raises:
            ProfileError: the profile is none.
            StoreError: a place cannot be reached.
            BadParameter: processes are counted, and the profile's engine has none.
        """
        profile = self._profile()
        if profile.engine == "local":
            profile = profile.model_copy(update={"workers": self.workers or profile.workers or cores()})
        elif self.workers is not None:
            raise typer.BadParameter(
                f"--workers counts processes of this machine, and {self.on} says engine: {profile.engine}; leave it "
                "out, and say in the profile what a job is given (resources)"
            )
        work = self.work if self.work is not None else profile.work
        data = self.data if self.data is not None else profile.data
        return Where(profile, place(work if work is not None else WORK), place(data if data is not None else DATA))

    def _profile(self) -> Profile:
        if self.on is None:
            from mixture.profile import Profile

            return Profile()
        from mixture.profile.file import load

        return load(self.on)


@contextlib.contextmanager
def _scratch(profile: Profile) -> Iterator[None]:
    """Tell this process, and those that it starts, the profile's folder for objects; the environment's comes first.

    It is told as it is written: a job's variable, as $SLURM_TMPDIR, is set where the job runs.
    """
    if profile.scratch is None or _SCRATCH in os.environ:
        yield
        return
    os.environ[_SCRATCH] = profile.scratch
    try:
        yield
    finally:
        os.environ.pop(_SCRATCH, None)
