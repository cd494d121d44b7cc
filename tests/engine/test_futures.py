"""What Dask and Ray share, on a cluster that is a list: windows, order, losses, sentences, and nothing but JSON."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixture.engine import Silence, Task, futures
from mixture.engine.futures import CARRIED, LostError, Rules, answer, drive, question
from mixture.errors import EngineError, InputError, MixtureError, StoreError
from mixture.flow import Job, open_job
from mixture.workspace import Workspace
from tests.conftest import Kitchen, documents

HERE = "tests.engine.test_futures"


class Here:
    """A cluster of this process: the first and the last that were sent end together; some runs are lost."""

    more_memory = "give it more memory"
    no_worker = "no worker yet"

    def __init__(self, workers: int = 2, lost: Sequence[int] = ()) -> None:
        self.workers = workers
        self.lost = set(lost)
        self.sent: list[str] = []
        self.cancelled: list[int] = []
        self.most = 0

    def slots(self) -> int:
        return self.workers

    def submit(self, text: str, label: str) -> int:  # noqa: ARG002
        self.sent.append(text)
        return len(self.sent) - 1

    def done(self, running: Collection[int], seconds: float) -> list[int]:  # noqa: ARG002
        self.most = max(self.most, len(running))
        order = sorted(running)
        return sorted({order[0], order[-1]})

    def result(self, handle: int) -> str:
        if handle in self.lost:
            raise LostError("its process was killed")
        return str(eval(CARRIED, {"text": self.sent[handle]}))

    def cancel(self, handles: Collection[int]) -> None:
        self.cancelled = sorted(handles)


class Carried:
    """An engine of such a cluster."""

    def __init__(self) -> None:
        self.stages: set[str] = set()

    def run(self, tasks: Sequence[Task], stage: str) -> Iterator[tuple[Task, Any]]:
        self.stages.add(stage)
        yield from drive(Here(), tasks, _rules(stage=stage))


def _rules(retries: int = 2, said: list[str] | None = None, stage: str = "pack", **more: Any) -> Rules:
    return Rules(stage, retries, (said if said is not None else []).append, **more)


def _task(function: str, weight: int = 1, **arguments: Any) -> Task:
    return Task(f"{HERE}:{function}", arguments, weight, f"{function} {arguments}")


def square(number: int) -> int:
    return number * number


def bad(kind: str) -> int:
    raise {"input": InputError("row 3 is bad"), "store": StoreError("part 3: damaged"), "key": KeyError("a\nb")}[kind]


def full() -> int:
    raise OSError(28, "No space left on device", "/there")


def not_json() -> object:
    return {1, 2}


def scratch() -> str | None:
    import os

    return os.environ.get("MIXTURE_SCRATCH")


@given(
    st.lists(st.integers(0, 9), max_size=60),
    st.integers(0, 5),
    st.sets(st.integers(0, 100), max_size=10),
)
def test_every_task_brings_its_record_once_whatever_is_lost(weights: list[int], workers: int, lost: set[int]) -> None:
    tasks = [_task("square", weight, number=n) for n, weight in enumerate(weights)]
    cluster = Here(workers, sorted(lost))
    got = [(task.arguments["number"], record) for task, record in drive(cluster, tasks, _rules(retries=20))]
    assert sorted(got) == [(n, n * n) for n in range(len(weights))]
    assert cluster.cancelled == []


def test_the_heaviest_go_first_and_only_a_few_at_once() -> None:
    cluster = Here(workers=3)
    tasks = [_task("square", weight, number=weight) for weight in range(500)]
    list(drive(cluster, tasks, _rules()))
    first = [json.loads(text)["arguments"]["number"] for text in cluster.sent[:9]]
    assert first == list(range(499, 490, -1))
    assert cluster.most == 9


def test_a_cluster_without_workers_is_given_some_tasks_so_that_it_grows() -> None:
    cluster = Here(workers=0)
    list(drive(cluster, [_task("square", number=n) for n in range(50)], _rules()))
    assert cluster.most == 8


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_a_task_that_is_lost_too_often_is_named_with_the_knob(retries: int) -> None:
    cluster = Here(lost=range(100))
    with pytest.raises(EngineError) as caught:
        list(drive(cluster, [_task("square", number=3)], _rules(retries)))
    assert len(cluster.sent) == retries + 1
    times = "once" if retries == 0 else f"{retries + 1} times"
    assert str(caught.value).startswith(f"pack: square {{'number': 3}}: what ran it was lost {times} (its process was")
    assert "most likely for want of memory; give it more memory" in str(caught.value)


@pytest.mark.parametrize(
    ("task", "kind", "words"),
    [
        (_task("bad", 9, kind="input"), InputError, "^row 3 is bad$"),
        (_task("bad", 9, kind="store"), StoreError, "^on .+: part 3: damaged$"),
        (_task("full", 9), StoreError, "^on .+: /there: the disk is full"),
        (_task("bad", 9, kind="key"), EngineError, r"^pack: bad .* failed on .+ with KeyError: 'a\\nb'; mend"),
        (_task("not_json", 9), EngineError, "TypeError: Object of type set is not JSON serializable"),
        (_task("no_such", 9), EngineError, "AttributeError: .*no_such"),
    ],
)
def test_an_error_arrives_as_what_it_was_and_stops_the_rest(task: Task, kind: type[MixtureError], words: str) -> None:
    cluster = Here()
    with pytest.raises(kind, match=words) as caught:
        list(drive(cluster, [_task("square", number=n) for n in range(20)] + [task], _rules()))
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    assert cluster.cancelled
    assert len(cluster.sent) < 20


def test_who_stops_listening_cancels_what_is_under_way() -> None:
    cluster = Here()
    records = drive(cluster, [_task("square", number=n) for n in range(20)], _rules())
    next(records)
    records.close()  # type: ignore[attr-defined]
    assert cluster.cancelled == list(range(1, 8))


def test_a_worker_with_another_version_does_nothing_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    ask = json.loads(question(_task("not_json")))
    ask["versions"]["mixture"] = "0.0.1"
    assert "skew" in json.loads(answer(json.dumps(ask)))
    monkeypatch.setattr(futures, "answer", lambda _: json.dumps({"skew": "0.0.1", "where": "n7 (/usr/bin/python3)"}))
    with pytest.raises(EngineError, match=r"worker n7 \(/usr/bin/python3\) has mixture 0\.0\.1, this driver .*install"):
        list(drive(Here(), [_task("square", number=1)], _rules()))


def test_other_versions_of_libraries_are_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    back = {"record": 1, "unlike": {"pyarrow": "1.0"}, "where": "n7 (/usr/bin/python3)"}
    monkeypatch.setattr(futures, "answer", lambda _: json.dumps(back))
    said: list[str] = []
    list(drive(Here(), [_task("square", number=n) for n in range(9)], _rules(said=said)))
    assert len(said) == 1
    assert said[0].startswith("worker n7 (/usr/bin/python3) has pyarrow 1.0, this driver ")


def test_a_worker_without_the_package_can_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(EngineError, match=r"^worker .+ does not have the package mixture; install mixture "):
        list(drive(Here(), [_task("square", number=1)], _rules()))


def test_missing_workers_are_told_of_once() -> None:
    said: list[str] = []
    list(drive(Here(workers=0), [_task("square", number=n) for n in range(90)], _rules(said=said, patience=0)))
    assert said == ["pack: no worker yet"]


def test_scratch_reaches_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIXTURE_SCRATCH", "/before")
    assert [r for _, r in drive(Here(), [_task("scratch")], _rules())] == ["/before"]
    assert [r for _, r in drive(Here(), [_task("scratch")], _rules(scratch="/nvme"))] == ["/nvme"]


def _job(kitchen: Kitchen, recipe: Path, engine: Carried) -> Job:
    place = Workspace(kitchen.root / "carried", kitchen.root)
    return open_job(recipe, place, engine, Silence(), kitchen.root / "carried.lock.json")


@pytest.mark.parametrize("more", ["", "transforms: {related: {by: bm25, run: 4K}}", "scores: [gzip_ratio]"])
def test_records_survive_as_text_in_every_stage(kitchen: Kitchen, more: str) -> None:
    docs = documents(200)
    for number in range(4):
        kitchen.corpus(docs[number::4], f"{number}.jsonl")
    recipe = kitchen.recipe(budget=60_000, shard_tokens=10_000, more=more)
    engine = Carried()
    job = _job(kitchen, recipe, engine)
    store = job.tokenize()
    if "scores" in more:
        job.score()
    plan = job.plan(store, job.bucket(store))
    made = job.pack(store, plan)
    assert [shard["hash"] for shard in made.lock.shards] == kitchen.build(recipe).hashes
    assert not job.verify().findings
    assert {"tokenize", "plan", "pack", "verify"} | ({"score"} if "scores" in more else set()) <= engine.stages
