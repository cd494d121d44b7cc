"""A task that runs in a process of somebody else's: its record, or what it ended in, as facts that travel.

attempt("tests:square", {"number": 3}, "square 3")  ─▶  {"record": 9}
attempt("tests:bad", {"number": 3}, "bad 3")        ─▶  {"error": "InputError", "sentence": "row 3 is bad", …}

Facts, not exceptions: who reads them may run another Python, or be this driver's successor.
"""

from __future__ import annotations

import json
import os
import socket
import traceback
from pathlib import Path
from typing import Any

from mixture import errors
from mixture.engine import Task
from mixture.errors import EngineError, MixtureError, StoreError
from mixture.storage import explain


def attempt(function: str, arguments: dict[str, Any], label: str) -> dict[str, Any]:
    """Run a task; return its record, or what it ended in.

    Returns:
        `record`; or `error`, the name of a class, `sentence`, `own`, whether it is the task's own word, `final`,
        whether running it again cannot help, and `trace`, the traceback of what nobody foresaw.
    """
    try:
        record = Task(function, arguments, 0, label).run()
        # What cannot travel fails here, beside the task's name.
        return {"record": json.loads(json.dumps(record, allow_nan=False))}
    except StoreError as error:
        # A disk may be full on one node only.
        return _ended("StoreError", f"on {node()}: {error}", own=True, final=True)
    except MixtureError as error:
        return _ended(type(error).__name__, str(error), own=True, final=True)
    except OSError as error:
        # It may pass, as a file system that is away for a moment.
        said = explain(error, Path(str(error.filename or ".")))
        return _ended("StoreError", f"on {node()}: {said}", own=True, final=False)
    except Exception as error:  # noqa: BLE001 - whatever it is, the driver must be told
        return _ended("EngineError", in_a_line(error), own=False, final=False, trace=traceback.format_exc())


def _ended(error: str, sentence: str, *, own: bool, final: bool, trace: str = "") -> dict[str, Any]:
    return {"error": error, "sentence": sentence, "own": own, "final": final, "trace": trace}


def kind_of(name: str) -> type[MixtureError]:
    """Return our error of a name; of one that is none of ours, `EngineError`."""
    kind = getattr(errors, name, EngineError)
    return kind if isinstance(kind, type) and issubclass(kind, MixtureError) else EngineError


def in_a_line(error: BaseException) -> str:
    """Return an error as the last line of its traceback has it, without line breaks."""
    return " ".join(traceback.format_exception_only(error)[-1].split())


def node() -> str:
    """Return what the cluster calls this machine."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname().partition(".")[0]
