"""Fu's job, whole: a corpus of SlimPajama's shape → tokens → index → plan → shards of 128K → verified.

The recipe is the published preset (`mixture init --preset fu-per-source`), but for its budget and for what a corpus so
much smaller asks: raised long documents may come up to `max_epochs` times. The rule keeps .45 of SlimPajama's tokens,
so 2.2 tokens of corpus give one of the stream in a pass on average; C4, which has few long documents, is passed more
often. The corpus is compressed, as SlimPajama is, and lies in the page cache where it fits.

The authors gave "about 200 cores" and an hour for 5B tokens: 12,000 core-minutes, 2,400 a billion. Ours are wall time
times workers, from the first read to the last byte synced to the disk, verification included. In the same rounds the
disk writes a gigabyte and syncs it: what ours wrote, at that rate, is the disk's part of the time.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from bench import floors, fu_corpus, measure
from bench.job import link, warm_job
from bench.measure import Contestant, Rounds
from bench.setting import Row, Setting
from bench.slimpajama import SEQUENCE
from bench.vocabularies import Vocabulary
from mixture.presets import find
from mixture.recipe.quantities import tokens
from mixture.recipe.sources import TokenizerSpec
from mixture.scaffold.preset import from_preset
from mixture.tokens.tokenizer import load
from mixture.verify import Checks

STAGES = ("tokenize", "bucket", "plan", "pack", "verify")
#: Core-minutes of the authors to a billion tokens.
AUTHORS = 12_000 / 5
_PRESET = "fu-per-source"
_SHARD_TOKENS = 256_000_000
_MAX_EPOCHS = 6
_DISK_BYTES = 1 << 30
#: Share of the wall time from which on the disk is what the job waits for.
_FLOOR = 0.7


def rows(setting: Setting) -> list[Row]:
    """Measure a stream of as many tokens as asked for."""
    options, vocabulary = setting.options, setting.vocabularies[0]
    stream = max(1, tokens(options.stream) // SEQUENCE) * SEQUENCE
    place = setting.temp / "fu"
    with setting.doing("the corpus of Fu's job"):
        made = corpus(setting, place, int(stream * options.supply), options.workers)
    recipe = write_recipe(place, vocabulary, stream, min(_SHARD_TOKENS, stream // (2 * options.workers)))
    with setting.doing(f"Fu's job: {stream / 1e6:,.0f}M tokens from {made['tokens'] / 1e6:,.0f}M"):
        found = bench(recipe, options.workers, setting.rounds)
    return _rows(found, made, vocabulary, options.workers)


def corpus(setting: Setting, place: Path, size: int, workers: int) -> dict[str, Any]:
    """Write a corpus of so many tokens and link the vocabulary; return what was made.

    Raises:
        SystemExit: the disk has not the room.
    """
    vocabulary = setting.vocabularies[0]
    data = place / "data"
    link(vocabulary.path, data / "vocabulary" / vocabulary.path.name)
    tokenizer = load(TokenizerSpec.model_validate(vocabulary.spec), data)
    pools = fu_corpus.pools(setting.plain, len(setting.given), place / "pools", lambda t: len(tokenizer.encode_text(t)))
    width = 2 if tokenizer.n_vocab <= 1 << 16 else 4
    # Compressed text, the store, and shards of a stream that may be as long as half the corpus.
    needed = int(size * (2 + 1.5 * width))
    free = shutil.disk_usage(place).free
    if needed > free:
        raise SystemExit(
            f"bench: a corpus of {size / 1e9:.1f}B tokens and what is made of it takes about {needed / 1e9:,.0f} GB, "
            f"and {place} has {free / 1e9:,.0f}; give a smaller --stream or --supply, or another --temp"
        )
    return fu_corpus.make(data, size, pools, workers)


def write_recipe(place: Path, vocabulary: Vocabulary, stream: int, shard_tokens: int) -> Path:
    """Write the published preset over the generated corpus; return the recipe."""
    made = yaml.safe_load(from_preset(find(_PRESET), "fu", tokenizer="{kind: bytes}", budget=str(stream)))
    made |= {"tokenizer": vocabulary.spec, "shard_tokens": shard_tokens}
    made["mix"] |= {"max_epochs": _MAX_EPOCHS, "on_shortage": "redistribute"}
    path = place / "fu.yaml"
    path.write_text(yaml.safe_dump(made, sort_keys=False), encoding="utf-8")
    return path


def bench(recipe: Path, workers: int, rounds: Rounds) -> dict[str, list[dict[str, Any]]]:
    """Run the whole job and the disk in turn; return the reports."""
    place = recipe.parent
    job = {"recipe": str(recipe), "work": str(place / "work"), "workers": workers}
    disk = {"folder": str(place / "disk"), "size": _DISK_BYTES, "threads": workers}
    sides = [Contestant("ours", "bench.fu:ours", job), Contestant("disk", "bench.floors:disk", disk)]
    return measure.alternate(sides, rounds)


def _rows(reports: dict[str, list[Any]], made: dict[str, Any], vocabulary: Vocabulary, workers: int) -> list[Row]:
    ours, first = reports["ours"], reports["ours"][0]
    minutes = [one["seconds"] * workers / 60 / (one["stream"] / 1e9) for one in ours]
    # What was written, at the rate of the disk right after.
    share = [
        one["written"] / (disk["bytes"] / disk["seconds"]) / one["seconds"]
        for one, disk in zip(ours, reports["disk"], strict=True)
    ]
    spread = measure.spread(share)
    read, stream = first["stored"] / 1e6, first["stream"] / 1e6
    common: Row = {
        "corpus": f"{read:,.0f}M → {stream:,.0f}M tokens, {made['documents']:,} documents",
        "vocabulary": vocabulary.name,
        "megabytes": made["text_bytes"] / 1e6,
        "workers": workers,
        "peak": max(max(one["peak_self"], one["peak_child"]) for one in ours),
        "other": "",
        "skipped": "",
    }
    whole: Row = {
        "bench": "Fu's job",
        "unit": "core-minutes per B tokens of stream",
        "ours": measure.spread(minutes),
        "other": "the authors; times fewer",
        "floor": measure.spread([AUTHORS]),
        "ratio": measure.spread([AUTHORS / one for one in minutes]),
        "cpu_minutes": measure.spread([one["cpu"] / 60 / (one["stream"] / 1e9) for one in ours]),
        "wall": measure.spread([one["seconds"] for one in ours]),
        "peak_main": max(one["peak_self"] for one in ours),
        "peak_worker": max(one["peak_child"] for one in ours),
        "corpus_made": made,
        "written": first["written"],
        "disk_share": spread,
        "says": _said(first, reports["disk"], spread["median"]),
    }
    disk: Row = {
        "bench": "Fu's job, disk",
        "unit": "MB/s",
        "ours": measure.spread([one["written"] / one["seconds"] / 1e6 for one in ours]),
        "other": "disk, written and synced",
        "floor": measure.spread([one["bytes"] / one["seconds"] / 1e6 for one in reports["disk"]]),
        "ratio": spread,
    }
    stages = [
        {"bench": f"Fu's job, {name}", "unit": "s", "ours": measure.spread([one["stages"][name] for one in ours])}
        for name in (*STAGES, "sync")
    ]
    return [common | one for one in (whole, disk, *stages)]


def _said(ours: dict[str, Any], disk: list[dict[str, Any]], share: float) -> str:
    rate = measure.spread([one["bytes"] / one["seconds"] for one in disk])["median"]
    verdict = "the disk is the floor" if share >= _FLOOR else "the disk is not the floor"
    return (
        f"Fu's job wrote {ours['written'] / 1e9:.1f} GB; a disk of {rate / 1e9:.2f} GB/s takes {share:.0%} of the wall "
        f"time for that: {verdict}. {ours['documents']:,} documents drawn, at most {ours['most_epochs']:.2f} epochs"
    )


def ours(recipe: str, work: str, workers: int) -> dict[str, Any]:
    """Contestant: all stages into a work directory that is not there yet, and all its bytes on the disk."""
    place = Path(work)
    shutil.rmtree(place, ignore_errors=True)
    times: dict[str, float] = {}

    def timed(name: str, stage: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        made = stage()
        times[name] = time.perf_counter() - start
        return made

    with warm_job(Path(recipe), place, workers) as job:
        before = sum(os.times()[:4])
        start = time.perf_counter()
        store = timed("tokenize", job.tokenize)
        index = timed("bucket", lambda: job.bucket(store))
        plan = timed("plan", lambda: job.plan(store, index))
        packed = timed("pack", lambda: job.pack(store, plan))
        timed("verify", lambda: job.inspect(Checks()).demand())
        timed("sync", lambda: floors.sync(place))
        seconds = time.perf_counter() - start
    cells = packed.lock.phases[0]["cells"]
    return {
        "seconds": seconds,
        # Workers' time counts once they have ended; their start is in it.
        "cpu": sum(os.times()[:4]) - before,
        "stages": times,
        "stored": store.tokens,
        "stream": sum(shard["tokens"] for shard in packed.lock.shards),
        "documents": sum(cell["documents"] for cell in cells),
        "most_epochs": max(cell["epochs"] for cell in cells),
        "written": sum(file.stat().st_size for file in place.rglob("*") if file.is_file()),
    }


def stage(recipe: str, work: str, workers: int, name: str) -> dict[str, Any]:
    """Contestant: one stage alone; those before it are whole and only look. The clock runs for the stage alone."""
    with warm_job(Path(recipe), Path(work), workers) as job:
        store = plan = index = None
        for each in STAGES:
            start = time.perf_counter()
            if each == "tokenize":
                store = job.tokenize()
            elif each == "bucket":
                index = job.bucket(store)
            elif each == "plan":
                plan = job.plan(store, index)
            elif each == "pack":
                job.pack(store, plan)
            else:
                job.inspect(Checks()).demand()
            if each == name:
                break
        return {"seconds": time.perf_counter() - start, "stored": store.tokens, "documents": store.documents}
