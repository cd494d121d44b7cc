"""Claims about which tokens a shard holds."""

from __future__ import annotations

from mixture.hashing import document_ids
from tests.conftest import Document, Kitchen


def test_separators_cut_anywhere_stand_where_the_spans_say(kitchen: Kitchen) -> None:
    # Of 61 to 65 bytes and 4 of separator in sequences of 64: whole documents, and 1 to 4 tokens that are left over.
    texts = [f"{number:03d} " + "x" * (57 + number % 5) for number in range(300)]
    kitchen.corpus([Document(text, "books") for text in texts])
    built = kitchen.build(
        more="packing: best-fit",
        separator='{text: "<|>\\n"}',
        length=64,
        budget=16_000,
        shard_tokens=4_096,
        buckets="64",
        domains="natural",
        lengths="natural",
        holdout=0,
    )
    whole = {document_ids([text.encode()]): (text + "<|>\n").encode() for text in texts}
    stream, cut = built.stream(), 0
    for span in built.spans():
        size, offset = span["stop"] - span["start"], span["doc_offset"]
        found = stream[span["position"] : span["position"] + size]
        assert bytes(found.tolist()) == whole[span["doc_id"]][offset : offset + size]
        cut += offset > span["doc_length"]
    # Pieces that begin within a separator.
    assert cut > 20
