"""This machine's own folder for what is fetched from object storage, or about to go there."""

from __future__ import annotations

import functools
import os
import tempfile
from pathlib import Path


def scratch() -> Path:
    """Return the scratch folder; it is made.

    `MIXTURE_SCRATCH` names it, with `~` and variables of this machine's environment; where one of these is not set (a
    job's, seen by the process that submits it), it is the usual folder. A machine that was started anew has a new one:
    what was not written to its disk is not taken for whole.
    """
    folder = scratch_root() / _boot()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def scratch_root() -> Path:
    """Return the folder that scratch folders are made in."""
    named = os.path.expandvars(os.environ.get("MIXTURE_SCRATCH", ""))
    if named and "$" not in named:
        return Path(named).expanduser()
    return Path(tempfile.gettempdir()) / f"mixture-{os.getuid()}"


@functools.cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()[:8]
    except OSError:
        return "boot"
