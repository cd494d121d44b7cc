"""A suite is checked at birth, has a default for everything, and is laid over a model's window once."""

from __future__ import annotations

import pytest

from mixture.errors import MonitorError
from mixture.monitor.codec import open_codec
from mixture.monitor.laid import check_window, laid
from mixture.monitor.suite import FORM, LEVELS, Suite
from mixture.monitor.verdicts import Epsilon
from tests.monitor.texts import haystack_of

BYTES = open_codec("bytes")


def suite(text: str) -> Suite:
    return FORM.parse(text, "mine.yaml")


def lengths(found: Suite, task: str) -> object:
    return found.grid(task).lengths


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("lengths: 70000", "mine.yaml, line 1: lengths: 70000 columns; give 1 to 1000 of them, or [70000]"),
        ("seed: 1\ntasks: [nia]", "mine.yaml, line 2: tasks: no task is named 'nia'; did you mean 'niah'?"),
        ("heads: {task: x}", "mine.yaml, line 1: heads.task: no task is named 'x'"),
        ("epsilon:\n  score: x", "mine.yaml, line 2: epsilon.score: 'x' is no least gain; write 0.02"),
        ("levels: [behavior]", "mine.yaml, line 1: levels.0: input should be 'behaviour'"),
        ("lengths: [4K, x]", "lengths: 'x' is not a number of tokens"),
        ("depths: [2]", "depths are places from 0, the start, to 1, the end"),
        ("tasks: {niah: {smaples: 3}}", "'smaples' is not a key of tasks.niah; did you mean 'samples'?"),
        ("holdout: {positions: [4K, 1K]}", "edges must rise, got 4K, 1K"),
        ("lenghts: 3", "'lenghts' is not a key of a suite; did you mean 'lengths'?"),
        ("levels: []", "levels"),
    ],
)
def test_what_is_wrong_is_one_sentence_with_line_and_key(text: str, sentence: str) -> None:
    with pytest.raises(MonitorError) as told:
        suite(text)
    assert sentence in str(told.value)
    assert "\n" not in str(told.value)


def test_a_task_s_own_grid_comes_before_the_suite_s_and_that_before_the_usual() -> None:
    found = suite("lengths: [4K, 1K]\nsamples: 7\ntasks: {niah: {lengths: [512]}, json_kv: {samples: 2}}")
    assert lengths(found, "niah") == (512,)
    assert lengths(found, "json_kv") == (1024, 4096)
    assert [found.grid(name).samples for name in ("niah", "json_kv")] == [7, 2]
    assert found.heads_grid.lengths == (1024, 4096)
    assert list(suite("tasks: [json_kv]").tasks) == ["json_kv"]


def test_the_usual_grid_of_the_needle_is_ten_by_ten() -> None:
    grid = Suite().grid("niah")
    assert (grid.lengths, grid.depths, len(grid.places)) == (10, 10, 10)
    assert grid.places[0] == 0
    assert grid.places[-1] == 1


def test_levels_have_one_order() -> None:
    assert suite("levels: [mechanism, behaviour, mechanism]").levels == ("behaviour", "mechanism")
    assert Suite().levels == LEVELS


def test_least_gains_are_numbers_or_shares() -> None:
    found = suite("epsilon: {score: 0.05, perplexity: 2%}").epsilons
    assert found == {"score": Epsilon(0.05), "perplexity": Epsilon(0.02, relative=True)}


def test_where_it_is_computed_and_how_it_is_judged_is_not_what_is_measured() -> None:
    plain = Suite().what()
    assert suite("device: cpu\ndtype: float32\nbatch: 1K\nlevels: [behaviour]\nepsilon: {score: 1}").what() == plain
    for other in ("seed: 1", "samples: 2", "heads: {causal: 3}", "window: 4K", "text: {domains: [a]}"):
        assert suite(other).what() != plain, other


def test_columns_go_up_to_the_window_and_those_that_hold_no_question_are_left_out() -> None:
    said: list[str] = []
    found = laid(suite("tasks: [niah, variable_tracking]"), BYTES, haystack_of(BYTES), 1024, said.append)
    assert lengths(found, "niah") == (307, 409, 512, 614, 716, 819, 921, 1024)
    assert lengths(found, "variable_tracking") == (768, 1024)
    assert found.window == 1024
    assert any(sentence.startswith("niah: 204 tokens and fewer hold no question") for sentence in said)
    # Laid once more, nothing moves.
    assert laid(found, BYTES, haystack_of(BYTES), 4096, said.append).what() == found.what()


def test_a_task_that_a_window_cannot_hold_is_left_out_and_a_window_that_holds_none_refused() -> None:
    said: list[str] = []
    found = laid(suite("tasks: [niah, variable_tracking]"), BYTES, haystack_of(BYTES), 512, said.append)
    assert list(found.tasks) == ["niah"]
    assert any("variable_tracking: left out" in sentence for sentence in said)
    with pytest.raises(MonitorError, match="a window of 64 tokens holds no question of niah"):
        laid(suite("tasks: [niah]"), BYTES, haystack_of(BYTES), 64, said.append)


def test_lengths_that_somebody_wrote_are_held_to_the_window_unless_they_are_meant() -> None:
    with pytest.raises(MonitorError, match="a length of 2,048 tokens is more than the model's window of 1,024; give"):
        laid(suite("lengths: [2K]"), BYTES, haystack_of(BYTES), 1024, print)
    found = laid(suite("lengths: [2K]\nwindow: 2K"), BYTES, haystack_of(BYTES), 1024, print)
    assert lengths(found, "niah") == (2048,)
    with pytest.raises(MonitorError, match="short: the grid goes to 2,048 tokens and the model's window is 1,024"):
        check_window(found, 1024, "short")
    check_window(found, 2048, "long")


def test_a_haystack_that_is_too_small_says_so() -> None:
    small = haystack_of(BYTES, documents=1, each=4)
    with pytest.raises(MonitorError, match="too small, a prompt needs 4,096 of it; give more text"):
        laid(suite("lengths: [4K]"), BYTES, small, 4096, print)
