"""The monitor end to end: the quick start's mixture, a model trained on it, followed at all three levels.

    python -m bench.gpu.monitor                       on a GPU: 8 layers, 16K tokens, bfloat16; six checkpoints
    python -m bench.gpu.monitor --size toy            anywhere: two layers, a minute or two

It runs the commands that a user types, training and monitor side by side, and prints what they say. The page, the table
and the seconds of each checkpoint stay in --out.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

MANIFESTS = Path(__file__).parents[2] / "manifests"
CHECKPOINTS = 6

_GPU = {
    "fields": {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 8, "num_attention_heads": 8},
    "steps": 300,
    "precision": "bf16",
}
_TOY = {
    "fields": {"hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 4},
    "steps": 24,
    "precision": "float32",
}
SIZES: dict[str, dict[str, Any]] = {"gpu": _GPU, "toy": _TOY}


def config(size: dict[str, Any], lock: Path) -> dict[str, Any]:
    """Return a training config of so many steps, with six checkpoints that all stay."""
    heads = size["fields"]["num_attention_heads"]
    model = {"model_type": "llama", "num_key_value_heads": heads // 2, "max_position_embeddings": 16384}
    every = size["steps"] // CHECKPOINTS
    return {
        "name": "followed",
        "lock": str(lock),
        "model": {"config": model | size["fields"] | {"tie_word_embeddings": True}},
        "batch": {"sequences": 1},
        "stop": f"{size['steps']} steps",
        "optimizer": {"lr": 2e-3},
        "schedule": {"kind": "wsd", "warmup": "4 steps", "decay": "20%"},
        "precision": size["precision"],
        "checkpointing": "none",
        "checkpoints": {"every": f"{every} steps", "keep": CHECKPOINTS + 1},
        "events": {"wandb": False, "every": every},
    }


def mixture(*arguments: str) -> list[str]:
    """Return a command line, and say it."""
    print("$ mixture", *arguments, flush=True)
    return [sys.executable, "-m", "mixture", *arguments]


def run(size: dict[str, Any], out: Path, suite: Path) -> dict[str, Any]:
    """Make the mixture, train, follow; return what the monitor says at its end."""
    shutil.copy(MANIFESTS / "quickstart.yaml", out / "quickstart.yaml")
    (out / "train.yaml").write_text(yaml.safe_dump(config(size, out / "quickstart.lock.json")))
    subprocess.run(mixture("run", "quickstart.yaml", "--json"), cwd=out, check=True, stdout=subprocess.DEVNULL)
    begun = time.perf_counter()
    with subprocess.Popen(mixture("train", "train.yaml"), cwd=out) as training:
        line = mixture("monitor", "runs/followed", "--follow", "--suite", str(suite), "--json")
        said = subprocess.run(line, cwd=out, check=True, stdout=subprocess.PIPE, text=True)
        if training.wait():
            raise SystemExit(f"training ended with {training.returncode}")
    told: dict[str, Any] = json.loads(said.stdout)
    told["seconds"] = round(time.perf_counter() - begun, 1)
    return told


def main() -> None:
    """Run it, and print one summary."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu.monitor", description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, help="gpu where there is one, else toy")
    parser.add_argument("--suite", type=Path, default=MANIFESTS / "monitor-quickstart.yaml")
    parser.add_argument("--out", type=Path, default=Path("bench/out/monitor"))
    options = parser.parse_args()
    import torch

    name = options.size or ("gpu" if torch.cuda.is_available() else "toy")
    out = options.out.absolute()
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    told = run(SIZES[name], out, options.suite.absolute())
    (out / "result.json").write_text(json.dumps(told, indent=1, ensure_ascii=False))
    steps = [one["step"] for one in told["examined"]]
    print(f"{len(steps)} checkpoints examined ({steps}), {told['measures']:,} measures, {told['seconds']} s")
    for one in told["verdicts"].values():
        print(*one["words"], sep="\n")
    print(f"page: {out / told['page']}")
    if len(steps) < CHECKPOINTS:
        raise SystemExit(f"{len(steps)} checkpoints were examined, {CHECKPOINTS} were to be")


if __name__ == "__main__":
    main()
