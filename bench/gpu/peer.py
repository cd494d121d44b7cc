"""The Hugging Face Trainer on our shards, in a process of its own: `python -m bench.gpu.peer JOB.json`.

It is set up as its users would: the Trainer's own loop, bf16 by autocast, activations recomputed, AdamW, constant rate,
documents told by positions and cumulated lengths (`mixture.loader.batch.Sequences`). Each step is a line on the
terminal, as ours has it, and a line in events.jsonl.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.flex_attention import flex_attention_forward
from transformers.masking_utils import flex_attention_mask

from bench.gpu.plan import Setting
from bench.peers._peak import peak_bytes
from mixture.loader.batch import Sequences
from mixture.loader.stream import Stream


class Lines(transformers.TrainerCallback):
    """Tells of each step, when the Trainer has its loss as a number: so the GPU has ended it."""

    def __init__(self, out: Path, steps: int) -> None:
        self._out, self._steps = out / "events.jsonl", steps

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **more: Any) -> None:  # noqa: ARG002
        """Write the lines of a step."""
        if not logs or "loss" not in logs:
            return
        event = {
            "step": state.global_step,
            "loss": logs["loss"],
            "grad_norm": logs.get("grad_norm"),
            "memory": _memory(),
        }
        with self._out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")
        print(f"step {state.global_step}/{self._steps} loss {logs['loss']:.4f}", flush=True)


def _memory() -> int:
    if not torch.cuda.is_available():
        return peak_bytes()["peak_self"]
    most = torch.cuda.max_memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    return most


def _flex(module: Any, query: Any, key: Any, value: Any, mask: Any, **more: Any) -> Any:
    """FlexAttention of one type: under autocast, rotation may leave queries and keys in float32."""
    return flex_attention_forward(module, query.to(value.dtype), key.to(value.dtype), value, mask, **more)


def arguments(setting: Setting, out: Path, workers: int, *, liger: bool) -> transformers.TrainingArguments:
    """Return the Trainer's arguments for a setting."""
    gpu = torch.cuda.is_available()
    # Its name before transformers 5.20.
    known = transformers.TrainingArguments.__dataclass_fields__
    again = "activation_checkpointing" if "activation_checkpointing" in known else "gradient_checkpointing"
    return transformers.TrainingArguments(
        output_dir=str(out),
        max_steps=setting.steps,
        per_device_train_batch_size=setting.micro,
        gradient_accumulation_steps=setting.batch // setting.micro,
        train_sampling_strategy="sequential",
        learning_rate=setting.lr,
        lr_scheduler_type="constant",
        optim="adamw_torch_fused" if gpu else "adamw_torch",
        adam_beta1=setting.betas[0],
        adam_beta2=setting.betas[1],
        adam_epsilon=setting.eps,
        weight_decay=setting.weight_decay,
        max_grad_norm=setting.clip,
        bf16=setting.precision == "bf16",
        use_cpu=not gpu,
        seed=setting.seed,
        dataloader_num_workers=workers,
        dataloader_pin_memory=gpu,
        remove_unused_columns=False,
        use_liger_kernel=liger,
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        **{again: True, f"{again}_kwargs": {"use_reentrant": False}},
    )


def main(path: Path) -> None:
    """Train as a job says."""
    job = json.loads(path.read_text(encoding="utf-8"))
    setting, out = Setting(**job["setting"]), Path(job["out"])
    attention = job["attention"]
    if attention == "flex_attention":
        attention = "flex_one_type"
        AttentionInterface.register(attention, _flex)
        AttentionMaskInterface.register(attention, flex_attention_mask)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        setting.weights, dtype=torch.float32, attn_implementation=attention
    )
    stream = Stream.open(setting.lock, work=setting.work)
    data = Sequences(stream, multiple=setting.batch, documents=setting.documents)
    trainer = transformers.Trainer(
        model,
        arguments(setting, out, job["workers"], liger=job["liger"]),
        train_dataset=data,
        data_collator=data.collate,
        callbacks=[Lines(out, setting.steps)],
    )
    trainer.remove_callback(transformers.PrinterCallback)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    trainer.train()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
