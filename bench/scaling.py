"""One worker → two: ours on both, and the machine's own limits on both, in the same rounds.

    tokenize   ours ×1, ours ×2, gigatoken ×1, ×2, arithmetic in cache ×1, ×2
    pack       ours ×1, ours ×2, memcpy ×1, ×2, arithmetic ×1, ×2; to the disk synced, also cp ×1, ×2

A figure is a rate with all workers over the rate with one. Two cores that share one core's units give less than 2 to
any program, and two that share one memory bus less to any that copies: the row names the first limit that is itself
below what is asked for, and where none is, the loss is ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import measure, pack
from bench.job import write_recipe
from bench.machine import version
from bench.measure import Contestant, Rounds
from bench.setting import Row, Setting

WANTED = 1.85
#: Other side → what it stands for.
LIMITS = {
    "arithmetic": "the processor",
    "memcpy": "the memory bus",
    "cp": "the disk",
    "gigatoken": "the tokenizer and what lies under it",
}


def rows(setting: Setting) -> list[Row]:
    """Measure every corpus with the first vocabulary, and packing of the first and the shortest."""
    most, rounds = setting.options.workers, setting.rounds
    if most < 2:
        return []
    found = []
    for corpus in setting.plain:
        with setting.doing(f"scaling: tokenize {corpus.name}"):
            place = rounds.temp / "scaling"
            recipe = write_recipe(place, corpus, setting.vocabularies[0])
            files = [str(file) for file in corpus.files]
            vocabulary = str(setting.vocabularies[0].path)
            sides: dict[str, tuple[str, dict[str, Any]]] = {
                "ours": ("bench.tokenize:ours", {"recipe": str(recipe), "work": str(place / "work")}),
                "arithmetic": ("bench.floors:spin", {}),
            }
            if version("gigatoken"):
                sides["gigatoken"] = ("bench.tokenize:floor", {"files": files, "vocabulary": vocabulary})
            megabytes = corpus.text_bytes / 1e6
            found.append(_row("tokenize", corpus.name, megabytes, most, measured(sides, most, rounds)))
    for corpus in setting.ends:
        with setting.doing(f"scaling: pack {corpus.name}"):
            found += _pack(setting, corpus, rounds)
    return found


def _pack(setting: Setting, corpus: Any, rounds: Rounds) -> list[Row]:
    most = setting.options.workers
    place = rounds.temp / f"scaling-{corpus.name}"
    place.mkdir()
    recipe = pack.prepare(place, corpus, setting.vocabularies[0], most)
    found = []
    for where in ("disk", "disk, synced", "memory"):
        with pack.room(place, where) as folder:
            if folder is not None:
                reports = measured(_pack_sides(recipe, folder, synced=where.endswith("synced")), most, rounds)
                megabytes = reports["ours", 1][0]["bytes"] / 1e6
                found.append(_row("pack", f"{corpus.name} → {where}", megabytes, most, reports))
    return found


def _pack_sides(recipe: Path, folder: Path, *, synced: bool) -> dict[str, tuple[str, dict[str, Any]]]:
    shards, copies = str(folder / "shards"), str(folder / "copies")
    sides: dict[str, tuple[str, dict[str, Any]]] = {
        "ours": ("bench.pack:ours", {"recipe": str(recipe), "target": shards, "synced": synced}),
        "memcpy": ("bench.floors:memcpy", {"source": shards}),
        "arithmetic": ("bench.floors:spin", {}),
    }
    if synced:
        sides["cp"] = ("bench.floors:cp", {"source": shards, "target": copies, "synced": True})
    return sides


def measured(
    sides: Mapping[str, tuple[str, dict[str, Any]]], most: int, rounds: Rounds
) -> dict[tuple[str, int], list[dict[str, Any]]]:
    """Run each side with one and with all workers, all in turn; return the reports by side and workers."""
    words = {"bench.floors:spin": "processes", "bench.floors:memcpy": "threads", "bench.floors:cp": "threads"}
    contestants = [
        Contestant(f"{name} ×{count}", function, told | {words.get(function, "workers"): count})
        for name, (function, told) in sides.items()
        for count in (1, most)
    ]
    reports = measure.alternate(contestants, rounds)
    return {(name, count): reports[f"{name} ×{count}"] for name in sides for count in (1, most)}


def _row(
    name: str, corpus: str, megabytes: float, most: int, reports: Mapping[tuple[str, int], list[dict[str, Any]]]
) -> Row:
    gains = {side: gain(reports[side, 1], reports[side, most]) for side, count in reports if count == 1}
    others = [{"name": side, "rate": gains[side], "ratio": _over(gains, side)} for side in gains if side != "ours"]
    ours = reports["ours", most]
    return {
        "bench": f"{name}, {most} workers over 1",
        "corpus": corpus,
        "megabytes": megabytes,
        "workers": most,
        "unit": "times as fast",
        "ours": gains["ours"],
        "other": others[0]["name"],
        "floor": others[0]["rate"],
        "ratio": others[0]["ratio"],
        "more": others[1:],
        "limit": limit({side: found["median"] for side, found in gains.items()}, WANTED * most / 2),
        "peak": max(one["peak_child"] for one in ours),
        "skipped": "",
        "says": f"{name} {corpus}: {limit({k: v['median'] for k, v in gains.items()}, WANTED * most / 2)}",
    }


def gain(one: Sequence[Mapping[str, float]], many: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return how many times the work of one worker all do in the same time, over the rounds."""
    return measure.ratios([_rate(report) for report in many], [_rate(report) for report in one])


def _rate(report: Mapping[str, float]) -> float:
    return report.get("bytes", 1.0) / report["seconds"]


def _over(gains: Mapping[str, dict[str, float]], side: str) -> dict[str, float]:
    median = gains["ours"]["median"] / gains[side]["median"]
    return {"min": median, "median": median, "max": median}


def limit(gains: Mapping[str, float], wanted: float) -> str:
    """Say what holds ours back.

    Args:
        gains: of ours and of the machine's limits, by side.
        wanted: the gain that is asked for.
    """
    ours = gains["ours"]
    if ours >= wanted:
        return f"{ours:.2f} ≥ {wanted:g} times"
    short = {side: found for side, found in gains.items() if side != "ours" and found < wanted}
    if not short:
        return f"{ours:.2f} < {wanted:g} times, and nothing else falls short: the loss is ours"
    side = min(short, key=lambda one: short[one])
    return f"{ours:.2f} < {wanted:g} times; {LIMITS[side]} itself gives {short[side]:.2f} ({side})"
