"""Text to run on, by the length of its documents.

    books=PATH …   given, each under its name         long documents, or those of the length that they have
    code           the source code of this interpreter's own standard library
    short          the first corpus's text in short documents: median 300 tokens, a row for every kilobyte

Each is laid out as plain JSON lines, which the floor reads fastest; what came compressed is measured as it came, too. A
corpus smaller than asked for is written again and again, each time marked, so that a run takes more than a moment.
What is made is written to the run's temporary folder.
"""

from __future__ import annotations

import contextlib
import glob
import gzip
import io
import itertools
import random
import re
import shutil
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import orjson

#: Suffix → the recipe's word for the format.
SUFFIXES = {".jsonl": "jsonl", ".jsonl.gz": "jsonl", ".jsonl.zst": "jsonl", ".parquet": "parquet"}
SHORT_CHARACTERS = 1_200
#: A file's name without its number: `books-00.jsonl.zst` is one of `books`.
_NUMBER = re.compile(r"[-_.]?\d+$")


@dataclass(frozen=True)
class Corpus:
    """Files that both sides read.

    Attributes:
        name: for the table.
        files: paths, in order.
        text_bytes: UTF-8 bytes of all texts.
    """

    name: str
    files: tuple[Path, ...]
    text_bytes: int

    @property
    def plain(self) -> bool:
        """Whether all of it is uncompressed JSON lines."""
        return all(file.suffix == ".jsonl" for file in self.files)


def given(places: Sequence[str]) -> list[Corpus]:
    """Return the corpora of `NAME=PATH` or `PATH`: a file, a folder, or a pattern; equal names are one corpus.

    Without a name, files are named after themselves, their number left away.

    Raises:
        SystemExit: a place holds no readable file.
    """
    named: dict[str, list[Path]] = {}
    for place in places:
        name, _, path = place.rpartition("=")
        found = [file for file in _files(path) if suffix(file) in SUFFIXES]
        if not found:
            raise SystemExit(f"bench: no {', '.join(SUFFIXES)} in {path}; give --corpus [NAME=]PATH")
        for file in found:
            named.setdefault(name or _NUMBER.sub("", file.name.removesuffix(suffix(file))), []).append(file.resolve())
    return [Corpus(name, tuple(files), _text_bytes(files)) for name, files in named.items()]


def _files(path: str) -> list[Path]:
    place = Path(path)
    return sorted(place.iterdir()) if place.is_dir() else sorted(map(Path, glob.glob(path)))  # noqa: PTH207 - Path globs no absolute ones


def suffix(file: Path) -> str:
    """Return a file's suffix, compression included."""
    inner = Path(file.stem).suffix if file.suffix in (".gz", ".zst") else ""
    return inner + file.suffix


def code(folder: Path, megabytes: float) -> Corpus:
    """Write the standard library's code as JSON lines, again and again until there is enough."""
    place = Path(sysconfig.get_path("stdlib"))
    sources = [file for file in sorted(place.rglob("*.py")) if "site-packages" not in file.parts]
    return write("code", folder, up_to(again(lambda: map(_read, sources)), megabytes * 1e6))


def _read(source: Path) -> str:
    return source.read_text(encoding="utf-8", errors="ignore")


def again(once: Callable[[], Iterator[str]]) -> Iterator[str]:
    """Yield texts without end; from the second time on each opens with a mark, so that no two are equal."""
    for turn in itertools.count():
        yield from (f"# copy {turn}\n{text}" if turn else text for text in once() if text)


def up_to(texts: Iterator[str], size: float) -> Iterator[str]:
    """Yield texts until there are so many characters."""
    for text in texts:
        yield text
        size -= len(text)
        if size <= 0:
            return


def plain(corpus: Corpus, folder: Path, megabytes: float = 0) -> Corpus:
    """Write a corpus as plain JSON lines, again and again where it is smaller than so many megabytes.

    Files that are JSON lines already keep their rows as they are.
    """
    if corpus.text_bytes < megabytes * 1e6:
        return write(corpus.name, folder, up_to(again(lambda: texts(corpus.files)), megabytes * 1e6))
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number, file in enumerate(corpus.files):
        target = folder / f"{number:03d}.jsonl"
        with target.open("wb") as out:
            if suffix(file) == ".parquet":
                out.writelines(orjson.dumps({"text": text}) + b"\n" for text in texts([file]))
            else:
                with _open(file) as lines:
                    shutil.copyfileobj(lines, out, 1 << 20)
        files.append(target)
    return Corpus(corpus.name, tuple(files), corpus.text_bytes)


def part(corpus: Corpus, folder: Path, megabytes: float) -> Corpus:
    """Write the first megabytes of a corpus as JSON lines with ids, which some peers ask for, into four files."""
    return write(corpus.name, folder, up_to(texts(corpus.files), megabytes * 1e6), ids=True)


def short(corpus: Corpus, folder: Path) -> Corpus:
    """Cut a corpus's texts at spaces into documents of log-normal size, median about 300 tokens."""
    return write("short", folder, _pieces(texts(corpus.files)))


def _pieces(whole: Iterator[str]) -> Iterator[str]:
    draw = random.Random(0)
    for text in whole:
        start = 0
        while start < len(text):
            stop = text.find(" ", start + 1 + int(SHORT_CHARACTERS * draw.lognormvariate(0, 1)))
            stop = stop if stop >= 0 else len(text)
            yield text[start:stop]
            start = stop


def write(name: str, folder: Path, documents: Iterator[str], files: int = 4, *, ids: bool = False) -> Corpus:
    """Write documents round robin into some files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}-{number:02d}.jsonl" for number in range(files)]
    size = 0
    with contextlib.ExitStack() as stack:
        handles = [stack.enter_context(path.open("wb")) for path in paths]
        for number, (text, out) in enumerate(zip(documents, itertools.cycle(handles), strict=False)):
            row = {"id": str(number), "text": text} if ids else {"text": text}
            out.write(orjson.dumps(row) + b"\n")
            size += len(text.encode())
    return Corpus(name, tuple(paths), size)


def texts(files: Sequence[Path]) -> Iterator[str]:
    """Yield every text of some files."""
    for file in files:
        if suffix(file) == ".parquet":
            import pyarrow.parquet as pq

            for batch in pq.ParquetFile(file).iter_batches(columns=["text"]):
                yield from batch.column("text").to_pylist()
        else:
            with _open(file) as lines:
                for line in lines:
                    yield orjson.loads(line)["text"]


def _text_bytes(files: Sequence[Path]) -> int:
    return sum(len(text.encode()) for text in texts(files))


def _open(file: Path) -> BinaryIO | gzip.GzipFile | io.BufferedReader:
    if file.suffix == ".gz":
        return gzip.open(file)
    if file.suffix == ".zst":
        import zstandard

        return io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(file.open("rb"), read_across_frames=True))
    return file.open("rb")
