"""`--on PROFILE` and `--dry-run`: who wins, what is refused, what would be handed over, and that nothing is."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from mixture.cli.where import Asked, place
from mixture.engine.dry_run import jobs_of
from mixture.errors import ProfileError, StoreError
from mixture.profile import Profile
from tests.cli.conftest import EASY, Shop
from tests.conftest import recipe_text

SLURM = """
engine: slurm
work: {work}
resources: {{cpus: 3, memory: 5G, time: 1h, tasks_per_job: 2}}
slurm: {{partition: cpu}}
"""


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MIXTURE_ON", "MIXTURE_WORK", "MIXTURE_DATA", "MIXTURE_SCRATCH"):
        monkeypatch.delenv(name, raising=False)


def _state(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in root.rglob("*")
    }


def _slurm(shop: Shop, work: str = "work") -> str:
    shop.file("slurm.yaml", SLURM.format(work=work))
    return "slurm.yaml"


# Command line, environment, profile.


def test_the_command_line_wins_over_the_environment_and_that_over_the_profile(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.stock()
    shop.file("local.yaml", "engine: local\nwork: of-profile\nworkers: 1\n")
    order = ("tokenize", "small.yaml", "--on", "local.yaml", "--json")
    assert "of-profile/store" in shop.call(*order).json["store"]
    monkeypatch.setenv("MIXTURE_WORK", "of-environment")
    assert "of-environment/store" in shop.call(*order).json["store"]
    assert "of-command/store" in shop.call(*order, "--work", "of-command").json["store"]
    assert not (shop.root / "work").exists()


def test_the_environment_may_name_the_profile(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.stock()
    shop.file("p.yaml", "work: of-profile\n")
    monkeypatch.setenv("MIXTURE_ON", "p.yaml")
    assert "of-profile/store" in shop.call("tokenize", "small.yaml", "--json", "--workers", "1").json["store"]


def test_data_of_the_profile_is_where_the_recipe_s_paths_begin(shop: Shop, tmp_path: Path) -> None:
    shop.stock()
    shop.file("elsewhere/p.yaml", f"data: {shop.root}\nworkers: 1\n")
    said = shop.call("tokenize", "../small.yaml", "--on", "p.yaml", "--json", at=shop.root / "elsewhere")
    assert said.code == 0, said.err
    assert said.json["documents"] == 60


def test_what_nobody_says_is_as_ever(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shop.root)
    where = Asked().where()
    assert (where.work, where.data) == (shop.root / "work", shop.root)
    assert where.profile.workers == len(os.sched_getaffinity(0))
    assert Asked(workers=3).where().profile.workers == 3


def test_workers_on_the_command_line_win_over_those_of_the_profile(shop: Shop) -> None:
    path = shop.file("p.yaml", "workers: 5\n")
    assert Asked(on=path).where().profile.workers == 5
    assert Asked(on=path, workers=2).where().profile.workers == 2


def test_a_url_arrives_as_it_was_written() -> None:
    pytest.importorskip("s3fs")
    assert str(place("s3://bucket/a//b")) == "s3://bucket/a//b"
    where = Asked(work="s3://bucket/work", data="s3://corpora").where()
    assert str(where.work / "store") == "s3://bucket/work/store"
    assert str(where.data).rstrip("/") == "s3://corpora"


def test_a_url_that_nothing_can_reach_is_one_sentence(shop: Shop) -> None:
    shop.stock()
    said = shop.call("tokenize", "small.yaml", "--work", "nope://bucket/x")
    assert said.code == 1
    assert "nope://bucket/x" in said.error
    assert not (shop.root / "nope:").exists()
    with pytest.raises(StoreError):
        place("nope://bucket/x")


def test_the_profile_s_scratch_is_told_to_what_is_started_and_taken_back(shop: Shop) -> None:
    path = shop.file("p.yaml", "scratch: $NODE/x\n")
    with Asked(on=path).where().engine(print):
        assert os.environ["MIXTURE_SCRATCH"] == "$NODE/x"
    assert "MIXTURE_SCRATCH" not in os.environ


def test_a_scratch_of_the_environment_stays(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIXTURE_SCRATCH", "/mine")
    with Asked(on=shop.file("p.yaml", "scratch: /theirs\n")).where().engine(print):
        assert os.environ["MIXTURE_SCRATCH"] == "/mine"
    assert os.environ["MIXTURE_SCRATCH"] == "/mine"


def test_a_scratch_folder_s_variables_are_this_machine_s(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from mixture.storage import scratch

    monkeypatch.setenv("NODE", str(tmp_path / "disk"))
    monkeypatch.setenv("MIXTURE_SCRATCH", "$NODE/x")
    assert scratch().parent == tmp_path / "disk" / "x"
    monkeypatch.setenv("TMPDIR", str(tmp_path / "usual"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "usual"))
    monkeypatch.delenv("NODE")
    assert scratch().is_relative_to(tmp_path / "usual")


# What is refused.


@pytest.mark.parametrize("command", ["run", "tokenize", "bucket", "score", "plan", "pack", "verify", "report"])
def test_a_profile_that_is_none_is_one_sentence_and_nothing_is_touched(shop: Shop, command: str) -> None:
    shop.stock()
    shop.file("p.yaml", "engine: local\nresources: {cpu: 2}\n")
    before = _state(shop.root)
    shop.refused(shop.call(command, "small.yaml", "--on", "p.yaml"), "p.yaml, line 2: 'cpu' is not a key of resources")
    shop.refused(shop.call(command, "small.yaml", "--on", "q.yaml"), "q.yaml: no such profile; did you mean p.yaml?")
    assert _state(shop.root) == before


@pytest.mark.parametrize("command", [("diff", "small.yaml", "small.yaml"), ("run", "small.yaml")])
def test_workers_of_an_engine_that_has_none_are_wrong_usage(shop: Shop, command: tuple[str, ...]) -> None:
    shop.stock()
    before = _state(shop.root) | {"slurm.yaml": ""}
    said = shop.call(*command, "--on", _slurm(shop), "--workers", "4")
    message = " ".join(said.err.replace("│", " ").split())
    assert said.code == 2
    assert "--workers counts processes of this machine, and slurm.yaml says engine: slurm" in message
    assert _state(shop.root).keys() == before.keys()


def test_reproducing_elsewhere_needs_a_folder_that_the_nodes_see(shop: Shop) -> None:
    shop.stock()
    assert shop.run().code == 0
    said = shop.call("reproduce", "small.lock.json", "--on", _slurm(shop))
    assert said.code == 2
    assert "--work: name an empty folder" in " ".join(said.err.replace("│", " ").split())


def test_the_recipe_is_read_before_a_cluster_is_asked(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> Any:
        raise AssertionError("asked")

    monkeypatch.setattr("mixture.engine.choose.engine_for", never)
    shop.refused(shop.call("run", "gone.yaml", "--on", _slurm(shop)), "gone.yaml: no such recipe")
    shop.stock()
    shop.refused(shop.call("report", "small.yaml", "--on", "slurm.yaml"), "small.lock.json")


# Dry runs.


def _dry(shop: Shop, command: str, *more: str, on: str | None = None) -> Any:
    before = _state(shop.root)
    said = shop.call(command, "small.yaml", *(("--on", on) if on else ()), "--dry-run", "--json", *more)
    assert said.code == 0, said.err
    assert _state(shop.root) == before
    return said.json


def test_a_dry_run_tells_of_each_stage_in_turn_and_writes_nothing(shop: Shop) -> None:
    shop.stock()
    on = _slurm(shop)
    told = _dry(shop, "run", on=on)
    assert [jobs["stage"] for jobs in told["jobs"]] == ["tokenize", "tokenize"]
    assert told["jobs"][0]["labels"] == ["hash a.jsonl"]
    assert [(jobs["stage"], jobs["tasks"]) for jobs in told["later"]] == [
        ("bucket", 0),
        ("plan", 0),
        ("pack", 3),
        ("verify", 3),
    ]
    for command, stage, tasks in (("tokenize", "bucket", 0), ("bucket", "plan", 1), ("plan", "pack", 3)):
        assert shop.call(command, "small.yaml", "--workers", "1").code == 0
        last = _dry(shop, "run", on=on)["jobs"][-1]
        assert (last["stage"], last["tasks"]) == (stage, tasks)
    assert shop.call("pack", "small.yaml", "--workers", "1").code == 0
    assert [jobs["stage"] for jobs in _dry(shop, "run", on=on)["jobs"]] == ["verify"]
    assert _dry(shop, "pack", on=on) == {
        "engine": "slurm",
        "work": str(shop.root / "work"),
        "jobs": [],
        "later": [],
        "script": None,
    }


def test_a_dry_run_counts_jobs_as_the_profile_cuts_them_and_shows_the_batch_script(shop: Shop) -> None:
    shop.stock()
    assert shop.call("plan", "small.yaml", "--workers", "1").code == 0
    told = _dry(shop, "pack", on=_slurm(shop))
    check, shards = told["jobs"]
    assert check["why"] == "the store, before it is read"
    assert (shards["tasks"], shards["jobs"]) == (3, 2)
    assert shards["resources"]["memory"] == 5 << 30
    assert shards["labels"] == [f"shard-0000{n}-of-00003.arrow" for n in range(3)]
    lines = told["script"].splitlines()
    assert lines[0] == "#!/bin/bash"
    for line in ("--array=0-1", "--cpus-per-task=3", "--mem=5120M", "--time=1:00:00", "--partition=cpu"):
        assert f"#SBATCH {line}" in lines


def test_the_number_of_shards_that_a_dry_run_tells_is_what_comes_out(shop: Shop) -> None:
    shop.stock(shard_tokens=5_000, budget=30_000)
    later = {jobs["stage"]: jobs["tasks"] for jobs in _dry(shop, "run")["later"]}
    assert later["pack"] == len(shop.run().hashes) == 7


def test_a_dry_run_knows_that_changed_files_are_new(shop: Shop) -> None:
    shop.stock()
    assert shop.run().code == 0
    shop.corpus([], "b.jsonl")
    told = _dry(shop, "run")
    assert told["jobs"][0]["labels"] == ["hash b.jsonl"]
    assert told["jobs"][-1]["stage"] == "tokenize"


def test_a_dry_run_stops_before_weights_by_sql_and_scores(shop: Shop) -> None:
    shop.stock(more="where: n_bytes > 100")
    assert shop.call("bucket", "small.yaml", "--workers", "1").code == 0
    assert [jobs["stage"] for jobs in _dry(shop, "run")["jobs"]] == ["weigh"]
    shop.recipe(**(EASY | {"more": "scores: [gzip_ratio]\nwhere: gzip_ratio > 0.01"}))
    told = _dry(shop, "run")
    assert told["jobs"][-1]["stage"] == "score"
    assert [jobs["stage"] for jobs in told["later"]] == ["plan", "pack", "verify"]
    assert _dry(shop, "score", "--columns", "gzip_ratio")["jobs"][-1]["tasks"] == 1


def test_a_dry_run_stops_before_evaluation_files_are_read(shop: Shop) -> None:
    shop.stock(more="scores: [{contamination: [data/*.jsonl], ngram: 8}]\nwhere: contamination is null")
    assert shop.call("bucket", "small.yaml", "--workers", "1").code == 0
    assert _dry(shop, "run")["jobs"][-1]["stage"] == "score"


def test_a_dry_run_of_related_documents_tells_the_blocks(shop: Shop) -> None:
    shop.stock(more="transforms: {related: {by: bm25}}")
    assert shop.call("bucket", "small.yaml", "--workers", "1").code == 0
    last = _dry(shop, "run")["jobs"][-1]
    assert (last["stage"], last["tasks"]) == ("plan", 3)
    assert all("block 1 of 1" in label for label in last["labels"])


def test_a_dry_run_of_the_plan_shows_jobs_and_then_cells(shop: Shop) -> None:
    shop.stock()
    on = _slurm(shop)
    told = _dry(shop, "plan", on=on)
    assert [jobs["stage"] for jobs in told["jobs"]] == ["tokenize", "tokenize"]
    assert "phases" not in told
    assert shop.call("bucket", "small.yaml", "--workers", "1").code == 0
    told = _dry(shop, "plan", on=on)
    assert told["jobs"][-1]["stage"] == "plan"
    assert sum(cell["granted"] for cell in told["phases"][0]["cells"]) == 19_968
    assert "jobs" not in _dry(shop, "plan", "--workers", "1")


def test_a_dry_run_of_an_export_leaves_its_folder_unmade(shop: Shop) -> None:
    shop.stock()
    assert shop.run().code == 0
    order = ("export", "small.lock.json", "--format", "parquet", "--out", "exported", "--workers", "1")
    before = _state(shop.root)
    said = shop.call(*order, "--dry-run", "--json")
    assert [(jobs["stage"], jobs["tasks"]) for jobs in said.json["jobs"]] == [("export", 3)]
    assert _state(shop.root) == before
    assert shop.call(*order).code == 0
    assert shop.call(*order, "--dry-run", "--json").json["jobs"] == []


def test_a_dry_run_tells_the_faults_that_the_run_would_tell(shop: Shop) -> None:
    shop.stock()
    assert shop.run().code == 0
    shop.file("small.yaml", recipe_text(**EASY).replace("name: small", "name: other"))
    before = _state(shop.root)
    truth = shop.call("plan", "small.yaml", "--workers", "1").error
    said = shop.call("pack", "small.yaml", "--dry-run")
    assert said.code == 1
    assert said.error == truth
    assert "dry-run" not in said.error
    assert _state(shop.root) == before
    said = shop.call("run", "gone.yaml", "--dry-run")
    assert said.error.startswith("error: gone.yaml: no such recipe")


def test_people_read_tables_and_the_script(shop: Shop) -> None:
    shop.stock()
    text = shop.call("run", "small.yaml", "--on", _slurm(shop), "--dry-run").out
    assert "a dry run, engine slurm: handed over now" in text
    assert "#SBATCH --partition=cpu" in text
    assert "then (·: follows from what comes before)" in text
    assert shop.run().code == 0
    assert "nothing to hand over" in shop.call("pack", "small.yaml", "--dry-run").out


def test_jobs_are_counted_as_each_engine_runs_them() -> None:
    resources = {"tasks_per_job": 16}
    slurm = Profile.model_validate({"engine": "slurm", "resources": resources})
    ray = Profile.model_validate({"engine": "ray", "resources": resources})
    local = Profile.model_validate({"workers": 4})
    assert [jobs_of(slurm, "pack", tasks).jobs for tasks in (0, 1, 16, 17)] == [0, 1, 1, 2]
    assert [jobs_of(ray, "pack", tasks).jobs for tasks in (0, 17)] == [0, 17]
    assert [jobs_of(local, "pack", tasks).jobs for tasks in (0, 3, 17)] == [0, 3, 4]


def test_a_profile_error_says_which_file(shop: Shop) -> None:
    with pytest.raises(ProfileError, match=r"nowhere\.yaml: no such profile"):
        Asked(on=shop.root / "nowhere.yaml").where()
