"""A corpus that looks like SlimPajama: real text, cut to documents of its domains and lengths, in files like its own.

    slimpajama/train/00000.jsonl.zst    {"text": "…", "meta": {"redpajama_set_name": "RedPajamaC4"}}   10,000 a file

Domain and tokens of each document are drawn from `bench.slimpajama_shape`; its text is a stretch of real text of the
domain's pool, from a random place on, as many bytes as so many tokens take there. Long documents are pieces of a few
books on end: the bytes, the words and the lengths are real, the sense is not. It is text for a clock, not for a model.
"""

from __future__ import annotations

import concurrent.futures
import functools
import mmap
import multiprocessing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import zstandard

from bench.corpora import Corpus, texts
from bench.slimpajama import DOMAINS, EDGES, draw
from bench.slimpajama_shape import cells
from mixture.presets.fu import SLIMPAJAMA

DOCUMENTS_PER_FILE = 10_000
#: The paper's domains, and those of the shape.
NAMES = {
    "CommonCrawl": "cc",
    "C4": "c4",
    "GitHub": "github",
    "ArXiv": "arxiv",
    "Books": "books",
    "Wikipedia": "wikipedia",
    "StackExchange": "stackexchange",
}
#: Domains whose text is code, and those whose text is technical.
_CODE, _TECHNICAL = ("github",), ("arxiv", "stackexchange")
#: The most text that a pool holds, and of the sample that tells its bytes to a token.
_POOL_BYTES, _SAMPLE_BYTES = 400_000_000, 2_000_000
#: Bytes looked through for a space, to begin with a word.
_WORD = 64


@dataclass(frozen=True)
class Pool:
    """Text to cut documents from.

    Attributes:
        path: the text, UTF-8.
        rate: bytes to a token.
    """

    path: str
    rate: float


def pool(corpora: Sequence[Corpus], path: Path, tokens_of: Any) -> Pool:
    """Write the texts of some corpora on end.

    Args:
        corpora: what to take, in order, up to 400 MB.
        path: the file to write.
        tokens_of: text → number of its tokens.
    """
    size = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as out:
        for text in texts([file for corpus in corpora for file in corpus.files]):
            size += out.write(text.encode() + b"\n")
            if size >= _POOL_BYTES:
                break
    with path.open("rb") as text_of_all:
        sample = text_of_all.read(_SAMPLE_BYTES).decode(errors="ignore")
    return Pool(str(path), len(sample.encode()) / tokens_of(sample))


def pools(plain: Sequence[Corpus], given: int, folder: Path, tokens_of: Any) -> dict[str, Pool]:
    """Return the pool of each domain of the shape: code for GitHub, the second given corpus for technical text.

    Args:
        plain: corpora, the given ones first; one of them is called `code`.
        given: how many are given.
        folder: to write them to.
        tokens_of: text → number of its tokens.
    """
    code = [corpus for corpus in plain if corpus.name == "code"]
    prose, technical = plain[:1], plain[1:given] or plain[:1]
    made = {
        name: pool(of, folder / f"{name}.txt", tokens_of)
        for name, of in (("prose", prose), ("technical", technical), ("code", code))
    }
    kinds = dict.fromkeys(_CODE, "code") | dict.fromkeys(_TECHNICAL, "technical")
    return {domain: made[kinds.get(domain, "prose")] for domain in DOMAINS}


def make(folder: Path, tokens: int, pools: Mapping[str, Pool], workers: int, seed: int = 0) -> dict[str, Any]:
    """Write a corpus of about so many tokens; return its documents, tokens as drawn, and bytes of text and of files."""
    train = folder / "slimpajama" / "train"
    train.mkdir(parents=True)
    shares, means = cells()
    documents = max(2, int(tokens * (shares / means).sum()))
    files = -(-documents // DOCUMENTS_PER_FILE)
    task = functools.partial(_write, str(train), documents, seed, files, dict(pools))
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as workforce:
        found = list(workforce.map(task, range(files)))
    sums = {name: sum(one[name] for one in found) for name in ("documents", "tokens", "text_bytes")}
    return sums | {"files": files, "file_bytes": sum(file.stat().st_size for file in train.iterdir())}


def _write(train: str, documents: int, seed: int, files: int, pools: Mapping[str, Pool], number: int) -> dict[str, int]:
    """Task: draw and write one file."""
    drawn = draw(documents, seed, number, files)
    domain = drawn["cell"].astype(np.int64) // (len(EDGES) - 1)
    rng = np.random.Generator(np.random.PCG64([seed, 2, number]))
    start, order = rng.random(len(domain)), rng.permutation(len(domain))
    sets = {NAMES[theirs]: published for published, theirs in SLIMPAJAMA.values.items()}
    text_bytes = 0
    compressor = zstandard.ZstdCompressor(level=3)
    with (Path(train) / f"{number:05d}.jsonl.zst").open("wb") as out, compressor.stream_writer(out) as lines:
        for at in order.tolist():
            name = DOMAINS[domain[at]]
            text = cut(_opened(pools[name].path), start[at], int(drawn["length"][at] * pools[name].rate))
            row = {"text": text, "meta": {"redpajama_set_name": sets[name]}}
            lines.write(orjson.dumps(row) + b"\n")
            text_bytes += len(text.encode())
    return {"documents": len(domain), "tokens": int(drawn["length"].sum()), "text_bytes": text_bytes}


@functools.cache
def _opened(path: str) -> mmap.mmap:
    with Path(path).open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def cut(text: bytes | mmap.mmap, share: float, size: int) -> str:
    """Return a stretch of text that begins with a word; where the text ends, it goes on from its start.

    Args:
        text: UTF-8.
        share: of the text that lies before the stretch, in [0, 1).
        size: bytes of the stretch, about.
    """
    begin = int(share * len(text))
    space = text.find(b" ", begin, begin + _WORD)
    begin = begin if space < 0 else space + 1
    taken = text[begin : begin + size]
    while len(taken) < size:
        taken += text[: size - len(taken)]
    return taken.decode(errors="ignore")
