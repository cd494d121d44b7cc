"""LongPPL: perplexity of the tokens that need a long context, and of those alone (arXiv 2410.23771).

    token                        The  door  …  said  Ar   yad
    loss, all before it given    3.1  1.2      2.4   0.3  0.1
    loss, 4,096 tokens given     3.1  1.2      2.5   6.0  0.1      windows of 4,096, moved on by 1,024
    gain of the long context     0.0  0.0      0.1   5.7  0.0
    key                          no   no       no    yes  no       gain > 2, and loss < 2 with all given

Most tokens follow from their last sentence, and their mean hides the others. A key token is one that the long context
makes both much likelier and likely: the paper's long-short difference (equation 2) is over alpha = 2, its long-context
likelihood over beta = -2. LongPPL is exp of the mean loss, with all given, over key tokens. LongCE, a training loss,
weighs each token by min(exp(gain), gamma), gamma = 5.

The short context of a token is 4,096 to 5,119 tokens: each window is scored at its last 1,024 places, as the authors'
program does. The first 4,096 tokens of a text have no shorter context, so they are neither key nor counted. The price
is, beside the one long pass, five passes over every token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixture.errors import MonitorError
from mixture.monitor.losses import CHUNK, PLACES, Floats, token_losses
from mixture.monitor.measures import Measure
from mixture.monitor.probability import pooled
from mixture.monitor.subject import Subject

Bools = npt.NDArray[np.bool_]

#: Tokens of the short context, and how far its windows are apart.
SHORT, STEP = 4096, 1024
#: alpha: by how many nats the long context must help; -beta: what the token may cost with it.
GAIN, MOST = 2.0, 2.0
#: gamma: no token weighs more in LongCE.
CAP = 5.0
TASK = "longppl"


@dataclass(frozen=True)
class Contrast:
    """Losses of the tokens of one text from its token `short` on, with all before them given and with little.

    Attributes:
        full: with all, in nats, shape (n - short,).
        short: with the short context, shape as full.
    """

    full: Floats
    short: Floats

    def keys(self, gain: float = GAIN, most: float = MOST) -> Bools:
        """Return which tokens are key, shape as full."""
        return key_tokens(self.full, self.short, gain, most)

    def weights(self, cap: float = CAP) -> Floats:
        """Return each token's weight in LongCE, shape as full."""
        return longce_weights(self.full, self.short, cap)


def key_tokens(full: Floats, short: Floats, gain: float = GAIN, most: float = MOST) -> Bools:
    """Return which tokens need the long context: short - full > gain and full < most, in nats, any shape."""
    found: Bools = (short - full > gain) & (full < most)
    return found


def longce_weights(full: Floats, short: Floats, cap: float = CAP) -> Floats:
    """Return min(exp(short - full), cap), losses in nats, any shape; tokens without a shorter context weigh 1."""
    # Of a large gain exp would overflow, and past log(cap) it does not matter.
    found: Floats = np.minimum(np.exp(np.minimum(short - full, np.log(cap) + 1)), cap)
    return found


def windows(length: int, short: int = SHORT, step: int = STEP) -> list[tuple[int, int]]:
    """Return where the windows over a text begin and end; each is scored from its token `short` on.

    Args:
        length: tokens of the text.
        short: tokens of the short context.
        step: how far windows are apart.

    Returns:
        (first, last + 1) of each, so that every token from `short` on is scored once; none for a shorter text.
    """
    return [(first, min(first + short + step, length)) for first in range(0, length - short, step)]


def contrasts(
    subject: Subject,
    texts: Sequence[npt.ArrayLike],
    *,
    short: int = SHORT,
    step: int = STEP,
    chunk: int = CHUNK,
    places: int = PLACES,
) -> list[Contrast]:
    """Return the losses of texts with all and with little of their context.

    Args:
        subject: the model.
        texts: tokens, shape (n,) each; with what opens a text of this model, where it wants that.
        short: tokens of the short context, at least 1.
        step: how far its windows are apart, at least 1.
        chunk: places that have logits at the same time.
        places: places that run through the model at the same time.

    Raises:
        MonitorError: no text is longer than the short context; and as `token_losses`.
    """
    rows = [np.asarray(text, np.int64) for text in texts]
    longest = max(map(len, rows), default=0)
    if short < 1 or step < 1:
        raise MonitorError(f"{TASK}: a short context of {short} tokens in steps of {step}; at least 1 each is possible")
    if longest <= short:
        raise MonitorError(
            f"{TASK}: the longest of {len(rows)} texts has {longest:,} tokens, and the short context {short:,}; give "
            "longer texts, or a smaller one"
        )
    full = token_losses(subject, rows, [short] * len(rows), chunk=chunk, places=places)
    cut = [(number, *window) for number, row in enumerate(rows) for window in windows(len(row), short, step)]
    parts = [rows[number][first:stop] for number, first, stop in cut]
    found = token_losses(subject, parts, [short] * len(parts), chunk=chunk, places=places)
    by_text: list[list[Floats]] = [[np.zeros(0)] for _ in rows]
    for (number, _, _), losses in zip(cut, found, strict=True):
        by_text[number].append(losses)
    return [Contrast(long, np.concatenate(little)) for long, little in zip(full, by_text, strict=True)]


def longppl(
    subject: Subject,
    texts: Sequence[npt.ArrayLike],
    *,
    keys: Sequence[Bools] | None = None,
    short: int = SHORT,
    step: int = STEP,
    domain: str = "",
    places: int = PLACES,
) -> list[Measure]:
    """Return LongPPL over texts, with the share of key tokens and the perplexity of all tokens to compare it with.

    Rows of the table: `perplexity` over key tokens (left out where there are none), `key_share` of the scored tokens,
    `all_perplexity` of them. Tokens of all texts are pooled; intervals are bootstrapped over texts.

    Args:
        subject: the model.
        texts: tokens, shape (n,) each.
        keys: the key tokens of each text, shape (n - short,), as `Contrast.keys` of one judge gives them. Checkpoints
            are then compared on the same tokens, and only the long pass is run; by default the model judges itself.
        short: tokens of the short context.
        step: how far its windows are apart.
        domain: of the texts, for the table.
        places: places that run through the model at the same time.

    Raises:
        MonitorError: no text is longer than the short context, keys of other texts; and as `token_losses`.
    """
    if keys is None:
        found = contrasts(subject, texts, short=short, step=step, places=places)
        full, marks = [one.full for one in found], [one.keys() for one in found]
    else:
        full = token_losses(subject, texts, [short] * len(texts), places=places)
        marks = [np.asarray(mark, np.bool_) for mark in keys]
    if [mark.shape for mark in marks] != [losses.shape for losses in full]:
        raise MonitorError(f"{TASK}: the key tokens are of other texts, or of another short context; judge them anew")
    return _told(subject, full, marks, domain)


def _told(subject: Subject, full: Sequence[Floats], marks: Sequence[Bools], domain: str) -> list[Measure]:
    scored = [number for number, losses in enumerate(full) if len(losses)]
    if not scored:
        raise MonitorError(f"{TASK}: no text is longer than the short context; give longer texts")
    sums = np.array([full[number].sum() for number in scored])
    counts = np.array([len(full[number]) for number in scored])
    key_sums = np.array([full[number][marks[number]].sum() for number in scored])
    key_counts = np.array([marks[number].sum() for number in scored])
    some = key_counts > 0
    out = [
        pooled(subject, TASK, "key_share", key_counts, counts, domain=domain),
        pooled(subject, TASK, "all_perplexity", sums, counts, domain=domain, exponent=True),
    ]
    if some.any():
        out.append(pooled(subject, TASK, "perplexity", key_sums[some], key_counts[some], domain=domain, exponent=True))
    return out
