"""`mixture monitor` as a person meets it: a run followed, examined once, and what is said of mistakes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.conftest import Said
from tests.train.conftest import Gym, gym, shop
from tests.train.test_monitored import SUITE as SMALL

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("statsmodels")
pytest.importorskip("matplotlib")

__all__ = ["gym", "shop"]

SUITE: dict[str, Any] = SMALL | {
    "tasks": {"niah": {"lengths": [256, 320]}, "json_kv": {"lengths": [256]}},
    "longppl": {"short": 64, "step": 32, "texts": 1},
    "interference": 1,
    "heads": {"lengths": [256], "depths": 2, "causal": 1, "draws": 1},
    "device": "cpu",
}


@pytest.fixture(scope="module")
def trained(shop: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six checkpoints."""
    torch.set_num_threads(1)
    made = Gym(shop, tmp_path_factory.mktemp("trained"))
    assert made.train(checkpoints={"every": "1 steps", "keep": 10, "export": True}).code == 0
    return made.root / "run"


class Clinic:
    """A run's folder to be examined, and a suite for it."""

    def __init__(self, gym: Gym, trained: Path) -> None:
        self.gym, self.root = gym, gym.root
        self.run = self.root / "run"
        shutil.copytree(trained, self.run)
        self.suite(**SUITE)

    def suite(self, **what: Any) -> None:
        (self.root / "suite.yaml").write_text(yaml.safe_dump(what))

    def line(self, *more: str, place: str = "run") -> list[str]:
        return ["monitor", place, "--suite", "suite.yaml", "--work", str(self.gym.shop.root / "work"), *more]

    def monitor(self, *more: str, place: str = "run") -> Said:
        return self.gym.shop.call(*self.line(*more, place=place), at=self.root)

    def start(self, *more: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "mixture", *self.line(*more)]
        env = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            command, cwd=self.root, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def records(self) -> list[str]:
        return sorted(path.stem for path in (self.run / "monitor" / "exams").rglob("*.json"))

    def table(self) -> bytes:
        return (self.run / "monitor" / "metrics.jsonl").read_bytes()


@pytest.fixture
def clinic(gym: Gym, trained: Path) -> Clinic:
    return Clinic(gym, trained)


def test_a_run_of_six_checkpoints_is_followed_at_all_levels_and_gets_a_page(clinic: Clinic) -> None:
    said = clinic.monitor("--follow", "--json")
    assert said.code == 0, said.err
    assert [one["step"] for one in said.json["examined"]] == [1, 2, 3, 4, 5, 6]
    assert "came to its end at step 6" in said.err
    assert set(said.json["verdicts"]["run"]) == {"behaviour", "probability", "mechanism", "words"}
    laws = json.loads((clinic.run / "monitor" / "dynamics.json").read_text())["models"][0]["laws"]
    holdout = next(law for law in laws if (law["task"], law["metric"], law["domain"]) == ("holdout", "loss", ""))
    assert {"power_law", "last_checkpoint", "log_line"} <= set(holdout)
    page = clinic.root / said.json["page"]
    text = page.read_text()
    assert page == clinic.run / "monitor" / "index.html"
    assert "Is it saturated?" in text
    assert text.count("data:image/png;base64,") >= 6
    assert (clinic.run / "monitor" / "metrics.parquet").exists()
    assert len(list((clinic.run / "monitor" / "retrieval" / "run").iterdir())) == 6
    # Once more: nothing to do, and the same table.
    before = clinic.table()
    again = clinic.monitor("--no-page")
    assert again.code == 0, again.err
    assert "nothing to do, all 6 were examined before" in again.err
    assert clinic.table() == before
    assert "niah: score" in " ".join(again.out.split())
    assert "probability: " in again.out
    assert re.search(r"^holdout loss: (leads to |where it leads cannot be told)", again.out, re.MULTILINE)


def test_a_checkpoint_an_export_and_levels_one_after_the_other(clinic: Clinic) -> None:
    place = "run/checkpoints/step-00000002"
    said = clinic.monitor("--levels", "behaviour", "--no-page", "--json", place=place)
    assert said.code == 0, said.err
    assert [list(one["seconds"]) for one in said.json["examined"]] == [["behaviour"]]
    said = clinic.monitor("--no-page", "--json", place=place)
    assert [list(one["seconds"]) for one in said.json["examined"]] == [["probability", "mechanism"]]
    said = clinic.monitor("--levels", "mechanism", "--no-page", "--json", place="run/export")
    assert said.code == 0, said.err
    assert [(one["model"], one["step"]) for one in said.json["examined"]] == [("run", None)]
    assert said.json["out"] == str(clinic.run / "monitor") or said.json["out"] == "run/monitor"


def test_a_monitor_that_is_killed_goes_on_and_ends_with_the_same_table(clinic: Clinic, tmp_path: Path) -> None:
    whole = Clinic(Gym(clinic.gym.shop, tmp_path / "other"), clinic.run)
    assert whole.monitor("--no-page").code == 0
    for number in (signal.SIGKILL, signal.SIGINT):
        process, had = clinic.start("--no-page"), len(clinic.records()) if (clinic.run / "monitor").exists() else 0
        until = time.monotonic() + 120
        while len(clinic.records()) < had + 1 and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        assert "Traceback" not in err
        if number == signal.SIGINT and process.returncode == 130:
            assert "what was examined is kept: run the same command to go on" in err
    said = clinic.monitor("--no-page", "--json")
    assert said.code == 0, said.err
    assert clinic.table() == whole.table()


def test_two_monitors_on_one_folder_are_refused(clinic: Clinic) -> None:
    from mixture.storage import only_run

    with only_run(clinic.run / "monitor"):
        said = clinic.monitor()
    assert said.code == 1
    assert "is in use by process" in said.error


def test_text_that_was_trained_on_is_refused_and_other_text_is_taken(clinic: Clinic) -> None:
    said = clinic.monitor("--text", str(clinic.gym.shop.root / "data" / "a.jsonl"))
    assert said.code == 1
    assert "a.jsonl, row " in said.error
    assert "trained on, the plan of 'small' draws this text; a haystack must be new to the model" in said.error
    (clinic.root / "new.txt").write_text("It was a dark night. " * 400)
    said = clinic.monitor("--text", "new.txt", "--no-page", "--json", place="run/checkpoints/step-00000006")
    assert said.code == 0, said.err
    said = clinic.monitor("--no-page", place="run/checkpoints/step-00000005")
    assert "another suite (text.files: ['new.txt'] → [])" in said.error


@pytest.mark.parametrize(
    ("place", "more", "sentence"),
    [
        ("nowhere", (), "nowhere: no such folder; give a model's folder, a checkpoint of `mixture train`, or a run's"),
        (".", ("--text", "suite.yaml"), "no model, it has no config.json"),
        ("run", ("--levels", "behavior"), "--levels behavior: no such level; did you mean 'behaviour'?"),
        ("run", ("--suite", "none.yaml"), "none.yaml: no such suite"),
        ("run", ("--lock", "none.lock.json"), "none.lock.json"),
        ("run", ("--tokenizer", "none.json"), "none.json: no such tokenizer"),
        ("run", ("--text", "none.txt"), "none.txt: no such file or folder of text"),
        ("run", ("--harness", "none.json"), "none.json: there is no such file"),
        ("run", ("--coverage", "none.tsv"), "none.tsv: cannot be read"),
        ("run", ("--work", "nowhere"), "nowhere"),
    ],
)
def test_what_is_wrong_is_one_sentence(clinic: Clinic, place: str, more: tuple[str, ...], sentence: str) -> None:
    said = clinic.monitor(*more, "--no-page", place=place)
    assert said.code == 1
    assert sentence in said.error


def test_usage_that_is_wrong_ends_with_2(clinic: Clinic) -> None:
    shop = clinic.gym.shop
    assert shop.call("monitor", at=clinic.root).code == 2
    assert shop.call("monitor", "run", "run", "--follow", at=clinic.root).code == 2


def test_a_run_without_a_checkpoint_says_to_follow_it(clinic: Clinic) -> None:
    shutil.rmtree(clinic.run / "checkpoints")
    (clinic.run / "checkpoints").mkdir()
    assert "no checkpoint in it yet; wait for one with --follow" in clinic.monitor().error


def test_a_window_that_is_shorter_than_the_suite_s_lengths_is_told(clinic: Clinic) -> None:
    clinic.suite(**(SUITE | {"window": None, "tasks": {"niah": {"lengths": ["4K"]}}}))
    assert "a length of 4,096 tokens is more than the model's window of 2,048; give lengths" in clinic.monitor().error


def test_a_tokenizer_of_another_model_is_told(clinic: Clinic) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    words = {chr(300 + n): n for n in range(1000)} | {"[UNK]": 1000}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    made.save(str(clinic.root / "tokenizer.json"))
    said = clinic.monitor("--tokenizer", "tokenizer.json", "--text", "suite.yaml")
    assert said.code == 1
    assert "so they do not go together" in said.error or "trained" in said.error


def test_facts_and_another_program_s_results_have_their_tables(clinic: Clinic) -> None:
    (clinic.root / "facts.tsv").write_text("subject\tobject\nargparse\tparser\nMarie Curie\tWarsaw\n")
    lm_eval = {"results": {"arc": {"acc,none": 0.5, "acc_stderr,none": 0.1}}, "model_name": "run-step2"}
    (clinic.root / "results_1.json").write_text(json.dumps(lm_eval))
    line = ["monitor", "--harness", "results_1.json", "--coverage", "facts.tsv"]
    line += ["--lock", "run/small.lock.json", "--out", "facts", "--work", str(clinic.gym.shop.root / "work")]
    line += ["--data", str(clinic.gym.shop.root)]
    said = clinic.gym.shop.call(*line, "--no-page", "--json", at=clinic.root)
    assert said.code == 0, said.err
    rows = {row["subject"]: row for row in said.json["coverage"]}
    assert rows["argparse"]["documents"] > 0
    assert rows["Marie Curie"]["documents"] == 0
    assert (clinic.root / "facts" / "coverage-pairs.parquet").exists()
    assert said.json["measures"] == 1
    said = clinic.gym.shop.call(*line, "--no-page", at=clinic.root)
    assert "knowledge coverage" in said.out
    assert "2 pairs: " in said.out


def test_coverage_without_a_lock_says_which_option_is_missing(clinic: Clinic) -> None:
    (clinic.root / "facts.tsv").write_text("subject\tobject\na\tb\n")
    said = clinic.gym.shop.call("monitor", "--coverage", "facts.tsv", "--no-page", at=clinic.root)
    assert "name its lock with --lock" in said.error


def test_help_is_shown_in_less_than_half_a_second_without_torch() -> None:
    code = "import sys, mixture.cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "mixture.cli.monitor" in loaded
    assert not {"torch", "matplotlib", "scipy", "transformers", "polars"} & set(loaded)
