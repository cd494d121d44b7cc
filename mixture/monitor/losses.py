"""What each token of a text costs a model, with all before it given, and never the logits of a long text at once.

    rows       [5 3 8 8 1]  [7 2]            tokens of texts, of any lengths
    first      [3           1]               score from these tokens on
    losses     [-log p(8 | 5 3 8)  -log p(1 | 5 3 8 8)]   [-log p(2 | 7)]

Texts of like lengths run together, the shorter ones filled up on the right: a causal model does not look there, so no
mask is needed. The output embedding then meets only the places whose next token is scored, `chunk` of them at a time
(mixture.train.loss): 32K places × 128K words would be 8 GB of bf16 logits, and a chunk of 1,024 is 0.25 GB.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch

from mixture.errors import MonitorError
from mixture.monitor.subject import Subject
from mixture.train.loss import cross_entropy

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

#: Places that have logits at the same time.
CHUNK = 1024
#: Places that run through the model at the same time, unless one text has more.
PLACES = 32_768
#: Fields of configs that change logits after the output embedding, and the value with which they do not.
_AFTER = {"final_logit_softcapping": None, "logits_scaling": 1.0, "logit_scale": 1.0, "lm_head_multiplier": 1.0}


def token_losses(
    subject: Subject,
    rows: Sequence[npt.ArrayLike],
    first: Sequence[int] | None = None,
    *,
    chunk: int = CHUNK,
    places: int = PLACES,
) -> list[Floats]:
    """Return the cross-entropy of the tokens of some texts, teacher-forced, in nats.

    Args:
        subject: the model.
        rows: tokens of each text, shape (n,).
        first: the first token of each text to be scored, at least 1; by default 1, since nothing stands before token 0.
        chunk: places that have logits at the same time.
        places: places that run through the model at the same time, unless one text has more.

    Returns:
        Of each text float64, shape (n - first,), in the order given: empty where the text ends before `first`.

    Raises:
        MonitorError: a token that the model has no embedding for, a loss that is not finite, or a model whose logits
            are more than its output embedding makes.
    """
    texts = [np.asarray(row, np.int64).reshape(-1) for row in rows]
    begin = [1] * len(texts) if first is None else [int(at) for at in first]
    _check(subject, texts, begin)
    out = [np.zeros(0) for _ in texts]
    for group in _groups([len(text) if len(text) > at else 0 for text, at in zip(texts, begin, strict=True)], places):
        found = _together(subject, [texts[number] for number in group], [begin[number] for number in group], chunk)
        for number, losses in zip(group, found, strict=True):
            out[number] = losses
    return out


def _groups(lengths: Sequence[int], places: int) -> Iterator[list[int]]:
    """Yield which texts run together: the longest first, none of length 0."""
    group: list[int] = []
    for number in sorted(range(len(lengths)), key=lambda n: -lengths[n]):
        if not lengths[number]:
            break
        if group and lengths[group[0]] * (len(group) + 1) > places:
            yield group
            group = []
        group.append(number)
    if group:
        yield group


def _together(subject: Subject, texts: Sequence[Ints], begin: Sequence[int], chunk: int) -> list[Floats]:
    """Run texts of like lengths through the model; see `token_losses`."""
    longest = max(map(len, texts))
    ids = np.zeros((len(texts), longest), np.int64)
    for row, text in zip(ids, texts, strict=True):
        row[: len(text)] = text
    # Place p of a row predicts its token p + 1.
    where = [
        number * longest + np.arange(at - 1, len(text) - 1)
        for number, (text, at) in enumerate(zip(texts, begin, strict=True))
    ]
    labels = np.concatenate([text[at:] for text, at in zip(texts, begin, strict=True)])
    device, model = subject.device, subject.model
    with torch.no_grad():
        given = torch.from_numpy(ids).to(device)
        states = model.get_decoder()(input_ids=given, use_cache=False).last_hidden_state.flatten(0, 1)
        weight = model.get_output_embeddings().weight
        wanted = states[torch.from_numpy(np.concatenate(where)).to(device)]
        losses = cross_entropy(wanted, weight, torch.from_numpy(labels).to(device), chunk)[1]
    found = losses.cpu().double().numpy()
    if not np.isfinite(found).all():
        raise MonitorError(
            f"{subject.name}: a loss is {found[~np.isfinite(found)][0]} in {subject.dtype}; the model is broken, or it "
            "needs --dtype float32"
        )
    return np.split(found, np.cumsum([len(part) for part in where])[:-1])


def _check(subject: Subject, texts: Sequence[Ints], begin: Sequence[int]) -> None:
    config = subject.model.config
    size = int(config.vocab_size)
    for number, (text, at) in enumerate(zip(texts, begin, strict=True)):
        strange = text[(text < 0) | (text >= size)]
        if len(strange):
            raise MonitorError(
                f"text {number}: token {strange[0]} is none of the {size:,} that {subject.name} knows; give the "
                "tokenizer that the model was trained with"
            )
        if at < 1:
            raise MonitorError(f"text {number}: its token {at} cannot be scored, nothing stands before token 0")
    for name, idle in _AFTER.items():
        value = getattr(config, name, idle)
        if value not in (idle, None):
            raise MonitorError(f"{subject.name}: {name}: {value} changes logits after the output embedding; {_NEXT}")
    if getattr(subject.model.get_output_embeddings(), "bias", None) is not None:
        raise MonitorError(f"{subject.name}: its output embedding has a bias, which is not done here; {_NEXT}")


_NEXT = "give a model of llama, mistral, qwen2 or qwen3"
