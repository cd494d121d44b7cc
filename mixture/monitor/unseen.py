"""Text that the model was not trained on: what a recipe held out, or files of yours that are held to its lock.

    hold-out   index ─ the draw of `holdout` ─▶ documents no plan draws ─ store ─▶ their tokens, in the order of ids
    files      .txt, .jsonl, .parquet … ─▶ texts ─ id = hash of the text ─▶ is it in the lock's plan?

A document is found again whatever file it lies in, because its id is its text. The price: a text that differs by one
character has another id, so a cleaned or cut copy of a document that was trained on is not found. Only shared n-grams
would tell (`mixture decontaminate`).
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mixture import corpus
from mixture.corpus.documents import InputFile, Reading
from mixture.errors import MonitorError, StoreError, some
from mixture.hashing import document_ids, draw, fraction, id_words
from mixture.monitor.codec import Codec
from mixture.monitor.haystack import MOST_TOKENS, Haystack, Text, of_texts, of_tokens
from mixture.monitor.probes import I64
from mixture.plan.stretch import slice_file
from mixture.schemas import numbers
from mixture.storage import as_place
from mixture.storage.tables import open_parquet
from mixture.tokens.parts import fetch_rows, open_parts
from mixture.tokens.store import damaged, part_path
from mixture.trace import Trace

#: Ends of files' names and formats; any other file is read as one text.
_FORMATS = {".jsonl": "jsonl", ".json": "jsonl", ".parquet": "parquet", ".arrow": "arrow"}
_PACKED = (".gz", ".zst")
#: Held-out documents whose tokens are fetched together.
_AT_ONCE = 256


@dataclass(frozen=True)
class HeldOut:
    """A document that no plan draws.

    Attributes:
        doc_id: 16 bytes.
        domain: of the recipe.
        tokens: its own, in the lock's vocabulary, int64, shape (its length,).
    """

    doc_id: bytes
    domain: str
    tokens: I64


def held_out(trace: Trace, domains: Collection[str] = ()) -> Iterator[HeldOut]:
    """Yield the documents that a lock's recipe held out, in the order of their ids, which is random.

    Args:
        trace: the lock, open; its index and store must be there.
        domains: only these; all by default.

    Raises:
        MonitorError: the recipe holds nothing out, or has no such domain.
        StoreError: index or store are gone or damaged.
    """
    share = _shares(trace, domains)
    rows = _held_rows(trace, share)
    while batch := list(itertools.islice(rows, _AT_ONCE)):
        yield from _read(trace, batch)


def _shares(trace: Trace, domains: Collection[str]) -> dict[str, float]:
    """Return the share that is held out of each domain that is asked for."""
    lock = trace.lock
    known = sorted({cell["domain"] for phase in lock.phases for cell in phase["cells"]})
    strange = sorted(set(domains) - set(known))
    if strange:
        raise MonitorError(f"hold-out of {lock.name!r}: no domain is named {some(strange)}; known: {', '.join(known)}")
    told = lock.recipe["content"]["holdout"]
    each = told if isinstance(told, dict) else {"default": told, "domains": {}}
    found = {name: float(each["domains"].get(name, each["default"])) for name in (domains or known)}
    if not any(found.values()):
        raise MonitorError(
            f"the recipe of {lock.name!r} holds nothing out of {some(sorted(found))}; set `holdout` in it, or give "
            "files of text"
        )
    return found


def _held_rows(trace: Trace, share: dict[str, float]) -> Iterator[tuple[bytes, str, int, int]]:
    """Yield id, domain, part and row of each document that is held out, by id."""
    path = trace.documents.folder / "index.parquet"
    try:
        with open_parquet(path) as file:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, ["doc_id", "domain", "part", "row", "n_tokens", "occurrence"])
                coded = table["domain"].combine_chunks().dictionary_encode()
                limits = np.array([fraction(share.get(name, 0.0)) for name in coded.dictionary.to_pylist()], np.uint64)
                held = draw(0, "holdout", *id_words(table["doc_id"])) < limits[numbers(coded.indices)]
                held &= (numbers(table["n_tokens"]) > 0) & (numbers(table["occurrence"]) == 0)
                for row in table.filter(pa.array(held)).to_pylist():
                    yield row["doc_id"], row["domain"], row["part"], row["row"]
    except (pa.ArrowException, OSError) as error:
        raise StoreError(damaged(path, error)) from error


def _read(trace: Trace, rows: Sequence[tuple[bytes, str, int, int]]) -> Iterator[HeldOut]:
    documents = trace.documents
    wanted = sorted({part for _, _, part, _ in rows})
    opened = open_parts([part_path(documents.store, documents.parts[part]) for part in wanted])
    parts = dict(zip(wanted, opened, strict=True))
    fetch_rows([(parts[part], np.array([r for _, _, p, r in rows if p == part], np.int64)) for part in wanted])
    for doc_id, domain, part, row in rows:
        first, stop = parts[part].offsets[row : row + 2].tolist()
        yield HeldOut(doc_id, domain, parts[part].tokens[first:stop].astype(np.int64))


def trained_on(trace: Trace, ids: Collection[bytes]) -> set[bytes]:
    """Return which documents the plan of a lock draws, in any of the phases that are asked about.

    Args:
        trace: the lock, open; its index and plans must be there.
        ids: 16 bytes each.

    Raises:
        StoreError: index or plan are gone or damaged.
    """
    known = trace.documents.with_ids(ids)
    if not known:
        return set()
    wanted = pa.array(sorted(known), pa.binary(16))
    found: set[bytes] = set()
    for stream in trace.streams:
        for number in range(len(stream.plan.starts) - 1):
            path = slice_file(stream.plan.folder, number)
            try:
                with open_parquet(path) as file:
                    column = file.read(["doc_id"])["doc_id"]
            except (pa.ArrowException, OSError) as error:
                raise StoreError(damaged(path, error)) from error
            found.update(column.filter(pc.is_in(column, value_set=wanted)).to_pylist())
    return found


def check_unseen(traces: Iterable[Trace], names: dict[bytes, str]) -> None:
    """Refuse documents that were trained on.

    Args:
        traces: the locks that the model was trained on.
        names: what to call each document, by its id.

    Raises:
        MonitorError: a plan draws one of them.
    """
    for trace in traces:
        seen = sorted(names[doc_id] for doc_id in trained_on(trace, names.keys()))
        if seen:
            raise MonitorError(
                f"{some(seen)}: trained on, the plan of {trace.lock.name!r} draws this text; a haystack must be new to "
                "the model: leave it out, or use the recipe's hold-out"
            )


def texts_in(paths: Sequence[Path], *, field: str = "text") -> Iterator[Text]:
    """Yield the texts in files and folders, by name: rows of JSON lines, Parquet and Arrow, any other file as one text.

    Args:
        paths: files, or folders whose files are taken, those in sub-folders too; hidden ones are left out.
        field: of a row, that holds its text.

    Raises:
        MonitorError: a path is not there.
        InputError: a file does not hold what its name says.
    """
    for path in itertools.chain.from_iterable(map(_files, paths)):
        plain = path.with_suffix("") if path.suffix in _PACKED else path
        form = _FORMATS.get(plain.suffix, "text")
        # Of a folder's files some may be pictures: what is not text is no haystack.
        reading = Reading(text=field, skip_bad=form == "text")
        row = 0
        for chunk in corpus.read(form, InputFile(str(path), as_place(path), path.stat().st_size, ""), reading):
            for at, text in zip(chunk.row.tolist(), chunk.texts, strict=True):
                yield Text(str(path) if form == "text" else f"{path}, row {row + at:,}", text.decode())
            row += chunk.rows


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise MonitorError(f"{path}: no such file or folder of text for a haystack; give one that is there")
    inside = (found for found in sorted(path.rglob("*")) if found.is_file())
    return [found for found in inside if not any(part.startswith(".") for part in found.relative_to(path).parts)]


def haystack_of_files(
    codec: Codec,
    paths: Sequence[Path],
    traces: Sequence[Trace] = (),
    *,
    field: str = "text",
    most: int = MOST_TOKENS,
) -> Haystack:
    """Make a haystack of files, each text held to the locks that the model was trained on.

    Args:
        codec: the model's tokenizer.
        paths: files and folders.
        traces: the locks, open; none checks nothing.
        field: of a row, that holds its text.
        most: tokens that are enough.

    Raises:
        MonitorError: a text was trained on, or there is none.
    """
    if not paths:
        raise MonitorError("no files for a haystack; name files or folders of text, or use the recipe's hold-out")
    names: dict[bytes, str] = {}

    def noted() -> Iterator[Text]:
        for text in texts_in(paths, field=field):
            names[document_ids([text.text.encode()])] = text.name
            yield text

    found = of_texts(codec, noted(), some(paths), most=most)
    check_unseen(traces, names)
    return found


def haystack_of_holdout(
    codec: Codec, trace: Trace, domains: Collection[str] = (), *, most: int = MOST_TOKENS
) -> Haystack:
    """Make a haystack of what a lock's recipe held out.

    No plan of this recipe draws these documents; they are held to this lock's plan all the same, because its recipe may
    have held out less when it was planned.

    Args:
        codec: the model's tokenizer; where it is another than the lock's, documents are decoded and encoded again.
        trace: the lock, open, with its index, store and plans.
        domains: only these; all by default.
        most: tokens that are enough.

    Raises:
        MonitorError: nothing is held out, or a document was trained on.
    """
    names: dict[bytes, str] = {}
    own = codec.fingerprint == trace.lock.tokenizer["fingerprint"]

    def noted() -> Iterator[I64]:
        for document in held_out(trace, domains):
            names[document.doc_id] = f"document {document.doc_id.hex()} ({document.domain})"
            yield document.tokens if own else _again(codec, trace, document.tokens)

    found = of_tokens(codec, noted(), f"the hold-out of {trace.lock.name!r}", most=most)
    check_unseen([trace], names)
    return found


def _again(codec: Codec, trace: Trace, tokens: I64) -> I64:
    """Return a document's tokens in another vocabulary."""
    return np.array(codec.encode(trace.texts.tokenizer.decode(tokens.astype(np.uint32))), np.int64)
