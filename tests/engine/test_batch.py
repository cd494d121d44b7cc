"""The folder of a batch: what is written is found again, whoever dies, and in few files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixture.engine import Task
from mixture.engine.batch import (
    Batch,
    batches,
    deal,
    jobs_folder,
    key,
    open_batch,
    read_batch,
    spell,
    unspell,
    work_digest,
)


def some_tasks(count: int) -> list[Task]:
    return [Task("m:f", {"number": n, "path": "ü/é"}, n % 7, f"task {n}") for n in range(count)]


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=60), st.integers(1, 9))
def test_every_task_is_dealt_once_and_no_element_gets_too_many(weights: list[int], per_element: int) -> None:
    dealt = deal(weights, per_element)
    assert sorted(number for element in dealt for number in element) == list(range(len(weights)))
    assert max(map(len, dealt)) <= per_element
    assert len(dealt) == -(-len(weights) // per_element)
    # The first of each are the heaviest of all, so none is left with two of those.
    firsts = [weights[element[0]] for element in dealt]
    assert firsts == sorted(weights, reverse=True)[: len(dealt)]


def test_shards_that_follow_each_other_are_made_by_one_job() -> None:
    assert deal([256] * 9 + [100], 4) == [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9]]
    assert deal([256], 4) == [[0]]


@given(st.sets(st.integers(0, 300)))
def test_numbers_are_spelled_as_slurm_does_and_read_back(numbers: set[int]) -> None:
    assert unspell(spell(list(numbers))) == sorted(numbers)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("N/A", []), ("", []), ("7", [7]), ("[0-2,9%4]", [0, 1, 2, 9]), ("[1-9:4]", [1, 5, 9]), ("1-2,...", [1, 2])],
)
def test_what_squeue_prints_is_read(text: str, numbers: list[int]) -> None:
    assert unspell(text) == numbers


@pytest.mark.parametrize(("count", "per_element"), [(1, 1), (1, 8), (10, 3), (2500, 1), (2100, 2)])
def test_an_element_finds_its_tasks(tmp_path: Path, count: int, per_element: int) -> None:
    tasks = some_tasks(count)
    batch = open_batch(tmp_path, "pack", tasks, per_element)
    assert read_batch(batch.folder) == batch
    whole = dict(batch.every_task())
    assert sorted(whole) == list(range(batch.elements))
    assert {number: task for one in whole.values() for number, task in one.items()} == dict(enumerate(tasks))
    last = batch.elements - 1
    assert batch.tasks_of(last) == whole[last]
    # Blocks: not one file per element.
    assert len(list((batch.folder / "tasks").iterdir())) <= count // 900 + 1


def test_results_take_the_place_of_earlier_ones_and_none_is_ever_missing(tmp_path: Path) -> None:
    batch = open_batch(tmp_path, "pack", some_tasks(3), 3)
    assert batch.latest(0) == {}
    batch.write_results(0, {2: {"rows": 5}}, replaces=0)
    assert batch.latest(0) == {2: {"rows": 5}}
    batch.write_results(0, {2: {"rows": 5}, 0: None}, replaces=1)
    assert batch.latest(0) == {0: None, 2: {"rows": 5}}
    assert batch.listed().counts == {0: [2]}
    # A reader that saw the earlier name finds nothing, and looks again.
    assert batch.results_of(0, 1) == {}


def test_a_writer_that_died_between_two_steps_hides_nothing(tmp_path: Path) -> None:
    batch = open_batch(tmp_path, "pack", some_tasks(3), 3)
    batch.write_results(0, {2: "a"}, replaces=0)
    batch.write_results(0, {2: "a", 1: "b"}, replaces=0)
    assert batch.listed().counts == {0: [1, 2]} or batch.listed().counts == {0: [2, 1]}
    assert batch.latest(0) == {1: "b", 2: "a"}


def test_why_an_element_ended_is_told_until_it_runs_again(tmp_path: Path) -> None:
    batch = open_batch(tmp_path, "pack", some_tasks(3), 1)
    batch.write_end(2, "error", {"sentence": "row 3 is bad"})
    batch.write_end(1, "stop", {"sentence": "it was told to stop"})
    listing = batch.listed()
    assert (listing.errors, listing.stops) == ({2}, {1})
    assert (batch.end_of(2, "error") or {})["sentence"] == "row 3 is bad"
    batch.forget_end(2)
    assert batch.end_of(2, "error") is None
    assert batch.listed().errors == frozenset()


def test_jobs_are_read_oldest_first(tmp_path: Path) -> None:
    batch = open_batch(tmp_path, "pack", some_tasks(30), 1)
    batch.add_job("1000", 20, [20, 21, 25])
    batch.add_job("999", 0, [0, 1])
    assert list(batch.jobs()) == ["999", "1000"]
    assert batch.jobs()["1000"]["elements"] == "20-21,25"


def test_a_batch_is_open_until_it_is_closed_or_removed(tmp_path: Path) -> None:
    batch = open_batch(tmp_path, "pack", some_tasks(2), 1)
    assert batches(tmp_path) == [batch]
    assert batch.closed() is None
    batch.close("failed", "no space")
    assert batch.closed() == {"state": "failed", "sentence": "no space"}
    batch.remove()
    assert batches(tmp_path) == []
    assert list(jobs_folder(tmp_path).iterdir()) == []


def test_a_folder_that_lost_its_record_is_no_batch(tmp_path: Path) -> None:
    batch = open_batch(tmp_path, "pack", some_tasks(2), 1)
    (batch.folder / "batch.json").unlink()
    assert batches(tmp_path) == []


def test_equal_tasks_have_equal_keys_whatever_they_are_called() -> None:
    one = Task("m:f", {"a": 1, "b": [2]}, 5, "one")
    assert key(one) == key(Task("m:f", {"b": [2], "a": 1}, 9, "two"))
    assert key(one) != key(Task("m:f", {"a": 1, "b": [3]}, 5, "one"))
    assert key(one) != key(Task("m:g", {"a": 1, "b": [2]}, 5, "one"))


def test_two_batches_of_the_same_tasks_do_not_share_a_folder(tmp_path: Path) -> None:
    first = open_batch(tmp_path, "pack", some_tasks(2), 1)
    second = open_batch(tmp_path, "pack", some_tasks(2), 1)
    assert first.folder != second.folder


def test_a_work_directory_has_one_name_wherever_it_is_called_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert work_digest(Path("work")) == work_digest(tmp_path / "work")
    assert work_digest(tmp_path / "work") != work_digest(tmp_path / "other")


def test_records_that_are_no_json_are_refused_at_once(tmp_path: Path) -> None:
    batch: Batch = open_batch(tmp_path, "pack", some_tasks(1), 1)
    nan: Any = float("nan")
    with pytest.raises(ValueError, match="JSON"):
        batch.write_results(0, {0: nan}, replaces=0)
    assert json.dumps(batch.latest(0)) == "{}"


def test_a_batch_is_the_same_in_an_object_store(tmp_path: Path) -> None:
    from tests.storage.objects import environment

    with environment(tmp_path / "scratch") as store:
        work = store.place("work")
        assert batches(work) == []
        batch = open_batch(work, "pack", some_tasks(5), 2)
        assert batches(work) == [batch]
        assert [task.label for task in batch.tasks_of(0).values()] == ["task 4", "task 1"]
        batch.write_results(1, {3: "a"}, replaces=0)
        batch.write_results(1, {3: "a", 0: "b"}, replaces=1)
        batch.write_end(2, "stop", {"sentence": "it was told to stop"})
        listing = batch.listed()
        assert (listing.counts, listing.stops) == ({1: [2]}, {2})
        assert batch.latest(1) == {0: "b", 3: "a"}
        batch.add_job("17", 0, [0, 1, 2])
        assert list(batch.jobs()) == ["17"]
        batch.forget_end(2)
        batch.close("failed", "no space")
        assert batch.closed() is not None
        batch.remove()
        assert batches(work) == []
