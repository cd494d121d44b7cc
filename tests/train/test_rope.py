"""Rotary embeddings stretched: the numbers, by hand, and what is refused."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from transformers import Gemma3TextConfig, GPT2Config, LlamaConfig  # noqa: E402

from mixture.errors import TrainError  # noqa: E402
from mixture.train.rope import Rope, RopeRecord, apply  # noqa: E402
from tests.train import tiny  # noqa: E402

#: Heads of 16: pairs turn by b^(-2i/16) a position.
LLAMA: dict[str, Any] = {"hidden_size": 64, "head_dim": 16, "max_position_embeddings": 4096}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def rotary(rope: Rope | None, length: int = 4096, **others: Any) -> Any:
    model = tiny.trainee(length=length, rope=rope, **(LLAMA | others))
    return model.model.model.rotary_emb


def speeds(base: float) -> list[float]:
    return [base ** (-2 * pair / 16) for pair in range(8)]


def close(found: Any, wanted: list[float]) -> None:
    torch.testing.assert_close(found, torch.tensor(wanted), rtol=1e-5, atol=0)


def test_as_the_model_has_it() -> None:
    close(rotary(None).inv_freq, speeds(10000))


def test_another_base_slows_every_pair_but_the_first() -> None:
    slowed = rotary(Rope("base", base=8e6), length=65536)
    close(slowed.inv_freq, speeds(8e6))
    # 8e6 ** (-2 · 4 / 16) = 1/√8e6
    assert float(slowed.inv_freq[4]) == pytest.approx(1 / math.sqrt(8e6))
    assert slowed.attention_scaling == 1.0


def test_linear_divides_every_position() -> None:
    close(rotary(Rope("linear", factor=4), length=16384).inv_freq, [speed / 4 for speed in speeds(10000)])


def test_yarn_mixes_by_how_often_a_pair_turns() -> None:
    """Pairs that turn over 32 times in 4096 positions stay, under once are divided by 8, between: a ramp.

    The pair that turns n times is 16 ln(4096 / 2πn) / 2 ln 10000: 2.62 for n = 32, 5.63 for n = 1; the ramp runs from
    2 to 6.
    """
    stretched = rotary(Rope("yarn", factor=8), length=32768)
    low, high = (16 * math.log(4096 / (2 * math.pi * turns)) / (2 * math.log(10000)) for turns in (32, 1))
    assert (math.floor(low), math.ceil(high)) == (2, 6)
    divided = [0, 0, 0, 0.25, 0.5, 0.75, 1, 1]
    wanted = [speed * (1 - part) + speed / 8 * part for speed, part in zip(speeds(10000), divided, strict=True)]
    close(stretched.inv_freq, wanted)
    assert stretched.attention_scaling == pytest.approx(0.1 * math.log(8) + 1)


def test_yarn_takes_base_and_temperature() -> None:
    stretched = rotary(Rope("yarn", factor=8, base=1e6, temperature=1.5), length=32768)
    assert stretched.attention_scaling == 1.5
    close(stretched.inv_freq[:2], speeds(1e6)[:2])


def test_yarn_knows_from_which_length_it_starts() -> None:
    """A model that came with max_position_embeddings raised already says what it was trained to."""
    own = rotary(Rope("yarn", factor=8), length=32768).inv_freq
    told = rotary(Rope("yarn", factor=8, original=4096), length=32768, max_position_embeddings=32768).inv_freq
    assert torch.equal(own, told)


def test_the_record_says_all_and_survives_json() -> None:
    config, record = apply(LlamaConfig(**LLAMA), Rope("yarn", factor=8), 20000)
    assert config.max_position_embeddings == record.positions == 32768
    assert record.parameters == {
        "rope_theta": 10000.0,
        "rope_type": "yarn",
        "factor": 8.0,
        "original_max_position_embeddings": 4096,
    }
    assert RopeRecord.from_json(json.loads(json.dumps(record.to_json()))) == record


def test_the_given_config_stays_as_it_is() -> None:
    config = LlamaConfig(**LLAMA)
    before = config.to_dict()
    apply(config, Rope("base", base=1e6), 65536)
    assert config.to_dict() == before


def test_a_base_leaves_another_stretching_in_place_and_yarn_replaces_it() -> None:
    config = LlamaConfig(**(LLAMA | {"max_position_embeddings": 131072, "rope_parameters": dict(LLAMA3)}))
    _, record = apply(config, Rope("base", base=8e6), 131072)
    assert record.parameters == LLAMA3 | {"rope_theta": 8e6}
    _, record = apply(config, Rope("yarn", factor=32), 262144)
    assert record.parameters == {
        "rope_theta": 500000.0,
        "rope_type": "yarn",
        "factor": 32.0,
        "original_max_position_embeddings": 8192,
    }


def test_sequences_that_are_too_long_are_refused_with_what_would_do() -> None:
    config = LlamaConfig(**LLAMA)
    with pytest.raises(TrainError, match=r"8,193 places are longer than the 4,096 .*kind: yarn, factor: 3"):
        apply(config, Rope(), 8193)
    with pytest.raises(TrainError, match=r"2 × 4,096 positions are 8,192, and sequences have 8,193 places; give 3 or"):
        apply(config, Rope("yarn", factor=2), 8193)
    with pytest.raises(TrainError, match="give 3 or more"):
        apply(config, Rope("linear", factor=2), 8193)
    assert apply(config, Rope("linear", factor=2), 8192)[0].max_position_embeddings == 8192


def test_random_weights_have_no_length_that_they_know() -> None:
    assert apply(LlamaConfig(**LLAMA), Rope(), 65536, fresh=True)[0].max_position_embeddings == 65536
    assert apply(LlamaConfig(**LLAMA), Rope(), 64, fresh=True)[0].max_position_embeddings == 4096


@pytest.mark.parametrize("config", [GPT2Config(), Gemma3TextConfig()])
def test_models_without_one_rotary_embedding_are_refused(config: Any) -> None:
    with pytest.raises(TrainError, match=f"one rotary embedding for all layers, and '{config.model_type}' has none"):
        apply(config, Rope("base", base=1e6), 64)
    assert apply(config, Rope(), 64)[1].parameters == {}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"kind": "yarm"}, "did you mean 'yarn'"),
        ({"kind": "base"}, "rope.base is missing"),
        ({"kind": "yarn"}, "rope.factor is missing"),
        ({"kind": "linear", "factor": 2, "original": 64}, "rope.original: kind: linear takes none"),
        ({"kind": "model", "base": 1e6}, "rope.base: kind: model takes none"),
        ({"kind": "linear", "factor": 0.5}, "rope.factor: 0.5 must be at least 1"),
        ({"kind": "base", "base": float("inf")}, "rope.base: inf must be"),
    ],
)
def test_a_rope_that_cannot_be_is_refused_at_birth(given: dict[str, Any], says: str) -> None:
    with pytest.raises(TrainError, match=says):
        Rope(**given)


def test_a_live_model_changes_its_rope_between_phases() -> None:
    model, other = tiny.trainee(**LLAMA), tiny.trainee(length=65536, rope=Rope("base", base=8e6), **LLAMA)
    batch = tiny.packed((300, 212))
    before = model(*batch[:3], tiny.layout(model, batch[3])).tokens
    assert model.set_rope(Rope("base", base=8e6), 65536) == model.rope == other.rope
    after = model(*batch[:3], tiny.layout(model, batch[3])).tokens
    assert torch.equal(after, other(*batch[:3], tiny.layout(other, batch[3])).tokens)
    assert not torch.allclose(before, after, atol=1e-3)
    assert model.config.max_position_embeddings == 65536
    # From the model's own, not from what the phase before made of it.
    model.set_rope(Rope("linear", factor=2), 8192)
    close(model.model.model.rotary_emb.inv_freq, [speed / 2 for speed in speeds(10000)])
    model.set_rope(Rope(), 4096)
    assert torch.equal(model(*batch[:3], tiny.layout(model, batch[3])).tokens, before)


def test_yarn_of_a_live_model_sharpens_its_scores() -> None:
    model = tiny.trainee(**LLAMA)
    model.set_rope(Rope("yarn", factor=8), 32768)
    assert model.model.model.rotary_emb.attention_scaling == pytest.approx(0.1 * math.log(8) + 1)
    model.set_rope(Rope(), 4096)
    assert model.model.model.rotary_emb.attention_scaling == 1.0
