"""A model's weights: into its memory, and out to files.

    *.safetensors ─ mapped ─▶ tensor by tensor ─▶ each rank keeps its part
    seed          ─ by name ─▶                 ─▶

A parameter's random numbers have an address, (seed, name), so they are the same on any number of ranks; and no rank
ever holds more than its own part of the model and one tensor whole.
"""

from __future__ import annotations

import contextlib
import copy
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from huggingface_hub import split_torch_state_dict_into_shards
from torch import nn
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import GenerationConfig

from mixture.errors import StoreError, TrainError, some
from mixture.hashing import fingerprint
from mixture.storage import explain
from mixture.train import rope as ropes
from mixture.train.model import Source, Trainee, outline
from mixture.train.rope import Rope

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
#: What files before transformers 4.32 hold besides weights.
_BUFFERS = ("rotary_emb.inv_freq",)
#: What of a model's folder belongs to its tokenizer, and goes along with it.
_TOKENIZER = ("tokenizer*", "special_tokens_map.json", "vocab.*", "merges.txt", "added_tokens.json", "chat_template*")


def materialise(trainee: Trainee, device: torch.device | str) -> None:
    """Give a model its memory and its weights. All ranks call it; none waits for another.

    Args:
        trainee: as `model.outline` made it, since then sharded by FSDP or not.
        device: where its weights are to lie.

    Raises:
        TrainError: the files in its folder are missing, damaged, or of another model.
    """
    trainee.to_empty(device=device)
    if trainee.tied and not isinstance(trainee.model.get_input_embeddings().weight, DTensor):
        # Moving parameters off the meta device makes new ones, so two that were one are two.
        trainee.model.tie_weights()
    own = _own(trainee)
    with torch.no_grad():
        source = trainee.source
        read = _random(trainee, own) if source.folder is None else _stored(source.folder, set(own))
        for name, whole in read:
            if whole.shape != own[name].shape:
                raise TrainError(
                    f"model.path: {source.folder}: {name} is {_shape(whole)} in its files, and {_shape(own[name])} by "
                    "its config.json, so they are of two models; copy the model's folder again"
                )
            _put(own[name], whole)
    ropes.remake(trainee.model)


def build(
    source: Source,
    *,
    length: int,
    device: torch.device | str = "cpu",
    vocabulary: int | None = None,
    rope: Rope | None = None,
    chunk: int = 4096,
) -> Trainee:
    """Return a model with its weights, whole on one device; see `model.outline`."""
    trainee = outline(source, length=length, vocabulary=vocabulary, rope=rope, chunk=chunk)
    materialise(trainee, device)
    return trainee


def _shape(tensor: torch.Tensor) -> str:
    return " × ".join(map(str, tensor.shape))


def _own(trainee: Trainee) -> dict[str, nn.Parameter]:
    """Return a model's parameters by Hugging Face's names, each once."""
    return dict(trainee.model.named_parameters())


def _put(place: nn.Parameter, whole: torch.Tensor) -> None:
    """Copy a tensor, or this rank's part of it, into a parameter."""
    if isinstance(place, DTensor):
        whole = whole.to(device=place.device, dtype=place.dtype)
        # Every rank has the same, so nobody needs to send.
        part = distribute_tensor(whole, place.device_mesh, place.placements, src_data_rank=None)
        place.to_local().copy_(part.to_local())
    else:
        place.copy_(whole)


def _random(trainee: Trainee, own: Mapping[str, nn.Parameter]) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield all parameters as the model's family initialises them, from the seed and their module's name."""
    for prefix, module in trainee.model.named_modules():
        names = [name for name, _ in module.named_parameters(recurse=False)]
        wanted = [name for name in names if _join(prefix, name) in own]
        if not wanted:
            continue
        # A stand-in that is whole and on the CPU, and has nothing below it.
        stand_in = copy.copy(module)
        stand_in.__dict__["_modules"] = {}
        stand_in.__dict__["_parameters"] = {
            name: None if old is None else nn.Parameter(torch.empty(old.shape), requires_grad=False)
            for name, old in module._parameters.items()  # noqa: SLF001 parameters that are None are only there
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(fingerprint(["weights", trainee.source.seed, prefix])[:15], 16))
            trainee.model._init_weights(stand_in)  # noqa: SLF001 the families' own hook; there is no other way to it
        for name in wanted:
            yield _join(prefix, name), stand_in.get_parameter(name)


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _stored(folder: Path, wanted: set[str]) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield all parameters from a folder's files, which are mapped into memory.

    Raises:
        TrainError: a file is missing or damaged, or the files hold other tensors than the model has.
    """
    files = _files(folder)
    with contextlib.ExitStack() as stack:
        where: dict[str, Any] = {}
        for path in files:
            try:
                opened = stack.enter_context(safetensors.safe_open(path, framework="pt"))
            except (OSError, safetensors.SafetensorError) as error:
                raise TrainError(f"{path}: cannot be read ({error}); copy the model's folder again") from error
            where |= dict.fromkeys(opened.keys(), opened)
        missing = sorted(wanted - where.keys())
        strange = [name for name in where if name not in wanted and not name.endswith(_BUFFERS)]
        strange = sorted(name for name in strange if name != "lm_head.weight")
        if missing or strange:
            parts = [f"lack {some(missing)}"] * bool(missing) + [f"hold {some(strange)}"] * bool(strange)
            raise TrainError(
                f"model.path: {folder}: its files {' and '.join(parts)}, so they are of another model than its "
                "config.json; copy the model's folder again"
            )
        for name in sorted(wanted):
            yield name, where[name].get_tensor(name)


def _files(folder: Path) -> list[Path]:
    """Return the files that hold a model's weights.

    Raises:
        TrainError: there are none, or one is missing.
    """
    index = folder / _INDEX
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise TrainError(f"{index}: damaged ({error}); copy the model's folder again") from error
    else:
        names = [_SINGLE]
    lost = [name for name in names if not (folder / name).is_file()]
    if not lost:
        return [folder / name for name in names]
    if list(folder.glob("pytorch_model*.bin")):
        raise TrainError(
            f"model.path: {folder}: its weights are pytorch_model*.bin, which is not read here; load the model in "
            "transformers once and save it with save_pretrained, which writes safetensors"
        )
    raise TrainError(f"model.path: {folder}: {some(lost)} is missing; copy the model's folder again")


def export(trainee: Trainee, state: Mapping[str, torch.Tensor], folder: Path, dtype: torch.dtype | None = None) -> None:
    """Write a model in Hugging Face's layout: weights, config with its rotary embedding, the tokenizer it came with.

    `AutoModelForCausalLM.from_pretrained(folder)` reads it. One rank calls this, with whole tensors. The config is
    written last: a folder that has one is whole.

    Args:
        trainee: the model.
        state: its whole state, by the names of `trainee.state_dict()` or Hugging Face's.
        folder: where to; a model that is there is replaced.
        dtype: of the weights in the files; as they are where it is not given.

    Raises:
        StoreError: it cannot be written there.
    """
    own = set(_own(trainee))
    named = {name if name in own else name.removeprefix("model."): tensor for name, tensor in state.items()}
    tensors = {name: named[name].detach().to("cpu", dtype).contiguous() for name in sorted(own)}
    config = copy.deepcopy(trainee.config)
    config.architectures, config.dtype = [type(trainee.model).__name__], next(iter(tensors.values())).dtype
    config.use_cache = True
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old in (folder / "config.json", folder / _INDEX, *folder.glob("model*.safetensors")):
            old.unlink(missing_ok=True)
        _save_weights(tensors, folder)
        _save_companions(trainee, folder)
        config.save_pretrained(folder)
    except OSError as error:
        raise StoreError(explain(error, folder)) from error
    except safetensors.SafetensorError as error:
        raise StoreError(f"{folder}: cannot be written ({error}); make room there, or name another folder") from error


def _save_weights(tensors: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Write tensors in as many files as Hugging Face would."""
    shards = split_torch_state_dict_into_shards(dict(tensors))
    for file, names in shards.filename_to_tensors.items():
        safetensors.torch.save_file({name: tensors[name] for name in names}, folder / file, metadata={"format": "pt"})
    if shards.is_sharded:
        index = {"metadata": shards.metadata, "weight_map": shards.tensor_to_filename}
        (folder / _INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _save_companions(trainee: Trainee, folder: Path) -> None:
    """Write how to generate, and the tokenizer's files, as the model came with them."""
    source = trainee.source.folder
    if source is None:
        GenerationConfig.from_model_config(trainee.config).save_pretrained(folder)
        return
    for pattern in (*_TOKENIZER, "generation_config.json"):
        for path in sorted(source.glob(pattern)):
            if path.is_file():
                shutil.copyfile(path, folder / path.name)
