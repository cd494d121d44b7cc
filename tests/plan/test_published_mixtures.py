"""The published mixtures on an index of SlimPajama's shape, and what 150B tokens of it meet."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import figure2, slimpajama
from bench.slimpajama import DOMAINS, NATURAL
from mixture.engine.local import Local
from mixture.errors import ShortageError
from mixture.plan.quota import pool_needed
from mixture.presets import fu
from mixture.recipe.quantities import length


def test_150b_tokens_are_refused_with_the_cells_of_c4_and_stackexchange() -> None:
    with pytest.raises(ShortageError) as found:
        figure2.big_solution("error")
    said = str(found.value)
    first, _, options = said.partition("Options: ")
    assert "c4 8K-32K, 32K-128K" in first
    assert "stackexchange 8K-32K" in first
    assert not [name for name in DOMAINS if name not in ("c4", "stackexchange") and f"{name} " in first]
    assert "budget: " in options
    assert "on_shortage: redistribute, the nearest mixture that fits: c4 8K-32K" in options
    # The page's arithmetic: the pool that a domain needs, w·B·max(T/L, (1-T)/(1-L)), is more than it holds.
    held = 0.26609933 * slimpajama.TOKENS
    assert pool_needed(0.26609933, 150e9, 8.2e9 / held, 0.7) > held


def test_repeat_raises_the_caps_of_the_short_cells_alone() -> None:
    phase, supply, solution = figure2.big_solution("repeat")
    assert solution.granted.sum() == phase.exact_budget
    assert (solution.granted == solution.wanted).all()
    raised = {supply.grid.names[c][0] for c in (solution.limits.documents > solution.asked.documents).nonzero()[0]}
    assert raised == {"c4", "stackexchange"}
    epochs = {
        d: (solution.granted / supply.tokens.clip(1))[supply.grid.span(n)].max()
        for n, d in enumerate(supply.grid.domains)
    }
    assert 3 < epochs["c4"] < 4
    assert 30 < epochs["stackexchange"] < 36


def test_redistribution_keeps_every_domain_s_share_to_the_token() -> None:
    phase, supply, solution = figure2.big_solution("redistribute")
    grid = supply.grid
    assert solution.granted.sum() == phase.exact_budget
    assert (grid.sums(solution.granted) == grid.sums(solution.wanted)).all()
    assert (solution.granted <= supply.tokens).all()
    changed = {grid.names[c][0] for c in (solution.granted != solution.wanted).nonzero()[0]}
    assert changed == {"c4", "stackexchange"}


def test_the_presets_have_the_rule_that_lands_on_the_figure() -> None:
    assert length(fu.THRESHOLD) == slimpajama.THRESHOLD
    assert fu.KEEP_SHORT == slimpajama.KEEP_SHORT


@pytest.mark.slow
def test_a_planned_preset_lands_near_its_row_and_on_its_domain_shares(tmp_path: Path) -> None:
    index = slimpajama.make_index(tmp_path / "index", 400_000)
    budget = index.tokens // 50
    with Local() as engine:
        row, domains = figure2.measured_row("fu-per-source", budget, index, tmp_path / "work", engine)
    exact = budget // slimpajama.SEQUENCE * slimpajama.SEQUENCE
    total = sum(NATURAL.values())
    assert all(abs(domains[name] - NATURAL[name] / total) <= 1 / exact for name in DOMAINS)
    # 9M tokens are some 300 long documents: their sampling noise is what the tolerance allows.
    assert row == pytest.approx(slimpajama.FIGURE_2["fu-per-source"], abs=0.04)
