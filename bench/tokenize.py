"""JSON lines on disk → token store and index, against gigatoken reading the same files into memory.

Ours does more: it hashes the input, hashes every document and sorts by the hash, proves itself against the reference
on a sample, writes tokens and index to disk, and holds a chunk at a time. The floor does none of this.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from bench import corpora, measure
from bench.corpora import Corpus
from bench.job import warm_job, write_recipe
from bench.machine import version
from bench.measure import Contestant, Failed, Rounds
from bench.setting import Row, Setting
from bench.vocabularies import Vocabulary

_SAMPLE_BYTES = 4 << 20
FLOOR, REFERENCE = "gigatoken", "reference"


def rows(setting: Setting) -> list[Row]:
    """Measure every corpus with every vocabulary; files that came compressed with the first one."""
    jobs = [(corpus, vocabulary) for vocabulary in setting.vocabularies for corpus in setting.plain]
    jobs += [(corpus, setting.vocabularies[0]) for corpus in setting.given if not corpus.plain]
    found = []
    for corpus, vocabulary in jobs:
        for workers in setting.counts:
            with setting.doing(f"tokenize {corpus.name}, {vocabulary.name}, {workers} workers"):
                found += bench(corpus, vocabulary, workers, setting.rounds)
    return found


def bench(corpus: Corpus, vocabulary: Vocabulary, workers: int, rounds: Rounds) -> list[dict[str, Any]]:
    """Measure one corpus with so many workers; return a row against each other side that runs here."""
    place = _fresh(rounds.temp / "tokenize")
    recipe = write_recipe(place, corpus, vocabulary)
    arguments = {"recipe": str(recipe), "work": str(place / "work"), "workers": workers}
    ours = Contestant("ours", "bench.tokenize:ours", arguments)
    if version(FLOOR) is None:
        reports = measure.alternate([ours], rounds)
        return [_row(corpus, vocabulary, workers, "", reports["ours"], [], "gigatoken is not installed")]
    arguments = {"files": [str(f) for f in corpus.files], "vocabulary": str(vocabulary.path), "workers": workers}
    floor = Contestant(FLOOR, "bench.tokenize:floor", arguments)
    try:
        reports = measure.alternate([ours, floor], rounds)
    except Failed as error:
        if not str(error).startswith(FLOOR):
            raise
        reports = measure.alternate([ours], rounds)
        return [_row(corpus, vocabulary, workers, "", reports["ours"], [], str(error))]
    rows = [_row(corpus, vocabulary, workers, f"{FLOOR} {version(FLOOR)}", reports["ours"], reports[FLOOR])]
    if workers == 1 and corpus.plain:
        arguments = {"recipe": str(recipe), "files": [str(f) for f in corpus.files]}
        contestant = Contestant(REFERENCE, "bench.tokenize:reference", arguments)
        peer = measure.alternate([contestant], rounds)[REFERENCE]
        rows.append(_row(corpus, vocabulary, workers, peer[0]["library"], reports["ours"], peer))
    return rows


def _row(
    corpus: Corpus,
    vocabulary: Vocabulary,
    workers: int,
    name: str,
    ours: list[dict[str, Any]],
    other: list[dict[str, Any]],
    skipped: str = "",
) -> dict[str, Any]:
    def rates(reports: list[dict[str, Any]], key: str = "seconds") -> list[float]:
        return [report.get("bytes", corpus.text_bytes) / report[key] / 1e6 for report in reports]

    row: dict[str, Any] = {
        "bench": "tokenize",
        "corpus": corpus.name if corpus.plain else f"{corpus.name}, compressed",
        "vocabulary": vocabulary.name,
        "megabytes": corpus.text_bytes / 1e6,
        "workers": workers,
        "unit": "MB/s of text",
        "ours": measure.spread(rates(ours)),
        "ours_mtok": measure.spread([r["tokens"] / r["seconds"] / 1e6 for r in ours]),
        "ours_cpu": measure.spread([r["cpu"] for r in ours]) if workers == 1 else None,
        "ours_wall": measure.spread([r["wall"] for r in ours]),
        "stages": {s: measure.spread([r[s] for r in ours]) for s in ("tokenize", "bucket")},
        "peak": max(r["peak_child"] if workers > 1 else r["peak_self"] for r in ours),
        "other": name,
        "skipped": skipped,
    }
    if other:
        row |= {
            "floor": measure.spread(rates(other)),
            "floor_mtok": measure.spread([r["tokens"] / r["seconds"] / 1e6 for r in other]),
            "floor_cpu": measure.spread([r["cpu"] for r in other]),
            "floor_wall": measure.spread([r["wall"] for r in other]),
            "floor_peak": max(r["peak_self"] for r in other),
            "ratio": measure.ratios(rates(ours), rates(other)),
            "ratio_cpu": measure.ratios([r["cpu"] for r in other], [r["cpu"] for r in ours]) if workers == 1 else None,
        }
    return row


def ours(recipe: str, work: str, workers: int) -> dict[str, Any]:
    """Contestant: `mixture tokenize` and `mixture bucket` into a work directory that is not there yet."""
    place = _fresh(Path(work))
    with warm_job(Path(recipe), place, workers) as job:
        start, cpu = time.perf_counter(), time.process_time()
        store = job.tokenize()
        between = time.perf_counter()
        job.bucket(store)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {
        "seconds": seconds,
        "cpu": cpu,
        "tokenize": between - start,
        "bucket": seconds - (between - start),
        "tokens": store.tokens,
        "engine": store.tokenizer.engine,
    }


def floor(files: list[str], vocabulary: str, workers: int) -> dict[str, Any]:
    """Contestant: gigatoken reads the files itself and keeps all tokens in memory."""
    import awkward  # noqa: F401 - gigatoken imports it for its result
    import gigatoken

    path = Path(vocabulary)
    made = {
        ".tiktoken": lambda: gigatoken.Tokenizer.from_tiktoken(path, special_tokens={}),
        ".model": lambda: gigatoken.Tokenizer.from_sentencepiece(path),
        ".json": lambda: gigatoken.Tokenizer(path),
    }[path.suffix]()
    lines = [file for file in files if corpora.SUFFIXES[corpora.suffix(Path(file))] == "jsonl"]
    tables = [file for file in files if file not in lines]
    sources = [gigatoken.JsonlFileSource(lines, field="text")] if lines else []
    sources += [gigatoken.ParquetFileSource(tables, column="text")] if tables else []
    start, cpu = time.perf_counter(), time.process_time()
    results = [made.encode_files(source, parallel=workers > 1) for source in sources]
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {"seconds": seconds, "cpu": cpu, "tokens": sum(len(result.layout.content) for result in results)}


def reference(recipe: str, files: list[str]) -> dict[str, Any]:
    """Contestant: the vocabulary's own library, one thread, on the first megabytes of text, from memory to memory."""
    from mixture.recipe.file import load
    from mixture.tokens import tokenizer

    path = Path(recipe)
    backend = tokenizer.load(load(path).tokenizer, path.parent / "data", engine="reference").backend
    sample: list[str] = []
    left = _SAMPLE_BYTES
    for text in corpora.texts([Path(file) for file in files]):
        if left <= 0:
            break
        sample.append(text[:left])
        left -= len(sample[-1])
    start, cpu = time.perf_counter(), time.process_time()
    tokens = sum(len(backend.encode_text(text)) for text in sample)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    size = sum(len(text.encode()) for text in sample)
    return {
        "seconds": seconds,
        "cpu": cpu,
        "tokens": tokens,
        "bytes": size,
        "library": f"{backend.library} {version(backend.library)}",
    }


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
