"""Every error that a user can cause, as one sentence.

    MixtureError            exit code 1, no traceback
    ├── RecipeError         the recipe file: key, value, line
    ├── ProfileError        the profile file: key, value, line
    ├── InputError          a corpus: file, row, cause
    ├── TokenizerError      a vocabulary or its engine
    ├── StoreError          what a stage left in the work directory is missing or damaged
    ├── PlanError           the recipe asks for what the corpus does not hold
    │   └── ShortageError   … cell by cell, with the largest feasible budget
    ├── LockError           a lock file: unreadable, stale, of another recipe
    ├── VerifyError         shards that break a law: shard, row, cell
    ├── TraceError          a sequence, a document or a row that is asked for is not there
    ├── EngineError         a task could not be run to its end
    ├── TrainError          training cannot start, or cannot go on
    │   └── ConfigError     … as the config file says: key, value, line
    ├── MonitorError        a checkpoint cannot be examined as it is asked for
    └── BusyError           another run holds the work directory

A message says what, where, the value, the bound, and the next move. Errors travel between processes, so each
carries its message alone.
"""

from collections.abc import Iterable


class MixtureError(Exception):
    """Something the user can mend; the message says how."""


class RecipeError(MixtureError):
    """The recipe file is not a recipe."""


class ProfileError(MixtureError):
    """The profile file is not a profile."""


class InputError(MixtureError):
    """A corpus cannot be read as the recipe says."""


class TokenizerError(MixtureError):
    """A tokenizer cannot be loaded or does not fit."""


class EngineMismatchError(TokenizerError):
    """The fast engine and the reference tokenizer disagree on a document."""


class StoreError(MixtureError):
    """A stage's output is missing or damaged."""


class PlanError(MixtureError):
    """No plan satisfies the recipe."""


class ShortageError(PlanError):
    """Some cells hold less than the recipe wants of them."""


class LockError(MixtureError):
    """A lock file cannot be used."""


class VerifyError(MixtureError):
    """A shard breaks a law."""


class TraceError(MixtureError):
    """What is asked for is not in the stream, or not in the corpus."""


class EngineError(MixtureError):
    """A task died and could not be run again."""


class TrainError(MixtureError):
    """Training cannot start as it is asked for, or cannot go on."""


class ConfigError(TrainError):
    """The config file of a training run is not one, or contradicts itself or its lock."""


class MonitorError(MixtureError):
    """A checkpoint cannot be examined as it is asked for, or measures cannot be read."""


class BusyError(MixtureError):
    """Another run is at work in the same directory."""


def some(items: Iterable[object]) -> str:
    """Name the first three of some things, and count the rest."""
    names = [str(item) for item in items]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def nearest(name: str, known: object) -> str:
    """Return `; did you mean 'x'?`-style help for a misspelt name, or the list of known names."""
    import difflib

    names = sorted(str(k) for k in known)  # type: ignore[attr-defined]
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return f"known: {shown}" if names else "none are known"
