"""How the command line answers: help, codes, one document on stdout, and recipes to start from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mixture.cli import app
from tests.cli.conftest import DOCS, EASY, Shop
from tests.conftest import documents, recipe_text

COMMANDS = [
    *("run", "tokenize", "bucket", "score", "decontaminate", "plan", "pack", "verify", "report"),
    *("trace", "export", "reproduce", "diff", "init"),
]
#: These speak to Slurm: tests/cluster.
OF_JOBS = {"status", "cancel"}
#: These need torch: tests/train, tests/cli/test_monitor.py.
OF_TRAINING = {"train", "monitor"}
HEAVY = ("pyarrow", "numpy", "polars", "duckdb", "datasets", "torch", "pydantic", "rich.progress", "tiktoken")


@pytest.fixture(scope="module")
def ran(stall: Shop) -> Shop:
    """A shop whose run is done, for tests that only look."""
    assert stall.run().code == 0
    return stall


def _for(command: str, new: str) -> tuple[str, ...]:
    lock = "small.lock.json"
    more = {
        "init": (new,),
        "diff": ("small.yaml", lock),
        "score": ("small.yaml", "--columns", "gzip_ratio"),
        "decontaminate": ("small.yaml", "--against", "data/*.jsonl"),
        "trace": (lock, "--sequence", "0"),
        "export": (lock, "--format", "parquet", "--out", f"exported-{new}"),
        "reproduce": (lock, "--workers", "1"),
    }
    return more.get(command, ("small.yaml", "--workers", "1"))


def test_all_commands_of_the_program_are_known_here() -> None:
    assert {command.name for command in app.registered_commands} == {*COMMANDS, *OF_JOBS, *OF_TRAINING}


@pytest.mark.parametrize("command", [*COMMANDS, *sorted(OF_TRAINING)])
def test_help_shows_what_it_is_for_its_options_and_an_example(shop: Shop, command: str) -> None:
    said = shop.call(command, "--help")
    text = " ".join(said.out.split())
    assert said.code == 0
    assert f"mixture {command} " in text.partition("Example:")[2]
    assert "manifests/" in text.partition("Example:")[2]
    assert "--json" in text
    assert "--debug" in text


def test_the_help_of_the_whole_loads_nothing_heavy(shop: Shop) -> None:
    code = "import sys, mixture.cli; print(*sys.modules)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=shop.root) as process:
        loaded = set(process.communicate()[0].split())
    assert not loaded & set(HEAVY)
    assert "mixture.cli.run" in loaded


def test_no_arguments_show_the_help(shop: Shop) -> None:
    said = shop.process()
    assert said.code == 2
    assert all(command in said.out + said.err for command in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "small.yaml", "--workers", "0"), ("--workers", "greater than or equal to 1")),
        (("run", "small.yaml", "--workers", "x"), ("--workers", "integer")),
        (("run", "small.yaml", "--wokers", "1"), ("--wokers", "--workers")),
        (("run",), ("RECIPE",)),
        (("rum", "small.yaml"), ("'rum'", "run")),
        (("run", "small.yaml", "other.yaml"), ("other.yaml",)),
        (("init", "x.yaml", "--source", "nonsense"), ("nonsense", "NAME=GLOB")),
        (("init", "x.yaml", "--train-tokenizer"), ("--source",)),
        (("init", "x.yaml", "-s", "a=data/a.jsonl", "--train-tokenizer", "--sample", "x"), ("--sample", "'x'")),
    ],
)
def test_wrong_usage_ends_with_2_and_touches_nothing(
    shop: Shop, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    shop.stock()
    said = shop.call(*arguments)
    assert said.code == 2
    assert said.out == ""
    message = " ".join(said.err.replace("│", " ").split())
    for word in words:
        assert word in message
    assert not (shop.root / "work").exists()
    assert not (shop.root / "x.yaml").exists()


def test_the_process_itself_ends_with_0_1_and_2(shop: Shop) -> None:
    shop.stock()
    done = shop.process("run", "small.yaml", "--json", "--workers", "1")
    assert done.code == 0, done.err
    assert len(done.hashes) == 3
    assert "error" not in done.err
    shop.refused(shop.process("run", "nope.yaml"), "nope.yaml: no such recipe")
    assert shop.process("run", "small.yaml", "--nope").code == 2


@pytest.mark.parametrize("command", COMMANDS)
def test_json_is_one_document_on_stdout_and_all_else_goes_to_stderr(ran: Shop, command: str) -> None:
    said = ran.call(command, *_for(command, "json.yaml"), "--json")
    assert said.code == 0, said.err
    assert isinstance(json.loads(said.out), dict)
    assert said.out.count("\n{") == 0
    if command not in ("verify", "report", "init", "score", "trace", "export"):
        assert said.err.startswith("tokenize: ")


@pytest.mark.parametrize("command", COMMANDS)
def test_without_json_a_person_reads_a_summary(ran: Shop, command: str) -> None:
    said = ran.call(command, *_for(command, "plain.yaml"))
    assert said.code == 0
    assert said.out.strip()
    assert not said.out.lstrip().startswith("{")


def test_debug_shows_the_traceback_before_the_sentence(shop: Shop) -> None:
    said = shop.call("run", "nope.yaml", "--debug")
    assert said.code == 1
    assert "Traceback (most recent call last)" in said.err
    assert said.err.splitlines()[-1].startswith("error: nope.yaml: no such recipe")


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_reader_that_stops_early_gets_no_traceback(ran: Shop, more: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        said = ran.process("report", "small.yaml", *more, stdout=writing)
    finally:
        os.close(writing)
    assert said.code == 0
    assert said.err == ""


def test_a_stdout_that_is_full_or_closed_is_one_sentence_or_silence(ran: Shop) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with Path("/dev/full").open("w") as full:
        said = ran.process("report", "small.yaml", stdout=full)
    assert said.code == 1
    assert said.err.startswith("error: standard output cannot be written: ")
    assert len(said.err.splitlines()) == 1
    closed = ran.process("report", "small.yaml", through=["sh", "-c", 'exec "$@" >&-', "sh"])
    assert (closed.code, closed.err) == (0, "")


def test_completion_is_a_script_for_the_shell(shop: Shop) -> None:
    environment = os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    said = shop.process("--show-completion", "bash", env=environment)
    assert said.code == 0, said.err
    assert "COMP_WORDS" in said.out
    environment = os.environ | {"_MIXTURE_COMPLETE": "complete_bash", "COMP_WORDS": "mixture ver", "COMP_CWORD": "1"}
    script = Path(sys.executable).with_name("mixture")
    if not script.exists():
        pytest.skip("the console script is not installed beside this Python")
    found = subprocess.run([script], env=environment, capture_output=True, text=True, check=False, cwd=shop.root)
    assert found.stdout.split() == ["verify"]


def test_the_version_is_one_line(shop: Shop) -> None:
    from mixture import __version__

    assert shop.call("--version").out == f"{__version__}\n"


# Recipes to start from.


def _shrink(path: Path, **changes: Any) -> None:
    text = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(text | changes))


def test_init_writes_a_quick_start_that_is_a_recipe(shop: Shop) -> None:
    said = shop.call("init", "new.yaml")
    assert said.code == 0
    assert "mixture run new.yaml" in said.out
    text = shop.root.joinpath("new.yaml").read_text()
    assert "#" in text
    assert yaml.safe_load(text)["name"] == "new"


@pytest.mark.slow
def test_the_quick_start_runs(shop: Shop) -> None:
    shop.call("init", "new.yaml")
    said = shop.run(recipe="new.yaml")
    assert said.code == 0, said.err
    assert said.json["phases"][0]["stream"]["tokens"] == 6_000_000 // 16384 * 16384


def test_init_with_sources_writes_a_recipe_that_runs(shop: Shop) -> None:
    for name in ("books", "wiki"):
        shop.corpus(documents(80, domains=(name,)), f"{name}.jsonl")
    said = shop.call(
        "init", "mine.yaml", "-s", "books=data/books.jsonl", "-s", "wiki=data/wiki.jsonl", "--budget", "64X", "--json"
    )
    assert said.code == 1  # X is no unit.
    assert not (shop.root / "mine.yaml").exists()
    said = shop.call(
        "init", "mine.yaml", "-s", "books=data/books.jsonl", "-s", "wiki=data/wiki.jsonl", "--budget", "65536"
    )
    assert said.code == 0, said.err
    done = shop.run(recipe="mine.yaml")
    assert done.code == 0, done.err
    assert {cell["domain"] for cell in done.json["phases"][0]["cells"]} == {"books", "wiki"}


def test_init_trains_a_tokenizer_and_the_recipe_runs_with_it(shop: Shop) -> None:
    shop.corpus(DOCS, "books.jsonl")
    order = ("init", "mine.yaml", "-s", "books=data/books.jsonl", "--train-tokenizer", "--vocab-size", "400")
    said = shop.call(*order, "--budget", "32768", "--json")
    assert said.code == 0, said.err
    assert (shop.root / said.json["tokenizer"]["path"]).is_file()
    _shrink(shop.root / "mine.yaml", budget=8192, sequence={"length": 512}, mix={})
    done = shop.run(recipe="mine.yaml")
    assert done.code == 0, done.err
    assert done.json["phases"][0]["stream"]["tokens"] == 8192


def test_init_refuses_to_overwrite_unless_forced(shop: Shop) -> None:
    mine = shop.file("mine.yaml", "# mine\n")
    shop.refused(shop.call("init", "mine.yaml"), "mine.yaml: there is a file already", "--force")
    assert mine.read_text() == "# mine\n"
    assert shop.call("init", "mine.yaml", "--force").code == 0
    assert yaml.safe_load(mine.read_text())["name"] == "mine"


def test_an_init_that_cannot_train_leaves_no_recipe_that_cannot_run(shop: Shop) -> None:
    shop.corpus(DOCS[:1], "a.jsonl")
    order = ("init", "mine.yaml", "-s", "a=data/a.jsonl", "--train-tokenizer", "--vocab-size", "30000")
    shop.refused(shop.call(*order), "too few, or too uniform, for a vocabulary of 30,000")
    assert not (shop.root / "mine.yaml").exists()
    shop.refused(shop.call("init", "mine.yaml", "-s", "a=data/none.jsonl", "--train-tokenizer"), "none.jsonl")
    assert not (shop.root / "mine.yaml").exists()


@pytest.mark.parametrize("name", ["my books", "a:b", "a#b", "{a", "'a'", "ü 🙂", "no", "1"])
def test_init_takes_a_source_of_any_name(shop: Shop, name: str) -> None:
    shop.corpus(DOCS, "a.jsonl")
    said = shop.call("init", "mine.yaml", "-s", f"{name}=data/a.jsonl", "--budget", "32768")
    assert said.code == 0, said.err
    source = yaml.safe_load((shop.root / "mine.yaml").read_text())["sources"][0]
    assert (source["name"], source["domain"]) == (name, name)


@pytest.mark.parametrize("name", ["a b.yaml", "ü.yaml"])
def test_init_in_a_file_whose_name_makes_no_recipe_name_still_writes_one(shop: Shop, name: str) -> None:
    said = shop.call("init", name)
    assert said.code == 0, said.err
    assert shop.call("report", name).error.endswith("--lock")


def test_a_recipe_says_what_it_does_and_why(shop: Shop) -> None:
    shop.stock()
    first = shop.run().err
    assert "tokenize: 1 of 1 inputs new or changed: data/a.jsonl" in first
    assert "plan: no lock yet" in first
    again = shop.run().err
    assert again.count("nothing to do, all is whole") == 4
    shop.file("small.yaml", recipe_text(**(EASY | {"seed": 8})))
    assert "plan: the recipe changed: seed: 7 → 8" in shop.run().err
