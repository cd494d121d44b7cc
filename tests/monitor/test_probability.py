"""The needle's perplexity is what full logits say, cell by cell, and no full logits are made."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch.nn.functional as F  # noqa: E402, N812
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_leaves  # noqa: E402

from mixture.errors import MonitorError  # noqa: E402
from mixture.monitor.losses import token_losses  # noqa: E402
from mixture.monitor.measures import Measure  # noqa: E402
from mixture.monitor.probability import answer_losses, needle_perplexity, pooled  # noqa: E402
from mixture.monitor.probes import Probe  # noqa: E402
from mixture.monitor.subject import Subject  # noqa: E402
from tests.monitor.conftest import tiny  # noqa: E402

VOCABULARY = 258


def naive(subject: Subject, row: Any) -> Any:
    """Return the loss of every token but the first, from the logits of all."""
    ids = torch.as_tensor(np.asarray(row))[None]
    with torch.no_grad():
        logits = subject.model(ids).logits[0].double()
    return F.cross_entropy(logits[:-1], ids[0, 1:], reduction="none").numpy()


def text(tokens: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, tokens)


def probe(length: int, depth: float, sample: int, *, answer: int = 3) -> Probe:
    prompt = text(length, seed=sample)
    at = min(int(depth * length), length - answer)
    copied = prompt[at : at + answer].copy()
    return Probe("niah", length, depth, sample, prompt, copied, (at, at + answer), (at, at + answer), ("x",), True)


@contextmanager
def widest(subject: Subject) -> Iterator[list[int]]:
    """Note how many rows of logits, which are as wide as the vocabulary, exist in one tensor at most."""
    seen = [0]
    weight = subject.model.lm_head.weight.untyped_storage().data_ptr()

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            for value in tree_leaves(out):
                wide = isinstance(value, torch.Tensor) and value.ndim and value.shape[-1] == VOCABULARY
                # The output embedding itself, transposed, is no logits.
                if wide and value.untyped_storage().data_ptr() != weight:
                    seen[0] = max(seen[0], value.numel() // VOCABULARY)
            return out

    with Watch():
        yield seen


@pytest.mark.parametrize("family", ["llama", "qwen2", "mistral"])
def test_losses_of_tokens_are_those_of_full_logits(family: str) -> None:
    subject = tiny(family)
    rows = [text(n, seed=n) for n in (40, 7, 100, 2, 64)]
    found = token_losses(subject, rows, chunk=16, places=220)
    for row, losses in zip(rows, found, strict=True):
        assert losses == pytest.approx(naive(subject, row), abs=2e-5)
    later = token_losses(subject, rows, [10, 3, 99, 2, 1])
    assert [len(losses) for losses in later] == [30, 4, 1, 0, 63]
    for row, first, losses in zip(rows, [10, 3, 99, 2, 1], later, strict=True):
        assert losses == pytest.approx(naive(subject, row)[first - 1 :], abs=2e-5)


def test_what_is_filled_up_on_the_right_changes_nothing() -> None:
    subject = tiny("mistral", sliding_window=8)
    short, long = text(9, seed=1), text(50, seed=2)
    together = token_losses(subject, [short, long])[0]
    assert together == pytest.approx(token_losses(subject, [short])[0], abs=2e-5)
    assert together == pytest.approx(naive(subject, short), abs=2e-5)


def test_logits_never_exist_for_more_than_a_chunk_or_the_answer() -> None:
    subject = tiny()
    with widest(subject) as rows:
        token_losses(subject, [text(300)], chunk=32)
    assert rows[0] == 32
    with widest(subject) as rows:
        answer_losses(subject, [text(400)], [text(3)])
    assert rows[0] == 3
    with widest(subject) as rows:
        naive(subject, text(300))
    assert rows[0] == 300, "the watch sees full logits where there are some"


def test_the_answers_losses_have_the_prompt_and_the_answer_before_them() -> None:
    subject = tiny()
    prompt, answer = text(50), text(4, seed=9)
    (found,) = answer_losses(subject, [prompt], [answer])
    assert found == pytest.approx(naive(subject, np.concatenate([prompt, answer]))[-4:], abs=2e-5)


def one(measures: list[Measure], metric: str, length: int | None = None, depth: float | None = None) -> Measure:
    (found,) = [m for m in measures if (m.metric, m.length, m.depth) == (metric, length, depth)]
    return found


def test_perplexity_is_exp_of_the_mean_loss_of_an_answer_and_its_mean_over_samples() -> None:
    subject = tiny()
    probes = [probe(length, depth, sample) for length in (24, 48) for depth in (0.0, 1.0) for sample in range(3)]
    found = needle_perplexity(subject, probes)
    by_hand: dict[tuple[int, float], list[float]] = {}
    for p in probes:
        losses = naive(subject, np.concatenate([p.prompt, p.answer]))[-len(p.answer) :]
        by_hand.setdefault((p.length, p.depth), []).append(math.exp(sum(losses) / len(losses)))
    assert len(found) == 2 * (1 + 4)
    for (length, depth), values in by_hand.items():
        row = one(found, "perplexity", length, depth)
        assert row.value == pytest.approx(sum(values) / 3, rel=1e-4)
        assert row.low <= row.value <= row.high
        assert row.n == 3
    whole = one(found, "perplexity")
    assert whole.whole
    assert whole.value == pytest.approx(np.mean(list(by_hand.values())), rel=1e-4)
    assert one(found, "loss").value == pytest.approx(np.log(list(by_hand.values())).mean(), rel=1e-4)
    assert (whole.model, whole.step, whole.tokens, whole.level, whole.task) == (
        "tiny",
        100,
        6_400,
        "probability",
        "niah_ppl",
    )


def test_a_uniform_model_has_the_vocabulary_as_its_perplexity() -> None:
    subject = tiny()
    subject.model.lm_head.weight.zero_()
    found = needle_perplexity(subject, [probe(24, 0.5, sample) for sample in range(2)])
    assert one(found, "perplexity").value == pytest.approx(VOCABULARY, rel=1e-5)


def test_the_score_is_there_when_the_greedy_answer_is_wrong() -> None:
    subject = tiny()
    asked = probe(40, 0.5, 0)
    logits = subject.model(torch.from_numpy(asked.prompt)[None]).logits[0, -1]
    assert int(logits.argmax()) != int(asked.answer[0])
    assert one(needle_perplexity(subject, [asked]), "perplexity").value > 1


def test_a_ratio_is_over_all_tokens_and_its_interval_over_texts() -> None:
    found = pooled(tiny(), "longppl", "loss", [3.0, 20.0, 1.0], [1, 10, 2])
    assert (found.value, found.n) == (24 / 13, 3)
    assert 0.5 <= found.low <= 24 / 13 <= found.high <= 3.0
    raised = pooled(tiny(), "longppl", "perplexity", [3.0, 20.0, 1.0], [1, 10, 2], exponent=True)
    assert raised.value == pytest.approx(math.exp(24 / 13))


def test_what_cannot_be_scored_is_refused_in_a_sentence() -> None:
    subject = tiny()
    with pytest.raises(MonitorError, match="no probe was given"):
        needle_perplexity(subject, [])
    with pytest.raises(MonitorError, match="probe 0: its answer has no token"):
        answer_losses(subject, [text(5)], [[]])
    with pytest.raises(MonitorError, match="token 900 is none of the 258 that tiny knows"):
        token_losses(subject, [[1, 900]])
    with pytest.raises(MonitorError, match="nothing stands before token 0"):
        token_losses(subject, [[1, 2]], [0])
    subject.model.lm_head.weight[0] = math.nan
    with pytest.raises(MonitorError, match="a loss is nan"):
        token_losses(subject, [text(5)])


def test_a_model_whose_logits_are_more_than_its_embedding_makes_is_refused() -> None:
    with pytest.raises(MonitorError, match=r"logits_scaling: 8.0 changes logits"):
        token_losses(tiny("granite", logits_scaling=8.0), [text(5)])
    with pytest.raises(MonitorError, match="a mean loss of 800 nats has no perplexity"):
        pooled(tiny(), "x", "perplexity", [800.0], [1], exponent=True)
