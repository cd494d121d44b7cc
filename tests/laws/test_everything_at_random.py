"""Every law, over corpora and recipes drawn at random: a checker that knows nothing of plans and packings counts again.

Cases follow from their numbers. To see one that fails: its recipe is `any.yaml` in the test's folder.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from mixture.engine import Silence
from mixture.engine.local import Local
from mixture.errors import MixtureError
from mixture.reproduce import Again
from mixture.trace import Trace
from mixture.verify import Checks
from mixture.workspace import Workspace
from tests.conftest import Built, Kitchen
from tests.laws import at_random
from tests.laws.naive import Copy, Row, check, copy_of

CASES = 32
GROUPS = 8


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let small builds be planned in many pieces."""
    monkeypatch.setattr("mixture.index.sort._ROWS_AT_ONCE", 16)
    monkeypatch.setattr("mixture.plan.draw._TASK_DOCUMENTS", 20)


@pytest.mark.slow
@pytest.mark.parametrize("group", range(GROUPS))
def test_every_law_holds_over_anything_that_a_recipe_can_say(kitchen: Kitchen, tmp_path: Path, group: int) -> None:
    draw, made = random.Random(group), 0
    for case in range(CASES // GROUPS):
        kitchen.root = tmp_path / str(case)
        docs = at_random.corpus(draw, kitchen.root / "data")
        text, told = at_random.recipe(draw, docs)
        recipe = kitchen.root / "any.yaml"
        recipe.write_text(text, encoding="utf-8")
        try:
            built = kitchen.build(recipe)
        except MixtureError:
            continue
        made += 1
        rows = check(built, told, docs)
        assert not built.job.inspect(Checks(inputs=True)).findings
        check_trace(built, rows, draw)
        check_made_again(kitchen, built, draw)
        check_another_packing(kitchen, built, text)
    assert made


def check_trace(built: Built, rows: list[Row], draw: random.Random) -> None:
    """Claim that forward and backward agree with the spans, and the source with the tokens."""
    spans: dict[bytes, set[tuple[Copy, int, int, int]]] = defaultdict(set)
    for number, row in enumerate(rows):
        for span in row.spans:
            spans[span["doc_id"]].add((copy_of(span), number, span["start"], span["doc_offset"]))
    trace = Trace(built.lock, built.job.workspace)
    for _ in range(3):
        number = draw.randrange(len(rows))
        row = rows[number]
        span = draw.choice(row.spans)
        place = draw.randrange(span["start"], span["stop"])
        told = trace.token(number, place)
        assert told["equal"] is True
        assert told["offset"] == span["doc_offset"] + place - span["start"]
        doc = span["doc_id"]
        found = trace.document(doc.hex())["phases"][0]["copies"]
        places = {
            ((doc, copy["domain"], copy["copy"]), at["sequence"], at["start"], at["offset"])
            for copy in found
            for at in copy["places"]
        }
        assert places == spans[doc]
        planned = trace.stream.plan_row(number)
        assert [(s.start, s.doc_id) for s in planned.spans] == [(s["start"], s["doc_id"]) for s in row.spans]
        assert list(planned.marks) == row.marks


def check_made_again(kitchen: Kitchen, built: Built, draw: random.Random) -> None:
    """Claim that what is lost is made again to the same bytes, here and from nothing."""
    files = [p for p in (kitchen.root / "work").rglob("*") if p.is_file() and not p.name.startswith(".")]
    for path in draw.sample(sorted(files), min(2, len(files))):
        path.unlink()
    again = kitchen.build(built.job.path)
    assert again.hashes == built.hashes
    assert not again.job.inspect(Checks()).findings
    with Local(1) as engine:
        made = Again(Workspace(kitchen.root / "from-nothing", kitchen.root), engine, Silence())
        assert not made.reproduce(built.job.lock_path, built.job.path).differences


def check_another_packing(kitchen: Kitchen, built: Built, text: str) -> None:
    """Claim that another packing uses the same plan, and that the first one finds its shards again."""
    said: dict[str, Any] = json.loads(text)
    related = {name: rule for name, rule in said["transforms"].items() if name == "related"}
    kind = "concat" if related or said["packing"]["kind"] != "concat" else "best-fit"
    other = kitchen.root / "other.yaml"
    other.write_text(json.dumps(said | {"packing": kind, "transforms": related}), encoding="utf-8")
    plans = {path.name for path in (kitchen.root / "work" / "plans").iterdir()}
    assert kitchen.build(other).job.verify().tokens == built.lock.phases[0]["stream"]["tokens"]
    back = kitchen.build(built.job.path)
    assert back.hashes == built.hashes
    assert not back.made["pack"]
    assert {path.name for path in (kitchen.root / "work" / "plans").iterdir()} == plans
