"""The mechanistic level finds the head that copies, in a model made by hand and in one that learned it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import torch.nn.functional as F  # noqa: E402, N812

from mixture.errors import MonitorError  # noqa: E402
from mixture.monitor.causal import causal_check  # noqa: E402
from mixture.monitor.heads import Retrieval  # noqa: E402
from mixture.monitor.measures import Measure  # noqa: E402
from mixture.monitor.mechanism import measures, retrieval, top_size  # noqa: E402
from tests.monitor.asked import Asked  # noqa: E402
from tests.monitor.copyist import COPYIST, Patient, chain, copyist, grid  # noqa: E402

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")


@pytest.mark.parametrize("family", FAMILIES)
def test_the_score_finds_the_head_that_was_built_to_copy(family: str) -> None:
    found = retrieval(Patient(copyist(family)), grid(samples=3))
    assert found.scores.shape == (18, 2, 4)
    assert found.ranked()[0] == COPYIST
    assert (found.scores[:, *COPYIST] == 1).all()
    others = np.delete(found.mean().ravel(), 4 + 2)
    assert others.max() < 0.35
    assert found.weights[:, *COPYIST].min() > 0.99


def test_the_score_is_defined_where_the_answer_is_wrong() -> None:
    mute = copyist(speaks=False)
    probe = chain(64, 0.5)
    tokens = torch.from_numpy(probe.prompt)[None]
    assert mute(input_ids=tokens).logits[0, -1].argmax() == 31 != probe.answer[0]
    assert retrieval(Patient(mute), [probe]).scores[0, *COPYIST] == 1


def test_a_needle_beyond_the_window_is_not_copied() -> None:
    patient = Patient(copyist("mistral", sliding_window=24))
    near, far = (retrieval(patient, [chain(64, depth)]).scores[0, *COPYIST] for depth in (1.0, 0.2))
    assert (near, far) == (1, 0)


def test_a_sample_is_told_from_another() -> None:
    told: list[int] = []
    found = retrieval(Patient(copyist()), [chain(40, 0.5), chain(64, 1, 3)], told=told.append)
    assert told == [1, 2]
    assert found.probes == (("chain", 40, 0.5, 0), ("chain", 64, 1.0, 3))
    assert (found.model, found.step, found.tokens) == ("copyist", 7, 700)
    with pytest.raises(MonitorError, match="at least one probe; none"):
        retrieval(Patient(copyist()), [])


@pytest.fixture(scope="module")
def learner() -> Any:
    """A model of two layers that learned to copy: token w of kind i stands somewhere, and is to be said as the i-th."""
    return learned()


#: Four kinds of sixteen tokens, sixteen tokens of filler, and one that asks.
KINDS, WORDS, FILLER, PLACES = 4, 16, 16, 32
ASK = KINDS * WORDS + FILLER


def laid(rng: np.random.Generator, size: int) -> tuple[Any, Any, Any]:
    """Return prompts (size, places), answers (size, kinds) and where these stand in the prompts (size,)."""
    prompts = rng.integers(KINDS * WORDS, ASK, (size, PLACES))
    answers = np.arange(KINDS) * WORDS + rng.integers(0, WORDS, (size, KINDS))
    first = rng.integers(0, PLACES - KINDS - 1, size)
    prompts[np.arange(size)[:, None], first[:, None] + np.arange(KINDS)] = answers
    prompts[:, -1] = ASK
    return prompts, answers, first


def learned() -> Any:
    torch.set_num_threads(1)
    torch.manual_seed(2)
    config = transformers.LlamaConfig(
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=ASK + 1,
        max_position_embeddings=64,
        initializer_range=0.1,
    )
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.005, betas=(0.9, 0.98), weight_decay=0.0)
    rng = np.random.default_rng(2)
    for _ in range(600):
        prompts, answers, _ = laid(rng, 64)
        tokens = torch.from_numpy(np.concatenate([prompts, answers], axis=1))
        logits = model(input_ids=tokens[:, :-1], use_cache=False, logits_to_keep=KINDS).logits
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, -KINDS:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss.item() < 0.005:
            return model.eval().requires_grad_(requires_grad=False)
    pytest.fail(f"the model did not learn to copy: its loss is {loss.item():.2f}")


def questions(first: int, count: int) -> list[Asked]:
    found = []
    for number in range(first, first + count):
        (prompt,), (answer,), (at,) = laid(np.random.default_rng([7, number]), 1)
        found.append(Asked(prompt, answer, (int(at), int(at) + KINDS), PLACES, at / PLACES, number))
    return found


@pytest.mark.slow
def test_the_score_finds_the_heads_that_learned_to_copy(learner: Any) -> None:
    found = retrieval(Patient(learner), questions(0, 40))
    best = found.ranked()[0]
    assert found.mean()[best] > 0.5
    # What is learned is spread over some heads: half of all are silenced, the best or the others.
    check = causal_check(Patient(learner), questions(100, 40), found, draws=2)
    assert best in check.best
    assert check.plain.mean() < 0.1
    assert check.rise_of_best.mean() > np.log(WORDS)
    assert check.rise_of_others.mean() < check.rise_of_best.mean() / 3
    assert check.gap()[1] > 1
    assert check.holds()


@pytest.mark.slow
def test_before_it_learned_no_head_copied(learner: Any) -> None:
    torch.manual_seed(2)
    fresh = transformers.AutoModelForCausalLM.from_config(learner.config, dtype=torch.float32)
    fresh = fresh.eval().requires_grad_(requires_grad=False)
    before, after = (retrieval(Patient(model), questions(0, 40)) for model in (fresh, learner))
    rows = {row.metric: row for row in measures(after, previous=before, each_head=False)}
    assert rows["top_score"].value > 2 * before.mean().max()
    assert rows["top_score"].low > before.mean().max()


def made(scores: Any, step: int = 0, lengths: tuple[int, ...] = ()) -> Retrieval:
    values = np.asarray(scores, np.float64)
    probes = tuple(("niah", n, 0.5, i) for i, n in enumerate(lengths or (64,) * len(values)))
    return Retrieval("run", step, step * 100, values, values / 2, probes)


def by_metric(rows: list[Measure]) -> dict[str, float]:
    return {row.metric: row.value for row in rows if row.whole}


def test_measures_by_hand() -> None:
    first = made([[[0.4, 0, 0, 0]], [[0.2, 0.2, 0, 0]]], lengths=(32, 64))
    found = made([[[0.6, 0.8, 0, 0.3]], [[0.4, 1, 0, 0.3]]], 5, lengths=(32, 64))
    rows = measures(found, first=first, previous=first)
    assert by_metric(rows) == {
        "heads": 3,
        "zero_share": 0.25,
        "mean_score": pytest.approx(0.425),
        "top_score": pytest.approx(0.9),
        "top_weight": pytest.approx(0.45),
        # Heads 0 and 1 were retrieval heads at first, with .3 and .1; head 3 is one since.
        "first_set_score": pytest.approx(0.7),
        "top_overlap": 0,
        "top_spearman": pytest.approx(-1),
        # Ranks 4 3 1.5 1.5 and 3 4 1 2.
        "spearman": pytest.approx(stats_spearman([0.3, 0.1, 0, 0], [0.5, 0.9, 0, 0.3])),
    }
    assert {row.length: row.value for row in rows if row.metric == "first_set_score" and row.length} == {
        32: pytest.approx(0.7),
        64: pytest.approx(0.7),
    }
    each = {row.cell: (row.value, row.n) for row in rows if row.metric == "retrieval_score"}
    assert each == {
        "layer 0 head 0": (0.5, 2),
        "layer 0 head 1": (0.9, 2),
        "layer 0 head 2": (0, 2),
        "layer 0 head 3": (0.3, 2),
    }
    assert {(row.model, row.step, row.tokens, row.level, row.task) for row in rows} == {
        ("run", 5, 500, "mechanism", "retrieval_heads")
    }


def stats_spearman(one: list[float], other: list[float]) -> float:
    return float(pytest.importorskip("scipy.stats").spearmanr(one, other).statistic)


def test_what_is_not_defined_is_left_out() -> None:
    nothing = made(np.zeros((3, 2, 4)))
    rows = by_metric(measures(nothing, first=nothing, previous=nothing))
    assert rows == {
        "heads": 0,
        "zero_share": 1,
        "mean_score": 0,
        "top_score": 0,
        "top_weight": 0,
        "top_overlap": 1,
    }


def test_every_measure_has_an_interval_where_samples_differ() -> None:
    rng = np.random.default_rng(0)
    one, other = (made(rng.binomial(5, 0.2, (16, 4, 8)) / 5, step) for step in (0, 1))
    rows = measures(other, first=one, previous=one)
    # Of each head one; ten aggregates, first_set_score also for the one length there is.
    assert len(rows) == 32 + 10
    assert all(row.low <= row.value <= row.high for row in rows)
    assert {row.metric for row in rows if row.low == row.high} <= {"retrieval_score", "zero_share"}
    assert measures(other, first=one, previous=one, each_head=False) == [
        row for row in rows if row.metric != "retrieval_score"
    ]


def test_checkpoints_of_another_model_are_refused() -> None:
    one, other = made(np.full((2, 2, 4), 0.5)), made(np.full((2, 4, 2), 0.5))
    with pytest.raises(MonitorError, match="give checkpoints of one model"):
        measures(one, first=other)
    with pytest.raises(MonitorError, match="compared between checkpoints of one model"):
        measures(one, previous=other)
    with pytest.raises(MonitorError, match="same grid and seed"):
        measures(one, previous=replace(one, probes=one.probes[::-1]))


@pytest.mark.parametrize(("total", "best"), [(1024, 30), (120, 30), (119, 29), (8, 2), (2, 1)])
def test_the_best_are_thirty_or_a_quarter(total: int, best: int) -> None:
    assert top_size(total) == best
