"""One very long document, one line of JSON → stored tokens, against the mean rate of documents of the same text.

The text is the first corpus's, document after document, until it is long enough. Elsewhere such a line costs time or
memory out of proportion: tokenizers keep a word list or a heap of the whole text.

That the tokens are right is held to the vocabulary's own library, on documents of up to `_COMPARED` megabytes. tiktoken
takes all at once. The others would take many gigabytes, so they get windows of a megabyte that begin at a line and
overlap by `_OVERLAP` characters on both sides; a window's tokens without the outermost `_MARGIN` must stand in ours,
and begin no later than where the window before ended. So each token of ours is held to the reference, and only what a
window's border might do beyond hundreds of tokens is taken on trust.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from bench import corpora, measure
from bench.corpora import Corpus
from bench.job import write_recipe
from bench.machine import version
from bench.measure import Contestant, Failed, Rounds
from bench.setting import Row, Setting
from bench.vocabularies import Vocabulary

_COMPARED = 200
_WINDOW = 1_000_000
_OVERLAP = 8_000
_MARGIN = 200

Tokens = npt.NDArray[np.uint32]


def rows(setting: Setting) -> list[Row]:
    """Measure a document of each size asked for, with every vocabulary."""
    found = []
    for megabytes in setting.options.long:
        long = make(setting.plain[0], setting.temp / "long", megabytes)
        for vocabulary in setting.vocabularies:
            with setting.doing(f"one document of {megabytes:g} MB, {vocabulary.name}"):
                found.append(bench(long, setting.plain[0], vocabulary, setting.rounds))
    return found


def make(corpus: Corpus, folder: Path, megabytes: float) -> Corpus:
    """Write one document of so many megabytes, of a corpus's texts in a row."""
    size = int(megabytes * 1e6)
    text = "\n\n".join(corpora.up_to(corpora.again(lambda: corpora.texts(corpus.files)), size))[:size]
    return corpora.write("one document", folder, iter([text]), files=1)


def bench(long: Corpus, corpus: Corpus, vocabulary: Vocabulary, rounds: Rounds) -> Row:
    """Measure one document against the corpus that it is made of; return the row."""
    place = rounds.temp / "long-work"
    sides = {"ours": long, "documents": corpus}
    jobs = {name: write_recipe(_made(place / name), one, vocabulary) for name, one in sides.items()}
    contestants = [
        Contestant(name, "bench.tokenize:ours", {"recipe": str(job), "work": str(job.parent / "work"), "workers": 1})
        for name, job in jobs.items()
    ]
    floor, missing = _floor(long, vocabulary, rounds)
    reports = measure.alternate(contestants + floor, rounds)
    sizes = {"ours": long.text_bytes, "documents": corpus.text_bytes, "gigatoken": long.text_bytes}
    rates = {name: [sizes[name] / one["seconds"] / 1e6 for one in found] for name, found in reports.items()}
    peaks = {name: max(one["peak_self"] for one in found) for name, found in reports.items()}
    others = [
        {
            "name": f"ours on {corpus.name}" if name == "documents" else name,
            "rate": measure.spread(rates[name]),
            "ratio": measure.ratios(rates["ours"], rates[name]),
            "peak": peaks[name],
        }
        for name in reports
        if name != "ours"
    ]
    held = _held(jobs["ours"], long, rounds)
    return {
        "bench": "one document",
        "corpus": held["says"],
        "vocabulary": vocabulary.name,
        "megabytes": long.text_bytes / 1e6,
        "workers": 1,
        "unit": "MB/s of text",
        "ours": measure.spread(rates["ours"]),
        "other": others[0]["name"],
        "floor": others[0]["rate"],
        "ratio": others[0]["ratio"],
        "floor_peak": others[0]["peak"],
        "more": others[1:],
        "peak": peaks["ours"],
        "held": held,
        "skipped": missing,
        "says": missing,
    }


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _floor(long: Corpus, vocabulary: Vocabulary, rounds: Rounds) -> tuple[list[Contestant], str]:
    """Return gigatoken's side, or why there is none."""
    if version("gigatoken") is None:
        return [], "gigatoken is not installed"
    told = {"files": [str(long.files[0])], "vocabulary": str(vocabulary.path), "workers": 1}
    side = Contestant("gigatoken", "bench.tokenize:floor", told)
    try:
        measure.run(side, rounds.temp)
    except Failed as error:
        return [], str(error)
    return [side], ""


def _held(job: Path, long: Corpus, rounds: Rounds) -> dict[str, Any]:
    if long.text_bytes > _COMPARED * 1e6:
        return {"says": "tokens not compared"}
    told = {"recipe": str(job), "work": str(job.parent / "work"), "line": str(long.files[0])}
    return measure.run(Contestant("reference", "bench.long_documents:reference", told), rounds.temp)


def reference(recipe: str, work: str, line: str) -> dict[str, Any]:
    """Contestant: the vocabulary's own library on the document, held to the tokens that ours stored."""
    from mixture.recipe.file import load
    from mixture.tokens import tokenizer

    path = Path(recipe)
    spec = load(path).tokenizer
    backend = tokenizer.load(spec, path.parent / "data", engine="reference").backend
    ours = stored(Path(work))
    text = orjson.loads(Path(line).read_bytes())["text"]
    if spec.kind == "tiktoken":
        equal, how = np.array_equal(np.array(backend.encode_text(text), np.uint32), ours), "at once"
    else:
        found = [np.array(backend.encode_text(window), np.uint32) for window in windows(text)]
        equal, how = covers(ours, found), f"in {len(found)} windows"
    said = f"{'equal to' if equal else 'NOT EQUAL TO'} {backend.library} {how}"
    return {"seconds": 0.0, "equal": bool(equal), "tokens": len(ours), "says": said}


def stored(work: Path) -> Tokens:
    """Return the tokens of a store's only document."""
    # Chunks in which no line begins are parts without a document.
    tables = [pa.ipc.open_file(pa.memory_map(str(file))).read_all() for file in work.rglob("part-*.arrow")]
    (column,) = (table["tokens"].combine_chunks() for table in tables if len(table))
    return np.asarray(column.flatten().to_numpy(zero_copy_only=False), np.uint32)


def windows(text: str, size: int = _WINDOW, overlap: int = _OVERLAP) -> Iterator[str]:
    """Yield stretches of a text that begin at a line, each overlapping its neighbours.

    Args:
        text: the document.
        size: characters from one stretch's begin to the next one's, about.
        overlap: characters on both sides, about.
    """
    start = 0
    while start < len(text):
        first = 0 if start == 0 else text.rfind("\n", 0, max(start - overlap, 1)) + 1
        yield text[first : min(start + size + overlap, len(text))]
        start += size


def covers(ours: Tokens, found: list[Tokens], margin: int = _MARGIN) -> bool:
    """Tell whether windows' tokens, without their margins, stand in ours one after another and leave no gap.

    Args:
        ours: tokens of the whole, shape (n,).
        found: tokens of each window, in order.
        margin: tokens at each inner border that may differ.
    """
    whole, width, reached = ours.tobytes(), ours.itemsize, 0
    for number, window in enumerate(found):
        first = 0 if number == 0 else margin
        stop = len(window) if number == len(found) - 1 else len(window) - margin
        inner = window[first:stop].tobytes()
        # A little before where the window before ended; it cannot begin further back than that one's length.
        at = whole.find(inner, max(0, reached - len(inner)))
        while at > 0 and at % width:
            at = whole.find(inner, at + 1)
        if at < 0 or at > reached:
            return False
        reached = at + len(inner)
    return reached == len(whole)
