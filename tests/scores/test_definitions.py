"""Scores that a reader can check by hand."""

from __future__ import annotations

import gzip
import math
import random
from typing import get_args

import pytest

from mixture.recipe.sources import Measure
from mixture.scores.definitions import DEFINITIONS, STRETCH, gzip_ratio, type_token_ratio


def view(text: str) -> memoryview:
    return memoryview(text.encode())


def test_every_measure_of_the_recipe_is_defined() -> None:
    assert set(get_args(Measure)) == set(DEFINITIONS)


@pytest.mark.parametrize("text", ["a", "the cat sat on the mat " * 50, "漢字🙂 ünï" * 9, "\x00\n"])
def test_gzip_ratio_is_the_gzip_files_size_per_byte_of_utf8(text: str) -> None:
    content = text.encode()
    assert gzip_ratio(view(text)) == len(gzip.compress(content, 6)) / len(content)


def test_repetition_compresses_and_noise_does_not() -> None:
    noise = random.Random(0).randbytes(10_000).hex()
    assert gzip_ratio(view("a" * 20_000)) < 0.01
    assert 0.5 < gzip_ratio(view(noise)) < 0.7
    assert gzip_ratio(memoryview(random.Random(0).randbytes(20_000))) > 1


@pytest.mark.parametrize(
    ("text", "ratio"),
    [
        ("the cat and the dog", 4 / 5),
        ("The THE the\tthe\nthe", 1 / 5),
        ("Ünï\u00a0ünï", 1 / 2),
        ("one", 1.0),
        ("a b, a, b", 1.0),
    ],
)
def test_words_are_lower_cased_and_separated_by_white_space(text: str, ratio: float) -> None:
    assert type_token_ratio(view(text)) == ratio


def test_a_text_without_words_has_no_ratio() -> None:
    assert math.isnan(type_token_ratio(view(" \n\t")))


def test_long_texts_are_measured_in_stretches_so_that_length_does_not_lower_the_ratio() -> None:
    words = [str(n) for n in range(STRETCH)]
    assert type_token_ratio(view(" ".join(words))) == 1.0
    assert type_token_ratio(view(" ".join(words * 3))) == 1.0
    assert type_token_ratio(view(" ".join([*words, *["x"] * STRETCH]))) == (1 + 1 / STRETCH) / 2


def test_what_is_left_after_the_last_whole_stretch_does_not_count() -> None:
    words = [str(n) for n in range(STRETCH)] + ["x"] * (STRETCH - 1)
    assert type_token_ratio(view(" ".join(words))) == 1.0
