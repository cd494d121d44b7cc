"""Law 9: every written position is one token of one document's copy, and the other way round.

Whatever the packing, the transform, the separator and the phases: each place of each sequence is a token of one
document, a separator, a mark, or padding; shards and plan say the same; and a document, asked for, names exactly the
places that name it.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixture.hashing import document_ids
from mixture.trace import Trace
from mixture.trace.copies import copies
from mixture.trace.stream import Span, Stream
from tests.conftest import Built, Document, Kitchen, documents, recipe_text

SEPARATORS: dict[str, tuple[list[int], list[int]]] = {
    "eos": ([], [257]),
    "bos": ([256], []),
    "bos+eos": ([256], [257]),
    "none": ([], []),
    '{text: "\\n\\n"}': ([], [10, 10]),
}
PACKINGS = (
    "concat",
    "best-fit",
    "intact",
    "vsl",
    "{kind: split-by-length, long: 0.6}",
    "{kind: vsl, smallest: 64, batch: 2}",
)
TRANSFORMS = (
    "",
    "interleave: {parts: 3}",
    "utk: {probability: 0.8, parts: 3, room: 24}",
    "utk: {probability: 1, parts: 4, room: 48, trace: 24}",
    "related: {by: bm25}",
    "related: {by: keywords}",
)
DOCS = documents(90)
#: Equal texts in one domain, and in two.
TWINS = [DOCS[4], DOCS[4], DOCS[7], Document(DOCS[10].text, "books"), Document(DOCS[4].text, "books")]
TEXTS = {document_ids([d.text.encode()]): d.text.encode() for d in DOCS}
PHASES = """phases:
  - {name: short, budget: 30K, sequence: {length: 256, separator: eos}}
  - {name: long, budget: 50K}
"""


@st.composite
def rules(draw: st.DrawFn, packing: str) -> dict[str, Any]:
    """Recipes of one packing that differ in all else that decides about places."""
    transform = draw(st.sampled_from(TRANSFORMS))
    align = draw(st.sampled_from((1, 16)))
    if (transform and "vsl" in packing) or (transform.startswith("related") and packing != "concat"):
        transform = ""
    if transform.startswith(("utk", "interleave")) or "vsl" in packing:
        align = 1
    more = [
        f"packing: {packing}",
        f"transforms: {{{transform}}}",
        f"duplicates: {draw(st.sampled_from(('keep', 'keep-first')))}",
    ]
    separator = draw(st.sampled_from(sorted(SEPARATORS)))
    return {
        "separator": f"{separator}, align: {align}",
        "more": "\n".join(more),
        "phases": draw(st.booleans()),
        "seed": draw(st.integers(0, 1 << 32)),
        "shard_tokens": draw(st.sampled_from((4_096, 16_000))),
        "holdout": 0,
        "max_epochs": 9,
        "domains": "natural",
        "lengths": "natural",
        "budget": draw(st.sampled_from((60_000, 180_000))),
        "named": separator,
    }


def write(kitchen: Kitchen, changes: dict[str, Any]) -> Path:
    told = {name: value for name, value in changes.items() if name not in ("phases", "named")}
    path = kitchen.recipe(**told)
    if changes["phases"]:
        text = recipe_text(**told).replace(f"budget: {told['budget']}\n", "")
        path.write_text(text + PHASES, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kitchen]:
    """One corpus for all examples: tokenized once."""
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setattr("mixture.plan.slices._GROUP_ROWS", 5)
        patch.setattr("mixture.index.sort._ROWS_AT_ONCE", 16)
        kitchen = Kitchen(tmp_path_factory.mktemp("law"), stack)
        kitchen.corpus([*DOCS, *TWINS])
        yield kitchen


def check_sequence(trace: Trace, number: int, around: tuple[list[int], list[int]], vocabulary: int) -> list[Span]:
    """Claim that a sequence holds what its spans say, and nothing else; return them."""
    stream = trace.stream
    row, tokens = stream.row(number), stream.tokens(number)
    assert row.source == "shards"
    planned = stream.plan_row(number)
    assert (planned.spans, planned.marks) == (row.spans, row.marks)
    assert tokens is not None
    covered = np.zeros(stream.length, np.int64)
    for span in row.spans:
        covered[span.start : span.stop] += 1
        framed = [*around[0], *TEXTS[span.doc_id], *around[1]]
        at = span.offset + len(around[0])
        assert 0 <= at < at + span.stop - span.start <= len(framed)
        assert tokens[span.start : span.stop].tolist() == framed[at : at + span.stop - span.start]
        assert span.length == len(TEXTS[span.doc_id])
    covered[list(row.marks)] += 1
    for start, stop in row.gaps(stream.length):
        covered[start:stop] += 1
        assert not tokens[start:stop].any()
    assert (covered == 1).all()
    assert all(tokens[place] >= vocabulary for place in row.marks)
    return list(row.spans)


def check_phase(trace: Trace, around: tuple[list[int], list[int]]) -> None:
    """Claim that forward and backward are each other's inverse over a phase."""
    stream = trace.stream
    forward: dict[tuple[bytes, str, int], list[tuple[int, Span]]] = defaultdict(list)
    for number in range(len(stream)):
        for span in check_sequence(trace, number, around, 258):
            forward[span.doc_id, span.domain, span.copy].append((number, span))
    real = 0
    for places in forward.values():
        stretches = sorted((span.offset, span.offset + span.stop - span.start) for _, span in places)
        # A copy is written from its beginning on, without a gap, and no token of it twice.
        assert stretches[0][0] == -len(around[0])
        assert all(before[1] == after[0] for before, after in itertools.pairwise(stretches))
        real += stretches[-1][1] - stretches[0][0]
    assert real == stream.lock.phases[stream.phase]["stream"]["tokens"]
    unpacked = Trace(trace.lock, trace.workspace, stream.name, trace.workspace.work / "none").stream
    for doc_id in {doc_id for doc_id, _, _ in forward}:
        rows = trace.documents.with_ids([doc_id])[doc_id]
        said = {key: sorted(value, key=repr) for key, value in forward.items() if key[0] == doc_id}
        assert backward(stream, rows) == said
        assert backward(unpacked, rows) == said


def backward(stream: Stream, rows: list[Any]) -> dict[tuple[bytes, str, int], list[tuple[int, Span]]]:
    return {(rows[0].doc_id, copy.domain, copy.copy): sorted(copy.places, key=repr) for copy in copies(stream, rows)}


def check_build(built: Built, named: str) -> None:
    for phase in built.lock.phases:
        around = SEPARATORS["eos" if phase["name"] == "short" else named]
        check_phase(Trace(built.lock, built.job.workspace, phase["name"]), around)


@pytest.mark.parametrize("packing", PACKINGS)
def test_every_place_is_one_thing_and_every_thing_has_its_place(shared: Kitchen, packing: str) -> None:
    @given(changes=rules(packing))
    @settings(max_examples=12 if packing == "concat" else 6, deadline=None)
    def check(changes: dict[str, Any]) -> None:
        check_build(shared.build(write(shared, changes)), changes["named"])

    check()


@pytest.mark.parametrize("separator", sorted(SEPARATORS))
def test_every_position_is_the_token_that_its_span_names(kitchen: Kitchen, separator: str) -> None:
    kitchen.corpus(DOCS)
    plain = {"domains": "natural", "lengths": "natural", "max_epochs": 9}
    built = kitchen.build(separator=separator, budget=300_000, **plain)
    check_build(built, separator)


def test_a_copy_is_whole_or_the_one_cut_document_of_its_cell(kitchen: Kitchen) -> None:
    kitchen.corpus(documents(200))
    built = kitchen.build()
    ends: dict[tuple[str, bytes, int], int] = {}
    full: dict[tuple[str, bytes, int], int] = {}
    for span in built.spans():
        key = (span["domain"], span["doc_id"], span["copy"])
        ends[key] = max(ends.get(key, 0), span["doc_offset"] + span["stop"] - span["start"])
        full[key] = span["doc_length"] + 1
    cut = [key for key, end in ends.items() if end != full[key]]
    assert len(cut) == sum(cell["cut"] for cell in built.lock.phases[0]["cells"]) > 0
    assert len({(domain, full[domain, doc, copy]) for domain, doc, copy in cut}) == len(cut)
