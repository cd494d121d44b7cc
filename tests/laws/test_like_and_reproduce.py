"""What random builds found: a plan for another tokenizer, and locks with marks that are made again."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mixture.engine import Silence
from mixture.engine.local import Local
from mixture.errors import PlanError
from mixture.lockfile import Lock
from mixture.reproduce import Again
from mixture.shards.pack import shards_folder
from mixture.tokens.training import train_sentencepiece
from mixture.trace import Trace
from mixture.verify import Checks
from mixture.workspace import Workspace
from tests.conftest import Built, Document, Kitchen, documents

PLAIN: dict[str, Any] = {"domains": "natural", "lengths": "natural", "holdout": 0, "separator": "none"}


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vocabulary with pieces of many letters: the documents are much shorter in it than in bytes."""
    path = tmp_path_factory.mktemp("vocabulary") / "own.model"
    texts = ["a whole sentence again and again " * 9, *(d.text for d in documents(90))]
    train_sentencepiece(iter(texts), path, vocab_size=400, sample_bytes=10**6)
    return path


def follow(kitchen: Kitchen, vocabulary: Path, old: Path) -> Built:
    """Plan and pack the recipe again with the vocabulary, like the old lock."""
    (kitchen.root / "own.model").write_bytes(vocabulary.read_bytes())
    recipe = kitchen.root / "other.yaml"
    text = (kitchen.root / "small.yaml").read_text()
    recipe.write_text(text.replace("{kind: bytes}", "{kind: sentencepiece, path: own.model}"))
    job = kitchen.job(recipe, lock="other.lock.json")
    store = job.tokenize()
    packed = job.pack(store, job.plan(store, job.bucket(store), job.given(like=old)))
    return Built(job, packed.lock, packed.folders[0])


def check(built: Built) -> None:
    """Claim that all is whole, and that what stands in the shards are the tokens of the source."""
    assert not built.job.inspect(Checks()).findings
    trace = Trace(built.lock, built.job.workspace)
    for sequence in range(0, len(trace.stream), 7):
        assert trace.token(sequence, 0)["equal"] is True


def test_another_vocabulary_that_cuts_a_stream_alike_gets_shards_of_its_own(kitchen: Kitchen, vocabulary: Path) -> None:
    # One letter is one token in both, another one: the two plans are equal to the last number.
    kitchen.corpus([Document(letter, "books") for letter in "abcdefgh"])
    old = kitchen.build(budget=8, length=2, buckets="", **PLAIN)
    new = follow(kitchen, vocabulary, kitchen.root / "work.lock.json")
    letters = new.lock.phases[0]["stream"]["tokens"] == old.lock.phases[0]["stream"]["tokens"]
    same = new.lock.phases[0]["stream"]["digest"] == old.lock.phases[0]["stream"]["digest"]
    assert (letters, same) == (True, True)
    assert shards_folder(new.job.workspace, new.lock, 0) != old.folder
    assert new.hashes != old.hashes
    check(new)


def test_a_followed_stream_may_end_in_any_of_its_slices(kitchen: Kitchen, vocabulary: Path) -> None:
    kitchen.corpus(documents(40))
    old = kitchen.build(budget=32 * 1024, length=1024, shard_tokens=1024, **PLAIN)
    assert old.lock.phases[0]["stream"]["slices"] > 8
    new = follow(kitchen, vocabulary, kitchen.root / "work.lock.json")
    stream = new.lock.phases[0]["stream"]
    assert 0 < stream["tokens"] == stream["sequences"] * 1024
    check(new)


def test_a_followed_stream_that_fills_no_sequence_is_refused(kitchen: Kitchen, vocabulary: Path) -> None:
    kitchen.corpus([Document("a whole sentence again and again " * 9, "books")])
    kitchen.build(budget=256, length=256, **PLAIN)
    with pytest.raises(PlanError, match="do not fill a sequence of 256 with this tokenizer"):
        follow(kitchen, vocabulary, kitchen.root / "work.lock.json")


def test_a_followed_plan_keeps_the_repeats_that_went_beyond_a_cap(kitchen: Kitchen, vocabulary: Path) -> None:
    kitchen.corpus(documents(9))
    more = {"domains": "natural\n  on_shortage: repeat", "max_epochs": 1, "lengths": "natural", "holdout": 0}
    old = kitchen.build(budget=200 * 512, **more)
    most = max(cell["cap"] for cell in old.lock.phases[0]["cells"])
    assert most > 1
    new = follow(kitchen, vocabulary, kitchen.root / "work.lock.json")
    check(new)
    cells = [cell for cell in new.lock.phases[0]["cells"] if cell["granted"]]
    assert max(cell["cap"] for cell in cells) > 1
    assert all(cell["slack"] >= 0 for cell in cells)
    assert any(cell.get("raised") == 1 for cell in cells)


def test_documents_of_a_plan_that_follows_a_follower_are_found(kitchen: Kitchen, vocabulary: Path) -> None:
    kitchen.corpus(documents(40))
    kitchen.build(budget=20_000, length=256, **PLAIN)
    follow(kitchen, vocabulary, kitchen.root / "work.lock.json")
    job = kitchen.job(kitchen.root / "small.yaml", lock="third.lock.json")
    store = job.tokenize()
    packed = job.pack(store, job.plan(store, job.bucket(store), job.given(like=kitchen.root / "other.lock.json")))
    trace = Trace(packed.lock, job.workspace)
    span = trace.stream.row(0).spans[0]
    copies = trace.document(span.doc_id.hex())["phases"][0]["copies"]
    assert {"sequence": 0, "start": span.start, "stop": span.stop, "offset": span.offset} in copies[0]["places"]


def test_two_packings_of_one_plan_were_both_seen(kitchen: Kitchen) -> None:
    kitchen.corpus(documents(200))
    streams = {"concat": kitchen.build(), "best-fit": kitchen.build(kitchen.recipe(more="packing: best-fit"))}
    seen: Counter[str] = Counter()
    for packing, built in streams.items():
        built.lock.write(kitchen.root / f"{packing}.lock.json")
        begun = {(s["doc_id"], s["copy"], s["doc_length"]) for s in built.spans() if s["sequence"] < 90}
        seen[packing] = sum(length + 1 for _, _, length in begun)
    job = kitchen.job(kitchen.recipe(seed=8), lock="next.lock.json")
    store = job.tokenize()
    twice = [f"{kitchen.root / packing}.lock.json@{at}" for packing in streams for at in (90, 30)]
    plan = job.plan(store, job.bucket(store), job.given(twice))
    assert sum(cell["used"] for cell in plan.lock.phases[0]["cells"]) == seen.total()


def reproduce(kitchen: Kitchen, built: Built, place: Path) -> list[Any]:
    with ExitStack() as stack:
        again = Again(Workspace(place, kitchen.root), stack.enter_context(Local(1)), Silence())
        return list(again.reproduce(built.job.lock_path, built.job.path).differences)


def test_a_lock_with_back_tracing_is_reproduced_and_stays_when_planned_again(kitchen: Kitchen, tmp_path: Path) -> None:
    kitchen.corpus(documents(60))
    built = kitchen.build(more="transforms: {utk: {probability: 1, trace: 8}}")
    assert sum(len(marks) for marks in _marks(built)) > 0
    assert reproduce(kitchen, built, tmp_path / "again") == []
    before = built.job.lock_path.read_bytes()
    store = built.job.tokenize()
    lock: Lock = built.job.plan(store, built.job.bucket(store)).lock
    assert lock.packed
    assert built.job.lock_path.read_bytes() == before


def _marks(built: Built) -> list[list[int]]:
    return [row for path in built.shards for row in pa.ipc.open_file(str(path)).read_all()["marks"].to_pylist()]
