"""The text that checkpoints are examined with: a haystack, and documents to measure losses on; new to the model.

    lock                     what its recipe held out: the haystack, and a sample of documents by domain × length
    files (text.files)       their texts, each held to the locks that the model was trained on
    both                     the files, held to the lock

It is the same for every checkpoint: made once, and its fingerprint is kept with the table. Losses are measured on whole
documents, so they are cut only where the model's window ends.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mixture.errors import MonitorError, StoreError
from mixture.hashing import document_ids, fingerprint
from mixture.monitor.codec import Codec
from mixture.monitor.haystack import Haystack
from mixture.monitor.probes import I64
from mixture.monitor.suite import LongRule, Suite, TextRule
from mixture.monitor.unseen import HeldOut, check_unseen, haystack_of_files, haystack_of_holdout, held_out, texts_in
from mixture.trace import Trace

#: Documents that are looked at for a sample of them.
LOOK = 20_000
_EDGES = (4096, 16384, 65536)


@dataclass(frozen=True)
class Material:
    """Text in the vocabulary of one tokenizer.

    Attributes:
        haystack: to hide needles in.
        documents: whole, to measure losses on, in the order of their ids; of each cell a few.
        longest: of the documents that were looked at, for LongPPL; the longest first.
        edges: where buckets of documents' lengths end.
        looked: how many documents were looked at.
    """

    haystack: Haystack
    documents: tuple[HeldOut, ...]
    longest: tuple[HeldOut, ...]
    edges: tuple[int, ...]
    looked: int

    @property
    def fingerprint(self) -> str:
        """32 hex digits that name the text: the haystack's tokens, and where buckets end."""
        return fingerprint([document_ids([self.haystack.tokens.tobytes()]).hex(), list(self.edges)])


@dataclass
class Source:
    """Where material comes from.

    Attributes:
        rule: the suite's.
        traces: the locks that models were trained on, open; of the first one the hold-out is taken.
    """

    rule: TextRule
    traces: Sequence[Trace]
    _made: dict[str, Haystack] = field(default_factory=dict)

    def haystack(self, codec: Codec) -> Haystack:
        """Return the haystack in a vocabulary.

        Raises:
            MonitorError: there is no text, or some was trained on.
            StoreError: what the lock speaks of is not in the work directory.
        """
        if codec.fingerprint not in self._made:
            self._made[codec.fingerprint] = self._haystack(codec)
        return self._made[codec.fingerprint]

    def _haystack(self, codec: Codec) -> Haystack:
        rule = self.rule
        if rule.files:
            traces = () if rule.unchecked else self.traces
            try:
                return haystack_of_files(
                    codec, [Path(name) for name in rule.files], traces, field=rule.field, most=rule.tokens
                )
            except StoreError as error:
                raise MonitorError(
                    f"whether {rule.files[0]} was trained on cannot be told ({error}); give the --work of the lock, or "
                    "write text: {unchecked: true} in the suite"
                ) from error
        if not self.traces:
            raise MonitorError(
                "there is no text to hide needles in; give --text FILES, or --lock with the lock that the model was "
                "trained on, whose recipe holds documents out"
            )
        found = haystack_of_holdout(codec, self.traces[0], rule.domains, most=rule.tokens)
        if len(self.traces) > 1:
            first = itertools.islice(held_out(self.traces[0], rule.domains), found.documents)
            check_unseen(self.traces[1:], _names(first))
        return found

    def documents(self, codec: Codec) -> Iterator[HeldOut]:
        """Yield documents that no lock's plan draws; of files, in their order, the domain being the file's name."""
        if self.rule.files:
            yield from self._of_files(codec)
            return
        trace = self.traces[0]
        own = codec.fingerprint == trace.lock.tokenizer["fingerprint"]
        for document in held_out(trace, self.rule.domains):
            yield document if own else _again(codec, trace, document)

    def _of_files(self, codec: Codec) -> Iterator[HeldOut]:
        for name in self.rule.files:
            for text in texts_in([Path(name)], field=self.rule.field):
                tokens = np.array(codec.encode(text.text), np.int64)
                if len(tokens):
                    yield HeldOut(document_ids([text.text.encode()]), Path(name).name.partition(".")[0], tokens)

    def edges(self, suite: Suite) -> tuple[int, ...]:
        """Return where buckets of documents' lengths end: the suite's, the recipe's, or the usual."""
        if suite.holdout is not None and suite.holdout.lengths is not None:
            return suite.holdout.lengths
        if not self.traces:
            return _EDGES
        told = self.traces[0].lock.recipe["content"]["buckets"]
        return tuple(int(edge) for edge in (told["default"] if isinstance(told, Mapping) else told))


def material(source: Source, suite: Suite, codec: Codec) -> Material:
    """Choose the documents of a suite, and make its haystack.

    Raises:
        MonitorError: there is no text, or some was trained on.
        StoreError: what the lock speaks of is not in the work directory.
    """
    haystack, edges = source.haystack(codec), source.edges(suite)
    if "probability" not in suite.levels or (suite.holdout is None and suite.longppl is None):
        return Material(haystack, (), (), edges, 0)
    each = 0 if suite.holdout is None else suite.holdout.documents
    chosen, longest, looked = _chosen(source.documents(codec), edges, each, suite.longppl)
    if not source.rule.unchecked:
        check_unseen(source.traces, _names([*chosen, *longest]))
    return Material(haystack, chosen, longest, edges, looked)


def _chosen(
    documents: Iterator[HeldOut], edges: Sequence[int], each: int, long: LongRule | None
) -> tuple[tuple[HeldOut, ...], tuple[HeldOut, ...], int]:
    """Take the first documents of each cell of domain × length, and the longest of all that are looked at."""
    taken: dict[tuple[str, int], int] = {}
    chosen: list[HeldOut] = []
    heap: list[tuple[int, bytes, HeldOut]] = []
    looked = 0
    for document in itertools.islice(documents, LOOK):
        looked += 1
        cell = document.domain, int(np.searchsorted(np.array(edges), len(document.tokens), side="right"))
        if taken.get(cell, 0) < each:
            taken[cell] = taken.get(cell, 0) + 1
            chosen.append(document)
        if long is not None and len(document.tokens) > long.short:
            heapq.heappush(heap, (len(document.tokens), document.doc_id, document))
            if len(heap) > long.texts:
                heapq.heappop(heap)
    return tuple(chosen), tuple(document for _, _, document in sorted(heap, key=lambda one: (-one[0], one[1]))), looked


def _again(codec: Codec, trace: Trace, document: HeldOut) -> HeldOut:
    """Return a document in another vocabulary."""
    text = trace.texts.tokenizer.decode(document.tokens.astype(np.uint32))
    tokens: I64 = np.array(codec.encode(text), np.int64)
    return HeldOut(document.doc_id, document.domain, tokens)


def _names(documents: Iterator[HeldOut] | Sequence[HeldOut]) -> dict[bytes, str]:
    return {one.doc_id: f"document {one.doc_id.hex()} ({one.domain})" for one in documents}
