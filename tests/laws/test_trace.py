"""Law 9: every written position is one token of one document's copy, and the other way round."""

from __future__ import annotations

import pytest

from mixture.hashing import document_ids
from tests.conftest import Kitchen, documents


@pytest.mark.parametrize(
    ("separator", "before", "after"),
    [
        ("eos", [], [257]),
        ("bos", [256], []),
        ("bos+eos", [256], [257]),
        ("none", [], []),
        ('{text: "\\n\\n"}', [], [10, 10]),
    ],
)
def test_every_position_is_the_token_that_its_span_names(
    kitchen: Kitchen, separator: str, before: list[int], after: list[int]
) -> None:
    docs = documents(120)
    kitchen.corpus(docs)
    texts = {document_ids([d.text.encode()]): d for d in docs}
    built = kitchen.build(separator=separator, budget=300_000, domains="natural", lengths="natural", max_epochs=9)
    tokens = built.stream()
    seen: set[tuple[bytes, int, int]] = set()
    for span in built.spans():
        doc = texts[span["doc_id"]]
        own = list(doc.text.encode())
        assert span["doc_length"] == len(own)
        assert span["domain"] == doc.domain
        framed = before + own + after
        at = span["doc_offset"] + len(before)
        size = span["stop"] - span["start"]
        assert tokens[span["position"] : span["position"] + size].tolist() == framed[at : at + size]
        places = {(span["doc_id"], span["copy"], offset) for offset in range(at, at + size)}
        assert len(places) == size
        assert not places & seen
        seen |= places
    assert len(seen) == len(tokens) == built.lock.phases[0]["stream"]["tokens"]


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
