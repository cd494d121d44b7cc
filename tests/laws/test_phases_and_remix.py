"""Laws over several streams: phases of one recipe, a re-mix in mid-run, a pilot, another tokenizer."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mixture.errors import PlanError, ShortageError, StoreError
from mixture.hashing import document_ids, draw, fraction, id_words
from mixture.plan import draw as drawing
from mixture.plan.given import Given, parse_consumed
from mixture.shards.pack import shards_folder
from mixture.tokens.training import train_sentencepiece
from tests.conftest import Built, Kitchen, documents

MIX = "{domains: {books: 0.6, wiki: 0.2, code: 0.2}, lengths: {threshold: 1K, long: 0.5}, max_epochs: %s}"
PHASES = """
phases:
  - {name: first, budget: 120K}
  - {name: second, budget: 150K, sequence: {length: 1K}}
  - {name: third, budget: 60K, mix: {domains: {wiki: 0.5, code: 0.5}, max_epochs: 3}}
"""


def _recipe(kitchen: Kitchen, *, more: str = "", budget: str = "200K", caps: int = 3, name: str = "small") -> Path:
    path = kitchen.recipe(f"{name}.yaml")
    text = path.read_text().replace("name: small", f"name: {name}")
    head, tail = text[: text.index("budget:")], text[text.index("holdout:") :]
    budget = "" if "phases:" in more else f"budget: {budget}\n"
    middle = f"{budget}sequence: {{length: 512}}\nbuckets: [512, 1K, 4K]\nmix: {MIX % caps}\n"
    path.write_text(head + middle + tail + more)
    return path


def _spans(built: Built, phase: int) -> list[dict[str, Any]]:
    import pyarrow as pa

    found = []
    place = shards_folder(built.job.workspace, built.lock, phase)
    length = built.lock.phases[phase]["stream"]["sequence_length"]
    number = 0
    for shard in built.lock.phases[phase]["shards"]:
        for spans in pa.ipc.open_file(str(place / shard["shard"])).read_all()["spans"].to_pylist():
            found += [span | {"sequence": number, "position": number * length + span["start"]} for span in spans]
            number += 1
    return found


def _copies(spans: list[dict[str, Any]]) -> dict[bytes, set[int]]:
    copies: dict[bytes, set[int]] = {}
    for span in spans:
        copies.setdefault(span["doc_id"], set()).add(span["copy"])
    return copies


def test_caps_hold_over_all_phases_and_fresh_text_comes_first(kitchen: Kitchen) -> None:
    kitchen.corpus(documents(400))
    built = kitchen.build(_recipe(kitchen, more=PHASES))
    assert built.job.verify().cells == 3 * 12
    seen: dict[bytes, set[int]] = {}
    for phase in range(3):
        found = _copies(_spans(built, phase))
        for doc, copies in found.items():
            before = seen.setdefault(doc, set())
            assert not before & copies, "a copy is written once, in one phase"
            before |= copies
    assert max(map(len, seen.values())) > 1
    assert all(copies == set(range(len(copies))) for copies in seen.values())
    assert max(map(len, seen.values())) <= 3
    for name, cells in Counter(c["domain"] for p in built.lock.phases for c in p["cells"] if c["granted"]).items():
        assert cells, name
    assert [p["stream"]["sequence_length"] for p in built.lock.phases] == [512, 1024, 512]
    assert all(c["written"] == c["granted"] for p in built.lock.phases for c in p["cells"])


def test_no_document_comes_twice_while_another_of_its_cell_is_fresh(kitchen: Kitchen) -> None:
    docs = documents(400)
    kitchen.corpus(docs)
    built = kitchen.build(_recipe(kitchen, more=PHASES))
    appeared: Counter[bytes] = Counter()
    for phase in range(2):
        for doc, copies in _copies(_spans(built, phase)).items():
            appeared[doc] += len(copies)
    edges = [512, 1024, 4096]
    ids = document_ids([d.text.encode() for d in docs])
    by_cell: dict[tuple[str, int], set[int]] = {}
    import pyarrow as pa

    raw = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(docs), [None, pa.py_buffer(ids)])
    hi, lo = id_words(raw)
    held_out = draw(0, "holdout", hi, lo) < fraction(0.02)
    for number, doc in enumerate(docs):
        if not held_out[number]:
            cell = doc.domain, sum(len(doc.text.encode()) >= edge for edge in edges)
            by_cell.setdefault(cell, set()).add(appeared[ids[16 * number : 16 * number + 16]])
    assert all(max(counts) - min(counts) <= 1 for counts in by_cell.values())
    assert not {ids[16 * n : 16 * n + 16] for n in range(len(docs)) if held_out[n]} & appeared.keys()


def test_a_later_phase_changes_nothing_before_it(kitchen: Kitchen) -> None:
    kitchen.corpus(documents(400))
    before = kitchen.build(_recipe(kitchen, more=PHASES))
    after = kitchen.build(_recipe(kitchen, more=PHASES.replace("wiki: 0.5, code: 0.5", "wiki: 0.9, code: 0.1")))
    hashes = [[[s["hash"] for s in p["shards"]] for p in built.lock.phases] for built in (before, after)]
    assert hashes[0][:2] == hashes[1][:2]
    assert hashes[0][2] != hashes[1][2]
    assert all("third" in name or name.startswith("shard") for name in after.made["pack"])


def test_a_phase_that_cannot_be_met_is_named(kitchen: Kitchen) -> None:
    kitchen.corpus(documents(200))
    with pytest.raises(ShortageError, match=r"phase 'second': .*holds"):
        kitchen.build(_recipe(kitchen, more=PHASES.replace("150K", "150M"), caps=2))


def _consumed(kitchen: Kitchen, at: str) -> Given:
    return Given(consumed=parse_consumed(f"{kitchen.root / 'work.lock.json'}@{at}"))


def _remix(kitchen: Kitchen, given: Given, *, caps: int = 3, budget: str = "150K", name: str = "new") -> Built:
    job = kitchen.job(_recipe(kitchen, budget=budget, caps=caps, name=name), lock=f"{name}.lock.json")
    store = job.tokenize()
    plan = job.plan(store, job.bucket(store), given)
    # Without being told again: the lock knows.
    again = kitchen.job(kitchen.root / f"{name}.yaml", lock=f"{name}.lock.json")
    packed = again.pack(store, again.plan(store, again.bucket(store)))
    assert again.plan(store, again.bucket(store)).phases[0].digest == plan.phases[0].digest
    return Built(again, packed.lock, packed.folders[0])


@pytest.mark.parametrize("sequences", [1, 137, 390])
def test_a_remix_counts_what_was_seen_of_every_document(kitchen: Kitchen, sequences: int) -> None:
    kitchen.corpus(documents(400))
    old = kitchen.build(_recipe(kitchen))
    seen = _copies([span for span in _spans(old, 0) if span["sequence"] < sequences])
    new = _remix(kitchen, _consumed(kitchen, str(sequences)))
    found = _copies(_spans(new, 0))
    for doc, copies in found.items():
        first = len(seen.get(doc, ()))
        assert copies == set(range(first, first + len(copies))), "numbered from what was seen on"
        assert first + len(copies) <= 3
    used = sum(c["used"] for c in new.lock.phases[0]["cells"])
    assert used > 0
    assert new.job.verify().shards > 0
    assert new.lock.given["consumed"][0]["sequences"] == sequences


def test_a_remix_of_a_remix_counts_both(kitchen: Kitchen) -> None:
    kitchen.corpus(documents(400))
    kitchen.build(_recipe(kitchen, budget="100K"))
    second = _remix(kitchen, _consumed(kitchen, "100"), budget="100K", name="second")
    given = Given(consumed=parse_consumed(f"{kitchen.root / 'second.lock.json'}@end"))
    assert [entry.lock for entry in given.consumed] == ["small", "second"]
    third = _remix(kitchen, given, budget="100K", name="third")
    total: Counter[bytes] = Counter()
    for built, most in ((second, 10**9), (third, 10**9)):
        for doc, copies in _copies([s for s in _spans(built, 0) if s["sequence"] < most]).items():
            total[doc] += len(copies)
    assert max(total.values()) <= 3
    assert sum(c["used"] for c in third.lock.phases[0]["cells"]) > sum(
        c["used"] for c in second.lock.phases[0]["cells"]
    )


def test_what_was_seen_counts_against_the_caps(kitchen: Kitchen) -> None:
    kitchen.corpus(documents(150))
    kitchen.build(_recipe(kitchen, budget="150K", caps=2))
    with pytest.raises(ShortageError, match="may still be drawn"):
        _remix(kitchen, _consumed(kitchen, "end"), budget="350K", caps=2)


def test_a_sequence_that_the_old_stream_does_not_have_is_refused(kitchen: Kitchen) -> None:
    kitchen.corpus(documents(200))
    kitchen.build(_recipe(kitchen, budget="50K"))
    with pytest.raises(PlanError, match="9,999 sequences, but that stream has 97"):
        _consumed(kitchen, "9999")
    with pytest.raises(PlanError, match=r"write OLD\.lock\.json@SEQUENCE"):
        _consumed(kitchen, "many")
    given = _consumed(kitchen, "10")
    for path in (kitchen.root / "work" / "plans").glob("small-*/plan.json"):
        path.unlink()
    with pytest.raises(StoreError, match="run `mixture plan` of its recipe again"):
        _remix(kitchen, given)


def test_a_matched_pilot_has_the_epochs_of_the_whole(kitchen: Kitchen) -> None:
    kitchen.corpus(documents(3000))
    recipe = _recipe(kitchen, budget="2M")
    full = kitchen.build(recipe)
    job = kitchen.job(recipe, lock="pilot.lock.json")
    store = job.tokenize()
    given = job.given(scale="1/8", match_repetition=True)
    pilot = job.plan(store, job.bucket(store), given).lock
    pairs = zip(full.lock.phases[0]["cells"], pilot.phases[0]["cells"], strict=True)
    for whole, part in pairs:
        assert part["supply_tokens"] < whole["supply_tokens"] / 3
        if part["granted"]:
            assert part["epochs"] == pytest.approx(whole["epochs"], abs=0.02)
    assert pilot.phases[0]["stream"]["tokens"] % 512 == 0
    scaled = job.plan(store, job.bucket(store), job.given(scale="1/8")).lock
    assert scaled.phases[0]["stream"]["tokens"] == 250_000 // 512 * 512
    assert max(c["epochs"] for c in scaled.phases[0]["cells"]) < 1


@pytest.mark.slow
def test_the_same_plan_for_another_tokenizer_keeps_documents_and_their_order(kitchen: Kitchen) -> None:
    docs = documents(300)
    kitchen.corpus(docs)
    old = kitchen.build(_recipe(kitchen))
    train_sentencepiece(iter([d.text for d in docs]), kitchen.root / "own.model", vocab_size=400, sample_bytes=10**6)
    recipe = _recipe(kitchen, name="other")
    recipe.write_text(recipe.read_text().replace("{kind: bytes}", "{kind: sentencepiece, path: own.model}"))
    job = kitchen.job(recipe, lock="other.lock.json")
    store = job.tokenize()
    given = job.given(like=kitchen.root / "work.lock.json")
    plan = job.plan(store, job.bucket(store), given)
    packed = job.pack(store, plan)
    new = Built(job, packed.lock, packed.folders[0])
    order = [[(s["doc_id"], s["copy"]) for s in _spans(built, 0) if s["doc_offset"] == 0] for built in (old, new)]
    # The new stream has fewer tokens, all of whole sequences, so its end may be missing.
    assert order[1] == order[0][: len(order[1])]
    assert len(order[0]) - len(order[1]) <= 3
    assert new.lock.phases[0]["stream"]["tokens"] % 512 == 0
    assert sum(c["like"] for c in new.lock.phases[0]["cells"]) == old.lock.phases[0]["stream"]["tokens"]
    assert job.verify().cells == 12
    changed = recipe.read_text().replace("books: 0.6, wiki: 0.2", "books: 0.5, wiki: 0.3")
    recipe.write_text(changed)
    with pytest.raises(PlanError, match="differs in more than the tokenizer"):
        kitchen.job(recipe).given(like=kitchen.root / "work.lock.json")


def test_planning_in_many_tasks_gives_the_same_plan(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    from mixture.index import sort

    # Small row groups and small tasks, so that this small corpus is planned in many pieces.
    monkeypatch.setattr(sort, "_ROWS_AT_ONCE", 50)
    kitchen.corpus(documents(600))
    recipe = _recipe(kitchen, budget="600K")
    digests = set()
    for size in (1, 100, 10**9):
        monkeypatch.setattr(drawing, "_TASK_DOCUMENTS", size)
        job = kitchen.job(recipe, lock=f"{size}.lock.json")
        store = job.tokenize()
        index = job.bucket(store)
        made = job.plan(store, index)
        digests.add(json.dumps(made.lock.phases, sort_keys=True))
        (made.phases[0].folder / "plan.json").unlink()
    assert len(digests) == 1


def test_long_context_is_counted_in_supply_plan_and_shards(kitchen: Kitchen) -> None:
    kitchen.corpus(documents(500))
    built = kitchen.build(_recipe(kitchen, budget="300K"))
    context = built.lock.phases[0]["context"]
    spans = built.spans()
    for domain, sums in context["shards"].items():
        own = [
            (max(s["doc_offset"], 0), min(s["doc_offset"] + s["stop"] - s["start"], s["doc_length"]))
            for s in spans
            if s["domain"] == domain
        ]
        assert sums[0] == sum(max(0, stop - start) for start, stop in own)
        assert sums[1] == sum(max(0, stop - start - 1024) for start, stop in own) == 0
    whole: Counter[tuple[bytes, int]] = Counter()
    for s in spans:
        if s["domain"] == "books":
            whole[s["doc_id"], s["copy"]] += min(s["doc_offset"] + s["stop"] - s["start"], s["doc_length"]) - max(
                s["doc_offset"], 0
            )
    assert context["plan"]["books"][1] == sum(max(0, n - 1024) for n in whole.values()) > 0
    top = [row for row in built.lock.phases[0]["top"] if row["domain"] == "books"]
    written = Counter[str]()
    for s in spans:
        written[s["doc_id"].hex()] += s["stop"] - s["start"]
    assert [row["written"] for row in top] == [written[row["doc_id"]] for row in top]
    assert top[0]["written"] == max(written[s["doc_id"].hex()] for s in spans if s["domain"] == "books")
