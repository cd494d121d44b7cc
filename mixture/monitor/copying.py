"""Which heads copied a needle: from where the answer's rows look most, to a score for each head.

    prompt   … 17  5  9  4 …  "Answer:"      the needle is 5 9 4, at places 31 to 33
    answer   5  9  4
    a head's largest weights are at   31  32  7       it copied 5 and 9, and looked elsewhere for 4: score 2/3

Retrieval score of a head (Wu et al., arXiv 2404.15574, section 2): g is the set of tokens that it copied, k the set
of the needle's tokens; the score is |g ∩ k| / |k|. Both are sets, so a token that stands twice counts once, and no
score is above 1. A head copies token w when w is the answer's next token and the head's largest weight, in the row that
predicts it, falls on a place of the needle that holds w. The paper watches a greedy answer and learns nothing where
that is wrong; here the right answer is given (teacher forcing), so the score is defined for every sample.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from mixture.errors import MonitorError

Tokens = npt.NDArray[np.int64]


class Question(Protocol):
    """What is asked of a probe here; `mixture.monitor.probes.Probe` has it."""

    @property
    def task(self) -> str:
        """Name of the task."""

    @property
    def length(self) -> int:
        """Tokens of the prompt."""

    @property
    def depth(self) -> float:
        """Place of the needle, 0 to 1."""

    @property
    def seed(self) -> int:
        """Number of the sample."""

    @property
    def prompt(self) -> Tokens:
        """Token ids, shape (length,)."""

    @property
    def answer(self) -> Tokens:
        """Token ids that a right model says next, shape (m,)."""

    @property
    def needle(self) -> tuple[int, int]:
        """First and last + 1 place in the prompt of the tokens to be copied."""


def needle_tokens(probe: Question) -> Tokens:
    """Return the needle's tokens, each once, rising.

    Raises:
        MonitorError: there is no needle in the prompt, or no answer token stands in it.
    """
    first, stop = probe.needle
    where = f"probe {probe.task}, length {probe.length}, depth {probe.depth}, sample {probe.seed}"
    if not 0 <= first < stop <= len(probe.prompt):
        raise MonitorError(
            f"{where}: its needle is places {first} to {stop} of a prompt of {len(probe.prompt)}; a retrieval score "
            "needs a needle inside the prompt"
        )
    words: Tokens = np.unique(np.asarray(probe.prompt[first:stop], np.int64))
    if not np.isin(probe.answer, words).any():
        raise MonitorError(
            f"{where}: none of its answer's {len(probe.answer)} tokens stands in the needle, so no head can copy it; "
            "leave this probe to the other levels"
        )
    return words


def copied(positions: npt.NDArray[np.int64], probe: Question) -> npt.NDArray[np.bool_]:
    """Return which heads copied which answer token.

    Args:
        positions: the place with the largest weight in each answer token's row, shape (…, answer tokens).
        probe: what was asked.

    Returns:
        bool, shape of positions.
    """
    first, stop = probe.needle
    inside = (positions >= first) & (positions < stop)
    needle = np.asarray(probe.prompt[first:stop], np.int64)
    held = needle[np.where(inside, positions - first, 0)]
    found: npt.NDArray[np.bool_] = inside & (held == np.asarray(probe.answer, np.int64))
    return found


def retrieval_score(hits: npt.NDArray[np.bool_], probe: Question) -> npt.NDArray[np.float64]:
    """Return each head's share of distinct needle tokens that it copied.

    Args:
        hits: of `copied`, shape (…, answer tokens).
        probe: what was asked.

    Returns:
        float64 in [0, 1], shape (…).

    Raises:
        MonitorError: as `needle_tokens`.
    """
    words = needle_tokens(probe)
    count = np.zeros(hits.shape[:-1], np.int64)
    for word in words:
        count += hits[..., np.asarray(probe.answer) == word].any(axis=-1)
    return count / words.size


def copy_weight(
    hits: npt.NDArray[np.bool_], weights: npt.NDArray[np.floating], probe: Question
) -> npt.NDArray[np.float64]:
    """Return how much of its attention each head gave to what it copied: mean over answer tokens, 0 where it did not.

    It moves before the score does: a head that looks at the needle with .3 may look there with .9 later.

    Args:
        hits: of `copied`, shape (…, answer tokens).
        weights: the largest weights, shape of hits.
        probe: what was asked; answer tokens that the needle does not hold are left out.

    Returns:
        float64 in [0, 1], shape (…).
    """
    able = np.isin(probe.answer, needle_tokens(probe))
    found: npt.NDArray[np.float64] = np.where(hits, weights, 0.0)[..., able].mean(axis=-1, dtype=np.float64)
    return found
