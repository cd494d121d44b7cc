"""Cost as work grows: the same job on 1, 4 and 16 times the corpus, each stage's time and memory; drawn by `--plot`.

Corpus and recipe are those of Fu's job (`bench.fu`); shards hold as many tokens at every size. Each stage runs in a
fresh process, after those before it, which then only look. `plan` and what it needs are also measured alone, on
generated indices of many more documents (`bench.plan`). Time should grow as the work does, memory not at all.

Memory of a stage is that of its main process, and of its largest worker times the workers: what it could be at once.
"""

from __future__ import annotations

import math
import shutil
from typing import Any

from bench import fu, growth_plot, machine, measure
from bench.measure import Contestant, Rounds
from bench.setting import Row, Setting
from bench.slimpajama import SEQUENCE, make_index
from mixture.recipe.quantities import tokens

#: Documents of the smallest index that is planned alone.
_DOCUMENTS = 1_000_000


def rows(setting: Setting) -> list[Row]:
    """Measure every size; draw them if asked to."""
    options = setting.options
    base = max(2 * options.workers, tokens(options.base) // SEQUENCE) * SEQUENCE
    sizes = sorted(options.times)
    found = []
    for times in sizes:
        with setting.doing(f"growth: {times} × {base / 1e6:,.0f}M tokens"):
            found += _job(setting, base, times)
    for times in sizes:
        with setting.doing(f"growth: plan of {times} × {_DOCUMENTS:,} documents"):
            found.append(_plan(setting, times))
    smallest = {row["stage"]: row for row in reversed(found)}
    found = [row | compared(row, smallest[row["stage"]]) for row in found]
    if options.plot:
        growth_plot.draw(found, machine.facts(), options.plot)
    return found


def _job(setting: Setting, base: int, times: int) -> list[Row]:
    workers = setting.options.workers
    place = setting.temp / f"growth-{times}"
    made = fu.corpus(setting, place, int(base * times * setting.options.supply), workers)
    recipe = fu.write_recipe(place, setting.vocabularies[0], base * times, base // (2 * workers) // SEQUENCE * SEQUENCE)
    reports: dict[str, list[dict[str, Any]]] = {name: [] for name in fu.STAGES}
    for _ in range(setting.rounds.counted):
        shutil.rmtree(place / "work", ignore_errors=True)
        for name in fu.STAGES:
            told = {"recipe": str(recipe), "work": str(place / "work"), "workers": workers, "name": name}
            reports[name].append(measure.run(Contestant(name, "bench.fu:stage", told), setting.temp))
    shutil.rmtree(place)
    corpus = f"{made['tokens'] / 1e6:,.0f}M → {base * times / 1e6:,.0f}M tokens, {made['documents']:,} documents"
    facts = {"corpus": corpus, "megabytes": made["text_bytes"] / 1e6}
    return [_row(name, times, workers, found, facts) for name, found in reports.items()]


def _plan(setting: Setting, times: int) -> Row:
    workers, place = setting.options.workers, setting.temp / "growth-plan"
    index = make_index(place / "index", times * _DOCUMENTS, workers=workers)
    told = {"folder": str(index.folder), "budget": index.tokens // 5, "workers": workers, "work": str(place / "work")}
    side = Contestant("plan", "bench.plan:ours", told)
    rounds = Rounds(setting.rounds.counted, 0, setting.temp)
    found = measure.alternate([side], rounds)["plan"]
    facts = {"corpus": f"an index of {index.documents:,} documents", "megabytes": index.table.stat().st_size / 1e6}
    shutil.rmtree(place)
    return _row("plan alone", times, workers, found, facts)


def _row(stage: str, times: int, workers: int, found: list[dict[str, Any]], facts: dict[str, Any]) -> Row:
    return {
        "bench": f"growth, {stage}, {times} ×",
        "stage": stage,
        "times": times,
        "workers": workers,
        "unit": "s",
        "ours": measure.spread([one["seconds"] for one in found]),
        "peak": max(one["peak_self"] + workers * one["peak_child"] for one in found),
        "peak_main": max(one["peak_self"] for one in found),
        "peak_worker": max(one["peak_child"] for one in found),
        "other": "",
        "skipped": "",
    } | facts


def compared(row: Row, first: Row) -> Row:
    """Return a row's time and memory over those of the smallest size, and the exponent of its growth.

    Example: 16 times the work in 8 times the time is time ** .75.
    """
    work, time = row["times"] / first["times"], row["ours"]["median"] / first["ours"]["median"]
    return {
        "time_growth": time,
        "memory_growth": row["peak"] / first["peak"],
        "exponent": math.log(time) / math.log(work) if work > 1 else None,
    }
