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
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from _peak import peak_bytes

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
    report = {
        "seconds": seconds - min(start, seconds / 2),
        "start": start,
        "tokens": tokens,
        "version": importlib.metadata.version(library),
    } | peak_bytes()
    print(json.dumps(report))


def _timed(what: Callable[[], int]) -> tuple[float, int]:
    start = time.perf_counter()
    found = what()
    return time.perf_counter() - start, found
