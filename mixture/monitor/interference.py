"""Interference: does text before a needle, which has nothing to do with it, make it harder to find?

    prompt     "Read this." [ much more ][ text before ] needle [ text after ] question Answer:
    prefix 0   "Read this."                              needle [ text after ] question Answer:
    prefix 8   "Read this."              [ text before ] needle [ text after ] question Answer:
    prefix 16  "Read this." [ much more ][ text before ] needle [ text after ] question Answer:

What stands after the needle is the same token by token, and so is the way from the needle to the answer; only the text
before grows, from the needle backwards. What all prompts open with stays. A model that retrieves by content is
indifferent to it: its loss is flat. One that is disturbed by what lies before pays more at every doubling: `slope`, in
nats.

A probe with its needle at the very end gives the longest prefixes; they are cut from its prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from mixture.errors import MonitorError
from mixture.monitor.losses import PLACES, Floats, Ints
from mixture.monitor.measures import Measure
from mixture.monitor.probability import answer_losses, measured
from mixture.monitor.probes import Probe
from mixture.monitor.subject import Subject

TASK = "interference"


def prefixes_of(probes: Sequence[Probe], opening: int = 0) -> tuple[int, ...]:
    """Return prefixes that all probes have: 0, and doublings from 64 tokens on up to all there is.

    Args:
        probes: at least one.
        opening: tokens that open every prompt and are no text.
    """
    most = min(probe.sentence[0] for probe in probes) - opening
    grown = [64 << step for step in range(64) if 64 << step < most]
    return tuple(dict.fromkeys([0, *grown, max(most, 0)]))


def with_prefix(probe: Probe, prefix: int, opening: int = 0) -> Ints:
    """Return a probe's prompt with so many tokens of text before its needle's sentence, int64.

    Args:
        probe: as it was laid out.
        prefix: tokens between what opens the prompt and the sentence.
        opening: tokens at the beginning that stay.

    Raises:
        MonitorError: the probe has fewer.
    """
    has = probe.sentence[0] - opening
    if not 0 <= prefix <= has:
        raise MonitorError(
            f"{TASK}: a prefix of {prefix:,} tokens, and a probe of {probe.length:,} tokens has {max(has, 0):,} before "
            "its needle; lay out probes with the needle deeper, or ask for shorter prefixes"
        )
    return np.concatenate([probe.prompt[:opening], probe.prompt[probe.sentence[0] - prefix :]])


def interference(
    subject: Subject, probes: Sequence[Probe], prefixes: Sequence[int] | None = None, *, places: int = PLACES
) -> list[Measure]:
    """Return the mean loss of the right answer by the length of the text before the needle, and its slope.

    Rows of the table: `loss` of each prefix, in nats a token, `cell` being `prefix N`; `slope`, over all prefixes but
    0, in nats a doubling, where there are at least two of them; `excess`, the loss with the longest prefix less that
    with the shortest. Each is a mean over probes, with an interval bootstrapped over them.

    Args:
        subject: the model.
        probes: at least one; what stands after the needle is theirs.
        prefixes: tokens before the needle, at least two different ones; by default `prefixes_of` the probes.
        places: places that run through the model at the same time.

    Raises:
        MonitorError: no probe, or prefixes that they do not have; and as `token_losses`.
    """
    if not probes:
        raise MonitorError(f"{TASK}: no probe was given; lay out some with the needle at the end")
    opening = _opening(subject, probes)
    wanted = sorted(set(prefixes_of(probes, opening) if prefixes is None else prefixes))
    if len(wanted) < 2:
        raise MonitorError(f"{TASK}: one prefix ({wanted}) is nothing to compare; give at least two different ones")
    prompts = [with_prefix(probe, prefix, opening) for prefix in wanted for probe in probes]
    found = answer_losses(subject, prompts, [probe.answer for probe in probes] * len(wanted), places=places)
    losses = np.array([one.mean() for one in found]).reshape(len(wanted), len(probes))
    out = [measured(subject, TASK, "excess", losses[-1] - losses[0])]
    steep = slopes(np.array(wanted), losses)
    if steep is not None:
        out.append(measured(subject, TASK, "slope", steep))
    cells = [f"prefix {prefix}" for prefix in wanted]
    return out + [measured(subject, TASK, "loss", row, cell=cell) for cell, row in zip(cells, losses, strict=True)]


def slopes(prefixes: Ints, losses: Floats) -> Floats | None:
    """Return by how much each probe's loss rises with a doubling of the prefix: least squares against log2.

    Args:
        prefixes: rising, shape (p,); a prefix of 0 has no logarithm and is left out.
        losses: shape (p, probes).

    Returns:
        shape (probes,); None where fewer than two prefixes are left.
    """
    some = prefixes > 0
    if some.sum() < 2:
        return None
    doublings = np.log2(prefixes[some])
    return np.array([stats.linregress(doublings, one).slope for one in losses[some].T])


def _opening(subject: Subject, probes: Sequence[Probe]) -> int:
    """Return how many tokens open every prompt: what all begin with, or of a single one what the tokenizer adds."""
    stop = min(probe.sentence[0] for probe in probes)
    heads = np.stack([probe.prompt[:stop] for probe in probes])
    same = (heads == heads[0]).all(axis=0)
    if not same.all():
        return int(same.argmin())
    own = np.array(subject.tokenizer.opening, np.int64)
    return len(own) if np.array_equal(heads[0, : len(own)], own) else 0
