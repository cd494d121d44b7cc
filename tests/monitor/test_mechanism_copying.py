"""Copying: a score by hand, and never above 1."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixture.errors import MonitorError
from mixture.monitor.copying import copied, copy_weight, needle_tokens, retrieval_score
from tests.monitor.asked import Asked

#: Places 2, 3 and 4 hold the needle 5 9 4.
PROBE = Asked(np.array([1, 1, 5, 9, 4, 9, 7]), np.array([5, 9, 4]), (2, 5))


def test_two_of_three_by_hand() -> None:
    # Head 0 copies all; head 1 looks elsewhere for 4; head 2 finds a 9 outside of the needle; head 3 is one place late.
    positions = np.array([[2, 3, 4], [2, 3, 0], [0, 5, 0], [3, 4, 5]])
    hits = copied(positions, PROBE)
    assert hits.astype(int).tolist() == [[1, 1, 1], [1, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert retrieval_score(hits, PROBE).tolist() == [1, 2 / 3, 0, 0]


def test_the_weight_of_what_was_copied_by_hand() -> None:
    hits = copied(np.array([[2, 3, 0]]), PROBE)
    found = copy_weight(hits, np.array([[0.9, 0.3, 0.8]], np.float32), PROBE)
    np.testing.assert_allclose(found, [(0.9 + 0.3) / 3], rtol=1e-6)


def test_an_answer_token_that_the_needle_has_not_can_be_copied_by_nobody() -> None:
    # The answer goes on after the needle; what was copied is all that could be.
    probe = Asked(PROBE.prompt, np.array([5, 9, 4, 8]), (2, 5))
    hits = copied(np.array([[2, 3, 4, 4]]), probe)
    assert retrieval_score(hits, probe).tolist() == [1]
    assert copy_weight(hits, np.array([[0.5, 0.5, 0.5, 1.0]]), probe).tolist() == [0.5]


def test_a_token_that_stands_twice_counts_once() -> None:
    probe = Asked(np.array([3, 8, 8, 6, 2]), np.array([8, 8, 6]), (1, 4))
    assert needle_tokens(probe).tolist() == [6, 8]
    # Either of the two places is one that holds 8.
    assert retrieval_score(copied(np.array([[2, 1, 0], [2, 1, 3]]), probe), probe).tolist() == [1 / 2, 1]


def test_scores_have_the_shape_of_the_heads() -> None:
    positions = np.full((2, 4, 3), 2)
    assert retrieval_score(copied(positions, PROBE), PROBE).shape == (2, 4)


@given(st.data())
def test_no_score_is_above_one(data: st.DataObject) -> None:
    tokens = st.integers(0, 4)
    prompt = np.array(data.draw(st.lists(tokens, min_size=4, max_size=9)))
    first = data.draw(st.integers(0, len(prompt) - 1))
    stop = data.draw(st.integers(first + 1, len(prompt)))
    answer = np.array([prompt[first], *data.draw(st.lists(tokens, max_size=12))])
    probe = Asked(prompt, answer, (first, stop))
    places = st.lists(st.integers(0, len(prompt) + len(answer) - 2), min_size=len(answer), max_size=len(answer))
    positions = np.array([data.draw(places), data.draw(places)])
    hits = copied(positions, probe)
    # Token by token, as the definition says it.
    for head, score in enumerate(retrieval_score(hits, probe)):
        got = {
            int(word)
            for word, at in zip(answer, positions[head], strict=True)
            if first <= at < stop and prompt[at] == word
        }
        assert score == len(got) / len(set(prompt[first:stop].tolist()))
        assert 0 <= score <= 1


@pytest.mark.parametrize("needle", [(2, 2), (-1, 2), (5, 8)])
def test_a_needle_outside_the_prompt_is_refused(needle: tuple[int, int]) -> None:
    with pytest.raises(MonitorError, match="a prompt of 7; a retrieval score needs a needle inside"):
        needle_tokens(Asked(PROBE.prompt, PROBE.answer, needle))


def test_an_answer_that_the_needle_does_not_hold_is_refused() -> None:
    with pytest.raises(
        MonitorError, match=r"probe chain, length 7, depth 0\.5, sample 3: none of its answer's 2 tokens"
    ):
        needle_tokens(Asked(PROBE.prompt, np.array([7, 1]), (2, 5), length=7, seed=3))
