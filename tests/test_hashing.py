"""Hashes are written down: these numbers must never change, or every lock in the world does."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from mixture import hashing

FROZEN_KEY = 0xFED1996124BE22E7
FROZEN_DRAWS = [0xB40C99AA172D422E, 0xEFD825CEB747651F]


def _u64(*values: int) -> np.ndarray:
    return np.array(values, np.uint64)


def test_the_mixer_is_splitmix64() -> None:
    # First outputs of SplitMix64 from state 0: the finaliser of successive multiples of the golden ratio.
    states = _u64(hashing.GOLDEN, 2 * hashing.GOLDEN % 2**64)
    assert hashing.mix(states).tolist() == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]


def test_draws_are_frozen() -> None:
    hi, lo = _u64(1, 2**64 - 1), _u64(0, 3)
    assert hashing.key(42, "draw") == FROZEN_KEY
    assert hashing.draw(42, "draw", hi, lo).tolist() == FROZEN_DRAWS
    assert hashing.draw(42, "draw", hi, lo, _u64(0, 1)).tolist()[0] == FROZEN_DRAWS[0]
    assert hashing.draw(42, "draw", hi, lo, _u64(0, 1)).tolist()[1] != FROZEN_DRAWS[1]


def test_a_document_s_id_is_the_xxh3_of_its_text() -> None:
    # The empty input's XXH3-128, as published with the algorithm.
    assert hashing.document_ids([b""]).hex() == "99aa06d3014798d86001c324468d497f"


@given(st.integers(-(2**70), 2**70), st.text(max_size=5), st.text(max_size=5))
def test_purposes_and_seeds_give_streams_of_their_own(seed: int, one: str, other: str) -> None:
    assert (hashing.key(seed, one) == hashing.key(seed, other)) == (one == other)
    assert hashing.key(seed, one) != hashing.key(seed + 1, one)


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))))
def test_ids_survive_the_way_into_arrow_and_back_and_sort_as_numbers(words: list[tuple[int, int]]) -> None:
    hi, lo = (_u64(*column) for column in (zip(*words, strict=True) if words else ((), ())))
    array = hashing.id_array(hi, lo)
    back = hashing.id_words(array)
    assert back[0].tolist() == hi.tolist()
    assert back[1].tolist() == lo.tolist()
    assert (
        sorted(array.to_pylist())
        == hashing.id_array(*(_u64(*c) for c in (zip(*sorted(words), strict=True) if words else ((), ())))).to_pylist()
    )
    assert hashing.id_words(array[1:])[0].tolist() == hi.tolist()[1:]
    assert hashing.id_words(pa.chunked_array([array, array]))[1].tolist() == lo.tolist() * 2


def test_draws_are_uniform_and_streams_independent() -> None:
    ids = np.arange(100_000, dtype=np.uint64)
    one = hashing.draw(1, "draw", ids, ids) / 2**64
    two = hashing.draw(2, "draw", ids, ids) / 2**64
    counts = np.histogram(one, 100, (0, 1))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 160
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.02


def test_a_fraction_is_the_share_of_draws_below_it() -> None:
    assert hashing.fraction(0) == 0
    assert hashing.fraction(0.25) == 1 << 62
    assert hashing.fraction(1) == 2**64 - 1


def test_a_fingerprint_ignores_the_order_of_keys_and_nothing_else() -> None:
    assert hashing.fingerprint({"a": 1, "b": [1, 2]}) == hashing.fingerprint({"b": [1, 2], "a": 1})
    assert hashing.fingerprint({"a": 1}) != hashing.fingerprint({"a": "1"})
    assert hashing.fingerprint([1, 2]) != hashing.fingerprint([2, 1])
