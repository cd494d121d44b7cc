"""Caps and double tokens are checked by ranges of ids, so that memory does not grow with the stream."""

from __future__ import annotations

import dataclasses

import pytest

from mixture.lockfile import Lock
from mixture.verify import laws
from tests.conftest import Built, Kitchen, documents


@pytest.fixture
def built(kitchen: Kitchen) -> Built:
    kitchen.corpus(documents(100))
    return kitchen.build(budget=300_000, domains="natural", lengths="natural", max_epochs=9)


def _checked(built: Built, lock: Lock, parts: int) -> tuple[int, int, list[str]]:
    task = next(laws.copies_tasks(built.job.recipe, lock, built.shards))
    reports = [laws.check_copies(**task.arguments | {"part": (part, parts)}) for part in range(parts)]
    found = [finding["message"] for report in reports for finding in report["findings"]]
    return sum(report["documents"] for report in reports), max(report["most"] for report in reports), found


@pytest.mark.parametrize("parts", [2, 8, 1024])
def test_ranges_of_ids_see_every_document_once(built: Built, parts: int) -> None:
    whole = _checked(built, built.lock, 1)
    assert _checked(built, built.lock, parts) == whole
    assert whole[0] == len({(span["domain"], span["doc_id"]) for span in built.spans()})


def test_a_cap_that_does_not_hold_is_found_in_its_range(built: Built) -> None:
    assert _checked(built, built.lock, 1)[1] > 1
    phase = built.lock.phases[0]
    capped = phase | {"cells": [cell | {"cap": 1} for cell in phase["cells"]]}
    found = _checked(built, dataclasses.replace(built.lock, phases=[capped]), 4)[2]
    assert len(found) >= 1
    assert all("its cap is 1 (law 6)" in message for message in found)


def test_a_token_that_stands_twice_is_found(built: Built) -> None:
    task = next(laws.copies_tasks(built.job.recipe, built.lock, [*built.shards, built.shards[0]]))
    found = laws.check_copies(**task.arguments)["findings"]
    assert "is written twice, again in shard-00000" in found[0]["message"]


def test_the_number_of_ranges_follows_the_number_of_pieces(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(list(laws.copies_tasks(built.job.recipe, built.lock, built.shards))) == 1
    monkeypatch.setattr(laws, "_SPANS_AT_ONCE", 50)
    pieces = built.lock.phases[0]["packing"]["pieces"]
    tasks = list(laws.copies_tasks(built.job.recipe, built.lock, built.shards))
    assert pieces / 50 < len(tasks) <= 2 * pieces / 50
