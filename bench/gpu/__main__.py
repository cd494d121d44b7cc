"""`python -m bench.gpu`: ours and its peers on one mixture, at several lengths, in turn."""

from __future__ import annotations

import argparse
import datetime as dt
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import machine
from bench.gpu import contest, data, verdicts
from bench.gpu.contest import Contestant, Ran, Room
from bench.gpu.plan import SIZES, Setting, Size, rows
from bench.gpu.show import curves, show
from bench.gpu.verdicts import Work
from mixture.recipe.quantities import length as places
from mixture.recipe.quantities import show_length
from mixture.storage import write_json
from mixture.train.memory import Setting as Memory
from mixture.train.memory import estimate
from mixture.train.rules import LossRule

#: Who runs where nobody says: on a GPU, and without one. Whoever is not installed is said and left out.
_ON_GPU = ("ours", "ours-compiled", "trainer", "trainer-liger", "ours-cp2")
_ON_CPU = ("ours", "trainer")
#: Ways of ours on one GPU; the slower one at a length runs in the first round only.
_OURS = ("ours", "ours-compiled")
#: Columns where the output goes to a file.
_WIDTH = 160
#: Steps before and after a stop, where resuming is tried.
_RESUME = (2, 2)
#: Why torchtitan does not run although it is there.
_TITAN = "installed, but it reads datasets of its own, and an adapter could not be tried without a GPU"
#: A run that has less than so many seconds is not begun.
_SHORT = 15.0


@dataclass
class Clock:
    """The time there is, and what it was spent on.

    Attributes:
        end: when it is over, by `time.monotonic`.
        spent: seconds by part.
    """

    end: float
    spent: dict[str, float] = field(default_factory=dict)

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.end - time.monotonic()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count a block's time to a part."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self.spent[name] = self.spent.get(name, 0.0) + time.monotonic() - begun


@dataclass
class Bout:
    """What happens at one length.

    Attributes:
        setting: what all have in common.
        work: what its steps cost.
        runs: of each contestant, by name.
    """

    setting: Setting
    work: Work
    runs: dict[str, list[Ran]] = field(default_factory=dict)

    def best(self, warm_up: int) -> str:
        """Return the name of the faster way of ours."""
        found = {name: verdicts.rates(self.runs.get(name, []), warm_up, self.work)["rate"] for name in _OURS}
        return max(_OURS, key=lambda name: found[name]["median"] if found[name] else 0.0)

    def wants(self, name: str, turn: int, warm_up: int) -> bool:
        """Say whether a contestant should run in a round."""
        if any(ran.failed for ran in self.runs.get(name, [])):
            return False
        return turn == 0 or name not in _OURS or name == self.best(warm_up)


class Match:
    """All bouts, and what came of them so far."""

    def __init__(self, options: argparse.Namespace, temp: Path, clock: Clock, console: Console) -> None:
        self._temp, self._clock, self._console = temp, clock, console
        with clock.part("looking"):
            self._gpus = data.gpus(temp)
        self._name: str = options.size or ("0.5B" if self._gpus.names else "toy")
        self._size = _sized(SIZES[self._name], options)
        self._documents: bool = options.documents
        self._rounds: int = options.rounds
        self._out: Path = options.out
        self._skipped: list[str] = []
        self._resume: dict[str, Any] | None = None
        self._who = self._entered(options.who)
        self._facts = data.facts(self._gpus)
        self._bouts = self._prepared(options)

    def _entered(self, asked: str | None) -> list[Contestant]:
        known = contest.contestants(self._gpus)
        names = asked.split(",") if asked else _ON_GPU if self._gpus.names else _ON_CPU
        if not asked and self._gpus.names and not self._gpus.flash:
            names = (*names, "trainer-flex")
        entered = []
        for name in names:
            why = known[name].missing(self._gpus) if name in known else f"there is only {', '.join(known)}"
            if why is None:
                entered.append(known[name])
            else:
                self._skipped.append(f"{name}: {why}")
        titan = machine.version("torchtitan")
        self._skipped.append(f"torchtitan: {_TITAN if titan else 'not installed'}")
        return entered

    def _prepared(self, options: argparse.Namespace) -> list[Bout]:
        size, folder = self._size, self._temp
        with self._clock.part("first weights"), self._console.status("first weights"):
            weights = data.first_weights(folder / "weights", size.fields, folder)
        of = data.sources(options.corpus) if options.corpus else list(size.sources)
        bouts = []
        for length in size.lengths:
            batch, micro = rows(size, length)
            with self._clock.part("mixtures"), self._console.status(f"mixture of {show_length(length)}"):
                lock = data.mix(folder, length, (size.steps + 1) * batch * length, of)
                setting = Setting(
                    length=length,
                    batch=batch,
                    micro=micro,
                    steps=size.steps,
                    lock=str(lock),
                    work=str(folder / "work"),
                    weights=str(weights),
                    documents=self._documents,
                    precision=size.precision,
                )
                pairs = data.costs(setting)
            work = Work(size.shape, setting.tokens, pairs, 1, self._gpus.peak)
            bouts.append(Bout(setting, work))
        return bouts

    def go(self) -> dict[str, Any]:
        """Run all rounds; return the result, which is written anew after each run."""
        for turn in range(self._rounds):
            for bout in self._bouts:
                for contestant in self._who:
                    if bout.wants(contestant.name, turn, self._size.warm_up):
                        self._run(bout, contestant, turn)
                        self._write()
            if not turn:
                self._try_resume()
        return self._write()

    def _run(self, bout: Bout, contestant: Contestant, turn: int) -> None:
        before = bout.runs.setdefault(contestant.name, [])
        name = f"{show_length(bout.setting.length)} {contestant.title}"
        if self._clock.left < max(_SHORT, *(1.1 * ran.wall for ran in before), 0.0):
            self._skipped.append(f"{name}, round {turn + 1}: no time is left (--minutes)")
            return
        out = self._temp / f"{bout.setting.length}-{contestant.name}-{turn + 1}"
        with self._clock.part(name), self._console.status(f"{name}, round {turn + 1} of {self._rounds}"):
            before.append(self._ran(contestant, bout.setting, out))
        contest.tidy(out)
        told = before[-1].failed or f"{len(before[-1].losses)} steps"
        self._console.print(f"{name}, round {turn + 1}: {told}, {before[-1].wall:.0f} s", highlight=False)

    def _ran(self, contestant: Contestant, setting: Setting, out: Path) -> Ran:
        ran = contest.run(contestant, setting, out, Room(self._clock.left, bool(self._gpus.names), self._temp))
        logs = self._out / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(out / "log.txt", logs / f"{out.name}.txt")
        return ran

    def _try_resume(self) -> None:
        """Stop ours at a step, let it go on, and compare it with the run that was not stopped; at the least length."""
        ours = next((one for one in self._who if one.name == "ours"), None)
        bout = self._bouts[0]
        whole = next(iter(bout.runs.get("ours", [])), None)
        first, second = _RESUME
        # Both runs, and as long again for what is written and read.
        if ours is None or whole is None or whole.failed or self._clock.left < 2 * whole.wall + _SHORT:
            return
        if first + second > bout.setting.steps:
            return
        out = self._temp / "resume"
        with self._clock.part("resume"), self._console.status("stopped, and going on"):
            parts = [self._ran(ours, replace(bout.setting, steps=n), out) for n in (first, first + second)]
        contest.tidy(out)
        self._resume = verdicts.resumed(whole, parts, None) | {"first": first}

    def _write(self) -> dict[str, Any]:
        result = self._result()
        self._out.mkdir(parents=True, exist_ok=True)
        write_json(self._out / "result.json", result)
        return result

    def _result(self) -> dict[str, Any]:
        shape = self._size.shape
        if self._resume and not self._resume["failed"]:
            runs = [ran.losses for ran in self._bouts[0].runs["ours"] if not ran.failed]
            self._resume["noise"] = verdicts.apart(*runs[:2]) if len(runs) > 1 else None
        return {
            "machine": self._facts,
            "size": self._name,
            "model": {"parameters": shape.parameters, "vocabulary": shape.vocabulary, "config": self._size.fields},
            "precision": self._size.precision,
            "documents": self._documents,
            "steps": self._size.steps,
            "warm_up": self._size.warm_up,
            "lengths": [self._part(bout) for bout in self._bouts],
            "resume": self._resume,
            "skipped": self._skipped,
            "spent": self._clock.spent,
        }

    def _part(self, bout: Bout) -> dict[str, Any]:
        setting, work = bout.setting, bout.work
        whole = setting.batch * setting.length * (setting.length + 1) // 2
        return {
            "length": setting.length,
            "batch": setting.batch,
            "micro": setting.micro,
            "attended": sum(work.pairs) / (len(work.pairs) * whole),
            "rows": [self._row(bout, one) for one in self._who if bout.runs.get(one.name)],
        }

    def _row(self, bout: Bout, contestant: Contestant) -> dict[str, Any]:
        runs, warm_up = bout.runs[contestant.name], self._size.warm_up
        best = bout.best(warm_up)
        ours, theirs = bout.runs.get(best, []), not contestant.name.startswith("ours")
        reference = next((ran.losses for ran in bout.runs.get("ours", ours) if ran.losses), {})
        same = contestant.name == "ours" or not runs[0].losses
        return {
            "name": contestant.name,
            "title": contestant.title,
            **verdicts.rates(runs, warm_up, replace(bout.work, gpus=contestant.gpus)),
            "memory": max(ran.memory for ran in runs),
            "estimate": None if theirs or not self._gpus.names else _estimate(bout, contestant),
            "ratio": verdicts.ratio(ours, runs, warm_up) if theirs else None,
            "against": best if theirs else None,
            "agreement": None if same else verdicts.agreement(reference, runs[0].losses, bout.setting.precision),
            "losses": runs[0].losses,
            "seconds": [ran.seconds for ran in runs],
            "wall": [ran.wall for ran in runs],
            "failed": next((ran.failed for ran in runs if ran.failed), None),
        }


def _estimate(bout: Bout, contestant: Contestant) -> int:
    """Return the bytes that `mixture train` expects to need on each GPU."""
    setting, ranks = bout.setting, contestant.gpus
    held = Memory(ranks, ranks, setting.micro, setting.length, True, LossRule().chunk, setting.precision == "bf16")
    return estimate(bout.work.shape, held).total


def _sized(size: Size, options: argparse.Namespace) -> Size:
    """Put what the command line says over a size."""
    said: dict[str, Any] = {}
    if options.lengths:
        said["lengths"] = tuple(places(length) for length in options.lengths.split(","))
    if options.steps:
        said["steps"], said["warm_up"] = options.steps, max(1, min(size.warm_up, options.steps // 3))
    if options.batch:
        said["batch"] = places(options.batch)
    if options.together:
        said["together"] = places(options.together)
    if options.precision:
        said["precision"] = options.precision
    if options.vocabulary:
        said["fields"] = size.fields | {"vocab_size": options.vocabulary}
    return replace(size, **said)


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    add = parser.add_argument
    add("--size", choices=list(SIZES), help="of the model (default: 0.5B on a GPU, toy without one)")
    add("--lengths", metavar="8K,32K", help="of sequences (default: the size's)")
    add("--steps", type=int, help="of each run (default: the size's)")
    add("--batch", metavar="128K", help="tokens of a step (default: the size's)")
    add("--together", metavar="32K", help="tokens that a GPU takes at once (default: the size's)")
    add("--vocabulary", type=int, help="of the model; tokens are bytes (default: the size's)")
    add("--precision", choices=["bf16", "float32"], help="of matrix products (default: bf16, float32 for toy)")
    add("--whole", dest="documents", action="store_false", help="no document masks: each sequence is one document")
    add("--corpus", nargs="+", metavar="FILE", help="text, JSON lines or Parquet (default: Python's own code)")
    add("--who", metavar="NAME,NAME", help="contestants (default: all that are installed)")
    add("--rounds", type=int, default=2, help="A B A B (default 2)")
    add("--minutes", type=float, default=9, help="no run is begun that would end later, and all ends then (default 9)")
    add("--temp", type=Path, metavar="DIR", help="where to work (default: the system's temporary folder)")
    add("--out", type=Path, metavar="DIR", help="JSON, curves and logs (default bench/out/gpu-<date>)")
    return parser


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the command."""
    options = _options().parse_args(arguments)
    clock = Clock(time.monotonic() + 60 * options.minutes)
    day = dt.datetime.now(dt.UTC).strftime("%Y-%m-%d-%H%M")
    options.out = (options.out or Path(__file__).resolve().parents[1] / "out" / f"gpu-{day}").resolve()
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    with tempfile.TemporaryDirectory(prefix="mixture-gpu-", dir=options.temp) as temp:
        result = Match(options, Path(temp), clock, console).go()
    drawn = curves(result, options.out / "losses.svg")
    show(result, console)
    console.print(f"{options.out}: result.json, logs{', losses.svg' if drawn else ' (no matplotlib, no curves)'}")
    return result


if __name__ == "__main__":
    main()
