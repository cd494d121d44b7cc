"""Do the heads that look at the needle make the answer? Silence them, and as many others, and compare.

    needle's loss    with all heads          0.02
                     the 5 best silenced     4.81     rises: these heads carry the answer
                     5 others silenced       0.03     does not: any 5 would not do

A head is silenced by setting its output to 0 before the output projection (as in arXiv 2404.15574, section 4). The
others are drawn several times, and by default from the same layers: a layer near the embedding is missed more than one
near the end, whatever its heads do, so unlike layers would not be a fair comparison. They are never of the best, and no
retrieval heads either while there are enough of another kind. Where a layer has not enough, the rest comes from all
layers, and only then from the retrieval heads.

Let the probes be others than those that ranked the heads: of many heads the best on some samples is in part the
luckiest. The price is (2 + draws) forward passes for each probe.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel

from mixture import hashing
from mixture.errors import MonitorError
from mixture.monitor.copying import Question
from mixture.monitor.heads import TOP, Head, Interval, Retrieval
from mixture.monitor.intervals import interval
from mixture.monitor.measures import Measure
from mixture.monitor.mechanism import Examined
from mixture.monitor.rows import read_rows

#: Name of the task in the long table.
TASK = "causal_masking"
_PURPOSE = "monitor.causal"
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CausalCheck:
    """What the needle costs with and without some heads.

    Attributes:
        model: name of the run or model.
        step: training steps done, None where unknown.
        tokens: tokens trained on, None where unknown.
        best: the heads under suspicion, as (layer, head).
        others: the heads of each draw, as many, none of them in best.
        plain: mean loss of the answer's tokens with all heads, nats, shape (samples,).
        without_best: the same with the best silenced, shape (samples,).
        without_others: the same with each draw silenced, shape (draws, samples).

    Raises:
        MonitorError: on construction, when sets of heads overlap or shapes differ.
    """

    model: str
    step: int | None
    tokens: int | None
    best: tuple[Head, ...]
    others: tuple[tuple[Head, ...], ...]
    plain: Floats
    without_best: Floats
    without_others: Floats

    def __post_init__(self) -> None:
        if not self.best or any(len(set(drawn) - set(self.best)) != len(self.best) for drawn in self.others):
            raise MonitorError(
                f"{self.model}: draws of others are as many heads as the {len(self.best)} best, and none of them"
            )
        shapes = self.without_best.shape, self.without_others.shape
        if not self.others or shapes != (self.plain.shape, (len(self.others), len(self.plain))):
            raise MonitorError(
                f"{self.model}: losses of shapes {self.plain.shape}, {shapes[0]} and {shapes[1]} with "
                f"{len(self.others)} draws; they are (samples,), (samples,) and (draws, samples), with a draw or more"
            )

    @property
    def rise_of_best(self) -> Floats:
        """Loss that silencing the best adds, shape (samples,)."""
        return self.without_best - self.plain

    @property
    def rise_of_others(self) -> Floats:
        """Loss that silencing others adds, mean over draws, shape (samples,)."""
        found: Floats = self.without_others.mean(axis=0) - self.plain
        return found

    def gap(self, seed: int = 0) -> Interval:
        """Return how much more the best are missed than others, nats per answer token, with its interval."""
        return interval(self.rise_of_best - self.rise_of_others, seed=seed)

    def holds(self, seed: int = 0) -> bool:
        """Whether the loss rises without the best, and less without others: both intervals are above 0."""
        return interval(self.rise_of_best, seed=seed)[1] > 0 and self.gap(seed)[1] > 0

    def measures(self, seed: int = 0) -> list[Measure]:
        """Return rows for the long table: perplexities and rises in cells, and the gap over all.

        A perplexity is that of the mean loss, so its interval is that of the loss, read as a perplexity.
        """
        size = len(self.best)
        losses = {
            "all heads": self.plain,
            f"without the best {size}": self.without_best,
            f"without {size} others": self.without_others.mean(axis=0),
        }
        rises = {f"without the best {size}": self.rise_of_best, f"without {size} others": self.rise_of_others}
        perplexities = {cell: _perplexity(interval(loss, seed=seed)) for cell, loss in losses.items()}
        return [
            *(self._row("perplexity", cell, found) for cell, found in perplexities.items()),
            *(self._row("loss_rise", cell, interval(rise, seed=seed)) for cell, rise in rises.items()),
            self._row("loss_gap", "", self.gap(seed)),
        ]

    def _row(self, metric: str, cell: str, found: Interval) -> Measure:
        place = (self.model, self.step, self.tokens, "mechanism", TASK, "", metric, None, None, cell)
        return Measure(*place, *found, len(self.plain))


def _perplexity(found: Interval) -> Interval:
    # Measures are finite, and e^700 is about the largest number.
    value, low, high = (math.exp(min(loss, 700.0)) for loss in found)
    return value, low, high


def causal_check(
    subject: Examined,
    probes: Iterable[Question],
    found: Retrieval,
    *,
    best: int | None = None,
    draws: int = 5,
    seed: int = 0,
    matched: bool = True,
    told: Callable[[int], None] | None = None,
) -> CausalCheck:
    """Silence the best heads of a model, and others, and see what the needle costs.

    Args:
        subject: model under examination.
        probes: with a needle each; best others than those behind `found`.
        found: the scores that say which heads are the best.
        best: how many; by default the retrieval heads, at least one, at most 30 and half of all.
        draws: how often others are drawn.
        seed: of the draws.
        matched: whether others come from the layers of the best.
        told: called with the number of probes done, after each.

    Raises:
        MonitorError: no probes, no draws, or not enough heads.
    """
    total = found.scores[0].size
    size = min(max(1, len(found.above())), TOP, total // 2) if best is None else best
    top = tuple(found.ranked()[: max(size, 0)])
    others = draw_others(found.scores.shape[1:], top, draws, spared=found.above(), seed=seed, matched=matched)
    losses = []
    for number, probe in enumerate(probes, 1):
        losses.append([_loss(subject.model, probe, heads) for heads in ((), top, *others)])
        if told:
            told(number)
    if not losses:
        raise MonitorError(f"{subject.name}: a causal check needs at least one probe; none was given")
    plain, without, *rest = np.array(losses, np.float64).T
    return CausalCheck(subject.name, subject.step, subject.tokens, top, others, plain, without, np.array(rest))


def draw_others(
    shape: Sequence[int],
    best: Sequence[Head],
    draws: int,
    *,
    spared: Sequence[Head] = (),
    seed: int = 0,
    matched: bool = True,
) -> tuple[tuple[Head, ...], ...]:
    """Draw as many heads as the best, several times, none of the best among them.

    Args:
        shape: layers, heads of a layer.
        best: heads that are not drawn.
        draws: how often.
        spared: heads that are drawn only when all else has been.
        seed: of the draws; a head's draw depends on seed, its place and the number of the draw alone.
        matched: whether each layer gives as many as it has among the best, as far as it can.

    Raises:
        MonitorError: no best, no draws, or fewer others than best.
    """
    layers, heads = shape
    last = set(spared)
    rest: list[Head] = [head for head in np.ndindex(layers, heads) if head not in set(best)]
    if not best or draws < 1 or len(rest) < len(best):
        raise MonitorError(
            f"{len(best)} of {layers * heads} heads and {draws} draws of others; silence at least one head and at most "
            "half of them, and draw at least once"
        )
    layer, number = np.array(rest, np.uint64).T
    found = []
    for draw in range(draws):
        lots = hashing.draw(seed, _PURPOSE, layer * np.uint64(heads) + number, np.full(len(rest), draw, np.uint64))
        order = [rest[at] for at in np.argsort(lots, kind="stable")]
        order.sort(key=last.__contains__)
        found.append(_take(order, best, last if matched else None))
    return tuple(found)


def _take(order: list[Head], best: Sequence[Head], spared: set[Head] | None) -> tuple[Head, ...]:
    """Take as many as the best from the front: as many of each layer, without the spared; then what comes."""
    wanted = Counter[int]() if spared is None else Counter(layer for layer, _ in best)
    taken: list[Head] = []
    for head in order:
        if wanted[head[0]] > 0 and head not in (spared or ()):
            wanted[head[0]] -= 1
            taken.append(head)
    taken += [head for head in order if head not in set(taken)][: len(best) - len(taken)]
    return tuple(sorted(taken))


def _loss(model: PreTrainedModel, probe: Question, heads: Sequence[Head]) -> float:
    with silenced(model, heads):
        return float(read_rows(model, probe.prompt, probe.answer).losses.mean())


@contextmanager
def silenced(model: PreTrainedModel, heads: Iterable[Head]) -> Iterator[None]:
    """Set the output of some heads to 0 for the length of a block.

    Args:
        model: of transformers.
        heads: as (layer, head).

    Raises:
        MonitorError: there is no such head, or its output is not where it is looked for.
    """
    by_layer: dict[int, list[int]] = {}
    for layer, head in heads:
        by_layer.setdefault(layer, []).append(head)
    with ExitStack() as undo:
        for layer, numbers in by_layer.items():
            output = _output(model, layer)
            keep = _kept(output, numbers, int(model.config.num_attention_heads))
            handle = output.register_forward_pre_hook(lambda _, inputs, keep=keep: (inputs[0] * keep, *inputs[1:]))
            undo.callback(handle.remove)
        yield


def _output(model: PreTrainedModel, layer: int) -> torch.nn.Module:
    layers = model.get_decoder().layers
    found = getattr(getattr(layers[layer], "self_attn", None), "o_proj", None) if 0 <= layer < len(layers) else None
    if not isinstance(found, torch.nn.Module):
        raise MonitorError(
            f"model_type: {model.config.model_type}: layer {layer} of {len(layers)} has no self_attn.o_proj, so its "
            "heads cannot be silenced; give one of llama, mistral, qwen2, qwen3, and a layer that it has"
        )
    return found


def _kept(output: torch.nn.Module, numbers: Sequence[int], heads: int) -> torch.Tensor:
    """Return 0 where a silenced head writes and 1 elsewhere, in the projection's type, shape (heads × head size,)."""
    if not all(0 <= number < heads for number in numbers):
        raise MonitorError(f"heads {sorted(numbers)} of a layer of {heads}; they are numbered from 0")
    weight = output.get_parameter("weight")
    keep = torch.ones(heads, int(weight.shape[1]) // heads, dtype=weight.dtype, device=weight.device)
    keep[list(numbers)] = 0
    return keep.reshape(-1)
