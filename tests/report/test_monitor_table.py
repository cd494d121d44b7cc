"""The aggregates at the terminal, and the words that page and table share."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from mixture.report import monitor_words as words
from mixture.report.monitor_table import monitor_table
from mixture.report.monitor_words import Checkpoint
from tests.report.monitor_data import measure, measured


def printed(*pictures: object, width: int = 160) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(*pictures, sep="\n")
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_line_a_metric_a_column_a_checkpoint() -> None:
    found = [
        measure(10**6, 0.875, low=0.8, high=0.95, n=40),
        measure(0, 0.375, low=0.3, high=0.45, n=40),
        measure(0, 0.1, length=4096, depth=0.5),
        measure(10**6, 12.0, level="mechanism", task="retrieval_heads", metric="heads"),
    ]
    lines = printed(*monitor_table(found)).splitlines()
    assert "tiny" in lines[0]
    head = next(line for line in lines if "metric" in line)
    assert [cell.strip() for cell in head.strip("┃").split("┃")] == ["metric", "0 tokens", "1M tokens", "n"]
    at = next(n for n, line in enumerate(lines) if "niah: score" in line)
    assert lines[at].index("0.375") < lines[at].index("0.875") < lines[at].rindex("40")
    assert lines[at + 1].index("[0.300, 0.450]") < lines[at + 1].index("[0.800, 0.950]")
    (heads,) = [line for line in lines if "retrieval heads" in line]
    assert heads.index("·") < heads.index("12")
    assert "0.100" not in "\n".join(lines)


def test_four_checkpoints_fit_a_terminal_of_80_columns() -> None:
    found = [measured(at, "behaviour", "niah", "score", 0.5, spread=0.1) for at in range(4)]
    text = printed(*monitor_table(found), width=80)
    assert text.count("[0.400, 0.600]") == 4
    assert "…" not in text


def test_of_many_checkpoints_the_ends_are_shown() -> None:
    text = printed(*monitor_table([measured(at, "behaviour", "niah", "score", 0.5) for at in range(9)]))
    assert "4 of 9 checkpoints" in text
    assert "0 tokens" in text
    assert "8B tokens" in text
    assert "1B tokens" not in text


def test_nothing_measured_is_said() -> None:
    assert "no metric over the whole grid was measured" in printed(*monitor_table([measure(0, 0.5, length=4096)]))


def test_names_cannot_give_the_terminal_commands() -> None:
    text = printed(*monitor_table([measure(0, 0.5, model="\x1b[31mred", domain="\x1b[2J[bold]x[/bold]")]))
    assert "\x1b" not in text
    assert "[bold]x[/bold]" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (1.0, "1"),
        (37.0, "37"),
        (0.71234, "0.712"),
        (12.345, "12.3"),
        (1234.5, "1,234"),
        (0.00012, "0.00012"),
        (-0.5, "-0.500"),
        (5.1e7, "5.1e+07"),
    ],
)
def test_numbers_have_three_digits_or_so(value: float, text: str) -> None:
    assert words.shown(value) == text


def test_checkpoints_are_in_the_order_of_training_model_by_model() -> None:
    found = [
        measure(2000, 0.1, model="b"),
        measure(1000, 0.1, model="b"),
        measure(None, 0.1, model="a"),
        measure(3000, 0.1, model="a"),
    ]
    assert words.checkpoints(found) == [
        Checkpoint("b", 1, 1000),
        Checkpoint("b", 2, 2000),
        Checkpoint("a", 3, 3000),
        Checkpoint("a", None, None),
    ]
    assert [one.label for one in words.checkpoints(found)] == ["1K tokens", "2K tokens", "3K tokens", "a"]
    assert Checkpoint("a", 1500, None).label == "step 1,500"


def test_chosen_checkpoints_are_evenly_spaced_with_both_ends() -> None:
    every = [Checkpoint("a", n, n) for n in range(11)]
    assert [one.step for one in words.chosen(every, 3)] == [0, 5, 10]
    assert [one.step for one in words.chosen(every, 1)] == [10]
    assert words.chosen(every, 11) == every


def test_unknown_metrics_keep_their_names_and_take_no_side() -> None:
    assert words.metric("acc_norm").label == "acc norm"
    assert words.direction("acc_norm") == words.arrow("acc_norm") == ""
    assert words.direction("perplexity") == "lower is better"


def test_sentences_list_names_as_people_do() -> None:
    assert words.listed(["a"]) == "a"
    assert words.listed(["a", "b", "c"]) == "a, b and c"
    assert words.listed([]) == "nothing"
