"""What a shard's rows must be, whatever its hash says: spans, padding, marks, ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mixture import schemas
from mixture.pack.layout import Knots, Rules
from mixture.recipe import Buckets
from mixture.recipe.packing import Packing, Transforms
from mixture.shards.write import Geometry
from mixture.storage import file_digest
from mixture.verify.shard import check_shard

LENGTH = 8


def _geometry(*, knots: Knots | None = None) -> Geometry:
    rules = Rules(LENGTH, 1, Packing.of("concat"), Transforms(), knots, 0)
    return Geometry(rules, (), (9,), 300, Buckets(default=(4,)))


def _span(start: int, stop: int, *, offset: int = 0, length: int = 100, document: int = 1) -> dict[str, Any]:
    doc_id = document.to_bytes(16, "big")
    fields = {"start": start, "stop": stop, "domain": "d", "doc_id": doc_id, "doc_offset": offset}
    return fields | {"doc_length": length, "copy": 0}


def _findings(
    path: Path, ids: list[int], spans: list[dict[str, Any]], marks: list[int] | None = None, **facts: Any
) -> list[str]:
    """Write a shard of one good row and this one, as its lock would have it, and check it."""
    how = _geometry(knots=None if marks is None else Knots(7, 7))
    columns = [
        pa.FixedSizeListArray.from_arrays(
            schemas.column(np.array([1] * LENGTH + ids, np.uint16)), type=how.schema.field("input_ids").type
        ),
        pa.array([[_span(0, LENGTH)], spans], how.schema.field("spans").type),
    ]
    if marks is not None:
        columns.append(pa.array([[], marks], how.schema.field("marks").type))
    batch = pa.record_batch(columns, schema=how.schema)
    with pa.OSFile(str(path), "wb") as out, pa.ipc.new_file(out, how.schema) as writer:
        writer.write_batch(batch)
    tokens = LENGTH + sum(span["stop"] - span["start"] for span in spans)
    said = {"shard": path.name, "sequences": 2, "tokens": tokens, "size": 0, "hash": file_digest(path)} | facts
    report = check_shard(str(path), said, how.to_json(), "stream", needs_record=False)
    assert all(finding.get("row") in (1, None) for finding in report["findings"])
    assert bool(report["cells"]) != bool(report["findings"])
    return [finding["message"] for finding in report["findings"]]


@pytest.mark.parametrize(
    ("ids", "spans", "marks"),
    [
        ([4, 4, 4, 9, 5, 5, 5, 5], [_span(0, 4, length=3), _span(4, 8, document=2)], None),
        # Padding at the end, and between documents.
        ([4, 4, 4, 9, 0, 0, 5, 0], [_span(0, 4, length=3), _span(6, 7, document=2)], None),
        ([0, 4, 0, 0, 0, 0, 0, 0], [_span(1, 2)], None),
        # A document in two spans, a mark after the first and before the second.
        ([4, 4, 7, 5, 5, 7, 4, 4], [_span(0, 2), _span(3, 5, document=2), _span(6, 8, offset=2)], [2, 5]),
        ([4, 4, 7, 0, 0, 0, 0, 0], [_span(0, 2)], [2]),
        # Zero is a token of the vocabulary, too.
        ([0, 0, 0, 0, 0, 0, 0, 0], [_span(0, 8)], None),
    ],
)
def test_rows_that_are_whole_pass(
    tmp_path: Path, ids: list[int], spans: list[dict[str, Any]], marks: list[int] | None
) -> None:
    assert _findings(tmp_path / "shard.arrow", ids, spans, marks) == []


FOURS = [4] * LENGTH


@pytest.mark.parametrize(
    ("ids", "spans", "marks", "words"),
    [
        (FOURS, [_span(0, 4)], None, "row 1, place 4: id 4 stands outside every span, where padding is 0"),
        (FOURS, [_span(0, 2), _span(3, 8, document=2)], None, "row 1, place 2: id 4 stands outside every span"),
        (FOURS, [_span(0, 5), _span(4, 8, document=2)], None, "row 1: span 1 [4, 8) of document"),
        (FOURS, [_span(4, 8), _span(0, 4, document=2)], None, "row 1: span 1 [0, 4) of document"),
        (FOURS, [_span(0, 9)], None, "row 1: span 0 [0, 9) of document"),
        (FOURS, [_span(-1, 8)], None, "row 1: span 0 [-1, 8) of document"),
        (FOURS, [_span(0, 0), _span(0, 8)], None, "row 1: span 0 [0, 0) of document"),
        (FOURS, [_span(0, 8, length=6)], None, "leaves its row or its document"),
        (FOURS, [_span(0, 8, offset=-1)], None, "leaves its row or its document"),
        (FOURS, [], None, "row 1: it has no spans"),
        ([4, 4, 4, 300, 4, 4, 4, 4], [_span(0, 8)], None, "row 1, token 3: id 300 is outside the vocabulary of 300"),
        ([4, 4, 7, 0, 0, 0, 0, 0], [_span(0, 2)], [3], "row 1, place 2: id 7 stands outside every span"),
        (FOURS, [_span(0, 8)], [3], "row 1: the mark at place 3 stands inside a span"),
        (FOURS, [_span(0, 8)], [8], "row 1: a mark at place 8 lies outside its 8 places"),
        (FOURS, [_span(0, 8)], [-1], "row 1: a mark at place -1 lies outside its 8 places"),
    ],
)
def test_rows_that_break_a_law_are_named_though_the_hash_is_right(
    tmp_path: Path, ids: list[int], spans: list[dict[str, Any]], marks: list[int] | None, words: str
) -> None:
    (message,) = _findings(tmp_path / "shard.arrow", ids, spans, marks)
    assert words in message
    assert "remove it and run `mixture pack`" in message


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"tokens": 15}, "16 tokens in spans, the lock says 15"),
        ({"sequences": 3}, "2 rows, the lock says 3"),
        ({"hash": "0" * 32}, "its bytes do not have the hash in the lock"),
    ],
)
def test_counts_and_hash_are_held_to_the_lock(tmp_path: Path, facts: dict[str, Any], words: str) -> None:
    (message,) = _findings(tmp_path / "shard.arrow", FOURS, [_span(0, 8)], **facts)
    assert words in message


def test_a_shard_of_another_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "shard.arrow"
    assert _findings(path, FOURS, [_span(0, 8)]) == []
    facts = {"shard": path.name, "sequences": 2, "tokens": 16, "size": 0, "hash": file_digest(path)}
    report = check_shard(str(path), facts, _geometry(knots=Knots(7, 7)).to_json(), "stream", needs_record=False)
    assert "its schema is not the one of the recipe" in report["findings"][0]["message"]
