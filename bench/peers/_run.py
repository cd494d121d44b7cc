"""A peer's process: twice on next to nothing, then on the slice; the report goes to stdout.

The first run imports what the others find imported, the second is the start of workers and vocabulary, and its time is
taken off the third's, up to half of it: on a slice so small that more would go, the difference is noise.
Python and libraries only: this runs in another environment than ours. What the peer prints goes to stderr.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

Tokenize = Callable[[str, str, str, str, int], int]


def main(library: str, tokenize: Tokenize) -> None:
    """Run a peer with the arguments of the command line, JSON."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    told = json.loads(sys.argv[1])
    out, tokenizer, separator, workers = (told[name] for name in ("out", "tokenizer", "separator", "workers"))
    with contextlib.redirect_stdout(sys.stderr):
        with tempfile.TemporaryDirectory() as folder:
            for number in range(workers):
                row = {"id": str(number), "text": "one document"}
                (Path(folder) / f"{number}.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
            for _ in range(2):
                start = _timed(lambda: tokenize(folder, out, tokenizer, separator, workers))[0]
        seconds, tokens = _timed(lambda: tokenize(told["folder"], out, tokenizer, separator, workers))
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    unit = 1 if sys.platform == "darwin" else 1024
    report = {
        "seconds": seconds - min(start, seconds / 2),
        "start": start,
        "tokens": tokens,
        "version": importlib.metadata.version(library),
        "peak_self": _high_water() or usage[0].ru_maxrss * unit,
        "peak_child": usage[1].ru_maxrss * unit,
    }
    print(json.dumps(report))


def _high_water() -> int:
    """Return the most that this program held, where the system tells; `ru_maxrss` also counts what started it."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def _timed(what: Callable[[], int]) -> tuple[float, int]:
    start = time.perf_counter()
    found = what()
    return time.perf_counter() - start, found
