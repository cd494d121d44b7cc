"""A causal language model of Hugging Face's, made ready to be trained on micro-batches of many documents.

    Source(folder=/models/llama-3-8b)               ─ outline ─▶ Trainee on the meta device: shapes, no memory
    Source(fields={model_type: llama, …}, seed=0)                   │ fully_shard, where there are several ranks
                                                                    ▼
                                            weights.materialise ─▶ Trainee with its weights, each rank its own part

    losses = trainee(input_ids, labels, position_ids, layout)     all (1, tokens); losses.total.backward()

Weights are float32: what computes in bf16 casts them (FSDP's mixed precision, or autocast). Everything that is not a
decoder layer (embedding, last norm, output embedding) is used inside `Trainee.forward`, so it is one group for FSDP's
root.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from mixture.errors import TrainError, nearest
from mixture.train import rope as ropes
from mixture.train.attention import NAME, Layout
from mixture.train.loss import cross_entropy
from mixture.train.rope import Rope, RopeRecord

#: Families that the tests hold to the laws; others may work.
FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
#: Fields of configs that change logits after the output embedding, and the value with which they do not.
_AFTER = {"final_logit_softcapping": None, "logits_scaling": 1.0, "logit_scale": 1.0, "lm_head_multiplier": 1.0}
#: Fields from before transformers 5, which it still reads.
_OLD = ("rope_theta", "rope_scaling", "torch_dtype")


@dataclass(frozen=True)
class Source:
    """Where a model comes from: a folder, or a description and a seed.

    Attributes:
        folder: of Hugging Face's layout: config.json, *.safetensors.
        fields: of a config: `model_type`, and whatever differs from that family's defaults.
        seed: of the random weights that come with `fields`.

    Raises:
        TrainError: at birth, for both or neither.
    """

    folder: Path | None = None
    fields: Mapping[str, Any] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.folder is None) == (self.fields is None):
            raise TrainError("model: give exactly one of: path (a Hugging Face folder), config (random weights)")

    @property
    def fresh(self) -> bool:
        """Whether the weights are random."""
        return self.folder is None


class Losses(NamedTuple):
    """What a micro-batch costs. A named tuple, since FSDP looks for outputs with gradients in tuples and mappings.

    Attributes:
        total: sum of the cross-entropies of all labelled places, a float32 scalar with gradient.
        tokens: of each place, float32, shape of the labels, without gradient; 0 where there is no label.
    """

    total: torch.Tensor
    tokens: torch.Tensor


class Trainee(nn.Module):
    """A model in training.

    Args:
        model: of transformers, with the attention of mixture.train.attention.
        source: where it comes from.
        original: its config before its rotary embedding was stretched.
        record: the rotary embedding in force.
        chunk: places whose logits exist at the same time.
        notes: what the user should know of it, a sentence each.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        source: Source,
        original: PretrainedConfig,
        record: RopeRecord,
        chunk: int,
        notes: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.model = model
        self.source = source
        self.original = original
        self.rope = record
        self.chunk = chunk
        self.notes = notes

    @property
    def config(self) -> PretrainedConfig:
        """The model's config, as it is trained now."""
        return self.model.config

    @property
    def layers(self) -> nn.ModuleList:
        """The decoder layers: what FSDP shards, activation checkpointing and torch.compile treat one by one."""
        found: nn.ModuleList = self.model.get_decoder().layers
        return found

    @property
    def windows(self) -> tuple[int | None, ...]:
        """The sliding windows of the layers, each once; None is for layers that see all of a document."""
        usual = getattr(self.config, "sliding_window", None)
        found = {getattr(getattr(layer, "self_attn", None), "sliding_window", usual) for layer in self.layers}
        return tuple(sorted(found, key=lambda window: window or 0))

    @property
    def tied(self) -> bool:
        """Whether the output embedding is the input embedding."""
        return bool(getattr(self.config, "tie_word_embeddings", False))

    def prepare_layers(self, *, compiled: bool, recompute: bool) -> None:
        """Choose how each decoder layer runs. Call it once, before FSDP, whose hooks then stay outside.

        Args:
            compiled: by torch.compile. Layers are alike, so that is one graph, whatever the documents; attention other
                than `varlen` on one rank is left out of it.
            recompute: of each layer only its input is kept, the rest is computed again in backward (activation
                checkpointing). It goes around what is compiled, so that attention may be left out.
        """
        for layer in self.layers:
            forward: Callable[..., Any] = layer.forward
            if compiled:
                forward = torch.compile(forward)
            if recompute:
                forward = functools.partial(checkpoint, forward, use_reentrant=False)
            layer.forward = forward

    def set_rope(self, rope: Rope, length: int) -> RopeRecord:
        """Stretch the rotary embedding anew, from the model's own, for sequences of a length; between phases.

        Raises:
            TrainError: as `rope.apply`.
        """
        config, record = ropes.apply(self.original, rope, length, fresh=self.source.fresh)
        self.config.rope_parameters = getattr(config, "rope_parameters", None)
        self.config.max_position_embeddings = config.max_position_embeddings
        self.rope = record
        ropes.remake(self.model)
        return record

    def forward(
        self, input_ids: torch.Tensor, labels: torch.Tensor, position_ids: torch.Tensor, layout: Layout
    ) -> Losses:
        """Return the losses of a micro-batch.

        Args:
            input_ids: int64, shape (1, tokens).
            labels: the token after each place, -100 where there is none to predict, as input_ids.
            position_ids: of each place in its segment, as input_ids.
            layout: which place may look at which.
        """
        states = self.model.get_decoder()(
            input_ids=input_ids, position_ids=position_ids, use_cache=False, layout=layout
        ).last_hidden_state
        weight = self.model.get_output_embeddings().weight
        total, tokens = cross_entropy(states[0], weight, labels[0], self.chunk)
        return Losses(total, tokens[None])


def outline(
    source: Source, *, length: int, vocabulary: int | None = None, rope: Rope | None = None, chunk: int = 4096
) -> Trainee:
    """Return a model without memory, on the meta device; `weights.materialise` gives it its weights.

    Args:
        source: where it comes from.
        length: places of a sequence.
        vocabulary: of the tokenizer whose tokens it will see, for the check.
        rope: how its rotary embedding is stretched.
        chunk: places whose logits exist at the same time.

    Raises:
        TrainError: there is no such model, or it cannot be trained as asked.
    """
    original = described(source.fields, vocabulary) if source.folder is None else read_config(source.folder)
    notes = _check(original, vocabulary)
    config, record = ropes.apply(original, rope or Rope(), length, fresh=source.fresh)
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, attn_implementation=NAME, dtype=torch.float32)
    except (ValueError, TypeError, KeyError) as error:
        raise _other(config, f"transformers makes no causal language model of it ({_line(error)[:200]})") from error
    _check_model(model)
    return Trainee(model, source, original, record, chunk, notes)


def read_config(folder: Path) -> PretrainedConfig:
    """Read the config of a Hugging Face folder.

    Raises:
        TrainError: no folder, no config in it, or none that this transformers knows.
    """
    path = folder / "config.json"
    if not folder.is_dir():
        raise TrainError(
            f"model.path: {folder}: no such folder; give one with config.json and *.safetensors (nothing is downloaded)"
        )
    if not path.is_file():
        raise TrainError(f"model.path: {folder}: no config.json there; give a folder of Hugging Face's layout")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(fields, dict):
            raise TypeError("not a mapping")
        kind = _config_class(fields.get("model_type"), str(path))
        return kind.from_dict(fields)
    except (OSError, ValueError, TypeError, StrictDataclassError) as error:
        raise TrainError(f"{path}: not a model's config ({_line(error)}); copy the model's folder again") from error


def described(fields: Mapping[str, Any] | None, vocabulary: int | None = None) -> PretrainedConfig:
    """Make a config of a family from the fields that differ from its defaults.

    Args:
        fields: `model_type` and others.
        vocabulary: what `vocab_size` is where the fields do not say.

    Raises:
        TrainError: no such family, no such field, or a value that it does not take.
    """
    given = dict(fields or {})
    kind = _config_class(given.pop("model_type", None), "model.config")
    known = {field.name for field in dataclasses.fields(kind)} | set(_OLD)
    for name in given:
        if name not in known:
            raise TrainError(f"model.config.{name}: no field of {kind.model_type!r}; {nearest(name, known)}")
    if vocabulary is not None:
        given.setdefault("vocab_size", vocabulary)
    try:
        config: PretrainedConfig = kind(**given)
    except (ValueError, TypeError, KeyError, StrictDataclassError) as error:
        raise TrainError(f"model.config: {_line(error)}; mend the field, as {kind.model_type!r} knows it") from error
    return config


def _config_class(name: object, where: str) -> type[PretrainedConfig]:
    if not isinstance(name, str):
        raise TrainError(f"{where}: model_type is missing; give one of {', '.join(FAMILIES)}")
    if name not in CONFIG_MAPPING:
        raise TrainError(f"{where}: model_type: transformers knows no {name!r}; {nearest(name, CONFIG_MAPPING.keys())}")
    found: type[PretrainedConfig] = CONFIG_MAPPING[name]
    return found


def _check(config: PretrainedConfig, vocabulary: int | None) -> tuple[str, ...]:
    """Refuse a model that would be trained wrongly; return what should be said about one that may be.

    Raises:
        TrainError: its vocabulary is smaller than the tokenizer's, or it does what is not done here.
    """
    size = int(getattr(config, "vocab_size", 0))
    if vocabulary is not None and size < vocabulary:
        raise TrainError(
            f"the lock's tokenizer has {vocabulary:,} tokens and the model a vocabulary of {size:,}, so it was made "
            "for another; give the model that goes with the tokenizer, or tokenize with the model's"
        )
    if getattr(config, "attention_dropout", 0.0):
        raise TrainError(f"attention_dropout: {config.attention_dropout} is not done here; set it to 0 in the config")
    if not getattr(config, "rope_parameters", None):
        raise _other(config, "its positions are not rotary, so documents that share a row would not have their own")
    for name, idle in _AFTER.items():
        value = getattr(config, name, idle)
        if value not in (idle, None):
            raise _other(config, f"{name}: {value} changes logits after the output embedding, which is not done here")
    if config.model_type in FAMILIES:
        return ()
    shown = (
        f"model_type {config.model_type!r} is none of {', '.join(FAMILIES)}, for which masked attention was shown to "
        "equal separate documents; check the first losses"
    )
    routed = "its experts are not balanced: the auxiliary loss of their router is not counted"
    return (shown, routed) if hasattr(config, "router_aux_loss_coef") else (shown,)


def _check_model(model: PreTrainedModel) -> None:
    """Refuse a model whose parts are not where they are looked for.

    Raises:
        TrainError: its attention cannot be replaced, or it has no list of layers, or its output embedding has a bias.
    """
    if not model.is_backend_compatible():
        raise _other(model.config, "its attention in this transformers cannot be replaced")
    if not isinstance(getattr(model.get_decoder(), "layers", None), nn.ModuleList):
        raise _other(model.config, "its layers are not found")
    if getattr(model.get_output_embeddings(), "bias", None) is not None:
        raise _other(model.config, "its output embedding has a bias, which is not done here")


def _other(config: PretrainedConfig, why: str) -> TrainError:
    return TrainError(f"model_type: {config.model_type}: {why}; give one of {', '.join(FAMILIES)}")


def _line(error: Exception) -> str:
    return " ".join(str(error.__cause__ or error).split()).rstrip(". ")
