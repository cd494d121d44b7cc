"""The engine that a profile names.

    engine: local   ─▶  Local(workers)          processes of this machine
    engine: slurm   ─▶  Slurm(profile, work)    job arrays
    engine: dask    ─▶  Dask(profile)           a scheduler that is there, or one that is started
    engine: ray     ─▶  Ray(profile)            a cluster that is there

What an engine needs is imported when it is chosen, so nobody pays for the others.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from mixture.engine import Engine
from mixture.engine.local import Local
from mixture.errors import EngineError
from mixture.profile import DEFAULTS, Profile
from mixture.storage import Place

#: The package that an engine needs besides ours; its extra bears the engine's name.
_NEEDS = {"dask": "distributed", "ray": "ray"}


def engine_for(profile: Profile, work: Place, say: Callable[[str], None]) -> AbstractContextManager[Engine]:
    """Return the engine that a profile names; nothing is started before it is entered.

    Args:
        profile: who runs tasks, and with what; with the local engine, `workers` must be given.
        work: the work directory; Slurm keeps what it is told there.
        say: tells the user one sentence.

    Raises:
        EngineError: a package that the engine needs is not installed.
    """
    if profile.engine == "local":
        retries = profile.resources.over(DEFAULTS).retries or 0
        return Local(profile.workers or 1, tries=1 + retries)
    package = _NEEDS.get(profile.engine)
    if package and importlib.util.find_spec(package) is None:
        raise EngineError(
            f"engine: {profile.engine} needs the package {package}, which is not installed; "
            f"pip install 'mixture[{profile.engine}]'"
        )
    make: Any = getattr(importlib.import_module(f"mixture.engine.{profile.engine}"), profile.engine.capitalize())
    chosen: AbstractContextManager[Engine] = (
        make(profile, work, say) if profile.engine == "slurm" else make(profile, say)
    )
    return chosen
