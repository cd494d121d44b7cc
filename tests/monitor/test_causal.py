"""Silencing: the heads that copy are missed, others are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from mixture.errors import MonitorError  # noqa: E402
from mixture.monitor.causal import CausalCheck, causal_check, draw_others, silenced  # noqa: E402
from mixture.monitor.heads import Retrieval  # noqa: E402
from mixture.monitor.mechanism import retrieval  # noqa: E402
from tests.monitor.copyist import COPYIST, Patient, copyist, grid  # noqa: E402

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")


@pytest.mark.parametrize("family", FAMILIES)
def test_without_the_head_that_copies_the_needle_is_lost(family: str) -> None:
    patient = Patient(copyist(family))
    found = retrieval(patient, grid())
    # Other probes than those that ranked the heads.
    check = causal_check(patient, grid((56,), samples=3), found, best=1, draws=4)
    assert check.best == (COPYIST,)
    assert check.plain.max() < 0.01
    # Without it the model knows nothing of 32 tokens.
    assert check.without_best.mean() == pytest.approx(np.log(32), abs=0.3)
    assert check.without_others.max() < 0.01
    assert check.holds()


def test_a_head_that_copies_nothing_is_not_missed() -> None:
    patient = Patient(copyist())
    found = retrieval(patient, grid())
    swapped = found.scores.copy()
    swapped[:, 1, 2], swapped[:, 0, 1] = 0, 1
    wrong = Retrieval(found.model, None, None, swapped, found.weights, found.probes)
    check = causal_check(patient, grid(), wrong, best=1, draws=4, matched=False)
    assert check.best == ((0, 1),)
    assert not check.holds()


def test_silencing_is_zeroing_the_columns_of_the_output_projection() -> None:
    model, twin = copyist(), copyist()
    with torch.no_grad():
        twin.model.layers[0].self_attn.o_proj.weight[:, 64:128] = 0
        twin.model.layers[1].self_attn.o_proj.weight[:, :64] = 0
        twin.model.layers[1].self_attn.o_proj.weight[:, 192:] = 0
    tokens = torch.arange(30)[None]
    whole = model(input_ids=tokens).logits
    with silenced(model, [(0, 1), (1, 0), (1, 3)]):
        torch.testing.assert_close(model(input_ids=tokens).logits, twin(input_ids=tokens).logits)
        assert not torch.equal(model(input_ids=tokens).logits, whole)
    assert torch.equal(model(input_ids=tokens).logits, whole)


def test_a_model_is_given_back_when_silencing_fails() -> None:
    model = copyist()
    tokens = torch.arange(30)[None]
    whole = model(input_ids=tokens).logits
    with pytest.raises(MonitorError, match=r"heads \[4\] of a layer of 4"), silenced(model, [(0, 1), (1, 4)]):
        pass
    with pytest.raises(MonitorError, match="layer 2 of 2 has no"), silenced(model, [(0, 1), (2, 0)]):
        pass
    with pytest.raises(ZeroDivisionError), silenced(model, [(0, 1)]):
        _ = 1 / 0
    assert torch.equal(model(input_ids=tokens).logits, whole)


def test_others_come_from_the_layers_of_the_best_and_are_none_of_them() -> None:
    best = [(0, 1), (2, 0), (2, 3), (2, 5)]
    drawn = draw_others((4, 8), best, 50)
    assert all([layer for layer, _ in heads] == [0, 2, 2, 2] for heads in drawn)
    assert not any(set(heads) & set(best) for heads in drawn)
    assert all(len(set(heads)) == 4 for heads in drawn)
    # All that may be drawn is, in fifty draws.
    assert {head for heads in drawn for head in heads} == {
        *((0, h) for h in range(8) if h != 1),
        *((2, h) for h in (1, 2, 4, 6, 7)),
    }


def test_where_a_layer_has_not_enough_others_come_from_all() -> None:
    drawn = draw_others((3, 4), [(1, 0), (1, 1), (1, 2)], 50)
    assert all((1, 3) in heads and len(set(heads)) == 3 for heads in drawn)
    assert {layer for heads in drawn for layer, _ in heads} == {0, 1, 2}


def test_retrieval_heads_are_drawn_last() -> None:
    spared = [(0, 0), (0, 1), (0, 2)]
    drawn = draw_others((2, 4), [(0, 0)], 20, spared=spared)
    assert set(drawn) == {((0, 3),)}
    # Of three others one is left in the layer and four in the next: none needs to be spared in vain.
    assert all((0, 1) not in heads and (0, 2) not in heads for heads in draw_others((2, 4), spared, 20, spared=spared))
    # Seven are left for three: all but the spared, then one of these.
    everywhere = [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1)]
    drawn = draw_others((2, 4), everywhere[:3], 20, spared=everywhere)
    assert all({(1, 2), (1, 3)} < set(heads) for heads in drawn)
    assert {*drawn} == {(head, (1, 2), (1, 3)) for head in everywhere[3:]}


def test_unmatched_others_come_from_all_layers() -> None:
    drawn = draw_others((8, 8), [(0, 0), (0, 1)], 100, matched=False)
    assert {layer for heads in drawn for layer, _ in heads} == set(range(8))
    assert not {(0, 0), (0, 1)} & {head for heads in drawn for head in heads}


def test_a_draw_is_addressed() -> None:
    few, many = (draw_others((4, 8), [(0, 0)], draws, seed=3) for draws in (2, 6))
    assert many[:2] == few
    assert draw_others((4, 8), [(0, 0)], 6, seed=4) != many
    assert draw_others((4, 8), [(0, 0)], 1, seed=3) == (((0, 3),),)


def check(plain: Any, without_best: Any, without_others: Any) -> CausalCheck:
    arrays = (np.asarray(values, np.float64) for values in (plain, without_best, without_others))
    return CausalCheck("run", 5, 50, ((0, 0),), (((0, 1),), ((0, 2),)), *arrays)


def test_measures_by_hand() -> None:
    found = check([1, 2], [3, 4], [[1, 2], [2, 3]]).measures()
    rows = {(row.metric, row.cell): row for row in found}
    assert {key: row.value for key, row in rows.items()} == {
        ("perplexity", "all heads"): pytest.approx(np.exp(1.5)),
        ("perplexity", "without the best 1"): pytest.approx(np.exp(3.5)),
        ("perplexity", "without 1 others"): pytest.approx(np.exp(2)),
        ("loss_rise", "without the best 1"): 2,
        ("loss_rise", "without 1 others"): 0.5,
        ("loss_gap", ""): 1.5,
    }
    assert [row.whole for row in found] == [False] * 5 + [True]
    perplexity = rows["perplexity", "all heads"]
    assert np.exp(1) <= perplexity.low <= perplexity.value <= perplexity.high <= np.exp(2)
    assert (perplexity.n, perplexity.level, perplexity.task) == (2, "mechanism", "causal_masking")


def test_a_perplexity_beyond_all_numbers_is_still_one() -> None:
    assert all(np.isfinite(row.value) for row in check([1, 1], [900, 900], [[1, 1]] * 2).measures())


def test_it_holds_only_where_the_best_are_missed_and_more_than_others() -> None:
    quiet = [[1, 1, 1], [1, 1, 1]]
    assert check([1, 1, 1], [2, 3, 4], quiet).holds()
    assert not check([1, 1, 1], [1, 1, 1], quiet).holds()
    assert not check([1, 1, 1], [2, 3, 4], [[2, 3, 4], [2, 3, 4]]).holds()
    # The others help the loss, the best do nothing: a gap alone is not enough.
    assert not check([1, 1, 1], [1, 1, 1], [[0, 0, 0], [0, 0, 0]]).holds()


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(MonitorError, match=r"shapes \(2,\), \(2,\) and \(1, 2\) with 2 draws"):
        check([1, 1], [1, 1], [[1, 1]])
    with pytest.raises(MonitorError, match="none of them"):
        CausalCheck("run", 0, 0, ((0, 0),), (((0, 0),),), np.ones(1), np.ones(1), np.ones((1, 1)))


@pytest.mark.parametrize(("best", "draws"), [(0, 3), (5, 3), (1, 0)])
def test_a_check_that_cannot_be_is_refused(best: int, draws: int) -> None:
    patient = Patient(copyist())
    found = retrieval(patient, grid((40,), (0.5,)))
    with pytest.raises(MonitorError, match="at most half of them, and draw at least once"):
        causal_check(patient, grid((40,), (0.5,)), found, best=best, draws=draws)


def test_a_check_needs_probes_and_tells_of_each() -> None:
    patient = Patient(copyist())
    found = retrieval(patient, grid((40,), (0.5,)))
    with pytest.raises(MonitorError, match="at least one probe"):
        causal_check(patient, [], found)
    told: list[int] = []
    check = causal_check(patient, grid((40,)), found, draws=1, told=told.append)
    assert told == [1, 2, 3]
    # By default the retrieval heads are silenced, at most half of all.
    assert 1 <= len(check.best) == min(len(found.above()), 4)
