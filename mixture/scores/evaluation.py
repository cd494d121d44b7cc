"""Evaluation files in, what is looked for out: their texts as tokens, by the recipe's tokenizer, and the n-grams.

    eval/qa.jsonl     {"text": "Who wrote …"}      ─▶  7 5 9 2 │ 4 4 8      evaluation.arrow: tokens, n-grams by hash
    eval/needle.txt   The best thing to do …       ─▶  6 6 1 3 5            evaluation.json: what each file holds

The record is written last, so a file of n-grams with a record is whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mixture import corpus, schemas
from mixture.corpus.documents import InputFile, Reading
from mixture.engine import Engine, Progress
from mixture.errors import InputError, StoreError, some
from mixture.patterns import expand
from mixture.recipe import Recipe
from mixture.recipe.sources import NGRAM, Score
from mixture.scores.ngrams import I64, Wanted, gather, least_whole
from mixture.storage import Place, as_place, exists, file_digest, publish, read_record, write_json
from mixture.storage.tables import mapped
from mixture.tokens.inputs import content_hashes
from mixture.tokens.store import damaged
from mixture.tokens.tokenizer import Tokenizer
from mixture.workspace import Workspace

#: Formats by suffix, compression aside; whatever else there is, is text.
FORMATS = {".jsonl": "jsonl", ".json": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".arrow": "arrow"}
_COMPRESSIONS = (".gz", ".zst", ".zstd")
_COLUMNS = ("keys", "places", "whole_keys", "whole_places", "whole_sizes")


@dataclass(frozen=True)
class Evaluation:
    """The evaluation files of one gate.

    Attributes:
        name: of the gate.
        files: in the order of their names.
        ngram: n.
        reading: what to take of each row.
        skip: whether bad rows are counted and left out.
    """

    name: str
    files: tuple[InputFile, ...]
    ngram: int
    reading: Reading
    skip: bool

    @property
    def content(self) -> list[Any]:
        """What decides about the n-grams but for the tokenizer, JSON-able."""
        how = [self.ngram, self.reading.text, self.reading.max_document_bytes, self.skip]
        return [how, [[file.digest, format_of(file.name)] for file in self.files]]


def find_evaluation(recipe: Recipe, rule: Score, workspace: Workspace, engine: Engine) -> Evaluation:
    """Find and hash the evaluation files of a gate.

    Raises:
        InputError: a pattern matches nothing, or a file is empty.
    """
    found = expand(rule.contamination or (), (), workspace.data)
    hashes = content_hashes([file.path for file in found], workspace, engine)
    files = tuple(InputFile(file.name, file.path, *hashes[file.path]) for file in found)
    for file in files:
        if not file.size:
            raise InputError(f"{file.name}: this evaluation file is empty; mend it, or name others")
    # Bad rows are judged here: the next move is another one than for a corpus.
    reading = Reading(rule.text or "text", skip_bad=True, max_document_bytes=recipe.max_document_bytes)
    return Evaluation(rule.name, files, rule.ngram or NGRAM, reading, recipe.on_bad_row == "skip")


def format_of(name: str) -> str:
    """Return the format that a file's suffix tells; text if it tells none."""
    path = as_place(name)
    return FORMATS.get((path.with_suffix("") if path.suffix in _COMPRESSIONS else path).suffix, "text")


def gather_evaluation(
    evaluation: Evaluation, tokenizer: Tokenizer, folder: Place, progress: Progress
) -> list[dict[str, Any]]:
    """Read the evaluation files into `evaluation.arrow`, or find them read; return what each of them holds.

    Raises:
        InputError: a file cannot be read or holds no text, or no text is long enough.
        StoreError: what was read of them is damaged.
    """
    target, mark = folder / "evaluation.arrow", folder / "evaluation.json"
    record = read_record(mark, "hash", "files") if exists(target) else None
    if record is None:
        progress.say(f"{evaluation.name}: reading {some(file.name for file in evaluation.files)}")
        record = _gather(evaluation, tokenizer, target)
        write_json(mark, record)
    elif file_digest(target) != record["hash"]:
        raise StoreError(damaged(target, ValueError("its bytes are not those that were written")))
    found = [
        {"name": file.name, "bytes": file.size, "hash": file.digest} | facts
        for file, facts in zip(evaluation.files, record["files"], strict=True)
    ]
    for file in found:
        if file["too_short"]:
            progress.say(
                f"{evaluation.name}: {file['too_short']:,} of {file['texts']:,} texts of {file['name']} have fewer "
                f"than {least_whole(evaluation.ngram)} tokens and are not looked for"
            )
    return found


def _gather(evaluation: Evaluation, tokenizer: Tokenizer, target: Place) -> dict[str, Any]:
    read = [_encoded(file, evaluation, tokenizer) for file in evaluation.files]
    sizes = np.concatenate([sizes for _, sizes, _ in read])
    tokens = np.concatenate([tokens for tokens, _, _ in read])
    wanted = gather(tokens, np.r_[0, np.cumsum(sizes)], evaluation.ngram)
    if not len(wanted.keys) + len(wanted.whole_keys):
        raise InputError(
            f"{some(file.name for file in evaluation.files)}: none of {len(sizes):,} texts is long enough to be looked "
            f"for (the longest has {int(sizes.max()):,} tokens, {wanted.least} are needed); name another field than "
            f"{evaluation.reading.text!r} with `text`, or lower `ngram`"
        )
    begins = np.cumsum([0, *(len(tokens) for tokens, _, _ in read)])[:-1]
    facts = _facts(wanted, begins, [sizes for _, sizes, _ in read], [bad for *_, bad in read])
    return {"hash": _write(target, wanted, begins), "files": facts}


def _encoded(file: InputFile, evaluation: Evaluation, tokenizer: Tokenizer) -> tuple[npt.NDArray[np.uint32], I64, int]:
    """Return the tokens of a file's texts, the size of each text, and how many rows are bad."""
    field = evaluation.reading.text
    tokens, sizes, bad, row = [np.empty(0, np.uint32)], [np.empty(0, np.int64)], 0, 0
    for chunk in corpus.read(format_of(file.name), file, evaluation.reading):
        if chunk.rejects and not evaluation.skip:
            worst = chunk.rejects[0]
            raise InputError(
                f"{file.name}, row {row + worst.row:,}: {worst.reason} ({worst.sample}); name the field of the "
                f"evaluation's text with `text` (it is {field!r} now), mend the row, or have bad rows counted and "
                "left out with `on_bad_row: skip`"
            )
        found, offsets = tokenizer.encode(chunk.texts)
        tokens.append(found.astype(np.uint32))
        sizes.append(np.diff(offsets))
        bad, row = bad + len(chunk.rejects), row + chunk.rows
    if not sum(map(len, sizes)):
        rows = f", and {bad:,} bad rows" if bad else ""
        raise InputError(
            f"{file.name}: this evaluation file holds no text in the field {field!r}{rows}; name another field with "
            "`text`, or other files"
        )
    return np.concatenate(tokens), np.concatenate(sizes), bad


def _facts(wanted: Wanted, begins: I64, sizes: Sequence[I64], rejected: Sequence[int]) -> list[dict[str, Any]]:
    """Return of each file what it holds; an n-gram counts where it first stands."""
    ngrams, whole = (
        np.bincount(np.searchsorted(begins, places, "right") - 1, minlength=len(begins)).tolist()
        for places in (wanted.places, wanted.whole_places)
    )
    return [
        {
            "texts": len(size),
            "tokens": int(size.sum()),
            "ngrams": ngrams[n],
            "whole": whole[n],
            "too_short": int((size < wanted.least).sum()),
        }
        | ({"rejected": rejected[n]} if rejected[n] else {})
        for n, size in enumerate(sizes)
    ]


def _write(path: Place, wanted: Wanted, begins: I64) -> str:
    """Publish what is looked for: an Arrow file of one row, whose lists are mapped and not read; return its hash."""
    arrays = {name: getattr(wanted, name) for name in ("tokens", *_COLUMNS)} | {"files": begins}
    columns = {
        name: pa.LargeListArray.from_arrays(schemas.column(np.array([0, len(values)])), schemas.column(values))
        for name, values in ({"ngram": np.array([wanted.ngram])} | arrays).items()
    }
    batch = pa.record_batch(columns)
    with publish(path) as out, pa.ipc.new_file(pa.PythonFile(out, "w"), batch.schema) as writer:
        writer.write_batch(batch)
    return out.digest


def read_evaluation(path: Place) -> tuple[Wanted, I64]:
    """Map what is looked for; return it, and where each file's texts begin in its tokens, shape (files,).

    Raises:
        StoreError: missing or damaged.
    """
    try:
        batch = pa.ipc.open_file(mapped(path)).get_batch(0)
        found = {name: schemas.numbers(batch.column(name).values) for name in batch.schema.names}
    except (pa.ArrowException, OSError, IndexError) as error:
        raise StoreError(damaged(path, error)) from error
    ngram = int(found["ngram"][0])
    return Wanted(ngram, least_whole(ngram), found["tokens"], *(found[name] for name in _COLUMNS)), found["files"]
