"""dolma: JSON lines → memory-mapped token files. Runs in dolma's environment, imports nothing of ours.

What `dolma tokens` calls, with its defaults; a process takes whole files, two readers or more to a process.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from _run import main


def tokenize(folder: str, out: str, tokenizer: str, separator: str, workers: int) -> int:
    """Tokenize a folder's files; return the tokens stored, separators included."""
    import numpy as np
    from dolma.tokenizer import tokenize_in_parallel
    from tokenizers import Tokenizer

    shutil.rmtree(out, ignore_errors=True)
    Path(out).mkdir(parents=True)
    known = Tokenizer.from_file(tokenizer)
    end = known.token_to_id(separator)
    width = np.min_scalar_type(known.get_vocab_size() - 1)
    files = sorted(map(str, Path(folder).glob("*.jsonl")))
    tokenize_in_parallel(
        files,
        f"{out}/tokens",
        num_writers=workers,
        num_readers=max(1, len(files) // workers),
        tokenizer_name_or_path=tokenizer,
        eos_token_id=end,
        pad_token_id=end,
        dtype=str(width),
        metadata_dir=f"{out}/metadata",
    )
    return sum(file.stat().st_size for file in Path(out).rglob("*.npy")) // width.itemsize


if __name__ == "__main__":
    main("dolma", tokenize)
