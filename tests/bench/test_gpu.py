"""The GPU bench runs anywhere at toy size and says what it must; what runs out of memory or time is a result."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.gpu import contest, verdicts
from bench.gpu.contest import Contestant, Ran, Room
from bench.gpu.data import Gpus, sources
from bench.gpu.plan import SIZES, Setting, rows
from bench.gpu.show import show
from mixture.train.flops import Shape

NO_GPU = Gpus((), (), flash=False, peak=None)


def setting(**changes: Any) -> Setting:
    usual: dict[str, Any] = {"length": 64, "batch": 2, "micro": 1, "steps": 3, "lock": "l", "work": "w"}
    return Setting(**(usual | {"weights": "m", "documents": True, "precision": "float32"} | changes))


def ran(seconds: dict[int, float], losses: dict[int, float] | None = None, failed: str | None = None) -> Ran:
    return Ran(seconds, losses or {}, 10, 5.0, failed)


@pytest.mark.slow
def test_one_command_measures_ours_and_the_trainer_on_the_same_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("torch", "transformers", "accelerate"):
        pytest.importorskip(module)
    from bench.gpu.__main__ import main

    # Or each process would compile every library anew.
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    # A GPU, where there is one, has runs of its own to make.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    toy = ["--lengths", "256", "--batch", "1K", "--together", "512", "--steps", "3", "--rounds", "1"]
    main([*toy, "--who", "ours,trainer,nobody", "--temp", str(tmp_path), "--out", str(tmp_path / "out")])
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["size"] == "toy"
    (part,) = result["lengths"]
    assert (part["length"], part["batch"], part["micro"]) == (256, 4, 2)
    ours, peer = part["rows"]
    for row in (ours, peer):
        assert row["failed"] is None
        assert list(row["losses"]) == ["1", "2", "3"]
        assert list(row["seconds"][0]) == ["2", "3"]
        assert 0 < row["rate"]["min"] <= row["rate"]["median"] <= row["rate"]["max"]
        assert row["memory"] > 0
        assert row["mfu"] is None
    assert peer["agreement"]["agree"]
    assert peer["agreement"]["apart"] < 1e-4
    assert peer["ratio"]["median"] == pytest.approx(
        np.median([peer["seconds"][0][step] / ours["seconds"][0][step] for step in "23"])
    )
    assert any(why.startswith("nobody: ") for why in result["skipped"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert len(list((tmp_path / "out" / "logs").iterdir())) == 2


def process(code: str) -> Contestant:
    return Contestant("fake", "fake", lambda _, out: [sys.executable, "-c", code.replace("OUT", str(out))])


def test_a_step_lasts_from_line_to_line_and_its_loss_is_in_the_events(tmp_path: Path) -> None:
    code = """
import json, time
with open("OUT/events.jsonl", "w") as file:
    for step in (1, 2, 3):
        time.sleep(0.05 * (step - 1))
        file.write(json.dumps({"step": step, "loss": 5 - step, "memory": 100 * (3 - step)}) + chr(10))
        print(f"step {step}/3 loss", flush=True)
"""
    found = contest.run(process(code), setting(), tmp_path, Room(60, False, tmp_path))
    assert found.failed is None
    assert found.losses == {1: 4, 2: 3, 3: 2}
    assert found.memory == 200
    assert found.seconds.keys() == {2, 3}
    assert found.seconds[2] >= 0.04
    assert found.seconds[3] >= 0.09
    assert found.counted(2) == {3: found.seconds[3]}


def test_who_has_no_memory_left_has_a_result(tmp_path: Path) -> None:
    code = """
print("step 1/3", flush=True)
raise type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory. Tried to allocate 62.6 GiB.")
"""
    found = contest.run(process(code), setting(), tmp_path, Room(60, False, tmp_path))
    assert found.failed == "out of memory"
    assert found.losses == {}
    killed = process("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert contest.run(killed, setting(), tmp_path, Room(60, False, tmp_path)).failed == "out of memory"


def test_who_takes_too_long_is_ended_with_all_processes_it_started(tmp_path: Path) -> None:
    code = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(f"step 1/3 {child.pid}", flush=True)
child.wait()
"""
    found = contest.run(process(code), setting(), tmp_path, Room(1.5, False, tmp_path))
    assert found.failed == "out of time"
    assert found.wall < 60


@pytest.mark.parametrize(
    ("code", "text", "late", "said"),
    [
        (0, "error: not one", False, None),
        (1, "step 1/3\nerror: rank 0: the GPU's memory is used up (…); lower batch.micro", False, "out of memory"),
        (-9, "step 1/3", False, "out of memory"),
        (-9, "step 1/3", True, "out of time"),
        (1, "Traceback\nValueError: no\nbye", False, "failed: ValueError: no"),
        (1, "error: model.path: none", False, "failed: error: model.path: none"),
        (1, "", False, "failed: no message"),
    ],
)
def test_why_a_run_ended(code: int, text: str, late: bool, said: str | None) -> None:
    assert contest.reason(code, text, late=late) == said


def test_rates_and_mfu_are_of_the_model_whoever_trains_it() -> None:
    shape = Shape(layers=1, hidden=2, heads=1, kv_heads=1, head_dim=2, intermediate=4, vocabulary=8)
    work = verdicts.Work(shape, tokens=4, pairs=[7, 7, 7], gpus=1, peak=1512.0)
    runs = [ran({2: 9.0, 3: 2.0}), ran({2: 9.0, 3: 1.0})]
    found = verdicts.rates(runs, 2, work)
    assert found["rate"] == {"min": 2.0, "median": 3.0, "max": 4.0}
    assert found["mfu"] == {"min": 0.5, "median": 0.75, "max": 1.0}
    assert found["tflops"]["max"] == pytest.approx(1512e-12)
    assert verdicts.rates([ran({}, failed="out of memory")], 1, work) == {"rate": None, "tflops": None, "mfu": None}


def test_a_ratio_is_between_the_same_steps_of_one_round() -> None:
    ours, theirs = [ran({2: 1.0, 3: 1.0}), ran({2: 1.0})], [ran({2: 2.0, 3: 4.0}), ran({2: 3.0, 3: 9.0})]
    assert verdicts.ratio(ours, theirs, 1) == {"min": 2.0, "median": 3.0, "max": 4.0}
    assert verdicts.ratio(ours, [ran({})], 1) is None


def test_losses_agree_within_rounding_and_no_number_agrees_with_nothing() -> None:
    first = {1: 6.0, 2: 5.0}
    assert verdicts.agreement(first, {1: 6.003, 2: 5.001}, "float32")["agree"]
    assert not verdicts.agreement(first, {1: 6.0, 2: 5.01}, "float32")["agree"]
    assert verdicts.agreement(first, {1: 6.0, 2: 5.01}, "bf16")["agree"]
    assert not verdicts.agreement(first, {1: 6.0, 2: float("nan")}, "bf16")["agree"]
    assert verdicts.agreement(first, {}, "bf16")["agree"] is None


def test_a_resumed_run_is_exact_only_if_every_loss_is() -> None:
    whole = ran({}, {1: 6.0, 2: 5.0, 3: 4.0, 4: 3.0, 5: 2.0})
    parts = [ran({}, {1: 6.0, 2: 5.0}), ran({}, {1: 6.0, 2: 5.0, 3: 4.0, 4: 3.0})]
    assert verdicts.resumed(whole, parts, None)["exact"]
    other = [parts[0], ran({}, {1: 6.0, 2: 5.0, 3: 4.0, 4: 3.03})]
    found = verdicts.resumed(whole, other, whole)
    assert not found["exact"]
    assert found["apart"] == pytest.approx(0.01)
    assert found["noise"] == 0
    assert verdicts.resumed(whole, [parts[0], ran({}, failed="out of time")], None) == {"failed": "out of time"}


@pytest.mark.parametrize(("length", "expected"), [(8 << 10, (16, 4)), (32 << 10, (4, 1)), (128 << 10, (1, 1))])
def test_a_gpu_takes_the_same_tokens_at_once_at_every_length(length: int, expected: tuple[int, int]) -> None:
    assert rows(SIZES["0.5B"], length) == expected


def test_sizes_are_what_they_are_called() -> None:
    assert 0.4e9 < SIZES["0.5B"].shape.parameters < 0.6e9
    assert 0.9e9 < SIZES["1B"].shape.parameters < 1.3e9


def test_files_of_a_kind_are_one_source() -> None:
    found = sources(["a.jsonl", "b.jsonl.zst", "c.py", "d.parquet"])
    assert [(one["format"], len(one["paths"])) for one in found] == [("jsonl", 2), ("text", 1), ("parquet", 1)]


def test_the_table_names_who_ran_out_of_memory_and_what_was_expected() -> None:
    from rich.console import Console

    row = {"title": "HF Trainer", "rate": None, "tflops": None, "mfu": None, "memory": 0, "ratio": None}
    part: dict[str, Any] = {"length": 131_072, "batch": 1, "attended": 0.4}
    part["rows"] = [row | {"agreement": None, "failed": "out of memory"}]
    part["rows"].append(
        row | {"title": "ours", "memory": 40 << 30, "estimate": 44 << 30, "agreement": None, "failed": None}
    )
    facts = {"gpus": ["a GPU"], "load_average": [0.1], "python": "3", "libraries": {}, "date": "today"}
    result = {"machine": facts, "size": "0.5B", "model": {"parameters": 5e8, "vocabulary": 128_256}, "steps": 3}
    result |= {"precision": "bf16", "documents": True, "lengths": [part], "resume": None, "skipped": [], "spent": {}}
    console = Console(width=160, record=True, file=io.StringIO())
    show(result, console)
    said = console.export_text()
    assert "128K, HF Trainer: out of memory" in said
    assert "128K ours 40.00 GiB of 44.00 GiB" in said
