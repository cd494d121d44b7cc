"""Exports read by the libraries that they are for, where these are installed; they are too heavy for the suite.

`mosaicml-streaming`, `ai2-olmo-core` and `megatron-core` bring torch, `dolma` many tokenizers; install one and run
this file. Without them tests/export/test_formats.py reads the same files by their published layouts.
"""

from __future__ import annotations

import gzip
from csv import reader
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.export.conftest import KINDS, LENGTH, Shelf, Stock

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(params=[(kind, token) for kind in KINDS for token in (pa.uint16(), pa.uint32())], ids=str)
def shelf(request: pytest.FixtureRequest, stock: Stock) -> Shelf:
    return stock(*request.param)


def kind(shelf: Shelf) -> type[np.uint16 | np.uint32]:
    return np.uint16 if shelf.lock.tokenizer["vocabulary"] == 1 << 16 else np.uint32


def arrays(out: Path) -> list[Path]:
    return sorted(out.glob("*.npy"))


def test_streaming_reads_mds_and_its_hashes_hold(shelf: Shelf) -> None:
    streaming = pytest.importorskip("streaming")
    out = shelf.export("mds").out
    for dataset in (
        streaming.LocalDataset(str(out)),
        streaming.StreamingDataset(
            remote=str(out), local=str(shelf.root / "local"), batch_size=1, shuffle=False, validate_hash="xxh3_128"
        ),
    ):
        samples = [dataset[number] for number in range(len(shelf.truth[0]))]
        assert [sample["tokens"].tolist() for sample in samples] == [row.tokens for row in shelf.truth[0]]
        assert samples[0]["tokens"].dtype == kind(shelf)
        assert [sample["spans"].tolist() for sample in samples] == [
            [list(border) for border in row.borders] for row in shelf.truth[0]
        ]
        assert [[span["doc_id"] for span in sample["documents"]] for sample in samples] == [
            [span["doc_id"].hex() for span in row.spans] for row in shelf.truth[0]
        ]
        assert [sample.get("marks", []) for sample in samples] == [row.marks for row in shelf.truth[0]]


def test_megatron_reads_pairs(shelf: Shelf) -> None:
    indexed = pytest.importorskip("megatron.core.datasets.indexed_dataset")
    for unit in ("row", "document"):
        out = shelf.export("megatron", unit, unit=unit).out
        prefixes = (out / "blend.txt").read_text().split()[1::2]
        pairs = [indexed.IndexedDataset(str(out / prefix)) for prefix in prefixes]
        found = [pair[number].tolist() for pair in pairs for number in range(len(pair))]
        truth = [[row.tokens] if unit == "row" else row.pieces() for row in shelf.truth[0]]
        assert found == [piece for pieces in truth for piece in pieces]
        documents = [int(size) for pair in pairs for size in np.diff(pair.document_indices)]
        assert documents == [len(pieces) for pieces in truth]


def test_olmo_core_s_chunks_are_rows_and_its_masks_and_documents_are_ours(shelf: Shelf) -> None:
    data = pytest.importorskip("olmo_core.data")
    from olmo_core.data.utils import get_document_indices

    out = shelf.export("olmo").out
    masks: dict[str, Any] = {}
    padded = (out / "label-masks").exists()
    if padded:
        masks["label_mask_paths"] = [str(path) for path in arrays(out / "label-masks")]
    dataset = data.NumpyFSLDataset(
        *map(str, arrays(out)),
        sequence_length=LENGTH,
        pad_token_id=0,
        eos_token_id=1,
        vocab_size=1 << 30,
        dtype=kind(shelf),
        **masks,
    )
    dataset.prepare()
    found = [dataset[number] for number in range(len(dataset))]
    assert [instance["input_ids"].tolist() for instance in found] == [row.tokens for row in shelf.truth[0]]
    if padded:
        assert [instance["label_mask"].tolist() for instance in found] == [row.real for row in shelf.truth[0]]
    borders = [border for path in arrays(out) for border in get_document_indices(str(path))]
    flat = [np.fromfile(path, kind(shelf)) for path in arrays(out)]
    pieces = [
        array[start:stop].tolist()
        for path, array in zip(arrays(out), flat, strict=True)
        for start, stop in get_document_indices(str(path))
    ]
    assert len(borders) == sum(len(row.spans) for row in shelf.truth[0])
    assert pieces == [piece for row in shelf.truth[0] for piece in row.pieces()]


def test_dolma_s_metadata_has_our_columns_in_our_order(shelf: Shelf) -> None:
    types = pytest.importorskip("dolma.tokenizer.data_types")
    out = shelf.export("olmo").out
    rows = []
    for path in sorted(out.glob("*.csv.gz")):
        with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
            rows += [types.MemmapMetadata(*line) for line in reader(lines)]
    spans = [span for row in shelf.truth[0] for span in row.spans]
    assert [(row.id, row.src, int(row.loc)) for row in rows] == [
        (span["doc_id"].hex(), span["domain"], span["doc_offset"]) for span in spans
    ]
    assert [int(row.end) - int(row.start) for row in rows] == [span["stop"] - span["start"] for span in spans]
