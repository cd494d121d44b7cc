"""A model under examination: opened from a folder, without gradients, with what is known of how far it was trained.

    qwen-0.5b/                          config.json, *.safetensors        name qwen-0.5b, step and tokens unknown
    out/run-7/export/                   as `mixture train` leaves it      name run-7, as above
    out/run-7/checkpoints/step-00000400 a checkpoint of `mixture train`   name run-7, step 400, its tokens

Of a checkpoint only the weights are read, a third of it; moments stay on the disk. Which model it is of stands in the
run's folder, in config.yaml; how positions were encoded, in the checkpoint.
"""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.state_dict_loader import load
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.utils import logging

from mixture.errors import MonitorError, some
from mixture.train.checkpoint import Stand, cause_of, read_stand, whole
from mixture.train.config import TrainConfig
from mixture.train.config import load as load_config
from mixture.train.model import described, read_config

if TYPE_CHECKING:
    from mixture.monitor.codec import Codec

_CHECKPOINT = re.compile(r"\.?step-\d{8,}(\.tmp)?")
#: What stands before a parameter's name in a checkpoint: the part that holds weights, and `Trainee.model`.
_PART, _BEFORE = "model.", "model."
_NO_RANKS = "torch.distributed is disabled, unavailable or uninitialized"


@dataclass(frozen=True)
class Subject:
    """A model under examination.

    Attributes:
        model: in evaluation mode, without gradients, on one device.
        name: of the run or the model, for tables.
        step: training steps done; None where unknown.
        tokens: tokens trained on; None where unknown.
        device: where it lies.
        dtype: of its weights.
        tokenizer: text to tokens and back.
    """

    model: PreTrainedModel
    name: str
    step: int | None
    tokens: int | None
    device: torch.device
    dtype: torch.dtype
    tokenizer: Codec

    @property
    def window(self) -> int:
        """Positions that the model was made for, as its config says."""
        return int(self.model.config.max_position_embeddings)


def open_subject(
    place: Path,
    *,
    tokenizer: Path | Codec | None = None,
    device: torch.device | str = "auto",
    dtype: torch.dtype | None = None,
    attention: str = "sdpa",
) -> Subject:
    """Open a model for examination.

    Args:
        place: a Hugging Face folder, or a checkpoint of `mixture train`.
        tokenizer: its tokenizer, or the file or folder of it; None where that lies with the model.
        device: `cpu`, `cuda`, …; `auto` is the GPU where there is one.
        dtype: of its weights; by default bfloat16 on a GPU, float32 elsewhere.
        attention: transformers' name of what computes attention.

    Raises:
        MonitorError: no such folder, no model in it, or another tokenizer's.
        StoreError: a checkpoint's file is missing or cut short.
        TrainError: the config of a model is damaged.
    """
    place = Path(place)
    if not place.is_dir():
        raise MonitorError(f"{place}: no such folder; give a model's folder, or a checkpoint of `mixture train`")
    where = _device(device)
    kind = dtype or (torch.bfloat16 if where.type == "cuda" else torch.float32)
    if _CHECKPOINT.fullmatch(place.name):
        stand = _stand(place)
        model = _of_checkpoint(place, stand, kind, attention)
        step, tokens = stand.step, stand.tokens
    else:
        model, step, tokens = _of_folder(place, kind, attention), None, None
    model = model.to(where).eval().requires_grad_(requires_grad=False)
    codec = _codec(place, tokenizer)
    _check_vocabulary(place, model.config, codec)
    return Subject(model, name_of(place), step, tokens, where, kind, codec)


def name_of(place: Path) -> str:
    """Return what tables call a model: its run's folder where it lies in one, else its own."""
    own = place.resolve()
    if _CHECKPOINT.fullmatch(own.name) and own.parent.name == "checkpoints":
        return own.parent.parent.name
    if own.name == "export" and (own.parent / "checkpoints").is_dir():
        return own.parent.name
    return own.name


def checkpoints_of(run: Path) -> list[Path]:
    """Return the whole checkpoints of a run's folder, the oldest first; none where it has none yet.

    One that is being written lies under another name until it is whole, so a training may be followed.

    Raises:
        MonitorError: no such folder.
    """
    run = Path(run)
    if not run.is_dir():
        raise MonitorError(f"{run}: no such folder; give the --out of `mixture train`")
    return whole(run / "checkpoints")


def _device(device: torch.device | str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = torch.device(device)
    if found.type == "cuda" and not torch.cuda.is_available():
        raise MonitorError("device: cuda: torch sees no GPU here; give cpu, or install torch for CUDA")
    return found


def _stand(place: Path) -> Stand:
    if place.name.endswith(".tmp") or not (place / "state.json").is_file():
        raise MonitorError(
            f"{place}: half-written, it has no state.json yet; wait until it is whole, or name an earlier checkpoint"
        )
    return read_stand(place)


def _of_folder(place: Path, dtype: torch.dtype, attention: str) -> PreTrainedModel:
    """Open a Hugging Face folder.

    Raises:
        MonitorError: there is no model in it.
        TrainError: its config is damaged.
    """
    if not (place / "config.json").is_file():
        inside = checkpoints_of(place)
        hint = f"it is a run's folder: name a checkpoint, as {inside[-1]}" if inside else "give a model's folder"
        raise MonitorError(f"{place}: no model, it has no config.json; {hint}")
    read_config(place)
    try:
        with _quiet():
            model, found = AutoModelForCausalLM.from_pretrained(
                place, dtype=dtype, attn_implementation=attention, local_files_only=True, output_loading_info=True
            )
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError) as error:
        raise MonitorError(
            f"{place}: not a model that can be opened ({_line(error)}); copy its folder again"
        ) from error
    missing = sorted(found["missing_keys"])
    if missing:
        raise MonitorError(f"{place}: its files lack {some(missing)}, so it is no whole model; copy its folder again")
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' progress bars off the terminal, which belongs to the command line."""
    before = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if before:
            logging.enable_progress_bar()


def _of_checkpoint(place: Path, stand: Stand, dtype: torch.dtype, attention: str) -> PreTrainedModel:
    """Open a checkpoint of `mixture train`.

    Raises:
        MonitorError: its run's folder does not say of what, or its tensors are another model's.
    """
    config = _config_of(place, stand)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, attn_implementation=attention, dtype=dtype)
    own = model.state_dict()
    try:
        reader = FileSystemReader(place)
        stored = reader.read_metadata().state_dict_metadata
        held = {name.removeprefix(_PART + _BEFORE) for name in stored if name.startswith(_PART)}
        lacking, strange = sorted(own.keys() - held - _tied(model)), sorted(held - own.keys())
        if lacking or strange:
            what = f"lacks {some(lacking)}" if lacking else f"holds {some(strange)}"
            raise MonitorError(
                f"{place}: it {what}, so its model is another than config.yaml in its run's folder says; give that "
                "folder as the training left it"
            )
        wanted = {_BEFORE + name: tensor for name, tensor in own.items() if name in held}
        with warnings.catch_warnings():
            # One process reads what any number of ranks wrote; that is meant.
            warnings.filterwarnings("ignore", message=_NO_RANKS)
            load({"model": wanted}, storage_reader=reader, no_dist=True)
    except (OSError, CheckpointException, RuntimeError, ValueError) as error:
        cause = cause_of(error)
        gone = "it was removed while it was read" if not place.is_dir() else _line(cause)
        raise MonitorError(f"{place}: cannot be read ({gone}); name another checkpoint of the run") from error
    return model


def _tied(model: PreTrainedModel) -> set[str]:
    """Return the names of parameters that are others' too, so that a checkpoint may have them once."""
    return {"lm_head.weight"} if getattr(model.config, "tie_word_embeddings", False) else set()


def _config_of(place: Path, stand: Stand) -> PretrainedConfig:
    """Return the config of a checkpoint's model, with its rotary embedding as it was when that was written."""
    run = place.resolve().parent.parent
    told = run / "config.yaml"
    if not told.is_file():
        raise MonitorError(
            f"{place}: {told} is missing, which says of what model it is; leave a checkpoint in its run's folder"
        )
    rules = load_config(told)
    config = _described(rules, run) if rules.model.path is None else read_config(Path(rules.model.path))
    record: Mapping[str, Any] = stand.rope
    if record.get("parameters"):
        config.rope_parameters = dict(record["parameters"])
    if record.get("positions"):
        config.max_position_embeddings = int(record["positions"])
    return config


def _described(rules: TrainConfig, run: Path) -> PretrainedConfig:
    from mixture import lockfile

    lock = lockfile.read(run / Path(rules.lock).name)
    return described(rules.model.config, None if lock is None else int(lock.tokenizer["vocabulary"]))


def _codec(place: Path, tokenizer: Path | Codec | None) -> Codec:
    if tokenizer is not None and not isinstance(tokenizer, Path):
        return tokenizer
    from mixture.monitor.codec import open_codec

    return open_codec(tokenizer or place)


def _check_vocabulary(place: Path, config: PretrainedConfig, codec: Codec) -> None:
    """Refuse a model that has no embedding for a token of its tokenizer.

    Raises:
        MonitorError: its vocabulary is smaller.
    """
    size = int(config.vocab_size)
    if size < codec.n_vocab:
        raise MonitorError(
            f"{place}: a vocabulary of {size:,}, and the tokenizer has {codec.n_vocab:,} tokens, so they do not go "
            "together; give the tokenizer that the model was trained with"
        )


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200].rstrip(". ")
