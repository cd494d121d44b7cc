"""Result files of lm-evaluation-harness, as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mixture.errors import MonitorError
from mixture.monitor import measures
from mixture.monitor.harness import When, read_harness

RESULT: dict[str, Any] = {
    "results": {
        "mmlu": {"acc,none": 0.5, "acc_stderr,none": 0.01, "alias": "mmlu"},
        "mmlu_law": {"alias": " - law", "acc,none": 0.98, "acc_stderr,none": 0.05},
        "mmlu_maths": {"alias": " - maths", "acc,none": 0.4, "acc_stderr,none": 0.02},
        "gsm8k": {"exact_match,strict-match": 0.25, "exact_match_stderr,strict-match": 0.02},
        "wikitext": {"word_perplexity,none": 12.5, "word_perplexity_stderr,none": "N/A", "alias": "wikitext"},
        "broken": {"acc,none": float("nan"), "acc_stderr,none": float("nan"), "flag,none": True},
    },
    "groups": {"mmlu": {"acc,none": 0.5, "acc_stderr,none": 0.01, "alias": "mmlu"}},
    "group_subtasks": {"mmlu": ["mmlu_law", "mmlu_maths"], "gsm8k": [], "wikitext": []},
    "versions": {"mmlu_law": 1},
    "n-samples": {
        "mmlu_law": {"original": 200, "effective": 100},
        "mmlu_maths": {"original": 50, "effective": 50},
        "gsm8k": {"original": 1319, "effective": 1319},
    },
    "config": {"model": "hf", "model_args": "pretrained=runs/tiny/checkpoints/step-00002000,dtype=bfloat16"},
    "model_name": "runs/tiny/checkpoints/step-00002000",
    "date": 1766001300.25,
}


def save(folder: Path, result: Any = RESULT, name: str = "results_2026-01-30T10-00-00.json") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(result))
    return folder / name


def test_a_file_becomes_rows(tmp_path: Path) -> None:
    rows = {(row.task, row.metric): row for row in read_harness(save(tmp_path / "runs__tiny__step-00002000"))}
    assert set(rows) == {
        ("mmlu", "acc"),
        ("mmlu_law", "acc"),
        ("mmlu_maths", "acc"),
        ("gsm8k", "exact_match,strict-match"),
        ("wikitext", "word_perplexity"),
    }
    maths = rows["mmlu_maths", "acc"]
    assert (maths.model, maths.step, maths.tokens, maths.level) == ("tiny", 2000, None, "harness")
    assert (maths.domain, maths.value, maths.n, maths.whole) == ("mmlu", 0.4, 50, True)
    assert (maths.low, maths.high) == (pytest.approx(0.4 - 1.96 * 0.02, abs=1e-4), pytest.approx(0.4392, abs=1e-4))
    law = rows["mmlu_law", "acc"]
    assert (law.high, law.n) == (1.0, 100)
    assert (rows["mmlu", "acc"].n, rows["mmlu", "acc"].domain) == (150, "")
    text = rows["wikitext", "word_perplexity"]
    assert (text.low, text.high, text.n) == (12.5, 12.5, 1)


@pytest.mark.parametrize(
    ("name", "told", "expected"),
    [
        ("allenai/OLMo-1B", "pretrained=allenai/OLMo-1B,revision=step1000-tokens4B", ("OLMo-1B", 1000, 4 * 10**9)),
        ("EleutherAI/pythia-160m", "pretrained=EleutherAI/pythia-160m,revision=step3000", ("pythia-160m", 3000, None)),
        ("runs/tiny/step-2000-50B", "", ("tiny", 2000, 50 * 10**9)),
        ("qwen-0.5b/50B", "", ("qwen-0.5b", None, 50 * 10**9)),
        ("Baichuan2-7B/train_00220B", "", ("Baichuan2-7B", None, 220 * 10**9)),
        ("amber/ckpt_100", "", ("amber", 100, None)),
        ("long/global_step20K", "", ("long", 20_000, None)),
        ("meta/Llama-3-8B", "", ("Llama-3-8B", None, None)),
        ("run/1.5T-tokens", "", ("run", None, 15 * 10**11)),
        ("footstep5", "", ("footstep5", None, None)),
    ],
)
def test_names_say_where_in_its_training_a_model_is(
    tmp_path: Path, name: str, told: str, expected: tuple[Any, ...]
) -> None:
    result = RESULT | {"model_name": name, "config": {"model_args": told}}
    row = read_harness(save(tmp_path / "out" / name.replace("/", "__"), result))[0]
    assert (row.model, row.step, row.tokens) == expected


def test_what_is_told_goes_before_what_names_say(tmp_path: Path) -> None:
    save(tmp_path / "a")
    for key in ("runs/tiny/checkpoints/step-00002000", "step-00002000", "a"):
        row = read_harness(tmp_path, model="mine", when={key: When(7, 8)}, domains={"mmlu": "knowledge"})[0]
        assert (row.model, row.step, row.tokens, row.domain) == ("mine", 7, 8, "knowledge")


def test_arguments_as_a_mapping_without_a_name(tmp_path: Path) -> None:
    result = RESULT | {"model_name": "", "config": {"model_args": {"pretrained": "/data/tiny/10B", "dtype": "auto"}}}
    row = read_harness(save(tmp_path, result))[0]
    assert (row.model, row.tokens) == ("tiny", 10**10)


def test_folders_name_the_checkpoint_where_the_model_does_not(tmp_path: Path) -> None:
    result = RESULT | {"model_name": "tiny", "config": {}}
    save(tmp_path / "step-100" / "tiny", result)
    save(tmp_path / "step-200" / "tiny", result)
    assert {row.step for row in read_harness(tmp_path)} == {100, 200}
    assert {row.step for row in read_harness(tmp_path / "step-200")} == {200}


def test_files_before_filters_are_read(tmp_path: Path) -> None:
    old = {"results": {"piqa": {"acc": 0.7, "acc_stderr": 0.01, "acc_norm": 0.71}}, "config": {"model_args": "a=b"}}
    rows = {row.metric: row for row in read_harness(save(tmp_path / "tiny", old))}
    assert rows["acc"].low == pytest.approx(0.7 - 0.0196, abs=1e-4)
    assert rows["acc_norm"].low == rows["acc_norm"].value == 0.71
    assert rows["acc"].model == "tiny"


def test_the_later_evaluation_stays_in_the_table(tmp_path: Path) -> None:
    later = json.loads(json.dumps(RESULT))
    later["results"]["mmlu"]["acc,none"] = 0.55
    later["date"] += 60
    save(tmp_path / "a", later, "results_a.json")
    save(tmp_path / "a", RESULT, "results_b.json")
    measures.write(read_harness(tmp_path), tmp_path / "metrics")
    (mmlu,) = [row for row in measures.read(tmp_path / "metrics") if row.task == "mmlu"]
    assert mmlu.value == 0.55


def test_what_is_no_result_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(MonitorError, match=r"no results_\*\.json in it"):
        read_harness(tmp_path)
    with pytest.raises(MonitorError, match="there is no such file"):
        read_harness(tmp_path / "results_x.json")
    (tmp_path / "results_x.json").write_text(json.dumps(RESULT)[:100])
    with pytest.raises(MonitorError, match="damaged, it is no JSON"):
        read_harness(tmp_path)
    for wrong in ([], {}, {"results": [1]}, {"results": {"piqa": 0.5}}):
        with pytest.raises(MonitorError, match="has no 'results' by task"):
            read_harness(save(tmp_path, wrong, "results_x.json"))
