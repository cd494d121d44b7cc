"""Lengths → pieces: our packings, and the packers of others on the same documents.

The documents of one window of the stream (256M tokens, as many as a shard holds) have the shape of SlimPajama
(`bench.slimpajama`). What is measured is the packing alone, in one process; drawing lengths and imports are not. Of the
others, TRL and Grain pack tokens, one byte each here, which costs them a copy; prtpy and binpacking take seconds for a
few thousand documents, so they and ours get the first of them only. None is a dependency: what is not installed is said
and left out.

`python -m bench.packings` prints what each packing does to the documents of a window: the table of docs/packing.md.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from bench import measure
from bench.measure import Contestant, Failed, Rounds
from bench.setting import Row, Setting
from bench.slimpajama import DOMAINS, EDGES, draw
from mixture.pack import Ints, Pieces
from mixture.pack.best_fit import best_fit
from mixture.pack.concat import concat
from mixture.pack.facts import Facts
from mixture.pack.facts import measure as facts_of
from mixture.pack.intact import intact
from mixture.pack.split_by_length import split_by_length
from mixture.pack.vsl import vsl
from mixture.recipe.quantities import tokens as tokens_of

_K = 1024
LENGTHS = (8 * _K, 32 * _K, 128 * _K)
#: Documents for packers that look at every sequence for every document.
_FEW = 2000
#: Sequences that Grain keeps open.
_GRAIN_BINS = 64
#: Below the mean document's tokens, so that enough are drawn.
_TOKENS_PER_DOCUMENT = 800

PACKINGS: dict[str, Callable[[Ints, int], Pieces]] = {
    "concat": concat,
    "best-fit": best_fit,
    "intact": intact,
    "split-by-length .6": split_by_length,
    "split-by-length .1": partial(split_by_length, long=0.1),
    "vsl": vsl,
    "vsl, smallest 256": partial(vsl, smallest=256),
}


def rows(setting: Setting) -> list[Row]:
    """Measure a window of as many tokens as asked for."""
    return bench(tokens_of(setting.options.window), setting.rounds)


def bench(tokens: int, rounds: Rounds) -> list[dict[str, Any]]:
    """Measure every packing on a window of so many tokens; return a row for each packing and length."""
    rows = [_against_peers(tokens, length, rounds) for length in LENGTHS]
    rows.append(_against_slow_peers(tokens, LENGTHS[0], rounds))
    return rows + [_alone(name, tokens, LENGTHS[1], rounds) for name in PACKINGS if name != "best-fit"]


def _against_peers(tokens: int, length: int, rounds: Rounds) -> dict[str, Any]:
    job = {"tokens": tokens, "length": length}
    peers = [
        ("trl", Contestant("TRL bfd_split", "bench.packings:trl", job | {"strategy": "bfd_split"})),
        ("trl", Contestant("TRL bfd", "bench.packings:trl", job | {"strategy": "bfd"})),
        ("grain", Contestant(f"Grain best fit, {_GRAIN_BINS} open", "bench.packings:grain", job)),
    ]
    return _measure("best-fit", job, peers, rounds)


def _against_slow_peers(tokens: int, length: int, rounds: Rounds) -> dict[str, Any]:
    job = {"tokens": tokens, "length": length, "most": _FEW}
    peers = [
        ("prtpy", Contestant("prtpy best_fit.decreasing", "bench.packings:prtpy", job)),
        ("binpacking", Contestant("binpacking to_constant_volume", "bench.packings:binpacking", job)),
    ]
    return _measure("best-fit", job, peers, rounds)


def _alone(name: str, tokens: int, length: int, rounds: Rounds) -> dict[str, Any]:
    return _measure(name, {"tokens": tokens, "length": length}, [], rounds)


def _measure(name: str, job: dict[str, Any], peers: list[tuple[str, Contestant]], rounds: Rounds) -> dict[str, Any]:
    """Run ours and those of the peers that are there and work, in turn."""
    ours = Contestant("ours", "bench.packings:ours", job | {"name": name})
    able: list[Contestant] = []
    missing: list[str] = []
    for module, peer in peers:
        if importlib.util.find_spec(module) is None:
            missing.append(f"{peer.name}: {module} is not installed")
            continue
        try:
            measure.run(peer, rounds.temp)
            able.append(peer)
        except Failed as error:
            missing.append(str(error))
    reports = measure.alternate([ours, *able], rounds)
    rates = {who: [report["documents"] / report["seconds"] / 1e3 for report in found] for who, found in reports.items()}
    first = reports["ours"][0]
    others = [_other(reports[peer.name], rates, peer.name) for peer in able]
    others += [{"name": why.split(":")[0], "rate": None, "ratio": None} for why in missing]
    lead = others[0] if others else {"name": "", "rate": None, "ratio": None}
    return {
        "bench": f"{name} at {job['length'] // _K}K, padding {first['padding']:.4%}",
        "corpus": f"{first['documents']:,} documents → {first['sequences']:,} sequences",
        "megabytes": first["tokens"] / 1e6,
        "documents": first["documents"],
        "padding": first["padding"],
        "workers": 1,
        "unit": "K documents/s",
        "ours": measure.spread(rates["ours"]),
        "other": lead["name"],
        "floor": lead["rate"],
        "ratio": lead["ratio"],
        "floor_peak": lead.get("peak"),
        "more": others[1:],
        "peak": max(report["peak_self"] for report in reports["ours"]),
        "skipped": "; ".join(missing),
    }


def _other(reports: list[dict[str, Any]], rates: dict[str, list[float]], name: str) -> dict[str, Any]:
    lost = f", drops {reports[0]['lost']:.1%}" if reports[0]["lost"] else ""
    return {
        "name": f"{name}, padding {reports[0]['padding']:.4%}{lost}",
        "rate": measure.spread(rates[name]),
        "ratio": measure.ratios(rates["ours"], rates[name]),
        "peak": max(report["peak_self"] for report in reports),
        "padding": reports[0]["padding"],
        "lost": reports[0]["lost"],
    }


def window(tokens: int, most: int | None = None, seed: int = 0) -> tuple[Ints, Ints]:
    """Return lengths and domains of documents of the shape that together have about so many tokens, shape (n,) each.

    Args:
        tokens: of the window.
        most: documents at most.
        seed: of the draw.
    """
    drawn = draw(max(1, tokens // _TOKENS_PER_DOCUMENT), seed, 0, 1)
    # One row group is sorted by id and drawn at random: any stretch of it has the shape.
    lengths, domain = drawn["length"].astype(np.int64), drawn["cell"].astype(np.int64) // (len(EDGES) - 1)
    count = int(np.searchsorted(np.cumsum(lengths), tokens)) + 1
    count = min(count, len(lengths) if most is None else most)
    return lengths[:count], domain[:count]


def _report(seconds: float, lengths: Ints, kept: int, sequences: int, length: int) -> dict[str, Any]:
    return {
        "seconds": seconds,
        "documents": len(lengths),
        "tokens": int(lengths.sum()),
        "sequences": sequences,
        "padding": 1 - kept / (sequences * length),
        "lost": 1 - kept / int(lengths.sum()),
    }


def _stretches(lengths: Ints, length: int) -> list[int]:
    """Cut documents to stretches that fit, for packers that cannot."""
    pieces = -(-lengths // length)
    row = np.repeat(np.arange(len(lengths)), pieces)
    nth = np.arange(len(row)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    sizes: list[int] = np.minimum(length, lengths[row] - nth * length).tolist()
    return sizes


def ours(name: str, tokens: int, length: int, most: int | None = None) -> dict[str, Any]:
    """Contestant: a packing of ours."""
    lengths, _ = window(tokens, most)
    start = time.perf_counter()
    pieces = PACKINGS[name](lengths, length)
    seconds = time.perf_counter() - start
    return _report(seconds, lengths, int(pieces.size.sum()), pieces.sequences, length)


def trl(tokens: int, length: int, strategy: str) -> dict[str, Any]:
    """Contestant: `pack_dataset` of TRL, all documents in one batch."""
    import datasets
    import pyarrow as pa
    from trl import pack_dataset

    datasets.disable_progress_bars()
    lengths, _ = window(tokens)
    offsets = np.r_[0, np.cumsum(lengths)]
    column = pa.LargeListArray.from_arrays(offsets, np.zeros(int(offsets[-1]), np.uint8))
    documents = datasets.Dataset(pa.table({"input_ids": column}))
    how = {"batch_size": len(lengths), "keep_in_memory": True}
    start = time.perf_counter()
    packed = pack_dataset(documents, length, strategy=strategy, map_kwargs=how)
    seconds = time.perf_counter() - start
    kept = sum(sum(row) for row in packed["seq_lengths"])
    return _report(seconds, lengths, kept, len(packed), length)


def grain(tokens: int, length: int) -> dict[str, Any]:
    """Contestant: best-fit of Grain, online with a few open sequences."""
    from grain import MapDataset
    from grain.experimental import BestFitPackIterDataset

    lengths, _ = window(tokens)
    documents = [{"x": np.zeros(size, np.uint8)} for size in _stretches(lengths, length)]
    parent = MapDataset.source(documents).to_iter_dataset()
    start = time.perf_counter()
    packed = BestFitPackIterDataset(
        parent, length_struct={"x": length}, num_packing_bins=_GRAIN_BINS, shuffle_bins=False
    )
    sequences = sum(1 for _ in packed)
    return _report(time.perf_counter() - start, lengths, int(lengths.sum()), sequences, length)


def prtpy(tokens: int, length: int, most: int) -> dict[str, Any]:
    """Contestant: best-fit-decreasing of prtpy."""
    import prtpy as peer
    from prtpy.packing.best_fit import decreasing

    lengths, _ = window(tokens, most)
    items = _stretches(lengths, length)
    start = time.perf_counter()
    bins = peer.pack(algorithm=decreasing, binsize=length, items=items)
    return _report(time.perf_counter() - start, lengths, int(lengths.sum()), len(bins), length)


def binpacking(tokens: int, length: int, most: int) -> dict[str, Any]:
    """Contestant: `to_constant_volume` of binpacking."""
    import binpacking as peer

    lengths, _ = window(tokens, most)
    items = _stretches(lengths, length)
    start = time.perf_counter()
    bins = peer.to_constant_volume(items, length)
    return _report(time.perf_counter() - start, lengths, int(lengths.sum()), len(bins), length)


def facts(name: str, tokens: int, length: int) -> Facts:
    """Return what a packing does to the documents of a window."""
    lengths, domain = window(tokens)
    pieces = PACKINGS[name](lengths, length)
    begins, ends = pieces.offset == 0, pieces.offset + pieces.size == lengths[pieces.row]
    return facts_of(pieces, begins, ends, domain[pieces.row], len(DOMAINS), pieces.sequences, length)


def main(tokens: int = 1 << 28) -> None:
    """Print the facts of every packing as a Markdown table."""
    print("| packing | length | padding % | cuts/document | truncated % | mean context | pieces/sequence | Σ size² |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    for length in LENGTHS:
        for name in PACKINGS:
            made = facts(name, tokens, length)
            truncated = sum(made.truncated) / made.documents
            print(
                f"| {name} | {length // _K}K | {100 * made.padding:.4f} | {made.cuts_per_document:.3f} "
                f"| {100 * truncated:.2f} | {made.mean_context:,.0f} | {made.pieces_per_sequence:,.1f} "
                f"| {made.relative_cost:.3f} |"
            )


if __name__ == "__main__":
    main()
