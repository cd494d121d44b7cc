"""From a document back to its text: the row that it was read from, read again and held to its id.

    index row ─ file, row ─► the one chunk that holds it ─ XXH3-128 ─► the document's id, or the file has changed
                                                        └ tokenizer ─► its tokens, and what stands around one of them

Only the chunk is read, but of a compressed file also what lies before it. A joined document lies in a file of joined
documents; the row that one of its tokens came from is read again as well.
"""

from __future__ import annotations

import bisect
import functools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mixture import corpus, schemas
from mixture.corpus.documents import Chunk, InputFile, Reading
from mixture.errors import TokenizerError, TraceError, VerifyError
from mixture.hashing import document_ids
from mixture.patterns import locate
from mixture.recipe.sources import TokenizerSpec
from mixture.storage import Place, as_place, exists, size_of
from mixture.tokens import tokenizer as tokenizers
from mixture.tokens.join_rows import TEXT
from mixture.tokens.members import members_of
from mixture.tokens.shares import read_reading
from mixture.tokens.store import Tokens
from mixture.trace.documents import Document, Documents
from mixture.trace.excerpt import Excerpt, excerpt
from mixture.trace.stream import Span

U32 = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class Member:
    """A row that a joined document was made of.

    Attributes:
        file: its input file.
        row: its row there.
        byte_start: where it begins in the document's text.
        byte_stop: where it ends, the separator left out.
    """

    file: str
    row: int
    byte_start: int
    byte_stop: int


class Texts:
    """Texts and tokens of documents, read again.

    Args:
        documents: the index.
        data: what the input files' names are relative to.
    """

    def __init__(self, documents: Documents, data: Place) -> None:
        self._documents, self._data = documents, data

    def lacking(self, row: Document) -> str:
        """Name what is not there of what a document's text and tokens are made of; nothing if all is."""
        vocabulary = self._documents.how["tokenizer"].get("path")
        if not self._is_there(row):
            return row.input_file
        return vocabulary if vocabulary and not exists(locate(vocabulary, self._data)) else ""

    def _is_there(self, row: Document) -> bool:
        """Say whether what a document is read from is there."""
        source = self._documents.how["sources"][row.source]
        if dict(source["reading"]["options"]).get("hub"):
            return True
        path = self._joined(row) if source["join"] else self._path(row.source, row.input_file)
        return path is not None and exists(path)

    @functools.lru_cache(maxsize=64)  # noqa: B019 - as long as one question
    def text(self, row: Document) -> bytes:
        """Return a document's UTF-8.

        Raises:
            TraceError: its file has changed.
            InputError: its file is not there, or cannot be read.
        """
        joined = self._joined(row)
        if joined is not None:
            return self._joined_text(row, joined)
        stretches = [s for s in self._documents.stretches(row.input_file) if s["part"] == row.part]
        first = next(s["first_row"] for s in stretches if s["source"] == row.source)
        text = self._row(row.source, row.input_file, self._chunk(row.part), row.input_row - first)
        if text is None or document_ids([text]) != row.doc_id:
            raise TraceError(_changed(row.input_file, row.input_row, row.doc_id.hex()))
        return text

    def _path(self, source: str, name: str) -> Place:
        options = dict(self._documents.how["sources"][source]["reading"]["options"])
        return as_place(options["hub"]) if "hub" in options else locate(name, self._data)

    def _chunk(self, part: int) -> int:
        """Return the chunk of its file, or the first of the files, that a part was read from."""
        return int(self._documents.parts[part].rpartition("/")[2])

    def _reading(self, source: str) -> tuple[str, Reading]:
        told = self._documents.how["sources"][source]
        how = read_reading(json.dumps(told["reading"]))
        if told["format"] == "huggingface":
            cache = str(self._documents.workspace.work / "huggingface")
            how = replace(how, options=(*how.options, ("cache_dir", cache)))
        return told["format"], how

    def _chunks(self, source: str, name: str, start: int) -> Iterator[Chunk]:
        form, how = self._reading(source)
        path = self._path(source, name)
        return corpus.read(form, InputFile(name, path, size_of(path) or 0, ""), how, start)

    def _row(self, source: str, name: str, start: int, row: int) -> bytes | None:
        """Return the text in a row, counted from the beginning of a chunk; None if there is none."""
        for chunk in self._chunks(source, name, start):
            if row < chunk.rows:
                at = int(np.searchsorted(chunk.row, row))
                there = at < len(chunk.row) and int(chunk.row[at]) == row
                return chunk.texts[at] if there else None
            row -= chunk.rows
        return None

    def why_rejected(self, source: str, file: str, row: int) -> str:
        """Return why a row of a file became no document, as far as the file still tells."""
        if not exists(self._path(source, file)):
            return ""
        stretches = [s for s in self._documents.stretches(file) if s["source"] == source]
        here = next((s for s in stretches if s["first_row"] <= row < s["first_row"] + s["rows"]), None)
        if here is None:
            return ""
        row -= here["first_row"]
        for chunk in self._chunks(source, file, self._chunk(here["part"])):
            if row < chunk.rows:
                found = next((reject for reject in chunk.rejects if reject.row == row), None)
                return f"{found.reason} ({found.sample!r})" if found else "it is blank"
            row -= chunk.rows
        return ""

    def _joined(self, row: Document) -> Place | None:
        unit = self._documents.parts[row.part].partition("/")[0]
        name = self._documents.how["joined"].get(unit)
        return self._documents.workspace.work / "joined" / name if name else None

    def _joined_text(self, row: Document, path: Place) -> bytes:
        file = InputFile(path.name, path, 0, "")
        for chunk in corpus.read("arrow", file, Reading(text=TEXT, skip_bad=True), self._chunk(row.part), 1 << 40):
            for text in chunk.texts:
                if document_ids([text]) == row.doc_id:
                    return text
        raise TraceError(_changed(path.name, row.row, row.doc_id.hex()))

    def members(self, row: Document) -> list[Member]:
        """Return the rows that a document was joined from, in its order; none for one that was not.

        Raises:
            StoreError: the table of them is gone or damaged.
        """
        joined = self._joined(row)
        if joined is None:
            return []
        table = members_of(joined, row.doc_id)
        names = [entry["name"] for entry in self._documents.lock.inputs if entry["source"] == row.source]
        starts, numbers, rows = (schemas.numbers(table[n]).tolist() for n in ("byte_start", "input", "input_row"))
        between = len(self._documents.how["sources"][row.source]["join"]["separator"].encode())
        stops = [start - between for start in starts[1:]] + [row.n_bytes]
        return [
            Member(names[number], at, start, stop)
            for number, at, start, stop in zip(numbers, rows, starts, stops, strict=True)
        ]

    def check_member(self, row: Document, member: Member) -> None:
        """Hold the row that a part of a joined document came from to that part; nothing if its file is not there.

        Raises:
            TraceError: the file has changed.
        """
        if not exists(self._path(row.source, member.file)):
            return
        starts = self._documents.chunks(row.source, member.file)
        chunk = bisect.bisect_right(starts, member.row) - 1
        text = self._row(row.source, member.file, chunk, member.row - starts[chunk])
        if text != self.text(row)[member.byte_start : member.byte_stop]:
            raise TraceError(_changed(member.file, member.row, row.doc_id.hex()))

    @functools.cached_property
    def tokenizer(self) -> tokenizers.Tokenizer:
        """The reference tokenizer of the recipe.

        Raises:
            TokenizerError: the vocabulary is not there, or is another one.
        """
        spec = TokenizerSpec.model_validate(self._documents.how["tokenizer"])
        loaded = tokenizers.load(spec, self._data, engine="reference")
        stated = self._documents.lock.tokenizer["fingerprint"]
        if loaded.fingerprint != stated:
            raise TokenizerError(
                f"{loaded.name}: its fingerprint is {loaded.fingerprint}, the lock says {stated}; give the data root "
                "of the vocabulary that the recipe was tokenized with"
            )
        return loaded

    @functools.lru_cache(maxsize=64)  # noqa: B019 - as long as one question
    def tokens(self, row: Document) -> U32:
        """Return a document's own tokens, shape (n_tokens,): its text, tokenized again."""
        return self.tokenizer.encode_text(self.text(row).decode())

    def excerpt(self, row: Document, offset: int) -> Excerpt:
        """Return what stands around one of a document's own tokens."""
        return excerpt(self.tokenizer, self.text(row).decode(), self.tokens(row), offset)


def check_equal(span: Span, own: U32, written: Tokens) -> bool:
    """Hold the tokens of a sequence to those of a document's text; return True.

    Args:
        span: the stretch of the document that stands in the sequence.
        own: all tokens of the document, shape (n_tokens,).
        written: the sequence, shape (length,).

    Raises:
        VerifyError: they are not equal.
    """
    if len(own) != span.length:
        raise VerifyError(
            f"document {span.doc_id.hex()}: its text makes {len(own):,} tokens now, the stream says {span.length:,}; "
            "another version of the tokenizer's library is a likely cause (`with` in the lock)"
        )
    begin, end = (min(max(at, 0), span.length) for at in (span.offset, span.offset + span.stop - span.start))
    there = written[span.start + begin - span.offset : span.start + end - span.offset]
    differ = np.flatnonzero(there != own[begin:end])
    if len(differ):
        at = int(differ[0])
        raise VerifyError(
            f"document {span.doc_id.hex()}, token {begin + at:,}: {int(there[at])} in the shard, "
            f"{int(own[begin + at])} in the tokenized source; run `mixture verify` of the recipe"
        )
    return True


def _changed(file: str, row: int, doc_id: str) -> str:
    return (
        f"{file}, row {row:,}: the file has changed since it was read, its text is not that of document {doc_id}; "
        "restore the file, or run `mixture run` of the recipe again"
    )


def holding(members: Sequence[Member], byte: int) -> Member | None:
    """Return the row that a byte of a joined text came from; None for one of a separator between two rows."""
    return next((member for member in members if member.byte_start <= byte < member.byte_stop), None)
