"""Builds that are killed: `python -m bench.kills --kills 1000` prints what was lost, and fails if a byte differs.

One process imports everything, then forks a child for each run of a small recipe and kills it (SIGKILL) after a random
part of the time that the run takes. Runs of one work directory follow each other, killed again and again, until one is
left alone. Its shards, its lock and its whole work directory must then be what an undisturbed run makes.

    killed  killed  whole    begun: 3 + 2 + 5 parts, of 8   ──►   lost: 2 parts by 2 kills, one at most by each

Work that is lost is counted where it begins: each part and each shard notes its name when its making starts.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mixture import lockfile
from mixture.engine import Silence
from mixture.engine.local import Local
from mixture.flow import open_job
from mixture.shards import write as shard_writer
from mixture.storage import only_run
from mixture.tokens import chunks, inputs
from mixture.workspace import Workspace

RECIPE = """
name: kills
tokenizer: {{kind: bytes}}
sources:
  - {{name: all, format: jsonl, paths: [data/*.jsonl], domain: {{field: set}}, carry: [number]}}
sequence: {{length: {length}, separator: eos}}
buckets: [512, 4K]
mix: {{domains: natural, lengths: natural, max_epochs: {epochs}}}
seed: {seed}
shard_tokens: {shard}
{more}
"""
PHASES = "phases: [{name: one, budget: 60_000}, {name: two, budget: 30_000}]"
_FILES = 8


@dataclass
class Tally:
    """What happened.

    Attributes:
        kills: runs that were killed.
        late: runs that ended before their kill came.
        builds: work directories that were brought to their end.
        differ: of those, with other hashes, another lock or scraps.
        lost: parts and shards whose making was begun and lost.
        remade: parts and shards that were whole before a kill and were made again; none may be.
        worst: the most parts or shards lost by one kill; one at most, for one worker.
        stages: kills by the stage that was reached.
    """

    kills: int = 0
    late: int = 0
    builds: int = 0
    differ: int = 0
    lost: int = 0
    remade: int = 0
    worst: int = 0
    stages: Counter[str] = field(default_factory=Counter)


def main(arguments: Sequence[str] | None = None) -> None:
    """Kill and count."""
    parser = argparse.ArgumentParser(prog="python -m bench.kills", description="Builds that are killed.")
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--builds", type=int, default=10, help="work directories for each recipe")
    parser.add_argument("--minutes", type=float, default=60, help="stop after this, whatever was reached")
    parser.add_argument("--temp", type=Path, help="where to work (default: the system's temporary folder)")
    options = parser.parse_args(arguments)
    inputs.SMALL_FILE = 0  # Each file a unit, so that there are parts to lose.
    draw, tally, end = random.Random(options.seed), Tally(), time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory(prefix="mixture-kills-", dir=options.temp) as name:
        root = Path(name)
        _corpus(root / "data")
        while tally.kills < options.kills and time.monotonic() < end:
            _recipe(root, draw)
            reference, seconds = _undisturbed(root)
            for _ in range(options.builds):
                _disturbed(root, reference, seconds, draw, tally)
    print(json.dumps(vars(tally) | {"seed": options.seed}, indent=1))
    if tally.differ or tally.remade or tally.worst > 1:
        raise SystemExit(1)


def _corpus(folder: Path) -> None:
    folder.mkdir()
    draw = random.Random(1)
    for number in range(_FILES):
        rows = []
        for row in range(60):
            words = " ".join(draw.choices(("the", "of", "stream", "漢字", "token"), k=int(draw.lognormvariate(4.5, 1))))
            rows.append({"text": f"{number} {row} {words}", "set": draw.choice("ab"), "number": row})
        (folder / f"{number}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _recipe(root: Path, draw: random.Random) -> None:
    length = draw.choice([256, 512])
    changes = {"length": length, "seed": draw.randrange(1000), "epochs": draw.choice([1, 2]), "shard": 16 * length}
    more = draw.choice([PHASES, "budget: 80_000", 'budget: 60_000\nweight: "n_tokens"'])
    (root / "kills.yaml").write_text(RECIPE.format(**changes, more=more), encoding="utf-8")


def _run(root: Path, log: Path) -> None:
    """Build, as `mixture run` does; note what is begun."""
    noted = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def noting(kind: str, real: Callable[..., Any], name: Callable[..., str]) -> Callable[..., Any]:
        def made(*given: Any, **named: Any) -> Any:
            os.write(noted, f"{kind} {name(*given, **named)}\n".encode())
            return real(*given, **named)

        return made

    chunks._store_chunks = noting("part", chunks._store_chunks, lambda part, *_: str(part.record))  # noqa: SLF001
    shard_writer.write_shard = noting(
        "shard", shard_writer.write_shard, lambda **n: n["target"].replace(".arrow", ".json")
    )
    with ExitStack() as stack:
        place = Workspace(root / "work", root)
        job = open_job(root / "kills.yaml", place, stack.enter_context(Local(1)), Silence(), root / "kills.lock.json")
        stack.enter_context(only_run(place.work))
        store = job.tokenize()
        index = job.bucket(store)
        job.pack(store, job.plan(store, index))
        job.verify()


def _fork(root: Path, log: Path) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        _run(root, log)
        code = 0
    except BaseException as error:  # noqa: BLE001 - a forked child must end here, whatever comes
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    finally:
        os._exit(code)


def _undisturbed(root: Path) -> tuple[list[bytes], float]:
    """Return what a run makes that nobody kills, and how long it takes."""
    _clear(root)
    begun = time.monotonic()
    _, status = os.waitpid(_fork(root, root / "log"), 0)
    if status:
        raise SystemExit("the undisturbed run failed")
    return _made(root), time.monotonic() - begun


def _clear(root: Path) -> None:
    shutil.rmtree(root / "work", ignore_errors=True)
    for name in ("kills.lock.json", "log"):
        (root / name).unlink(missing_ok=True)


def _made(root: Path) -> list[bytes]:
    """Return the lock, and the hash of each shard; a scrap of a killed run makes it differ."""
    lock = lockfile.require(root / "kills.lock.json", "kills")
    scraps = [path.name.encode() for path in (root / "work").rglob("*.tmp")]
    return [(root / "kills.lock.json").read_bytes(), *(shard["hash"].encode() for shard in lock.shards), *scraps]


def _disturbed(root: Path, reference: list[bytes], seconds: float, draw: random.Random, tally: Tally) -> None:
    """Kill the runs of one work directory until one comes to its end, and compare."""
    _clear(root)
    log = root / "log"
    for attempt in itertools.count():
        whole = {p: p.stat().st_ino for p in (root / "work").rglob("*.json") if p.name.startswith(("part-", "shard-"))}
        log.unlink(missing_ok=True)
        child = _fork(root, log)
        # Early moments more often, as runs that go on where another was killed are short; later ones by and by, or a
        # machine that has become slower would never let one come to its end.
        time.sleep(1.15**attempt * seconds * draw.random() ** 2)
        ended, status = os.waitpid(child, os.WNOHANG)
        if not ended:
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status)
        begun = log.read_text(encoding="utf-8").split("\n")[:-1] if log.exists() else []
        tally.remade += sum(Path(line.partition(" ")[2]) in whole for line in begun)
        if not killed:
            tally.late += 1
            break
        lost = sum(not Path(line.partition(" ")[2]).exists() for line in begun)
        tally.kills, tally.lost, tally.worst = tally.kills + 1, tally.lost + lost, max(tally.worst, lost)
        tally.stages[_stage(root)] += 1
    tally.builds += 1
    if status or _made(root) != reference:
        tally.differ += 1


def _stage(root: Path) -> str:
    """Name the stage in which a run was killed, by what it left."""
    work = root / "work"
    for stage, pattern in (("pack", "shards/*"), ("plan", "plans/*"), ("bucket", "index/*"), ("tokenize", "store/*")):
        if any(work.glob(pattern)):
            return stage
    return "start"


if __name__ == "__main__":
    main()
