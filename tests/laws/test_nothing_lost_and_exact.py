"""Laws 1 and 2: nothing is lost, and every cell is exact."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mixture.recipe import bucket_names
from tests.conftest import Kitchen, documents


def _cell(span: dict, edges: list[int]) -> tuple[str, int]:
    return span["domain"], int(np.searchsorted(edges, span["doc_length"], side="right"))


def test_documents_read_are_stored_or_rejected(kitchen: Kitchen) -> None:
    docs = documents(300)
    path = kitchen.corpus(docs + docs[:5])
    with path.open("ab") as out:
        out.write(b'{"text": ""}\n{"text": null}\nnot json\n{"other": 1}\n')
    built = kitchen.build(more="on_bad_row: skip")
    found = built.lock.documents
    assert found["read"] == 309
    assert found["rejected"] == {"empty text": 1, "invalid JSON": 1, "missing text": 1, "null text": 1}
    assert found["indexed"] == 300
    assert found["duplicates"] == 5
    assert found["read"] == found["indexed"] + found["duplicates"] + sum(found["rejected"].values())


def test_every_cell_holds_its_quota_to_the_token(kitchen: Kitchen) -> None:
    kitchen.corpus(documents(600))
    built = kitchen.build()
    counted: Counter[tuple[str, int]] = Counter()
    for span in built.spans():
        counted[_cell(span, [512, 1024, 4096])] += span["stop"] - span["start"]
    names = bucket_names(built.job.recipe.buckets.default)
    for cell in built.lock.phases[0]["cells"]:
        assert counted[cell["domain"], names.index(cell["bucket"])] == cell["granted"] == cell["written"]
    assert sum(counted.values()) == built.lock.phases[0]["stream"]["tokens"] == 200_000 // 512 * 512
    assert built.lock.phases[0]["stream"]["rounded_off"] == 200_000 % 512


def test_the_long_share_is_raised_inside_every_domain_and_domain_shares_are_kept(kitchen: Kitchen) -> None:
    kitchen.corpus(documents(600))
    cells = kitchen.build().lock.phases[0]["cells"]
    total = sum(cell["granted"] for cell in cells)
    for domain, share in {"books": 0.6, "wiki": 0.15, "code": 0.25}.items():
        mine = [cell for cell in cells if cell["domain"] == domain]
        granted, supply = sum(c["granted"] for c in mine), sum(c["supply_tokens"] for c in mine)
        assert abs(granted - share * total) < 1
        long_before = sum(c["supply_tokens"] for c in mine[2:]) / supply
        long_after = sum(c["granted"] for c in mine[2:])
        assert abs(long_after - max(0.6, long_before) * granted) <= 2


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(-5, 1 << 40),
    budget=st.integers(3_000, 60_000),
    length=st.sampled_from([64, 100, 777]),
    separator=st.sampled_from(["eos", "bos", "bos+eos", "none", '{text: "\\n\\n---\\n"}']),
    lengths=st.sampled_from(["natural", "{threshold: 1K, keep_short: 0.2}", "{factors: [0.5, 1, 2, 3.5]}"]),
    copies=st.integers(1, 5),
)
def test_any_small_recipe_is_exact_and_verifies(
    kitchen: Kitchen, seed: int, budget: int, length: int, separator: str, lengths: str, copies: int
) -> None:
    if not (kitchen.data / "a.jsonl").exists():
        kitchen.corpus(documents(60))
    built = kitchen.build(
        seed=seed,
        budget=budget,
        length=length,
        separator=separator,
        lengths=lengths,
        domains="natural",
        max_epochs=9,
        shard_tokens=length * 17,
        holdout=0.05,
        more=f"# {copies}",
    )
    assert sum(cell["written"] for cell in built.lock.phases[0]["cells"]) == budget // length * length
    assert all(cell["written"] == cell["granted"] for cell in built.lock.phases[0]["cells"])
    assert built.job.verify().tokens == budget // length * length


@pytest.mark.parametrize(("budget", "sequences"), [(512, 1), (1023, 1), (1024, 2)])
def test_a_budget_is_rounded_down_to_whole_sequences(kitchen: Kitchen, budget: int, sequences: int) -> None:
    kitchen.corpus(documents(60))
    lock = kitchen.build(budget=budget, shard_tokens=512).lock
    assert lock.phases[0]["stream"]["sequences"] == sequences
    assert lock.phases[0]["stream"]["rounded_off"] == budget - 512 * sequences
