"""Text to run on, and a vocabulary where none is given.

    given       the files as they are                 books-00.jsonl.zst …
    plain       the same rows as plain JSON lines     what the floor reads fastest
    short       the same text in short documents      median 300 tokens: a row for every kilobyte
    stdlib      where nothing is given: the source code of this interpreter's own standard library

What is made is written to the run's temporary folder.
"""

from __future__ import annotations

import gzip
import io
import itertools
import random
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import orjson

#: Suffix → the recipe's word for the format.
SUFFIXES = {".jsonl": "jsonl", ".jsonl.gz": "jsonl", ".jsonl.zst": "jsonl", ".parquet": "parquet"}
KINDS = {".tiktoken": "tiktoken", ".model": "sentencepiece", ".json": "huggingface"}
SHORT_CHARACTERS = 1_200
_SAMPLE_CHARACTERS = 4_000_000


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


def given(places: Sequence[Path]) -> Corpus:
    """Return the readable files among the places and in the folders among them.

    Raises:
        SystemExit: there are none.
    """
    found = [
        file
        for place in places
        for file in (sorted(place.iterdir()) if place.is_dir() else [place])
        if suffix(file) in SUFFIXES
    ]
    if not found:
        raise SystemExit(f"bench: no {', '.join(SUFFIXES)} in {', '.join(map(str, places))}")
    return Corpus("given", tuple(file.resolve() for file in found), _text_bytes(found))


def suffix(file: Path) -> str:
    """Return a file's suffix, compression included."""
    inner = Path(file.stem).suffix if file.suffix in (".gz", ".zst") else ""
    return inner + file.suffix


def stdlib(folder: Path, megabytes: float) -> Corpus:
    """Write the standard library's code as JSON lines, again and again (each time marked) until there is enough."""
    place = Path(sysconfig.get_path("stdlib"))
    sources = [file for file in sorted(place.rglob("*.py")) if "site-packages" not in file.parts]
    texts = (
        f"# copy {turn}\n{text}"
        for turn in itertools.count()
        for file in sources
        if (text := file.read_text(encoding="utf-8", errors="ignore"))
    )
    return _write("stdlib", folder, _up_to(texts, megabytes * 1e6))


def _up_to(texts: Iterator[str], size: float) -> Iterator[str]:
    for text in texts:
        yield text
        size -= len(text)
        if size <= 0:
            return


def plain(corpus: Corpus, folder: Path) -> Corpus:
    """Write each file of a corpus as plain JSON lines: decompressed where it is JSON lines, else its texts."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number, file in enumerate(corpus.files):
        target = folder / f"{number:03d}.jsonl"
        with target.open("wb") as out:
            if suffix(file) == ".parquet":
                out.writelines(orjson.dumps({"text": text}) + b"\n" for text in texts([file]))
            else:
                with _open(file) as lines:
                    out.writelines(lines)
        files.append(target)
    return Corpus("plain", tuple(files), corpus.text_bytes)


def short(corpus: Corpus, folder: Path) -> Corpus:
    """Cut a corpus's texts at spaces into documents of log-normal size, median about 300 tokens."""
    return _write("short", folder, _pieces(texts(corpus.files)))


def _pieces(whole: Iterator[str]) -> Iterator[str]:
    draw = random.Random(0)
    for text in whole:
        start = 0
        while start < len(text):
            stop = text.find(" ", start + 1 + int(SHORT_CHARACTERS * draw.lognormvariate(0, 1)))
            stop = stop if stop >= 0 else len(text)
            yield text[start:stop]
            start = stop


def _write(name: str, folder: Path, documents: Iterator[str], files: int = 4) -> Corpus:
    """Write documents round robin into some files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}-{number:02d}.jsonl" for number in range(files)]
    handles = [path.open("wb") for path in paths]
    size = 0
    for text, out in zip(documents, itertools.cycle(handles), strict=False):
        out.write(orjson.dumps({"text": text}) + b"\n")
        size += len(text.encode())
    for out in handles:
        out.close()
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


@dataclass(frozen=True)
class Vocabulary:
    """A vocabulary file and the recipe's word for its kind."""

    path: Path
    kind: str

    @property
    def spec(self) -> dict[str, Any]:
        """The recipe's `tokenizer`."""
        return {"kind": self.kind, "path": f"vocabulary/{self.path.name}"}


def vocabulary(path: Path | None, corpus: Corpus, folder: Path, size: int) -> Vocabulary:
    """Return the given vocabulary, or a byte-level BPE of `size` tokens made from the corpus's first megabytes.

    Raises:
        SystemExit: the file's suffix says nothing.
    """
    if path is None:
        path = folder / "tokenizer.json"
        _make_bpe(path, size, _up_to(texts(corpus.files), _SAMPLE_CHARACTERS))
    if path.suffix not in KINDS:
        raise SystemExit(f"bench: {path}: a vocabulary ends in {', '.join(KINDS)}")
    return Vocabulary(path.resolve(), KINDS[path.suffix])


def _make_bpe(path: Path, size: int, sample: Iterator[str]) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=alphabet, special_tokens=["<|endoftext|>"], show_progress=False
    )
    tokenizer.train_from_iterator(sample, trainer)
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path))
