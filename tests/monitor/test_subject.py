"""A subject is the model that was trained, from whichever folder it is opened."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from mixture.errors import MonitorError, StoreError  # noqa: E402
from mixture.monitor.codec import open_codec  # noqa: E402
from mixture.monitor.subject import checkpoints_of, name_of, open_subject  # noqa: E402
from tests.monitor.conftest import Gym  # noqa: E402
from tests.train import tiny as models  # noqa: E402

BYTES = open_codec("bytes")


def logits(model: torch.nn.Module, length: int = 40) -> torch.Tensor:
    ids = torch.arange(length)[None] % 256
    with torch.no_grad():
        found: torch.Tensor = model(ids).logits.float()
    return found


@pytest.mark.parametrize("family", ["llama", "qwen2", "mistral"])
def test_a_folder_of_hugging_face_gives_the_model_that_was_written(family: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    place = models.folder(tmp_path / "model-7", family, vocab_size=258)
    subject = open_subject(place, tokenizer=BYTES, device="cpu")
    assert (subject.name, subject.step, subject.tokens, subject.window) == ("model-7", None, None, 128)
    assert subject.model.config._attn_implementation == "sdpa"
    assert not subject.model.training
    assert not any(parameter.requires_grad for parameter in subject.model.parameters())
    assert torch.equal(logits(subject.model), logits(AutoModelForCausalLM.from_pretrained(place).eval()))


def test_a_checkpoint_is_the_model_that_is_exported_at_the_same_step(gym: Gym) -> None:
    rope = {"kind": "base", "base": 40_000.0}
    said = gym.train(rope=rope, checkpoints={"every": "2 steps", "export": True})
    assert said.code == 0, said.err
    run = gym.root / "run"
    found = checkpoints_of(run)
    assert [path.name for path in found] == sorted(path.name for path in found)
    assert found[-1].name == "step-00000006"
    last = open_subject(found[-1], device="cpu")
    assert last.tokenizer.fingerprint == BYTES.fingerprint, "the lock in the run's folder names it"
    exported = open_subject(run / "export", tokenizer=BYTES, device="cpu")
    assert (last.name, last.step, last.tokens) == ("run", 6, 6 * 6 * 64)
    assert (exported.name, exported.step) == ("run", None)
    assert last.model.config.rope_parameters["rope_theta"] == 40_000.0
    assert torch.equal(logits(last.model), logits(exported.model))
    before = open_subject(found[-2], tokenizer=BYTES, device="cpu")
    assert before.step == 4
    assert not torch.equal(logits(last.model), logits(before.model))


def test_a_tied_model_and_one_in_bf16_come_back_from_a_checkpoint(gym: Gym) -> None:
    from tests.train.conftest import CONFIG

    tied = CONFIG["model"]["config"] | {"tie_word_embeddings": True, "model_type": "qwen2"}
    said = gym.train(model={"config": tied}, stop="2 steps", checkpoints={"every": "2 steps", "export": True})
    assert said.code == 0, said.err
    place = gym.root / "run"
    found = open_subject(checkpoints_of(place)[0], tokenizer=BYTES, device="cpu", dtype=torch.bfloat16)
    assert found.dtype == found.model.dtype == torch.bfloat16
    assert found.model.lm_head.weight is found.model.model.embed_tokens.weight
    assert found.model.model.rotary_emb.inv_freq.dtype == torch.float32
    exported = open_subject(place / "export", tokenizer=BYTES, device="cpu", dtype=torch.bfloat16)
    assert torch.equal(logits(found.model), logits(exported.model))


def test_what_is_no_model_is_refused_in_a_sentence(gym: Gym, tmp_path: Path) -> None:
    with pytest.raises(MonitorError, match="no such folder"):
        open_subject(tmp_path / "nowhere", tokenizer=BYTES)
    with pytest.raises(MonitorError, match=r"no model, it has no config.json; give a model's folder"):
        open_subject(tmp_path, tokenizer=BYTES)
    with pytest.raises(MonitorError, match="no such folder; give the --out"):
        checkpoints_of(tmp_path / "nowhere")
    small = models.folder(tmp_path / "small", vocab_size=200)
    with pytest.raises(MonitorError, match="a vocabulary of 200, and the tokenizer has 258 tokens"):
        open_subject(small, tokenizer=BYTES, device="cpu")
    place = models.folder(tmp_path / "model", vocab_size=258)
    (place / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(MonitorError, match="not a model that can be opened"):
        open_subject(place, tokenizer=BYTES, device="cpu")


def test_a_checkpoint_that_is_not_whole_is_refused_and_not_listed(gym: Gym) -> None:
    assert gym.train(stop="2 steps").code == 0
    run = gym.root / "run"
    (whole,) = checkpoints_of(run)
    half = run / "checkpoints" / ".step-00000004.tmp"
    half.mkdir()
    with pytest.raises(MonitorError, match="half-written"):
        open_subject(half, tokenizer=BYTES)
    bare = run / "checkpoints" / "step-00000006"
    bare.mkdir()
    with pytest.raises(MonitorError, match="half-written"):
        open_subject(bare, tokenizer=BYTES)
    assert checkpoints_of(run) == [whole]
    with pytest.raises(MonitorError, match=r"it is a run's folder: name a checkpoint, as .*step-00000002"):
        open_subject(run, tokenizer=BYTES)
    part = next(whole.glob("*.distcp"))
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(StoreError, match="its record says"):
        open_subject(whole, tokenizer=BYTES)


def test_a_checkpoint_away_from_its_run_is_refused(gym: Gym, tmp_path: Path) -> None:
    assert gym.train(stop="2 steps").code == 0
    (place,) = checkpoints_of(gym.root / "run")
    (gym.root / "run" / "config.yaml").unlink()
    with pytest.raises(MonitorError, match=r"config.yaml is missing, which says of what model it is"):
        open_subject(place, tokenizer=BYTES)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_hidden_layers": 3}, r"it lacks model\.layers\.2\."),
        ({"num_hidden_layers": 1}, r"it holds model\.layers\.1\."),
        ({"hidden_size": 64}, "cannot be read"),
    ],
)
def test_a_checkpoint_of_another_model_than_its_run_says_is_refused(
    gym: Gym, change: dict[str, int], words: str
) -> None:
    assert gym.train(stop="2 steps").code == 0
    (place,) = checkpoints_of(gym.root / "run")
    told = gym.root / "run" / "config.yaml"
    rules = yaml.safe_load(told.read_text())
    rules["model"]["config"] |= change
    told.write_text(yaml.safe_dump(rules))
    with pytest.raises(MonitorError, match=words):
        open_subject(place, tokenizer=BYTES, device="cpu")


def test_a_name_is_the_runs(tmp_path: Path) -> None:
    run = tmp_path / "run-3"
    (run / "checkpoints" / "step-00000010").mkdir(parents=True)
    (run / "export").mkdir()
    assert name_of(run / "checkpoints" / "step-00000010") == "run-3"
    assert name_of(run / "export") == "run-3"
    assert name_of(tmp_path / "qwen-0.5b") == "qwen-0.5b"
