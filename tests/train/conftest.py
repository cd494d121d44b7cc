"""A packed mixture of real text, and runs over it."""

from __future__ import annotations

import argparse
import inspect
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.conftest import Said, Shop
from tests.conftest import Document

#: Two layers; with the shop's sequences of 64 bytes a step of 6 takes milliseconds.
CONFIG: dict[str, Any] = {
    "name": "tiny",
    "lock": "small.lock.json",
    "model": {
        "config": {
            "model_type": "llama",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
        }
    },
    "batch": {"sequences": 6, "micro": 1},
    "stop": "6 steps",
    "optimizer": {"lr": 0.003},
    "precision": "float32",
    "checkpointing": "none",
    "checkpoints": {"every": "2 steps", "export": False},
    "events": {"tensorboard": False, "wandb": False, "positions": [32, 128]},
}

PHASES = """
phases:
  - {name: short, budget: 8_000}
  - {name: long, budget: 8_000, sequence: {length: 128, separator: eos}}
"""


@dataclass
class Gym:
    """Runs of `mixture train` over one mixture."""

    shop: Shop
    root: Path

    def config(self, name: str = "train.yaml", **changes: Any) -> str:
        self.root.mkdir(parents=True, exist_ok=True)
        lock = str(self.shop.root / str(changes.pop("lock", CONFIG["lock"])))
        (self.root / name).write_text(yaml.safe_dump(CONFIG | {"lock": lock} | changes), encoding="utf-8")
        return name

    def line(self, config: str, *more: str) -> list[str]:
        return ["train", config, "--work", str(self.shop.root / "work"), "--json", *more]

    def train(self, *more: str, out: str = "run", **changes: Any) -> Said:
        """Train in this process, with one rank."""
        return self.shop.call(*self.line(self.config(**changes), "--out", out, *more), at=self.root)

    def torchrun(self, ranks: int, *more: str, out: str = "run", **changes: Any) -> subprocess.Popen[str]:
        """Start ranks by torchrun, which starts them again when one is lost."""
        options = ["--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", str(ranks), "--max-restarts", "2"]
        line = [*options, "-m", "mixture", *self.line(self.config(**changes), "--out", out, *more)]
        env = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": self.root}
        return subprocess.Popen([sys.executable, "-m", "torch.distributed.run", *line], env=env, **pipes)

    def start(self, ranks: int, *more: str, out: str = "run", **changes: Any) -> Any:
        """Start ranks, and leave them to themselves."""
        from tests.train.ranks import commands

        return commands(self.line(self.config(**changes), "--out", out, *more), ranks, self.root)

    def ranks(self, ranks: int, *more: str, out: str = "run", **changes: Any) -> list[Said]:
        """Train with several ranks; return how each ended."""
        context = self.start(ranks, *more, out=out, **changes)
        while not context.join(timeout=300):
            pass
        told = [json.loads((self.root / f"rank-{rank}.json").read_text()) for rank in range(ranks)]
        assert all(one["raised"] in {"None", "SystemExit(0)", "SystemExit(1)"} for one in told), told
        return [Said(one["code"], one["out"], one["err"]) for one in told]

    def events(self, out: str = "run") -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.root / out / "events.jsonl").read_text().splitlines()]

    def losses(self, out: str = "run") -> list[float]:
        return [event["loss"] for event in self.events(out)]

    def checkpoints(self, out: str = "run") -> list[str]:
        return sorted(path.name for path in (self.root / out / "checkpoints").iterdir())


def real_text() -> list[Document]:
    """Two domains of what every Python has: its own code, and the words about it."""
    modules = [argparse, inspect, json, subprocess, socket, yaml]
    code = [inspect.getsource(module) for module in modules]
    pieces = [text[at : at + 3000] for text in code for at in range(0, len(text), 3000)]
    docs = [inspect.getdoc(value) or "" for module in modules for value in vars(module).values() if callable(value)]
    return [Document(t, "code") for t in pieces] + [Document(t, "docs") for t in sorted(set(docs)) if len(t) > 50]


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Code and docs in sequences of 64 bytes: small.lock.json; and in two phases: phased.lock.json."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    with ExitStack() as stack:
        shop = Shop(tmp_path_factory.mktemp("gym"), stack)
        shop.corpus(real_text())
        usual = {
            "domains": "natural",
            "lengths": "natural",
            "length": 64,
            "shard_tokens": 2_048,
            "budget": 20_000,
            "buckets": "128, 512",
        }
        recipes = (shop.recipe("small.yaml", **usual), shop.recipe("phased.yaml", **usual, more=PHASES))
        text = recipes[1].read_text().replace("name: small", "name: phased").replace("budget: 20000\n", "")
        recipes[1].write_text(text)
        for recipe in recipes:
            assert shop.run(recipe=recipe.name).code == 0
        yield shop


@pytest.fixture
def gym(shop: Shop, tmp_path: Path) -> Gym:
    import torch

    torch.set_num_threads(1)
    return Gym(shop, tmp_path)
