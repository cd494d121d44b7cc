"""Where a run begins: at nothing, at its own newest checkpoint, or with what another run has learnt."""

from __future__ import annotations

from pathlib import Path

from mixture.errors import TrainError
from mixture.train.checkpoint import Stand, read_stand, whole
from mixture.train.config import changes
from mixture.train.run import Run
from mixture.train.world import Say


def stand_of(run: Run, newest: Path | None, say: Say, *, changed: bool) -> Stand:
    """Return where a run stands.

    Args:
        run: what is asked for.
        newest: its newest checkpoint; None where it has none.
        say: is told where it goes on, and what is new.
        changed: go on although the config says something else than the checkpoint's.

    Raises:
        StoreError: the checkpoint is damaged.
        TrainError: it is of another lock, another order, or another config.
    """
    what = run.config.what()
    if newest is None:
        return Stand(0, 0, 0, 0, run.lock.fingerprint, {}, what)
    stand, out = read_stand(newest), run.out
    if stand.lock != run.lock.fingerprint:
        raise TrainError(
            f"{out}: its run trains on another lock than {run.lock_path}; name another --out, and in the config "
            f"`after: {out}` to go on from its weights"
        )
    differs = changes(stand.what, what)
    order = [change for change in differs if ".order." in f".{change.partition(':')[0]}."]
    if order and stand.tokens:
        raise TrainError(
            f"{out}: has taken sequences in another order ({'; '.join(order)}); in the new one it would take some "
            "again: leave the order as it is, or name another --out"
        )
    if differs and not changed:
        raise TrainError(
            f"{out}: stands at step {stand.step:,} of a run with another config ({'; '.join(differs)}); give "
            "--changed to go on with this one, or another --out to begin anew"
        )
    say(f"goes on from {newest}: step {stand.step:,}, {stand.tokens:,} tokens")
    for change in differs:
        say(f"from here on {change}")
    return stand


def weights_of(run: Run, newest: Path | None, say: Say) -> Path | None:
    """Return the checkpoint whose weights and moments a run begins with; None where its model brings them.

    Raises:
        TrainError: the run that it follows has no checkpoint.
    """
    if newest is not None or run.config.after is None:
        return newest
    before = Path(run.config.after)
    found = [before] if (before / "state.json").exists() else whole(before / "checkpoints")[-1:]
    if not found:
        raise TrainError(f"after: {before}: no checkpoint in it; name a run's folder, or a checkpoint")
    say(f"begins with the weights and moments of {found[0]}")
    return found[0]
