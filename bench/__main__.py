"""One command: `python -m bench [--corpus [NAME=]PATH …] [--tokenizer FILE …]` prints ours, floor, ratio."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from bench import (
    fu,
    growth,
    loader,
    long_documents,
    machine,
    pack,
    packings,
    plan,
    scale,
    scale_bytes,
    scaling,
    tokenize,
    tokenize_peers,
    trace,
)
from bench.options import parser
from bench.scale_work import Size
from bench.setting import Row, Setting
from bench.show import show
from mixture.recipe.quantities import tokens


def _scale(setting: Setting) -> list[Row]:
    options, size = setting.options, Size(setting.options.parts, setting.options.shards)
    rows = scale.bench(size, setting.rounds, tokens(options.tasks))
    return rows + scale_bytes.bench(tokens(options.documents), setting.rounds)


#: Name → rows. Those of the second table take long, or say another thing, and run when they are asked for.
BENCHES: dict[str, Callable[[Setting], list[Row]]] = {
    "tokenize": tokenize.rows,
    "peers": tokenize_peers.rows,
    "scaling": scaling.rows,
    "long": long_documents.rows,
    "pack": pack.rows,
    "plan": plan.rows,
    "packings": packings.rows,
    "trace": trace.rows,
    "loader": loader.rows,
    "fu": fu.rows,
}
ON_REQUEST: dict[str, Callable[[Setting], list[Row]]] = {"growth": growth.rows, "scale": _scale}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benches asked for."""
    known = BENCHES | ON_REQUEST
    options = parser(known).parse_args(arguments)
    names = options.only or list(BENCHES)
    # Wide enough for the table where the output goes to a file.
    console = Console(width=None if sys.stdout.isatty() else 180)
    result = {"machine": machine.facts(), "options": options.__dict__, "rows": []}
    out = options.out or Path("bench/out") / f"{result['machine']['date'].replace(':', '')}.json"
    with tempfile.TemporaryDirectory(prefix="mixture-bench-", dir=options.temp) as folder:
        setting = Setting(options, Path(folder), console)
        for name in names:
            with setting.doing(name):
                result["rows"] += known[name](setting)
            # After each: what a long run has found is not lost with its end.
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(result, indent=1, default=str) + "\n", encoding="utf-8")
    (scale.show if names == ["scale"] else show)(result, console)
    console.print(f"written: {out}")


if __name__ == "__main__":
    main()
