"""A recipe over a bench's corpus, opened as the command line opens it, with its worker processes warm."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.corpora import SUFFIXES, Corpus, suffix
from bench.vocabularies import Vocabulary
from mixture.engine import Silence, Task
from mixture.engine.local import Local
from mixture.flow import Job, open_job
from mixture.tokens.chunks import load_tokenizer
from mixture.workspace import Workspace

_PATIENCE = 120.0


def write_recipe(place: Path, corpus: Corpus, vocabulary: Vocabulary, **more: Any) -> Path:
    """Lay out a data root of links beside a recipe that names them; return the recipe.

    Args:
        place: folder of this corpus; `data` in it becomes the root.
        corpus: the files.
        vocabulary: the tokenizer.
        more: keys of the recipe that differ from a small plan.
    """
    data = place / "data"
    link(vocabulary.path, data / "vocabulary" / vocabulary.path.name)
    sources: dict[str, list[str]] = {}
    for number, file in enumerate(corpus.files):
        name = f"corpus/{number:03d}{suffix(file)}"
        link(file, data / name)
        sources.setdefault(SUFFIXES[suffix(file)], []).append(name)
    recipe = {
        "name": "bench",
        "tokenizer": vocabulary.spec,
        "sources": [
            {"name": kind, "format": kind, "paths": names, "domain": "text"} for kind, names in sources.items()
        ],
        "budget": 4096,
        "sequence": {"length": 4096, "separator": "eos"},
        "buckets": ["4K", "16K", "64K"],
        "mix": {"domains": "natural", "max_epochs": 4},
        "seed": 1,
    } | more
    path = place / "bench.yaml"
    path.write_text(json.dumps(recipe), encoding="utf-8")
    return path


def link(target: Path, link: Path) -> None:
    """Link to a file, instead of what was there."""
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(target)


@contextmanager
def warm_job(recipe: Path, work: Path, workers: int) -> Iterator[Job]:
    """Open a recipe with every process started, everything imported and the vocabulary loaded in each."""
    data = recipe.parent / "data"
    with Local(workers) as engine, tempfile.TemporaryDirectory() as meeting:
        job = open_job(recipe, Workspace(work, data), engine, Silence(), recipe.parent / "bench.lock.json")
        spec = job.recipe.tokenizer.model_dump_json()
        warm(spec, str(data))
        arguments = {"spec": spec, "data": str(data), "meeting": meeting, "count": workers}
        if workers > 1:
            for _ in engine.run([Task("bench.job:warm", arguments, 1, "warm")] * workers):
                pass
        yield job


def warm(spec: str, data: str, meeting: str | None = None, count: int = 1) -> None:
    """Task: import what a task would, load the vocabulary, and wait until `count` processes have done so."""
    import mixture.shards.write  # noqa: F401

    load_tokenizer(spec, data, "auto")
    if meeting is not None:
        (Path(meeting) / str(os.getpid())).touch()
        end = time.monotonic() + _PATIENCE
        while len(list(Path(meeting).iterdir())) < count and time.monotonic() < end:
            time.sleep(0.01)
