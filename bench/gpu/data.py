"""What is there before anybody runs: the mixture, the first weights, the costs of each step, what the machine is.

Nothing here imports torch but what `measure` runs in a process of its own, so that no memory of a GPU is held by the
process that watches.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bench import machine, measure
from bench.gpu.plan import Setting
from bench.measure import Contestant, Failed
from mixture.loader.steps import Steps
from mixture.loader.stream import Stream
from mixture.train.flops import attended

_FORMATS = {".parquet": "parquet", ".jsonl": "jsonl", ".json": "jsonl", ".arrow": "arrow"}
#: What contestants are made of, for the facts.
LIBRARIES = ("torch", "transformers", "accelerate", "flash-attn", "liger-kernel", "torchtitan", "triton", "numpy")


@dataclass(frozen=True)
class Gpus:
    """The machine's GPUs.

    Attributes:
        names: as the driver calls them.
        memory: bytes of each.
        flash: whether the flash-attn package is installed.
        peak: bf16 FLOP/s of one; None where it is not known.
    """

    names: tuple[str, ...]
    memory: tuple[int, ...]
    flash: bool
    peak: float | None


def gpus(temp: Path) -> Gpus:
    """Look at the GPUs, from another process."""
    found = measure.run(Contestant("the machine", "bench.gpu.data:look", {}), temp)
    return Gpus(tuple(found["names"]), tuple(found["memory"]), bool(found["flash"]), found["peak"])


def look() -> dict[str, Any]:
    """Say what GPUs there are; in a process of its own."""
    import torch

    from mixture.train.flops import peak_flops

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    names = [torch.cuda.get_device_name(number) for number in range(count)]
    return {
        "seconds": 0.0,
        "names": names,
        "memory": [torch.cuda.get_device_properties(number).total_memory for number in range(count)],
        "flash": importlib.util.find_spec("flash_attn") is not None,
        "peak": peak_flops(names[0]) if names else None,
    }


def facts(found: Gpus) -> dict[str, Any]:
    """Return what the figures were measured on."""
    versions = {name: said for name in LIBRARIES if (said := machine.version(name))}
    memory = [round(size / 2**30, 1) for size in found.memory]
    return (
        machine.facts()
        | {"gpus": list(found.names), "gpu_gib": memory, "peak_flops": found.peak}
        | {"libraries": versions}
    )


def sources(files: list[str]) -> list[dict[str, Any]]:
    """Return a recipe's sources for files that a user names, one for each format."""
    kinds: dict[str, list[str]] = {}
    for file in files:
        suffixes = [part for part in Path(file).suffixes if part in _FORMATS]
        kinds.setdefault(_FORMATS[suffixes[0]] if suffixes else "text", []).append(str(Path(file).resolve()))
    return [{"name": kind, "format": kind, "paths": paths, "domain": "corpus"} for kind, paths in kinds.items()]


def mix(folder: Path, length: int, budget: int, of: list[dict[str, Any]]) -> Path:
    """Make a mixture with the project's own command; return its lock file. The work directory is `folder / "work"`.

    Raises:
        Failed: the command did not end well.
    """
    recipe = {
        "name": f"gpu-{length}",
        "tokenizer": {"kind": "bytes"},
        "sources": of,
        "budget": budget,
        "sequence": {"length": length, "separator": "eos"},
        "buckets": [4096, 32768, 131072],
        "mix": {"domains": "natural", "lengths": "natural", "max_epochs": 4},
        "shard_tokens": max(4 * length, min(budget, 4_000_000)),
        "seed": 42,
    }
    path = folder / f"gpu-{length}.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    command = [sys.executable, "-m", "mixture", "run", str(path), "--work", str(folder / "work"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=measure.surroundings(folder))
    if done.returncode:
        raise Failed(f"mixture run: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    return folder / f"gpu-{length}.lock.json"


def costs(setting: Setting) -> list[int]:
    """Return, for each step, the pairs of a query and a key that it computes: the same for all contestants."""
    stream = Stream.open(setting.lock, work=setting.work)
    found = []
    with Steps(stream, batch=setting.batch, micro=setting.batch, documents=setting.documents, ahead=0) as steps:
        for step in steps:
            if step.number == setting.steps:
                break
            found.append(sum(attended(arrays.cu_seqlens) for arrays in step))
    return found


def first_weights(folder: Path, fields: dict[str, Any], temp: Path) -> Path:
    """Draw the weights that all contestants start from; return their folder."""
    job = {"folder": str(folder), "fields": fields}
    measure.run(Contestant("weights", "bench.gpu.data:draw", job), temp)
    return folder


def draw(folder: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Write a model of random weights in Hugging Face's layout; in a process of its own."""
    from mixture.train.model import Source
    from mixture.train.weights import build, export

    trainee = build(Source(fields=fields, seed=0), length=int(fields["max_position_embeddings"]))
    export(trainee, trainee.state_dict(), Path(folder))
    return {"seconds": 0.0}
