"""A lock's mixture comes out again, or the first hash that does not is named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from mixture import lockfile
from mixture.engine import Silence
from mixture.engine.local import Local
from mixture.errors import LockError, StoreError, VerifyError
from mixture.reproduce import Again, empty_place, recipe_of
from mixture.verify.rebuilt import Reproduced, compare_locks
from mixture.workspace import Workspace
from tests.cli.conftest import Shop
from tests.conftest import Document, documents, write_jsonl
from tests.verify.conftest import Build


def _again(root: Path, lock: Path, work: Path, *others: Path, recipe: Path | None = None) -> Reproduced:
    with Local(1) as engine:
        return Again(Workspace(work, root), engine, Silence(), others).reproduce(lock, recipe)


def test_everything_comes_out_again_without_the_work_directory(build: Build, tmp_path: Path) -> None:
    recipe = build.job.path
    before = {path: path.read_bytes() for path in build.root.rglob("*") if path.is_file()}
    found = _again(build.root, build.job.lock_path, tmp_path / "empty", recipe=recipe)
    assert found.differences == ()
    assert (found.shards, found.versions, found.notes) == (10, (), ())
    assert found.hashes > 100
    found.demand()
    assert {path: path.read_bytes() for path in build.root.rglob("*") if path.is_file()} == before
    # What was built there is the same to the byte.
    for path in (build.root / "work/shards").rglob("*.arrow"):
        assert (tmp_path / "empty/shards" / path.parent.name / path.name).read_bytes() == path.read_bytes()


def test_a_changed_input_is_the_first_difference_and_no_shard_is_made(build: Build, tmp_path: Path) -> None:
    write_jsonl(build.kitchen.data / "1.jsonl", documents(12, seed=50))
    found = _again(build.root, build.job.lock_path, tmp_path / "empty", recipe=build.job.path)
    stages = list(dict.fromkeys(difference.stage for difference in found.differences))
    assert stages == ["inputs", "documents", "stream", "cells"]
    assert found.shards == 0
    with pytest.raises(VerifyError, match=r"not reproduced: first, in inputs, data/1.jsonl is .*, the lock says"):
        found.demand()


def test_inputs_that_no_longer_suffice_are_told_with_what_changed(build: Build, tmp_path: Path) -> None:
    for path in [*build.kitchen.data.glob("*.jsonl"), build.root / "rows/a.jsonl"]:
        write_jsonl(path, [Document(f"{path.stem} alone, in not many more words than this", "books")])
    found = _again(build.root, build.job.lock_path, tmp_path / "empty", recipe=build.job.path)
    assert [difference.stage for difference in found.differences] == ["inputs"] * 4 + ["stream"]
    assert "none (" in found.differences[-1].now


def test_a_renamed_input_is_no_difference(build: Build, tmp_path: Path) -> None:
    data = build.kitchen.data
    (data / "1.jsonl").rename(data / "7.jsonl")
    found = _again(build.root, build.job.lock_path, tmp_path / "empty", recipe=build.job.path)
    (data / "7.jsonl").unlink()
    assert found.differences == ()
    assert found.notes == ("data/1.jsonl is called data/7.jsonl now; its content is the same",)


def test_versions_that_differ_are_named_as_a_likely_cause(build: Build, tmp_path: Path) -> None:
    lock = lockfile.require(build.job.lock_path, "small")
    phases = json.loads(json.dumps(lock.phases))
    phases[0]["shards"][1]["hash"] = "0" * 32
    path = tmp_path / "old.lock.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lockfile, "versions_here", lambda: lock.versions | {"pyarrow": "1.0"})
        replace(lock, phases=phases).write(path)
    found = _again(build.root, path, tmp_path / "empty", recipe=build.job.path)
    assert [(d.stage, d.was) for d in found.differences] == [("shards", "0" * 32)]
    assert found.versions == (f"pyarrow 1.0 → {lock.versions['pyarrow']}",)
    with pytest.raises(
        VerifyError, match=r"in shards, shard-00001-of-00006.arrow of phase one .*likely cause: pyarrow"
    ):
        found.demand()


def test_stages_are_compared_in_the_order_of_the_flow(build: Build) -> None:
    lock = lockfile.require(build.job.lock_path, "small")
    other = json.loads(json.dumps(lock.made()))
    other["tokenizer"]["fingerprint"] = other["documents"]["digest"] = other["inputs"][0]["hash"] = "x"
    other["phases"][1]["stream"]["digest"] = "x"
    other["phases"][0]["cells"][0]["granted"] += 1
    other["phases"][0]["shards"][0]["hash"] = "x"
    differences, compared, _ = compare_locks(lock, replace(lock, **other))
    stages = [difference.stage for difference in differences]
    assert stages == ["inputs", "tokenizer", "documents", "cells", "stream", "shards"]
    assert compared > len(stages)
    assert compare_locks(lock, lock) == ([], compared, [])


def test_another_recipe_is_refused_with_what_differs(build: Build, tmp_path: Path) -> None:
    recipe = tmp_path / "other.yaml"
    recipe.write_text(build.job.path.read_text().replace("seed: 7", "seed: 8"))
    with pytest.raises(LockError, match=r"is not the recipe that it was made from \(seed: 7 → 8\); name another"):
        _again(build.root, build.job.lock_path, tmp_path / "empty", recipe=recipe)


def test_the_recipe_beside_a_lock_is_found_a_pilot_s_too(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").touch()
    assert recipe_of(tmp_path / "x.lock.json") == tmp_path / "x.yaml"
    assert recipe_of(tmp_path / "x.scale-1-16.lock.json") == tmp_path / "x.yaml"
    assert recipe_of(tmp_path / "x.scale-1-16-matched.lock.json") == tmp_path / "x.yaml"
    with pytest.raises(LockError, match=r"no recipe y\.yaml beside it; name it with --recipe"):
        recipe_of(tmp_path / "y.lock.json")


def test_a_place_that_is_not_empty_is_refused_and_a_temporary_one_is_removed(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").touch()
    with pytest.raises(StoreError, match=r"full: not empty, .*--work"), empty_place(tmp_path / "full"):
        pass
    with empty_place(None) as place:
        (place / "x").touch()
    assert not place.exists()
    with empty_place(tmp_path / "new") as place:
        (place / "x").touch()
    assert place == tmp_path / "new"
    assert (place / "x").exists()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with ExitStack() as stack:
        made = Shop(tmp_path, stack)
        made.stock()
        yield made


def test_the_command_says_that_all_is_the_same_and_leaves_nothing(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(shop.root / "tmp"))
    (shop.root / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    assert shop.run().code == 0
    said = shop.call("reproduce", "small.lock.json", "-j", "1")
    assert said.code == 0, said.err
    assert said.out.startswith("the same: 3 shards, ")
    assert list((shop.root / "tmp").glob("mixture-*")) == []
    made = shop.call("reproduce", "small.lock.json", "-j", "1", "--json", "--work", "there").json
    assert (made["same"], made["differences"], made["shards"]) == (True, [], 3)
    assert list((shop.root / "there/shards").rglob("*.arrow"))
    shop.refused(shop.call("reproduce", "small.lock.json", "-j", "1", "--work", "there"), "there: not empty")


def test_the_command_names_what_differs_in_one_sentence_and_lists_it_for_machines(shop: Shop) -> None:
    assert shop.run().code == 0
    write_jsonl(shop.data / "a.jsonl", documents(60, seed=3))
    words = ("small.lock.json: not reproduced: first, in inputs, data/a.jsonl", "more differ after it")
    shop.refused(shop.call("reproduce", "small.lock.json", "-j", "1"), *words)
    said = shop.call("reproduce", "small.lock.json", "-j", "1", "--json")
    assert said.code == 1
    assert said.json["differences"][0]["stage"] == "inputs"


def test_plans_that_a_lock_counts_on_are_planned_first_or_missed_by_name(shop: Shop) -> None:
    assert shop.run("--lock", "old.lock.json").code == 0
    shop.file("old.yaml", (shop.root / "small.yaml").read_text())
    more = ("--lock", "new.lock.json", "--json", "-j", "1")
    assert shop.call("plan", "small.yaml", "--consumed", "old.lock.json@20", *more).code == 0
    assert shop.call("pack", "small.yaml", *more).code == 0
    recipe = ("--recipe", "small.yaml", "-j", "1")
    said = shop.call("reproduce", "new.lock.json", *recipe)
    assert said.code == 0, said.err
    (shop.root / "elsewhere").mkdir()
    for name in ("old.lock.json", "old.yaml"):
        (shop.root / name).rename(shop.root / "elsewhere" / name)
    said = shop.call("reproduce", "new.lock.json", *recipe)
    shop.refused(said, "new.lock.json: its plan counts on the plan", "of small, whose lock is not beside it", "--with")
    assert shop.call("reproduce", "new.lock.json", *recipe, "--with", "elsewhere/old.lock.json").code == 0


def test_a_lock_that_is_not_packed_or_not_there_is_refused(shop: Shop) -> None:
    shop.refused(shop.call("reproduce", "none.lock.json"), "none.lock.json: no such lock")
    assert shop.call("plan", "small.yaml", "-j", "1").code == 0
    shop.refused(shop.call("reproduce", "small.lock.json"), "lists no shards yet", "mixture pack")


def test_diff_of_two_locks_is_one_document_for_machines(shop: Shop) -> None:
    assert shop.run().code == 0
    found = shop.call("diff", "small.lock.json", "small.lock.json", "--json").json
    assert found["rules"] == []
    assert {row["gained"] + row["lost"] for row in found["documents"]} == {0}


def test_ids_of_marks_come_back_from_the_lock_as_they_were_written(shop: Shop) -> None:
    shop.stock(more="transforms: {utk: {probability: 1, room: 32, trace: 8}}\n")
    assert shop.run().code == 0
    said = shop.call("reproduce", "small.lock.json", "-j", "1")
    assert said.code == 0, said.err


def test_what_is_kept_is_named_also_where_it_differs_and_a_wrong_lock_is_not_passed_over(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(shop.root / "tmp"))
    (shop.root / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    assert shop.run().code == 0
    command = ("reproduce", "small.lock.json", "-j", "1")
    shop.refused(shop.call(*command, "--with", "gone.lock.json"), "gone.lock.json: no such lock")
    shop.refused(shop.call(*command, "--with", "small.yaml"), "small.yaml: a recipe; name its lock, small.lock.json")
    write_jsonl(shop.data / "a.jsonl", documents(60, seed=3))
    said = shop.call(*command, "--keep")
    assert said.code == 1
    (kept,) = (shop.root / "tmp").iterdir()
    assert said.err.startswith(f"reproduce: in {kept}, which stays\n")
    assert (kept / "reproduced.lock.json").exists()


def test_a_stopped_reproduction_does_not_say_that_it_can_go_on(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shop.run().code == 0

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Again, "reproduce", stop)
    said = shop.call("reproduce", "small.lock.json", "-j", "1")
    assert said.code == 130
    assert said.err.splitlines()[-1] == "stopped, and nothing is compared; run it again, in an empty folder"
