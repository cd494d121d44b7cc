"""The options of `python -m bench`."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterable
from pathlib import Path

from bench import machine
from mixture.recipe.quantities import tokens


def parser(names: Iterable[str]) -> argparse.ArgumentParser:
    """Return the parser.

    Args:
        names: of the benches.
    """
    made = argparse.ArgumentParser(prog="python -m bench", description="How fast, against what.")
    _what(made, list(names))
    _texts(made.add_argument_group("texts and vocabularies"))
    _sizes(made.add_argument_group("sizes of single benches"))
    return made


def _amount(text: str) -> str:
    """Return an amount of tokens or documents as it was said, if it is one."""
    try:
        tokens(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _size(text: str) -> float:
    """Return a number above zero."""
    with contextlib.suppress(ValueError):
        if (size := float(text)) > 0:
            return size
    raise argparse.ArgumentTypeError(f"{text!r} is not a number above zero")


def _what(made: argparse.ArgumentParser, names: list[str]) -> None:
    add = made.add_argument
    add("--only", choices=names, nargs="+", metavar="BENCH", help=f"these benches alone: {', '.join(names)}")
    add("--repeat", type=int, default=3, help="rounds that count (default 3)")
    add("--warm-up", type=int, default=1, help="rounds before them (default 1)")
    add("--workers", type=int, default=machine.cores(), help="worker processes, besides 1 (default: all cores)")
    add("--temp", type=Path, metavar="DIR", help="where to work (default: the system's temporary folder)")
    add("--out", type=Path, metavar="FILE", help="JSON (default bench/out/<date>.json)")


def _texts(made: argparse._ArgumentGroup) -> None:
    add = made.add_argument
    add("--corpus", nargs="+", metavar="[NAME=]PATH", help="folders, files, patterns: .jsonl[.gz|.zst], .parquet")
    add("--tokenizer", type=Path, nargs="+", metavar="FILE", help=".tiktoken, .model, tokenizer.json (default: a BPE)")
    add("--no-short", dest="short", action="store_false", help="leave the corpus of short documents out")
    add("--megabytes", type=_size, default=256, help="code, and smaller corpora again and again (default 256)")
    add("--vocabulary", type=int, default=16_000, help="without --tokenizer: tokens of the BPE (default 16000)")
    add("--peers", type=Path, metavar="DIR", help="peers: virtual environments DIR/datatrove, DIR/dolma")
    add("--slice", type=_size, default=24, help="peers: megabytes of each corpus (default 24)")


def _sizes(made: argparse._ArgumentGroup) -> None:
    add = made.add_argument
    add(
        "--documents",
        type=_amount,
        default="4M",
        help="plan, trace: documents of the generated index, as 100M or 1B (default 4M)",
    )
    add("--budget", type=_amount, help="plan, trace: tokens of the plan, as 20B (default: a fifth of the index)")
    add("--window", type=_amount, default="256M", help="packings: tokens of the generated window (default 256M)")
    add("--sequences", type=int, default=4096, help="loader: sequences of 32K in the generated shards (default 4096)")
    add(
        "--long", type=_size, nargs="+", default=[100, 1000], help="long: megabytes of each document (default 100 1000)"
    )
    add("--stream", type=_amount, default="200M", help="fu: tokens of the stream, as 5B (default 200M)")
    add("--supply", type=_size, default=2.2, help="fu: tokens of the corpus for each token of the stream (default 2.2)")
    add("--base", type=_amount, default="20M", help="growth: tokens of the smallest stream (default 20M)")
    add("--times", type=int, nargs="+", default=[1, 4, 16], help="growth: sizes, as multiples of it (default 1 4 16)")
    add("--plot", type=Path, metavar="DIR", help="growth: folder for growth.png, growth.svg and growth.md")
    add("--parts", type=int, default=2000, help="scale: parts of the token store (default 2000)")
    add("--shards", type=int, default=600, help="scale: shards of the job (default 600)")
    add("--tasks", type=_amount, default="1M", help="scale: tasks of the largest batch (default 1M)")
