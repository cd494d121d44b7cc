"""Every format, read back: equal tokens, boundaries kept, padding and marks where they belong."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash

from mixture.errors import StoreError
from mixture.export import FORMATS, mds
from mixture.export.format import signed
from tests.export.conftest import KINDS, LENGTH, Sequence, Shelf, Stock
from tests.export.readers import read_mds, read_megatron, read_olmo

TOKENS = (pa.uint16(), pa.uint32())


@pytest.fixture(params=[(kind, token) for kind in KINDS for token in TOKENS], ids=lambda p: f"{p[0]}-{p[1]}")
def shelf(request: pytest.FixtureRequest, stock: Stock) -> Shelf:
    kind, token = request.param
    return stock(kind, token)


def name(shelf: Shelf) -> str:
    return shelf.lock.phases[0]["shards"][0]["shard"].removesuffix(".arrow")


def with_sequences(shelf: Shelf) -> list[tuple[str, list[Sequence]]]:
    """The shards that hold any, and these."""
    out, at = [], 0
    for facts in shelf.lock.phases[0]["shards"]:
        rows = shelf.truth[0][at : at + facts["sequences"]]
        at += len(rows)
        if rows:
            out.append((facts["shard"].removesuffix(".arrow"), rows))
    return out


def test_the_hand_made_shelves_hold_what_their_names_say(stock: Stock) -> None:
    assert all(all(row.real) for row in stock("full").truth[0])
    padded, marked = stock("padded").truth[0], stock("marked").truth[0]
    assert any(not all(row.real) for row in padded)
    assert not any(row.marks for row in padded)
    assert any(row.marks for row in marked)
    assert any(not row.marks for row in marked)


@pytest.mark.parametrize("format_", FORMATS)
def test_a_record_lists_every_file_with_its_hash(shelf: Shelf, format_: str) -> None:
    done = shelf.export(format_)
    files = done.record["phases"][0]["files"]
    for file in files:
        assert xxhash.xxh3_128_hexdigest((done.out / file["file"]).read_bytes()) == file["hash"]
    listed = {file["file"] for file in files} | {"export.json"}
    assert {str(path.relative_to(done.out)) for path in done.out.rglob("[!.]*") if path.is_file()} - listed == {
        f".export/0/{shard['shard'].removesuffix('.arrow')}.json" for shard in shelf.lock.shards
    } | {".export/what.json"}


def test_megatron_rows_are_whole_sequences(shelf: Shelf) -> None:
    out = shelf.export("megatron").out
    for prefix, rows in with_sequences(shelf):
        found = read_megatron(out / prefix)
        assert found.sequences == [row.tokens for row in rows]
        assert found.documents == list(range(len(rows) + 1))
        assert found.kind.itemsize == (2 if shelf.lock.tokenizer["vocabulary"] == 1 << 16 else 4)


def test_megatron_documents_are_spans_without_padding_and_marks(shelf: Shelf) -> None:
    out = shelf.export("megatron", unit="document").out
    for prefix, rows in with_sequences(shelf):
        found = read_megatron(out / prefix)
        assert found.sequences == [piece for row in rows for piece in row.pieces()]
        assert np.diff([0, *found.documents]).tolist() == [0, *(len(row.spans) for row in rows)]


def test_a_blend_weighs_each_prefix_by_its_ids(shelf: Shelf) -> None:
    for unit in ("row", "document"):
        out = shelf.export("megatron", unit, unit=unit).out
        words = (out / "blend.txt").read_text().split()
        blend = dict(zip(words[1::2], map(int, words[::2]), strict=True))
        assert blend == {
            prefix: sum(map(len, read_megatron(out / prefix).sequences)) for prefix, _ in with_sequences(shelf)
        }


def test_mds_samples_are_sequences(shelf: Shelf) -> None:
    samples = read_mds(shelf.export("mds").out)
    assert [sample["tokens"] for sample in samples] == [row.tokens for row in shelf.truth[0]]
    assert [sample["spans"] for sample in samples] == [[list(b) for b in row.borders] for row in shelf.truth[0]]
    for sample, row in zip(samples, shelf.truth[0], strict=True):
        others = [{k: v for k, v in span.items() if k not in {"start", "stop"}} for span in row.spans]
        assert sample["documents"] == [span | {"doc_id": span["doc_id"].hex()} for span in others]
        assert sample.get("marks", []) == row.marks


def test_mds_files_end_at_a_size_and_cross_record_batches(stock: Stock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mds, "_FILE_BYTES", 5 * LENGTH * 4)
    shelf = stock("padded", pa.uint32(), (13, 4))
    out = shelf.export("mds").out
    assert [sample["tokens"] for sample in read_mds(out)] == [row.tokens for row in shelf.truth[0]]
    counts = [np.fromfile(path, np.uint32, 1)[0] for path in sorted(out.glob("*.mds"))]
    assert counts == [5, 5, 3, 4]


def test_olmo_arrays_are_sequences_end_to_end_and_the_table_says_where_documents_lie(shelf: Shelf) -> None:
    out = shelf.export("olmo").out
    kind = "uint16" if shelf.lock.tokenizer["vocabulary"] == 1 << 16 else "uint32"
    for prefix, rows in with_sequences(shelf):
        tokens, table = read_olmo(out / f"{prefix}.npy", kind)
        assert tokens == [token for row in rows for token in row.tokens]
        assert table == [
            [str(number * LENGTH + span[side]) for side in ("start", "stop")]
            + [span["doc_id"].hex(), span["domain"], str(span["doc_offset"])]
            for number, row in enumerate(rows)
            for span in row.spans
        ]


def test_olmo_masks_say_which_places_are_real_and_are_only_there_for_padding_or_marks(shelf: Shelf) -> None:
    out = shelf.export("olmo").out
    full = all(all(row.real) for row in shelf.truth[0])
    assert (out / "label-masks").exists() != full
    for prefix, rows in with_sequences(shelf) if not full else ():
        mask = np.memmap(out / "label-masks" / f"{prefix}.npy", np.bool_, "r")
        assert mask.tolist() == [real for row in rows for real in row.real]


def test_fu_is_fu_et_al_s_schema_with_labels_ignored_at_padding_and_marks(shelf: Shelf) -> None:
    import datasets

    out = shelf.export("fu").out
    paths = [str(path) for path in sorted(out.glob("*.parquet"))]
    found = datasets.load_dataset("parquet", data_files=paths, split="train", cache_dir=str(shelf.root / "cache"))
    assert found.features["input_ids"] == found.features["labels"] == datasets.List(datasets.Value("int32"))
    assert found.features["source"].feature.keys() == {"source", "start", "end"}
    assert found["input_ids"][:] == [row.tokens for row in shelf.truth[0]]
    assert found["labels"][:] == [
        [token if real else -100 for token, real in zip(row.tokens, row.real, strict=True)] for row in shelf.truth[0]
    ]
    assert found["source"][:] == [
        [{"source": s["domain"], "start": s["start"], "end": s["stop"]} for s in row.spans] for row in shelf.truth[0]
    ]


def test_parquet_holds_the_shards_own_columns(shelf: Shelf) -> None:
    import datasets

    out = shelf.export("parquet").out
    paths = [str(path) for path in sorted(out.glob("*.parquet"))]
    table = pa.concat_tables([pq.ParquetFile(path).read() for path in paths])
    assert table["input_ids"].to_pylist() == [row.tokens for row in shelf.truth[0]]
    assert table["spans"].to_pylist() == [row.spans for row in shelf.truth[0]]
    assert table.schema.metadata[b"mixture.prefix"] == b"1"
    if "marks" in table.schema.names:
        assert table["marks"].to_pylist() == [row.marks for row in shelf.truth[0]]
    found = datasets.load_dataset("parquet", data_files=paths, split="train", cache_dir=str(shelf.root / "cache"))
    assert found["input_ids"][:] == [row.tokens for row in shelf.truth[0]]


def test_only_marked_shards_have_a_column_of_marks(stock: Stock) -> None:
    out = stock("padded").export("parquet").out
    assert pq.read_schema(next(out.glob("*.parquet"))).names == ["input_ids", "spans"]


def test_a_row_group_is_a_few_whole_sequences(stock: Stock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mixture.export.parquet._GROUP_TOKENS", 2 * LENGTH)
    shelf = stock("full")
    with pq.ParquetFile(shelf.export("parquet").out / f"{name(shelf)}.parquet") as file:
        groups = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
    assert groups == [2, 1, 2, 1, 1]  # the shard's record batches are of 3 rows


def test_an_id_beyond_31_bits_is_refused_where_the_format_is_signed(stock: Stock) -> None:
    shelf = stock("full")
    high = np.array([[1, 2**31 - 1], [2**31, 5]], np.uint32)
    assert signed(high[:1], shelf.shard(0)).tolist() == [[1, 2**31 - 1]]
    with pytest.raises(StoreError, match=r"holds the id 2,147,483,648, .* export to mds, olmo or parquet"):
        signed(high, shelf.shard(0))
