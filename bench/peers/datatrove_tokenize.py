"""datatrove: JSON lines → its token files, a file for each task. Runs in datatrove's environment.

`LocalPipelineExecutor` over `JsonlReader` and `DocumentTokenizer`, as its examples show, but without shuffling the
documents afterwards: it costs time and ours does it elsewhere.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from _run import main


def tokenize(folder: str, out: str, tokenizer: str, separator: str, workers: int) -> int:
    """Tokenize a folder's files; return the tokens stored, separators included."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.tokens import DocumentTokenizer

    shutil.rmtree(out, ignore_errors=True)
    steps = [
        JsonlReader(folder, glob_pattern="*.jsonl"),
        DocumentTokenizer(f"{out}/tokens", tokenizer, eos_token=separator, shuffle_documents=False),
    ]
    LocalPipelineExecutor(pipeline=steps, tasks=workers, workers=workers, logging_dir=f"{out}/log").run()
    width = 2 if next(Path(out).rglob("*.metadata")).read_text().split("|")[1].split()[0] == "2" else 4
    return sum(file.stat().st_size for file in Path(out).rglob("*.ds")) // width


if __name__ == "__main__":
    main("datatrove", tokenize)
