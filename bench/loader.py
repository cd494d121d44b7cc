"""Shards → batches: our loader, others on the same tokens, and what a copy costs at least.

The shards are as `pack` writes them: documents of SlimPajama's shape (`bench.slimpajama`) end to end in sequences of
32K, spans, hashes of rows; the tokens are random. Every contestant reads every sequence a few times, in one random
order, in one process, some at a time, and ends with int64 arrays; the files are in the page cache.

    batches   ours: input_ids, labels, position_ids, cu_seqlens, spans; each row held to its hash
    rows      ours: tokens and spans; each row held to its hash
    tokens    ours: tokens alone, held to nothing: as much as the others do
    floor     rows of a mapped file, widened to int64: one copy
    datasets  the same Arrow files, format numpy
    mds       the same tokens as MDS shards, `LocalDataset` of MosaicML streaming

The first batch is the time from a fresh interpreter's first line, imports and the lock's reading included, to the first
batch of a shuffled phase of 1,000 shards. None of the others is a dependency: what is not installed is said and left
out.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from bench import loader_shards as shards
from bench import measure
from bench.loader_sides import MICRO
from bench.measure import Contestant, Failed, Rounds
from bench.setting import Row, Setting

_SHARDS = 4
#: Tokens are uint32 then, as with most vocabularies of today.
_VOCABULARY = 128_000
#: The first batch: shards, sequences in each, and sequences of a large one.
_MANY, _FEW, _STEP = 1000, 8, 512


def rows(setting: Setting) -> list[Row]:
    """Measure as many sequences as asked for."""
    return bench(setting.options.sequences, setting.rounds)


def bench(sequences: int, rounds: Rounds) -> list[dict[str, Any]]:
    """Measure throughput on so many sequences, and the first batch of many shards; return a row for each."""
    work, many = rounds.temp / "loader", rounds.temp / "loader-many"
    shards.make(work, -(-sequences // _SHARDS), _SHARDS, _VOCABULARY)
    shards.make(many, _FEW, _MANY, _VOCABULARY)
    return [*_throughput(work, rounds), *_first(many, rounds)]


def _throughput(work: Path, rounds: Rounds) -> list[dict[str, Any]]:
    job = {"work": str(work)}
    ours = [
        Contestant("batches", "bench.loader_sides:batches", job),
        Contestant("rows", "bench.loader_sides:rows", job),
        Contestant("tokens", "bench.loader_sides:tokens", job),
    ]
    others = [
        ("numpy", Contestant("floor: mapped, widened", "bench.loader_sides:floor", job)),
        ("datasets", Contestant("datasets, numpy", "bench.loader_sides:huggingface", job)),
        ("streaming", Contestant("MosaicML streaming", "bench.loader_sides:mds", job)),
    ]
    able, missing = _able(others, rounds)
    reports = measure.alternate([*ours, *able], rounds)
    rates = {who: [one["tokens"] / one["seconds"] / 1e6 for one in found] for who, found in reports.items()}
    rows = []
    for one in ours:
        peers = [_other(peer.name, reports, rates, one.name) for peer in able]
        facts = reports[one.name][0]
        name = f"loader, {one.name}"
        mine = {"ours": measure.spread(rates[one.name]), "peak": max(r["peak_self"] for r in reports[one.name])}
        rows.append(_row(name, "Mtok/s", facts, peers, missing) | mine)
    return rows


def _first(work: Path, rounds: Rounds) -> list[dict[str, Any]]:
    job = {"work": str(work)}
    rows = []
    for step in (MICRO, _STEP):
        ours = Contestant("ours", "bench.loader_sides:first", job | {"step": step})
        others = [
            ("datasets", Contestant("datasets", "bench.loader_sides:first_huggingface", job | {"step": step})),
            ("streaming", Contestant("MosaicML streaming", "bench.loader_sides:first_mds", job | {"step": step})),
        ]
        able, missing = _able(others, rounds)
        reports = measure.alternate([ours, *able], rounds)
        times = {who: [one["seconds"] for one in found] for who, found in reports.items()}
        peers = [_other(peer.name, reports, times, "ours") for peer in able]
        row = _row(f"loader, first {step} of {_MANY:,} shards", "s", reports["ours"][0], peers, missing)
        rows.append(row | {"ours": measure.spread(times["ours"]), "peak": max(r["peak_self"] for r in reports["ours"])})
    return rows


def _able(peers: list[tuple[str, Contestant]], rounds: Rounds) -> tuple[list[Contestant], list[str]]:
    able, missing = [], []
    for module, peer in peers:
        if importlib.util.find_spec(module) is None:
            missing.append(f"{peer.name}: {module} is not installed")
            continue
        try:
            measure.run(peer, rounds.temp)
            able.append(peer)
        except Failed as error:
            missing.append(str(error))
    return able, missing


def _other(name: str, reports: dict[str, Any], found: dict[str, list[float]], ours: str) -> dict[str, Any]:
    return {
        "name": name,
        "rate": measure.spread(found[name]),
        "ratio": measure.ratios(found[ours], found[name]),
        "peak": max(report["peak_self"] for report in reports[name]),
    }


def _row(
    name: str, unit: str, facts: dict[str, Any], peers: list[dict[str, Any]], missing: list[str]
) -> dict[str, Any]:
    others = peers + [{"name": why.split(":")[0], "rate": None, "ratio": None} for why in missing]
    lead = others[0]
    return {
        "bench": name,
        "corpus": f"{facts['sequences']:,} sequences of {shards.LENGTH // 1024}K",
        "megabytes": facts["megabytes"],
        "workers": 1,
        "unit": unit,
        "other": lead["name"],
        "floor": lead["rate"],
        "ratio": lead["ratio"],
        "floor_peak": lead.get("peak"),
        "more": others[1:],
        "skipped": "; ".join(missing),
    }
