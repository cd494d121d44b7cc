"""Where training stands in its data: one number, of one phase of one lock.

    {"lock": "5e0c…", "phase": 0, "sequences": 12288}

The order of a phase is arithmetic, so the first n sequences of it are known to whoever knows n. Ranks, workers, batch
and micro-batch are not in it: any of them may be others at the next start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mixture.errors import LockError

_KINDS = {"lock": str, "phase": int, "sequences": int}


@dataclass(frozen=True)
class State:
    """What was taken of a stream.

    Attributes:
        lock: fingerprint of the lock.
        phase: which of its phases, from 0.
        sequences: how many of the phase's sequences all ranks together have taken, in the order of the loader.
    """

    lock: str
    phase: int = 0
    sequences: int = 0

    def state_dict(self) -> dict[str, Any]:
        """Return it as a mapping of plain values."""
        return asdict(self)

    @staticmethod
    def of(value: Mapping[str, Any]) -> State:
        """Read what `state_dict` returned.

        Raises:
            LockError: it is something else.
        """
        found = dict(value)
        if found.keys() != _KINDS.keys():
            keys = ", ".join(map(str, found)) or "nothing"
            raise LockError(f"a loader's state has lock, phase and sequences, this one has {keys}; pass what was saved")
        for name, kind in _KINDS.items():
            if type(found[name]) is not kind:
                wrong = f"{name} is {found[name]!r}, not {kind.__name__}"
                raise LockError(f"a loader's state: {wrong}; pass what was saved")
        return State(**found)
