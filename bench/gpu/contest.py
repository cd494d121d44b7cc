"""Contestants as commands, and a run of one: its steps, timed by the lines that it prints.

    step 1/10 …          14:03:07.100
    step 2/10 …          14:03:08.350      step 2 took 1.25 s, everything between the lines included
    …                                      losses and memory are in OUT/events.jsonl, one line a step

A contestant that has no memory left has a result, too; so has one that cannot be run here.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from bench import measure
from bench.gpu.data import Gpus
from bench.gpu.plan import Setting

_STEP = re.compile(r"^step ([\d,]+)[/ ]")
_MEMORY = re.compile(r"OutOfMemoryError|out of memory|memory is used up|can't allocate memory|Cannot allocate memory")
_TIME = "out of time"
_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Ran:
    """What a run came to.

    Attributes:
        seconds: of each step, by number; the first has none, since nothing says when it began.
        losses: of each step.
        memory: the most bytes that a device held at any time.
        wall: seconds from start to end, start-up included.
        failed: why it did not come to its end; None where it did.
    """

    seconds: dict[int, float]
    losses: dict[int, float]
    memory: int
    wall: float
    failed: str | None = None

    def counted(self, warm_up: int) -> dict[int, float]:
        """Return the seconds of the steps that count: those after a warm-up of one or more."""
        return {step: seconds for step, seconds in self.seconds.items() if step > warm_up}


@dataclass(frozen=True)
class Contestant:
    """One way to train.

    Attributes:
        name: as on the command line.
        title: as in the table.
        command: from a setting and the run's folder, what to start.
        gpus: how many it wants.
    """

    name: str
    title: str
    command: Callable[[Setting, Path], list[str]]
    gpus: int = 1

    def missing(self, found: Gpus) -> str | None:
        """Say why it cannot run here; None where it can."""
        needs = {"trainer-liger": "liger_kernel", "trainer": "accelerate", "trainer-flex": "accelerate"}
        module = needs.get(self.name)
        if module and importlib.util.find_spec(module) is None:
            return f"{module} is not installed"
        if found.names and self.gpus > len(found.names):
            return f"needs {self.gpus} GPUs, and there is {len(found.names)}"
        return None


def contestants(found: Gpus) -> dict[str, Contestant]:
    """Return all that there are, by name."""
    flash = "flash_attention_2" if found.flash and found.names else "sdpa"
    short = {"flash_attention_2": "flash", "sdpa": "sdpa"}[flash]
    workers = 2 if found.names else 0
    return {
        one.name: one
        for one in (
            Contestant("ours", "ours", _ours),
            Contestant("ours-compiled", "ours, compiled", lambda setting, out: _ours(setting, out, compiled=True)),
            Contestant("ours-cp2", "ours, 2 ranks a sequence", lambda setting, out: _ours(setting, out, cp=2), gpus=2),
            Contestant("trainer", f"HF Trainer, {short}", lambda s, out: _peer(s, out, flash, workers)),
            Contestant("trainer-flex", "HF Trainer, flex", lambda s, out: _peer(s, out, "flex_attention", workers)),
            Contestant(
                "trainer-liger", f"HF Trainer, {short}, Liger", lambda s, out: _peer(s, out, flash, workers, liger=True)
            ),
        )
    }


def _ours(setting: Setting, out: Path, *, compiled: bool = False, cp: int = 1) -> list[str]:
    """Write the config of a run of ours; return its command."""
    config = {
        "name": f"gpu-{setting.length}",
        "lock": setting.lock,
        "model": {"path": setting.weights},
        "batch": {"sequences": setting.batch, "micro": setting.micro},
        "stop": f"{setting.steps} steps",
        "optimizer": {
            "lr": setting.lr,
            "betas": list(setting.betas),
            "eps": setting.eps,
            "weight_decay": setting.weight_decay,
            "clip": setting.clip,
        },
        "documents": setting.documents,
        "precision": setting.precision,
        "checkpointing": "full",
        "compile": compiled,
        "parallel": {"cp": cp},
        "checkpoints": {"every": "1000000 steps", "keep": 1, "export": False},
        "events": {"tensorboard": False, "wandb": False},
        "seed": setting.seed,
    }
    out.mkdir(parents=True, exist_ok=True)
    path = out / "train.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    start = [sys.executable, "-m", "mixture"] if cp == 1 else [*_torchrun(cp), "-m", "mixture"]
    return [*start, "train", str(path), "--work", setting.work, "--out", str(out), "--anyway", "--json"]


def _torchrun(ranks: int) -> list[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = ["--nnodes", "1", "--nproc-per-node", str(ranks), "--master-addr", "127.0.0.1", "--master-port", str(port)]
    return [sys.executable, "-m", "torch.distributed.run", *where]


def _peer(setting: Setting, out: Path, attention: str, workers: int, *, liger: bool = False) -> list[str]:
    out.mkdir(parents=True, exist_ok=True)
    job = {"setting": asdict(setting), "attention": attention, "workers": workers, "liger": liger, "out": str(out)}
    path = out / "job.json"
    path.write_text(json.dumps(job), encoding="utf-8")
    return [sys.executable, "-m", "bench.gpu.peer", str(path)]


@dataclass(frozen=True)
class Room:
    """What a run has.

    Attributes:
        seconds: how long it may take.
        gpu: whether there is a GPU.
        temp: a folder for byte code.
    """

    seconds: float
    gpu: bool
    temp: Path


def run(contestant: Contestant, setting: Setting, out: Path, room: Room) -> Ran:
    """Run a contestant once in fresh processes.

    Args:
        contestant: who.
        setting: what.
        out: folder of the run; what is there of a run before goes on, as `mixture train` does.
        room: what it has.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    devices = visible.split(",") if visible else [str(number) for number in range(contestant.gpus)]
    extra = {
        # One GPU each, or the Trainer would take all that it sees.
        "CUDA_VISIBLE_DEVICES": ",".join(devices[: contestant.gpus]) if room.gpu else "",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if not room.gpu:
        # Threads that wait for each other on a CPU that others use say nothing of who is faster.
        extra["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "1")
    command = contestant.command(setting, out)
    start = time.perf_counter()
    code, ticks, text, late = _watch(command, measure.surroundings(room.temp) | extra, room.seconds)
    wall = time.perf_counter() - start
    (out / "log.txt").write_text(text, encoding="utf-8")
    losses, memory = _events(out / "events.jsonl")
    taken = {step: ticks[step] - ticks[step - 1] for step in ticks if step - 1 in ticks}
    return Ran(taken, losses, memory, wall, reason(code, text, late=late))


def _watch(
    command: list[str], environment: Mapping[str, str], seconds: float
) -> tuple[int, dict[int, float], str, bool]:
    """Run a command; return its code, when each step's line came, all it said, and whether it had to be ended."""
    ticks: dict[int, float] = {}
    lines: list[str] = []
    late = threading.Event()
    process = subprocess.Popen(
        command,
        env=dict(environment),
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )

    def end() -> None:
        late.set()
        # Its group: torchrun's ranks and loaders' workers are in it.
        os.killpg(process.pid, signal.SIGKILL)

    timer = threading.Timer(max(seconds, 0.1), end)
    timer.start()
    # Leaving the block closes the pipe and waits.
    with process:
        try:
            for line in process.stdout or ():
                found = _STEP.match(line)
                if found:
                    ticks[int(found[1].replace(",", ""))] = time.perf_counter()
                lines.append(line)
            process.wait()
        finally:
            timer.cancel()
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, ticks, "".join(lines), late.is_set()


def reason(code: int, text: str, *, late: bool = False) -> str | None:
    """Say why a process did not come to its end, from its code and what it said; None where it did.

    Args:
        code: its exit code; -9 where the kernel, short of memory, or somebody else ended it.
        text: what it said.
        late: whether we ended it.
    """
    if late:
        return _TIME
    if not code:
        return None
    if _MEMORY.search(text) or code in (-9, 137):
        return "out of memory"
    said = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in said if re.match(r"(\w+\.)*\w*(Error|Exception)\b|error: ", line)]
    return f"failed: {(errors or said or ['no message'])[-1][:300]}"


def _events(path: Path) -> tuple[dict[int, float], int]:
    """Read losses by step, and the most memory."""
    losses, memory = dict[int, float](), 0
    # What comes after the last end of a line was being written when the process ended.
    for line in path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else ():
        event: dict[str, Any] = json.loads(line)
        losses[event["step"]] = float("nan") if event["loss"] is None else event["loss"]
        memory = max(memory, event.get("memory") or 0)
    return losses, memory


def tidy(out: Path) -> None:
    """Delete what is large of a run."""
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
