"""One command: `python -m bench [--corpus PATH …] [--tokenizer FILE]` prints ours, floor and ratio, and writes JSON."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import corpora, loader, machine, pack, packings, plan, scale, scale_bytes, tokenize, trace
from bench.measure import Rounds
from bench.scale_work import Size
from mixture.recipe.quantities import tokens


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benches asked for."""
    options = _parser().parse_args(arguments)
    # Wide enough for the table where the output goes to a file.
    console = Console(width=None if sys.stdout.isatty() else 180)
    with tempfile.TemporaryDirectory(prefix="mixture-bench-", dir=options.temp) as name:
        run, show_rows = (_run_scale, scale.show) if options.only == "scale" else (_run, show)
        result = {"machine": machine.facts(), "rows": run(options, Path(name), console)}
    result["options"] = {"repeat": options.repeat, "workers": options.workers}
    show_rows(result, console)
    out = options.out or Path("bench/out") / f"{result['machine']['date'].replace(':', '')}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    console.print(f"written: {out}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="How fast, against what.")
    add = parser.add_argument
    add("--corpus", type=Path, nargs="+", metavar="PATH", help="folders or files: .jsonl[.gz|.zst], .parquet")
    add("--tokenizer", type=Path, metavar="FILE", help=".tiktoken, .model or tokenizer.json (default: makes a BPE)")
    add("--only", choices=["tokenize", "pack", "plan", "packings", "trace", "loader", "scale"], help="one bench alone")
    add("--repeat", type=int, default=3, help="rounds that count (default 3)")
    add("--warm-up", type=int, default=1, help="rounds before them (default 1)")
    add("--no-short", dest="short", action="store_false", help="leave the corpus of short documents out")
    add("--workers", type=int, default=machine.cores(), help="worker processes, besides 1 (default: all cores)")
    add("--documents", default="4M", help="plan, trace: documents of the generated index, as 100M or 1B (default 4M)")
    add("--budget", help="plan, trace: tokens of the plan, as 20B (default: a fifth of the index)")
    add("--window", default="256M", help="packings: tokens of the generated window (default 256M)")
    add("--sequences", type=int, default=4096, help="loader: sequences of 32K in the generated shards (default 4096)")
    add("--megabytes", type=float, default=64, help="without --corpus: how much of the standard library (default 64)")
    add("--vocabulary", type=int, default=16_000, help="without --tokenizer: tokens of the BPE (default 16000)")
    add("--parts", type=int, default=2000, help="scale: parts of the token store (default 2000)")
    add("--shards", type=int, default=600, help="scale: shards of the job (default 600)")
    add("--tasks", default="1M", help="scale: tasks of the largest batch (default 1M)")
    add("--temp", type=Path, metavar="DIR", help="where to work (default: the system's temporary folder)")
    add("--out", type=Path, metavar="FILE", help="JSON (default bench/out/<date>.json)")
    return parser


def _run(options: argparse.Namespace, temp: Path, console: Console) -> list[dict[str, Any]]:
    rounds = Rounds(options.repeat, options.warm_up, temp)
    counts = tuple(sorted({1, options.workers}))
    on_text = options.only not in ("plan", "packings", "trace", "loader")
    rows = _run_on_text(options, temp, console, rounds, counts) if on_text else []
    budget = tokens(options.budget) if options.budget else None
    if options.only in (None, "plan"):
        with console.status(f"plan {options.documents} documents"):
            rows += plan.bench(tokens(options.documents), budget, counts, rounds)
    if options.only in (None, "packings"):
        with console.status(f"packings of {options.window} tokens"):
            rows += packings.bench(tokens(options.window), rounds)
    if options.only in (None, "trace"):
        with console.status(f"trace in a plan over {options.documents} documents"):
            rows += trace.bench(tokens(options.documents), budget, options.workers, rounds)
    if options.only in (None, "loader"):
        with console.status(f"loader on {options.sequences:,} sequences"):
            rows += loader.bench(options.sequences, rounds)
    return rows


def _run_scale(options: argparse.Namespace, temp: Path, console: Console) -> list[dict[str, Any]]:
    rounds = Rounds(options.repeat, options.warm_up, temp)
    with console.status(f"a job of {options.parts:,} parts and {options.shards:,} shards"):
        rows = scale.bench(Size(options.parts, options.shards), rounds, tokens(options.tasks))
    with console.status(f"what shards fetch, {options.documents} documents"):
        return rows + scale_bytes.bench(tokens(options.documents), rounds)


def _run_on_text(
    options: argparse.Namespace, temp: Path, console: Console, rounds: Rounds, counts: tuple[int, ...]
) -> list[dict[str, Any]]:
    with console.status("laying out the corpus"):
        own = options.corpus is None
        given = corpora.stdlib(temp / "stdlib", options.megabytes) if own else corpora.given(options.corpus)
        vocabulary = corpora.vocabulary(options.tokenizer, given, temp / "vocabulary", options.vocabulary)
        plain = given if given.plain else corpora.plain(given, temp / "plain")
        short = [corpora.short(plain, temp / "short")] if options.short else []
    rows: list[dict[str, Any]] = []
    if options.only != "pack":
        for corpus in ([plain] if given.plain else [plain, given]) + short:
            for workers in counts:
                with console.status(f"tokenize {corpus.name}, {workers} workers"):
                    rows += tokenize.bench(corpus, vocabulary, workers, rounds)
    if options.only != "tokenize":
        for corpus in [plain, *short]:
            with console.status(f"pack {corpus.name}"):
                rows += pack.bench(corpus, vocabulary, counts, rounds)
    return rows


def show(result: dict[str, Any], console: Console) -> None:
    """Print what was measured, and on what."""
    facts = result["machine"]
    console.print(
        f"{facts['processor']}, {facts['cores']} cores, {facts['memory_gib']} GiB, load {facts['load_average'][0]}; "
        f"Python {facts['python']}; {', '.join(f'{k} {v}' for k, v in facts['libraries'].items())}; {facts['date']}"
    )
    table = Table(title="median (min to max); ratio: ours / other, between neighbours in time")
    table.add_column("bench")
    table.add_column("corpus")
    for heading in ("workers", "ours", "other", "", "ratio", "peak, ours", "other"):
        table.add_column(heading, justify="left" if heading == "other" else "right", no_wrap=True)
    for row in result["rows"]:
        others = [(row["other"], row.get("floor"), row.get("ratio"), row.get("floor_peak"))]
        others += [(o["name"], o["rate"], o["ratio"], o.get("peak")) for o in row.get("more", ())]
        for name, floor, ratio, peak in others:
            table.add_row(
                f"{row['bench']}, {row['unit']}",
                f"{row['corpus']}, {row['megabytes']:,.0f} MB",
                str(row["workers"]),
                _spread(row["ours"]),
                name,
                _spread(floor),
                _spread(ratio) if ratio else row["skipped"],
                f"{row['peak'] / 2**20:,.0f} MiB",
                f"{peak / 2**20:,.0f} MiB" if peak else "",
            )
    console.print(table)


def _spread(found: dict[str, float] | None) -> str:
    if found is None:
        return ""
    digits = 1 if found["median"] >= 10 else 2
    return f"{found['median']:.{digits}f} ({found['min']:.{digits}f} to {found['max']:.{digits}f})"


if __name__ == "__main__":
    main()
