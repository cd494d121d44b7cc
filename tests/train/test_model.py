"""Models: from a folder or from a description, checked, filled, and written back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
safetensors = pytest.importorskip("safetensors")

import torch.distributed as dist  # noqa: E402
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict  # noqa: E402
from torch.distributed.fsdp import fully_shard  # noqa: E402
from torch.distributed.tensor import DTensor  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402

from mixture.errors import StoreError, TrainError  # noqa: E402
from mixture.train import weights  # noqa: E402
from mixture.train.model import Source, Trainee, described, outline, read_config  # noqa: E402
from mixture.train.rope import Rope  # noqa: E402
from mixture.train.weights import build, export, materialise  # noqa: E402
from tests.train import tiny  # noqa: E402
from tests.train.ranks import together  # noqa: E402


def losses(model: Trainee) -> Any:
    ids, labels, positions, cu_seqlens = tiny.packed((5, 40, 1, 18))
    return model(ids, labels, positions, tiny.layout(model, cu_seqlens))


def logits(model: Any) -> Any:
    with torch.no_grad():
        return model(input_ids=tiny.packed((64,))[0], use_cache=False).logits


# --- from a description ---------------------------------------------------------------------------------------------


def test_a_seed_is_a_model() -> None:
    one, same, other = tiny.trainee(seed=1), tiny.trainee(seed=1), tiny.trainee(seed=2)
    for name, parameter in one.named_parameters():
        assert torch.equal(parameter, same.get_parameter(name))
        assert parameter.dtype == torch.float32
        assert torch.equal(parameter, other.get_parameter(name)) == ("norm" in name)


def test_random_weights_are_those_of_the_family() -> None:
    model = tiny.trainee("qwen2", hidden_size=256, initializer_range=0.05)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            assert (parameter == 1).all()
        elif name.endswith("bias"):
            assert not parameter.any()
        else:
            assert float(parameter.detach().std()) == pytest.approx(0.05, rel=0.05)
            assert abs(float(parameter.detach().mean())) < 0.002
    # No two matrices begin with the same numbers.
    firsts = {float(p.detach().flatten()[0]) for p in model.parameters() if p.dim() == 2}
    assert len(firsts) == sum(p.dim() == 2 for p in model.parameters())


def test_random_weights_leave_the_callers_randomness_alone() -> None:
    torch.manual_seed(7)
    wanted = torch.rand(3)
    torch.manual_seed(7)
    tiny.trainee()
    assert torch.equal(torch.rand(3), wanted)


def test_a_vocabulary_that_is_not_given_is_the_tokenizers() -> None:
    assert described({"model_type": "llama"}, 1234).vocab_size == 1234
    assert described({"model_type": "llama", "vocab_size": 2000}, 1234).vocab_size == 2000


def test_fields_from_before_are_understood() -> None:
    config = described({"model_type": "llama", "rope_theta": 5e5})
    assert config.rope_parameters == {"rope_theta": 5e5, "rope_type": "default"}


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "model_type is missing; give one of llama, mistral, qwen2, qwen3"),
        ({"model_type": "lama"}, "transformers knows no 'lama'; did you mean 'llama'"),
        (
            {"model_type": "llama", "hiden_size": 3},
            "model.config.hiden_size: no field of 'llama'; did you mean 'hidden_size'",
        ),
        (
            {"model_type": "llama", "hidden_size": 30, "num_attention_heads": 4},
            "not a multiple of the number of attention",
        ),
        ({"model_type": "llama", "hidden_size": "large"}, "hidden_size"),
        ({"model_type": "modernbert"}, "makes no causal language model of it"),
        ({"model_type": "gemma2"}, "final_logit_softcapping: 30.0 changes logits"),
        ({"model_type": "gpt2"}, "its positions are not rotary"),
        ({"model_type": "llama", "attention_dropout": 0.1}, "attention_dropout: 0.1 is not done here"),
        ({"model_type": "stablelm"}, "its attention in this transformers cannot be replaced"),
    ],
)
def test_a_description_that_cannot_be_trained_is_refused_in_a_sentence(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(TrainError, match=says) as caught:
        outline(Source(fields=fields), length=64)
    assert "\n" not in str(caught.value)


def test_another_family_comes_with_a_note_and_keeps_documents_apart() -> None:
    model = tiny.trainee("olmo2")
    assert "'olmo2' is none of llama, mistral, qwen2, qwen3" in model.notes[0]
    assert tiny.trainee().notes == ()
    assert "experts are not balanced" in outline(Source(fields={"model_type": "mixtral"}), length=64).notes[1]
    ids, labels, positions, _ = tiny.packed((5, 40, 1, 18))
    first = model(ids[:, :5], labels[:, :5], positions[:, :5], tiny.layout(model, torch.tensor([0, 5])))
    torch.testing.assert_close(losses(model).tokens[:, :5], first.tokens)


def test_neither_and_both_sources_are_refused() -> None:
    for given in ({}, {"folder": Path("x"), "fields": {}}):
        with pytest.raises(TrainError, match="exactly one of: path"):
            Source(**given)  # type: ignore[arg-type]


def test_a_model_smaller_than_its_tokenizer_is_refused_and_a_larger_is_not() -> None:
    source = Source(fields=tiny.fields())
    with pytest.raises(TrainError, match="tokenizer has 258 tokens and the model a vocabulary of 257"):
        outline(source, length=64, vocabulary=258)
    assert outline(source, length=64, vocabulary=256).config.vocab_size == 257


def test_an_outline_has_no_memory_and_a_model_of_70b_is_outlined_at_once() -> None:
    fields = {"model_type": "llama", "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80}
    model = outline(Source(fields=fields | {"num_attention_heads": 64, "num_key_value_heads": 8}), length=4096)
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert sum(p.numel() for p in model.parameters()) > 65e9
    assert len(model.layers) == 80


# --- from a folder --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("tied", [False, True])
def test_what_is_exported_is_read_back_by_transformers_and_by_us(family: str, tied: bool, tmp_path: Path) -> None:
    model = tiny.trainee(family, tie_word_embeddings=tied, length=256, rope=Rope("yarn", factor=2))
    export(model, model.state_dict(), tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    torch.testing.assert_close(logits(theirs), _own_logits(model), rtol=1e-4, atol=1e-4)
    assert theirs.config.rope_parameters["rope_type"] == "yarn"
    assert theirs.config.max_position_embeddings == 256
    ours = build(Source(folder=tmp_path), length=256)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, ours.get_parameter(name))
    assert torch.equal(losses(ours).total, losses(model).total)


def _own_logits(model: Trainee) -> Any:
    ids, _, positions, cu_seqlens = tiny.packed((64,))
    where = tiny.layout(model, cu_seqlens)
    with torch.no_grad():
        return model.model(input_ids=ids, position_ids=positions, use_cache=False, layout=where).logits


def test_what_is_exported_generates(tmp_path: Path) -> None:
    theirs = AutoModelForCausalLM.from_pretrained(tiny.folder(tmp_path))
    assert theirs.config.use_cache
    out = theirs.generate(tiny.packed((8,))[0], max_new_tokens=4, do_sample=False, pad_token_id=0, eos_token_id=None)
    assert out.shape == (1, 12)


def test_tied_embeddings_are_one_parameter_and_stored_once(tmp_path: Path) -> None:
    model = tiny.trainee(tie_word_embeddings=True)
    assert model.model.lm_head.weight is model.model.model.embed_tokens.weight
    export(model, model.state_dict(), tmp_path)
    assert "lm_head.weight" not in _stored_names(tmp_path)
    again = build(Source(folder=tmp_path), length=64)
    assert again.model.lm_head.weight is again.model.model.embed_tokens.weight
    assert len(list(again.parameters())) == len(list(tiny.trainee().parameters())) - 1


def _stored_names(folder: Path) -> set[str]:
    from safetensors import safe_open

    return {name for path in folder.glob("*.safetensors") for name in safe_open(path, "pt").keys()}  # noqa: SIM118


def test_weights_in_several_files_and_in_bf16_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.trainee()
    real = weights.split_torch_state_dict_into_shards
    monkeypatch.setattr(
        weights, "split_torch_state_dict_into_shards", lambda tensors: real(tensors, max_shard_size=30000)
    )
    export(model, model.state_dict(), tmp_path, torch.bfloat16)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    ours, theirs = build(Source(folder=tmp_path), length=64), AutoModelForCausalLM.from_pretrained(tmp_path)
    assert theirs.dtype == torch.bfloat16
    for name, parameter in model.model.named_parameters():
        assert ours.model.get_parameter(name).dtype == torch.float32
        assert torch.equal(ours.model.get_parameter(name), parameter.bfloat16().float())
        assert torch.equal(theirs.get_parameter(name), parameter.bfloat16())


def test_a_model_that_was_exported_before_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        real = weights.split_torch_state_dict_into_shards
        patch.setattr(
            weights, "split_torch_state_dict_into_shards", lambda tensors: real(tensors, max_shard_size=30000)
        )
        tiny.folder(tmp_path, seed=1)
    tiny.folder(tmp_path)
    assert torch.equal(losses(build(Source(folder=tmp_path), length=64)).total, losses(tiny.trainee()).total)


def test_an_export_that_fails_leaves_no_model_and_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.folder(tmp_path)
    full = safetensors.SafetensorError("No space left on device")
    monkeypatch.setattr("safetensors.torch.save_file", Mock(side_effect=full))
    with pytest.raises(StoreError, match=r"cannot be written .*No space left"):
        tiny.folder(tmp_path)
    assert not (tmp_path / "config.json").exists()
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="file"):
        tiny.folder(tmp_path / "file")


def test_the_tokenizer_goes_along(tmp_path: Path) -> None:
    source = tiny.folder(tmp_path / "source")
    for name in ("tokenizer.json", "tokenizer_config.json", "merges.txt"):
        (source / name).write_text(name, encoding="utf-8")
    model = build(Source(folder=source), length=64)
    export(model, model.state_dict(), tmp_path / "out")
    assert (tmp_path / "out" / "tokenizer.json").read_text(encoding="utf-8") == "tokenizer.json"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {path.name for path in source.iterdir()}


def _lose_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def _lose_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _old_weights(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def _other_shape(folder: Path) -> None:
    _edit(folder, vocab_size=300)


def _more_layers(folder: Path) -> None:
    _edit(folder, num_hidden_layers=3)


def _fewer_layers(folder: Path) -> None:
    _edit(folder, num_hidden_layers=1)


def _no_json(folder: Path) -> None:
    (folder / "config.json").write_text("{", encoding="utf-8")


def _unknown_type(folder: Path) -> None:
    _edit(folder, model_type="qwen2x")


def _bad_value(folder: Path) -> None:
    _edit(folder, hidden_size="x")


def _bad_index(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text('{"weight_map": 3}', encoding="utf-8")


def _lose_shard(folder: Path) -> None:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def _edit(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | fields), encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (shutil.rmtree, "no such folder; give one with config.json"),
        (_lose_config, "no config.json there"),
        (_no_json, "config.json: not a model's config"),
        (_unknown_type, "transformers knows no 'qwen2x'; did you mean"),
        (_bad_value, "config.json: not a model's config .*hidden_size"),
        (_lose_weights, "model.safetensors is missing"),
        (_old_weights, "pytorch_model.*.bin, which is not read here"),
        (_lose_shard, "model-00001-of-00002.safetensors is missing"),
        (_bad_index, "index.json: damaged"),
        (_cut_weights, "model.safetensors: cannot be read"),
        (
            _other_shape,
            "embed_tokens.weight is 257 × 32 in its files, and 300 × 32 by its config.json|lm_head.weight is",
        ),
        (_more_layers, r"its files lack model.layers.2.input_layernorm.weight, .* and \d more"),
        (_fewer_layers, "its files hold model.layers.1.input_layernorm.weight"),
    ],
)
def test_a_damaged_folder_is_refused_in_a_sentence(damage: Callable[[Path], None], says: str, tmp_path: Path) -> None:
    path = tiny.folder(tmp_path / "model")
    damage(path)
    with pytest.raises(TrainError, match=says) as caught:
        build(Source(folder=path), length=64)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_old_files_may_hold_rotary_buffers(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = tiny.folder(tmp_path)
    tensors = load_file(path / "model.safetensors")
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.zeros(4)
    save_file(tensors, path / "model.safetensors")
    assert torch.equal(losses(build(Source(folder=path), length=64)).total, losses(tiny.trainee()).total)


def test_a_folders_own_config_is_what_is_trained(tmp_path: Path) -> None:
    path = tiny.folder(tmp_path, rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 500.0})
    assert read_config(path).rope_parameters == {"rope_type": "linear", "factor": 2.0, "rope_theta": 500.0}
    model = build(Source(folder=path), length=64)
    assert float(model.model.model.rotary_emb.inv_freq[1]) == pytest.approx(500 ** (-2 / 8) / 2)


# --- on several ranks -----------------------------------------------------------------------------------------------


def _sharded(folder: Path) -> None:
    """Hold a sharded model to a whole one: its weights, its losses, its gradients, and what is exported of it."""
    for source in (Source(fields=tiny.fields("qwen2", tie_word_embeddings=True)), Source(folder=folder)):
        whole = build(source, length=128, chunk=16)
        model = outline(source, length=128, chunk=16)
        for layer in model.layers:
            fully_shard(layer)
        fully_shard(model, reshard_after_forward=False)
        materialise(model, "cpu")
        for name, parameter in model.named_parameters():
            assert isinstance(parameter, DTensor)
            assert parameter.to_local().numel() < whole.get_parameter(name).numel()
            assert torch.equal(parameter.full_tensor(), whole.get_parameter(name))
        assert len(list(model.parameters())) == len(list(whole.parameters()))
        _exported(model, whole, folder.with_name("export"))
        totals = [losses(either).total for either in (whole, model)]
        for total in totals:
            total.backward()
        torch.testing.assert_close(*totals)
        for name, parameter in model.named_parameters():
            assert isinstance(parameter.grad, DTensor)
            torch.testing.assert_close(
                parameter.grad.full_tensor(), whole.get_parameter(name).grad, rtol=1e-3, atol=1e-4
            )


def _exported(model: Trainee, whole: Trainee, folder: Path) -> None:
    state = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if dist.get_rank() == 0:
        export(model, state, folder)
        again = build(Source(folder=folder), length=128)
        for name, parameter in whole.named_parameters():
            assert torch.equal(again.get_parameter(name), parameter)


@pytest.mark.slow
def test_each_of_2_ranks_holds_its_part_of_the_same_model(tmp_path: Path) -> None:
    together(_sharded, 2, tmp_path, tiny.folder(tmp_path / "model"))
