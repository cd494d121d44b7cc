"""The retrieval heads of a checkpoint, and how they differ from another's.

    Retrieval(scores=(samples, layers, heads))       kept for each sample, so that an interval can be drawn
        .mean()        (layers, heads)               what the head map shows
        .above(.1)     [(17, 3), (9, 12), …]         the retrieval heads, the best first

    heads                how many have a mean score of at least .1: 3 to 6 % of real long-context models' heads
    zero_share           share that never copied a token: .45 to .73 there (both: arXiv 2404.15574); probes lower it
    first_set_score      mean score, now, of those that were retrieval heads at the first checkpoint
    top30_overlap        how many of the 30 best are among the 30 best of another checkpoint
    top30_spearman       rank correlation of both checkpoints' scores, over the heads that either has among its 30 best
    spearman             the same over all heads

Whether a score moves or only its sample does is answered by drawing samples again; of two checkpoints the same samples
are drawn, since both saw the same probes.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from mixture.errors import MonitorError, StoreError
from mixture.monitor.intervals import interval
from mixture.storage import explain, publish

Floats = npt.NDArray[np.float64]
Head = tuple[int, int]
Interval = tuple[float, float, float]

#: A head with at least this mean score is a retrieval head (arXiv 2404.15574).
RETRIEVAL = 0.1
#: Heads that are compared between checkpoints.
TOP = 30
#: Mean scores that exist at the same time while samples are drawn again.
_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class Retrieval:
    """Retrieval scores of every head of one checkpoint.

    Attributes:
        model: name of the run or model.
        step: training steps done, None where unknown.
        tokens: tokens trained on, None where unknown.
        scores: of each sample, in [0, 1], float64, shape (samples, layers, heads).
        weights: attention given to what was copied, in [0, 1], float64, shape as scores.
        probes: of each sample task, length, depth, number; in the order of scores.

    Raises:
        MonitorError: on construction, when shapes or scores contradict each other.
    """

    model: str
    step: int | None
    tokens: int | None
    scores: Floats
    weights: Floats
    probes: tuple[tuple[str, int, float, int], ...]

    def __post_init__(self) -> None:
        if self.scores.ndim != 3 or not self.scores.size or self.scores.shape != self.weights.shape:
            raise MonitorError(
                f"{self.model}: scores of shape {self.scores.shape} and weights of shape {self.weights.shape}; both "
                "are (samples, layers, heads), with at least one of each"
            )
        if len(self.probes) != len(self.scores):
            raise MonitorError(f"{self.model}: {len(self.probes)} probes and {len(self.scores)} samples; they are one")
        for name, values in (("score", self.scores), ("weight", self.weights)):
            if not ((values >= 0) & (values <= 1)).all():
                raise MonitorError(
                    f"{self.model}: {name}s from {values.min()} to {values.max()}; they are between 0 and 1"
                )

    @property
    def samples(self) -> int:
        """How many probes were asked."""
        return len(self.scores)

    def mean(self) -> Floats:
        """Return each head's score over the samples, shape (layers, heads)."""
        found: Floats = self.scores.mean(axis=0)
        return found

    def ranked(self) -> list[Head]:
        """Return all heads as (layer, head), the best first; of equals the first in the model."""
        mean = self.mean()
        return [_head(at, mean.shape[1]) for at in _ranking(mean.ravel())]

    def above(self, least: float = RETRIEVAL) -> list[Head]:
        """Return the heads with at least this mean score, the best first."""
        mean = self.mean()
        return [head for head in self.ranked() if _rounded(mean[head]) >= least]

    def save(self, path: Path) -> None:
        """Write the scores to a file (.npz), whole or not at all.

        Raises:
            StoreError: the file cannot be written.
        """
        # Text as fixed-width Unicode: nothing in the file is pickled.
        columns = zip(*self.probes, strict=True)
        table: dict[str, Any] = {f"probe_{n}": np.array(column) for n, column in enumerate(columns)}
        run = np.array([-1 if number is None else number for number in (self.step, self.tokens)])
        file = io.BytesIO()
        np.savez_compressed(
            file, model=np.array(self.model), run=run, scores=self.scores, weights=self.weights, **table
        )
        with publish(path) as out:
            out.write(file.getbuffer())


def load(path: Path) -> Retrieval:
    """Read scores that `Retrieval.save` wrote.

    Raises:
        MonitorError: the file is not one of scores.
        StoreError: there is no such file, or it cannot be read.
    """
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            step, tokens = (None if number < 0 else int(number) for number in file["run"])
            columns = [file[f"probe_{n}"].tolist() for n in range(4)]
            return Retrieval(
                str(file["model"]), step, tokens, file["scores"], file["weights"], tuple(zip(*columns, strict=True))
            )
    except FileNotFoundError as error:
        raise StoreError(explain(error, path)) from error
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise MonitorError(f"{path}: no retrieval scores ({error}); measure that checkpoint again") from error


def count(found: Retrieval, least: float = RETRIEVAL, *, seed: int = 0) -> Interval:
    """Return how many heads have at least this mean score, with its interval."""
    return _over(found, lambda mean: (_rounded(mean) >= least).sum(axis=-1), seed)


def zero_share(found: Retrieval, *, seed: int = 0) -> Interval:
    """Return the share of heads that copied nothing in any sample, with its interval."""
    return _over(found, lambda mean: (mean == 0).mean(axis=-1), seed)


def set_score(found: Retrieval, heads: list[Head], *, seed: int = 0) -> Interval:
    """Return the mean score of some heads, with its interval.

    Raises:
        MonitorError: there are none.
    """
    return interval(_of(found.scores, heads), seed=seed)


def set_weight(found: Retrieval, heads: list[Head], *, seed: int = 0) -> Interval:
    """Return the mean attention that some heads give to what they copy, with its interval.

    Raises:
        MonitorError: there are none.
    """
    return interval(_of(found.weights, heads), seed=seed)


def overlap(one: Retrieval, other: Retrieval, top: int = TOP, *, seed: int = 0) -> Interval:
    """Return how many of the best heads of two checkpoints are the same, with its interval.

    Raises:
        MonitorError: they were not measured on the same probes, or are not of one model.
    """
    _check_pair(one, other)

    def same(a: Floats, b: Floats) -> npt.NDArray[Any]:
        best = [np.zeros(mean.shape, bool) for mean in (a, b)]
        for flags, mean in zip(best, (a, b), strict=True):
            np.put_along_axis(flags, _ranking(mean)[..., :top], values=True, axis=-1)
        both: npt.NDArray[Any] = (best[0] & best[1]).sum(axis=-1)
        return both

    return _over_both(one, other, same, seed)


def spearman(one: Retrieval, other: Retrieval, top: int | None = None, *, seed: int = 0) -> Interval | None:
    """Return the rank correlation of two checkpoints' scores, with its interval.

    Args:
        one: scores of a checkpoint.
        other: scores of another.
        top: compare those heads that either has among so many best; None compares all. The interval keeps these heads.
        seed: of the draws.

    Returns:
        None where it is not defined: all scores of a checkpoint are equal.

    Raises:
        MonitorError: they were not measured on the same probes, or are not of one model.
    """
    _check_pair(one, other)
    means = [found.mean().ravel() for found in (one, other)]
    kept = np.arange(means[0].size)
    if top is not None:
        kept = np.union1d(*(_ranking(mean)[:top] for mean in means))
    if any(np.ptp(_rounded(mean[kept])) == 0 for mean in means):
        return None

    def correlation(a: Floats, b: Floats) -> npt.NDArray[Any]:
        ranks = (stats.rankdata(_rounded(mean[..., kept]), axis=-1) for mean in (a, b))
        # Spearman's is Pearson's of ranks, and this one takes an axis. A draw with all scores equal shows no order.
        rho = stats.pearsonr(*ranks, axis=-1).statistic
        found: npt.NDArray[Any] = np.nan_to_num(rho, nan=0.0)
        return found

    return _over_both(one, other, correlation, seed)


def _of(values: Floats, heads: list[Head]) -> Floats:
    if not heads:
        raise MonitorError("a mean score needs at least one head; none was given")
    layer, head = np.array(heads).T
    found: Floats = values[:, layer, head].mean(axis=-1)
    return found


def _over(found: Retrieval, statistic: Callable[[Floats], npt.NDArray[Any]], seed: int) -> Interval:
    """Return a statistic of mean scores, and its interval over samples; statistic reduces the last axis."""
    return _over_samples((found,), statistic, seed)


def _over_both(
    one: Retrieval, other: Retrieval, statistic: Callable[[Floats, Floats], npt.NDArray[Any]], seed: int
) -> Interval:
    """Return a statistic of two checkpoints' mean scores, and its interval over the samples that they share."""
    return _over_samples((one, other), statistic, seed)


def _over_samples(found: tuple[Retrieval, ...], statistic: Callable[..., npt.NDArray[Any]], seed: int) -> Interval:
    flat = [one.scores.reshape(one.samples, -1) for one in found]
    some = max(1, _AT_ONCE // flat[0].shape[1])

    def of_draws(drawn: npt.NDArray[Any], axis: int = -1) -> npt.NDArray[Any]:  # noqa: ARG001 scipy looks for it
        rows = drawn.reshape(-1, drawn.shape[-1]).astype(np.int64)
        parts = [rows[at : at + some] for at in range(0, len(rows), some)]
        values = np.concatenate([statistic(*(_drawn(part, scores) for scores in flat)) for part in parts])
        return values.reshape(drawn.shape[:-1]).astype(np.float64)

    return interval(np.arange(found[0].samples), seed=seed, statistic=of_draws)


def _drawn(rows: npt.NDArray[np.int64], flat: Floats) -> Floats:
    """Return mean scores over samples given by number: (draws, drawn) and (samples, heads) make (draws, heads)."""
    own = rows + len(flat) * np.arange(len(rows))[:, None]
    times = np.bincount(own.ravel(), minlength=len(rows) * len(flat)).reshape(len(rows), len(flat))
    # How often each was drawn, times its scores: a product of matrices instead of a gathering of them.
    mean: Floats = times.astype(np.float64) @ flat / rows.shape[1]
    return mean


def _rounded(mean: Floats) -> Floats:
    """Round away what the order of a sum leaves behind, so that equal means are equal."""
    return np.round(mean, 12)


def _ranking(mean: Floats) -> npt.NDArray[np.int64]:
    """Return places in descending order of the last axis; equals keep their order."""
    return np.argsort(-_rounded(mean), axis=-1, kind="stable")


def _head(at: int, heads: int) -> Head:
    return int(at) // heads, int(at) % heads


def _check_pair(one: Retrieval, other: Retrieval) -> None:
    if one.scores.shape[1:] != other.scores.shape[1:]:
        raise MonitorError(
            f"{one.model} has (layers, heads) {one.scores.shape[1:]} and {other.model} {other.scores.shape[1:]}; heads "
            "are compared between checkpoints of one model"
        )
    if one.probes != other.probes:
        raise MonitorError(
            f"{one.model} step {one.step} and {other.model} step {other.step} were not asked the same probes; measure "
            "both with the same grid and seed"
        )
