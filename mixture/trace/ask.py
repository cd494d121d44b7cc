"""What can be asked of a lock: a sequence, a place in it, a step of training, a document, a row of an input file.

    forward    sequence (and place) ─► document, offset, copy ─► input file, row, text
    backward   document, or file and row ─► every sequence in which a copy of it stands

Answers are JSON-able mappings; `mixture trace` prints them.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from mixture.errors import InputError, StoreError, TraceError, nearest
from mixture.lockfile import Lock
from mixture.storage import Place, exists
from mixture.tokens.store import Tokens
from mixture.trace.copies import copies
from mixture.trace.documents import Document, Documents, Read
from mixture.trace.fate import fate
from mixture.trace.stream import Row, Span, Stream
from mixture.trace.text import Texts, check_equal, holding
from mixture.workspace import Workspace


class Trace:
    """A lock, open for questions; what was opened for one stays open for the next.

    Args:
        lock: what was made.
        workspace: where plans, index, store and shards lie, and what input files are relative to.
        phase: name of the phase that is asked about; empty where the lock has no phases, or for all of them.
        shards: where the shards are, if not in the work directory; several phases each in a folder of its own there.

    Raises:
        TraceError: the lock has no such phase.
    """

    def __init__(self, lock: Lock, workspace: Workspace, phase: str = "", shards: Place | None = None) -> None:
        names = [found["name"] for found in lock.phases]
        if phase and phase not in names:
            known = nearest(phase, [name for name in names if name])
            raise TraceError(f"--phase {phase}: the lock of {lock.name!r} has no such phase; {known}")
        self.lock, self.workspace = lock, workspace
        chosen = [n for n, name in enumerate(names) if not phase or name == phase]
        self.streams = [Stream(lock, number, workspace, shards) for number in chosen]

    @property
    def stream(self) -> Stream:
        """The phase that is asked about.

        Raises:
            TraceError: several are.
        """
        if len(self.streams) > 1:
            names = ", ".join(stream.name for stream in self.streams)
            raise TraceError(
                f"the lock of {self.lock.name!r} has the phases {names}, each with its own sequences; give --phase"
            )
        return self.streams[0]

    @functools.cached_property
    def documents(self) -> Documents:
        """The index that the lock was planned over.

        Raises:
            StoreError: it is not in the work directory.
        """
        folder = self.workspace.index(self.lock.work.get("index", ""))
        if not exists(folder / "index.json"):
            # The plan may have been made again over an index of another name: input files were renamed, say.
            with contextlib.suppress(StoreError):
                folder = self.workspace.index(self.streams[0].plan.record.get("index", folder.name))
        return Documents(folder, self.lock, self.workspace)

    @functools.cached_property
    def texts(self) -> Texts:
        """The documents' texts."""
        return Texts(self.documents, self.workspace.data)

    def origin(self, span: Span) -> Document | None:
        """Return the row of the index that a span's copy was made of; None if the index does not know it."""
        return self.origins([span])[0]

    def origins(self, spans: Iterable[Span]) -> list[Document | None]:
        """Return the row of the index of each span."""
        wanted = list(spans)
        rows = self.documents.with_ids(span.doc_id for span in wanted)
        return [_made_of(rows.get(span.doc_id, []), span) for span in wanted]

    def sequence(self, number: int) -> dict[str, Any]:
        """Answer: what stands in a sequence, and which rows of which files it was read from.

        Raises:
            TraceError: there is no such sequence.
            StoreError: neither shard nor plan is there.
        """
        stream = self.stream
        row = stream.row(number)
        try:
            origins, why = self.origins(row.spans), ""
        except StoreError as error:
            origins, why = [None] * len(row.spans), str(error)
        documents = [span.to_json() | _source(origin) for span, origin in zip(row.spans, origins, strict=True)]
        return self._head(number, row) | {
            "length": stream.length,
            "documents": documents,
            "marks": list(row.marks),
            "padding": [list(gap) for gap in row.gaps(stream.length)],
            "sources_unknown": why,
        }

    def token(self, number: int, place: int) -> dict[str, Any]:
        """Answer: what stands at a place of a sequence; with its text, held to its document's id, where that is there.

        Raises:
            TraceError: there is no such place, or the source has changed.
            VerifyError: the shard's tokens are not those of the source.
        """
        stream = self.stream
        stream.check(number)
        if not 0 <= place < stream.length:
            raise TraceError(
                f"--token {place:,}: a sequence has {stream.length:,} places, numbered from 0; give one of those"
            )
        row, tokens = stream.row(number), stream.tokens(number)
        kind, span = row.at(place)
        answer = self._head(number, row) | {
            "place": place,
            "kind": kind,
            "id": None if tokens is None else int(tokens[place]),
        }
        if span is None:
            return answer
        offset = span.offset + place - span.start
        answer |= {"offset": offset, "document": span.to_json()}
        try:
            origin = self.origin(span)
        except StoreError as error:
            return answer | {"text": None, "text_unknown": str(error), "equal": None}
        answer["document"] |= _source(origin)
        if origin is None:
            return answer | {"text": None, "text_unknown": "the index does not know the document", "equal": None}
        return answer | self._text(origin, span, offset if kind == "document" else None, tokens)

    def _text(self, origin: Document, span: Span, offset: int | None, tokens: Tokens | None) -> dict[str, Any]:
        """Return what the source says of a span: its text around an own token, and whether the tokens are equal."""
        members = self.texts.members(origin)
        lacking = self.texts.lacking(origin)
        if lacking:
            why = f"{lacking} is not under {self.workspace.data}; give the data root with --data"
            return {"text": None, "text_unknown": why, "equal": None}
        equal = None if tokens is None else check_equal(span, self.texts.tokens(origin), tokens)
        answer: dict[str, Any] = {"text": None, "text_unknown": "", "equal": equal}
        if offset is None:
            return answer
        excerpt = self.texts.excerpt(origin, offset)
        answer["text"] = asdict(excerpt)
        member = holding(members, excerpt.byte)
        if member is not None:
            self.texts.check_member(origin, member)
            answer["member"] = asdict(member) | {"byte": excerpt.byte - member.byte_start}
        return answer

    def step(self, number: int, batch: int) -> dict[str, Any]:
        """Answer: the documents of a global step, and the tokens of each domain.

        Raises:
            TraceError: the stream ends before that step.
        """
        stream = self.stream
        steps = -(-len(stream) // batch)
        if not 0 <= number < steps:
            raise TraceError(
                f"--step {number:,}: the stream's {len(stream):,} sequences make {steps:,} steps of {batch:,}, "
                "numbered from 0; give one of those"
            )
        first, stop = number * batch, min((number + 1) * batch, len(stream))
        rows = {sequence: stream.row(sequence) for sequence in range(first, stop)}
        documents = [{"sequence": sequence} | span.to_json() for sequence, row in rows.items() for span in row.spans]
        real = sum(span["stop"] - span["start"] for span in documents)
        return {
            "phase": stream.name,
            "step": number,
            "batch": batch,
            "sequences": [first, stop],
            "tokens": real,
            "marks": sum(len(row.marks) for row in rows.values()),
            "padding": (stop - first) * stream.length - real - sum(len(row.marks) for row in rows.values()),
            "domains": _domains(documents),
            "documents": documents,
        }

    def document(self, digits: str, batch: int | None = None) -> dict[str, Any]:
        """Answer: where a document comes from, and every sequence in which a copy of it stands.

        Args:
            digits: its id, or the first digits of it.
            batch: sequences of a global step, to name the steps as well.

        Raises:
            TraceError: there is no such document, or several.
            StoreError: index or plan are not in the work directory.
        """
        rows = self.documents.named(digits)
        origins = [row.to_json() | {"members": [asdict(member) for member in self.texts.members(row)]} for row in rows]
        phases = [self._in_phase(stream, rows, batch) for stream in self.streams]
        return {"doc_id": rows[0].doc_id.hex(), "origins": origins, "phases": phases}

    def _in_phase(self, stream: Stream, rows: list[Document], batch: int | None) -> dict[str, Any]:
        found = copies(stream, rows)
        drawn = {(copy.domain, copy.copy) for copy in found}
        missing = [
            {"domain": row.domain, "occurrence": row.occurrence, "why": fate(self.documents, row)}
            for row in rows
            if not any(domain == row.domain and copy % row.occurrences == row.occurrence for domain, copy in drawn)
        ]
        return {"phase": stream.name, "copies": [copy.to_json(batch) for copy in found], "not_drawn": missing}

    def file_row(self, file: str, row: int, batch: int | None = None) -> dict[str, Any]:
        """Answer: what became of a row of an input file; see `document`.

        Raises:
            TraceError: the lock knows no such file, or it has no such row.
        """
        answers = [self._fate_of(read, file, row) for read in self.documents.read_in(file, row)]
        ids = list(dict.fromkeys(answer["doc_id"] for answer in answers if answer["in_index"]))
        return {"file": file, "row": row, "read": answers, "documents": [self.document(one, batch) for one in ids]}

    def _fate_of(self, read: Read, file: str, row: int) -> dict[str, Any]:
        answer: dict[str, Any] = {"source": read.source, "doc_id": None, "in_index": False, "became": ""}
        if read.doc_id is None:
            try:
                why = "" if read.joined else self.texts.why_rejected(read.source, file, row)
            except InputError:
                why = ""
            return answer | {"became": f"no document: {why or read.why}"}
        answer["doc_id"] = read.doc_id.hex()
        rows = self.documents.with_ids([read.doc_id]).get(read.doc_id, [])
        if not rows:
            return answer | {"became": "no document of the index: it has no value in its domain field"}
        if read.joined:
            return answer | {"in_index": True, "became": "part of a joined document"}
        mine = [found for found in rows if (found.part, found.row) == read.part]
        if mine:
            return answer | {"in_index": True, "became": "a document"}
        kept = rows[0]
        return answer | {
            "in_index": True,
            "became": f"an exact duplicate, dropped: {kept.input_file}, row {kept.input_row:,} stands in its place",
        }

    def _head(self, number: int, row: Row) -> dict[str, Any]:
        return {"phase": self.stream.name, "sequence": number, "from": row.source}


def _made_of(rows: list[Document], span: Span) -> Document | None:
    """Return which of the equal texts a copy was made of."""
    for row in rows:
        if row.domain == span.domain and span.copy % row.occurrences == row.occurrence:
            return row
    return None


def _source(origin: Document | None) -> dict[str, Any]:
    if origin is None:
        return {"source": None, "file": None, "row": None}
    return {"source": origin.source, "file": origin.input_file, "row": origin.input_row}


def _domains(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sum spans by domain: tokens, distinct documents, spans; those with most tokens first."""
    sums: dict[str, dict[str, Any]] = {}
    for span in documents:
        row = sums.setdefault(span["domain"], {"domain": span["domain"], "tokens": 0, "spans": 0, "ids": set()})
        row["tokens"] += span["stop"] - span["start"]
        row["spans"] += 1
        row["ids"].add(span["doc_id"])
    ranked = sorted(sums.values(), key=lambda row: (-row["tokens"], row["domain"]))
    return [{name: v for name, v in row.items() if name != "ids"} | {"documents": len(row["ids"])} for row in ranked]
