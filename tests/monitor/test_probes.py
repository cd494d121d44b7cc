"""A probe has exactly its length, its needle stands where it says, and its address alone decides about it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from mixture.errors import MonitorError
from mixture.monitor.codec import Codec, open_codec
from mixture.monitor.probes import Lots, Probe
from mixture.monitor.tasks import TASKS, depths_of, lengths_to, probes
from mixture.monitor.tasks_variable_tracking import CHAINS, LINKS
from mixture.monitor.words import PLACES, WORDS
from tests.monitor.texts import VOCABULARIES, codec_of, haystack_of
from tests.tokens.conftest import _small_ranks, home

__all__ = ["_small_ranks", "home"]

BYTES = open_codec("bytes")
#: The longest task fits in them, in a vocabulary of bytes.
LENGTHS = (1500, 2311)


def made(task: str, codec: Codec = BYTES, **how: object) -> list[Probe]:
    usual = {"lengths": LENGTHS, "depths": (0, 0.3, 1), "samples": 2}
    return list(probes(task, codec, haystack_of(codec), **(usual | how)))  # type: ignore[arg-type]


def text(probe: Probe, first: int, stop: int) -> str:
    return BYTES.decode(probe.prompt[first:stop])


@pytest.mark.parametrize("name", VOCABULARIES)
@pytest.mark.parametrize("task", TASKS)
def test_length_needle_and_answer_are_exact_in_every_vocabulary(task: str, name: str, home: Path) -> None:
    codec = codec_of(name, home)
    found = made(task, codec)
    assert len(found) == len(LENGTHS) * 3 * 2
    for probe in found:
        assert len(probe.prompt) == probe.length
        assert probe.prompt.max() < codec.n_vocab
        assert tuple(probe.prompt[: len(codec.opening)]) == codec.opening
        assert codec.decode(probe.prompt).endswith("Answer:")
        assert all(one in codec.decode(probe.answer) for one in probe.expected)
        needle = codec.decode(probe.prompt[slice(*probe.needle)])
        assert probe.copied == (task != "variable_tracking")
        assert needle.strip() == (codec.decode(probe.answer).strip() if probe.copied else probe.expected[0])
        assert needle.strip() in codec.decode(probe.prompt[slice(*probe.sentence)])


def test_a_needle_stands_at_its_depth_to_the_token_and_at_a_sentence_end() -> None:
    for probe in made("niah", depths=(0, 0.25, 0.5, 1)):
        begin, end = probe.sentence
        intro = text(probe, 0, probe.length).index("\n\n") + 2
        question = text(probe, 0, probe.length).rindex("\n\nQuestion")
        hay = question - intro - (end - begin)
        assert begin - intro == round(probe.depth * hay)
        if probe.depth:
            assert text(probe, 0, begin).rstrip()[-1] == "."
        sentence = re.fullmatch(r" The secret phrase of (\w+) is: (.*)\.", text(probe, begin, end))
        assert sentence is not None
        assert text(probe, question, probe.length) == (
            f"\n\nQuestion: What is the secret phrase of {sentence[1]}?\nAnswer:"
        )
        assert probe.expected == (sentence[2],)


def test_text_around_a_needle_is_the_haystack_as_it_is() -> None:
    hay = BYTES.decode(haystack_of(BYTES).tokens)
    for probe in made("niah", depths=(0.5,)):
        begin, end = probe.sentence
        assert text(probe, begin - 200, begin) + text(probe, end, end + 200) in hay + hay


def test_json_pairs_are_json_and_the_asked_one_stands_at_its_depth() -> None:
    for probe in made("json_kv", depths=(0, 0.5, 1)):
        whole = text(probe, 0, probe.length)
        data = json.loads(whole[whole.index("{") : whole.index("}") + 1])
        asked = re.search(r'value of "(\w+)"\?\nAnswer:$', whole)
        assert asked is not None
        assert data[asked[1]] == probe.expected[0]
        assert BYTES.decode(probe.answer) == f' "{probe.expected[0]}"'
        short = [key for key, value in data.items() if len(value) == 8]
        # One value is longer, at the far end, so that the length is exact.
        assert len(data) - len(short) == 1
        assert len(list(data.values())[0 if probe.depth >= 0.5 else -1]) > 8
        assert short.index(asked[1]) == round(probe.depth * (len(short) - 1))


def test_chains_lead_to_the_value_in_order_and_all_their_names_are_expected() -> None:
    for probe in made("variable_tracking"):
        whole = text(probe, 0, probe.length)
        body = whole[whole.index("AAX, AAY") :]
        said = re.findall(r" VAR (\w+) = (?:VAR )?(\w+)\.", body)
        assert len(said) == CHAINS * LINKS
        asked = re.search(r"assigned the value (\d+)\.\nAnswer:$", whole)
        assert asked is not None
        holds: dict[str, str] = {}
        for name, source in said:
            assert source.isdigit() or source in holds, "a name is used after it was assigned"
            holds[name] = holds.get(source, source)
        assert {name for name, value in holds.items() if value == asked[1]} == set(probe.expected)
        assert len(set(holds.values())) == CHAINS


def test_statements_stand_at_sentence_ends() -> None:
    for probe in made("variable_tracking"):
        whole = text(probe, 0, probe.length)
        start = whole.index("AAX, AAY") + len("AAX, AAY\n\n")
        for found in re.finditer(r" VAR \w+ = ", whole[start:]):
            before = whole[start : start + found.start()].rstrip()
            assert not before or before.endswith(".")


def test_shots_agree_and_the_needle_is_the_asked_word_s_last_label() -> None:
    for probe in made("many_shot"):
        whole = text(probe, 0, probe.length)
        shots = re.findall(r"Question: (\w+)\nAnswer: (\w+)\n\n", whole)
        means: dict[str, set[str]] = {}
        for word, label in shots:
            means.setdefault(word, set()).add(label)
        assert all(len(labels) == 1 for labels in means.values())
        asked = re.search(r"Question: (\w+)\nAnswer:$", whole)
        assert asked is not None
        assert means[asked[1]] == {probe.expected[0]}
        last = whole.rindex(f"Question: {asked[1]}\nAnswer: ")
        assert probe.needle[0] == whole.index(":", last + 10) + 1
        assert len(shots) / len(means) > 4


def test_an_address_alone_decides() -> None:
    wide = {key(p): p for p in made("niah", lengths=(600, 1500, 2000), depths=(0, 0.3, 0.7, 1), samples=3)}
    for probe in made("niah", lengths=(1500,), depths=(0.3,)):
        assert np.array_equal(probe.prompt, wide[key(probe)].prompt)
    prompts = {probe.prompt.tobytes() for probe in wide.values()}
    assert len(prompts) == len(wide), "no two cells ask the same"
    assert made("niah", seed=1)[0].expected != made("niah")[0].expected or made("niah", seed=1)[1].expected


def key(probe: Probe) -> tuple[int, float, int]:
    return probe.length, probe.depth, probe.seed


def test_draws_are_frozen() -> None:
    # Written down here, so that no later version asks other questions under the same seed.
    lots = Lots(0, "probe niah", 4096, 1 << 19, 0)
    assert [lots.below(1000) for _ in range(4)] == [279, 699, 358, 826]
    assert Lots(0, "x", 1).hexadecimal(20)[:16] == f"{int(Lots(0, 'x', 1).words(1)[0]):016x}"
    many = Lots(0, "x", 3)
    assert np.array_equal(
        np.concatenate([many.words(count) for count in (1, 700, 2500, 1)]), Lots(0, "x", 3).words(3202)
    )
    assert sorted(Lots(0, "x", 2).order(50).tolist()) == list(range(50))


def test_grids_are_even() -> None:
    assert lengths_to(4096, 4) == (1024, 2048, 3072, 4096)
    assert lengths_to(4096, 3, shortest=96) == (96, 2096, 4096)
    assert depths_of(3) == (0, 0.5, 1)
    assert depths_of(1) == (0.5,)
    steps = [b - a for a, b in pairwise(depths_of())]
    assert len(steps) == 9
    assert max(steps) - min(steps) < 1e-5


def test_words_are_what_their_number_says() -> None:
    assert (len(WORDS), len(set(WORDS)), len(set(PLACES))) == (128, 128, len(PLACES))


@pytest.mark.parametrize("task", TASKS)
def test_a_length_that_holds_nothing_says_what_would(task: str) -> None:
    with pytest.raises(MonitorError, match=rf"^{task}: .* take [\d,]+ tokens, a length of 50 was asked for") as error:
        made(task, lengths=(50,))
    needed = re.search(r"take ([\d,]+)", str(error.value))
    assert needed is not None
    enough = int(needed[1].replace(",", ""))
    # The first cell is of another length now, and so of other words: some bytes more are enough.
    found = list(probes(task, BYTES, haystack_of(BYTES), lengths=(enough + 40,), depths=(0.5,)))
    assert len(found[0].prompt) == enough + 40


def test_a_haystack_that_is_too_small_says_what_it_holds() -> None:
    small = haystack_of(BYTES, documents=1, each=5)
    with pytest.raises(
        MonitorError, match=rf"four tales: a haystack of {len(small)} tokens in 1 documents is too small, .* needs"
    ):
        list(probes("niah", BYTES, small, lengths=(1500,)))
    with pytest.raises(MonitorError, match=r"niah: .* give a haystack"):
        list(probes("niah", BYTES, lengths=(1500,)))


def test_a_wrong_name_or_depth_is_refused() -> None:
    with pytest.raises(MonitorError, match=r"'naih'; did you mean 'niah'"):
        made("naih")
    with pytest.raises(MonitorError, match=r"depth 1.5 is not a place"):
        made("json_kv", depths=(1.5,))


def test_a_probe_that_contradicts_itself_is_refused_at_birth() -> None:
    probe = made("niah", samples=1)[1]
    with pytest.raises(MonitorError, match="its prompt has"):
        replace(probe, length=probe.length + 1)
    with pytest.raises(MonitorError, match="not inside its sentence"):
        replace(probe, needle=(probe.sentence[1], probe.sentence[1] + 2))
    with pytest.raises(MonitorError, match="not the answer's"):
        replace(probe, answer=probe.answer + 1)
    with pytest.raises(MonitorError, match="no answer"):
        replace(probe, expected=())
