"""Parquet and Arrow: the same rows whatever the layout of the column, the file, or the chunks."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixture.corpus import arrow, documents, parquet, spans
from mixture.corpus.documents import InputFile, Reading
from mixture.errors import InputError

TEXTS = ["one", "zwei é", "three \U0001f600", "four " * 20, "five"]


def table_of(texts=TEXTS, kind=None):
    text = pa.array(texts, type=pa.string())
    if kind is not None:
        text = text.dictionary_encode() if kind == "dictionary" else text.cast(kind)
    count = len(texts)
    meta = pa.array([{"title": f"t{n}", "n": n} if n % 2 else None for n in range(count)])
    return pa.table({"id": range(count), "text": text, "meta": meta, "tags": [["a", "b"]] * count})


class Writer:
    """A format, and how to write a table as a file of it, `rows` rows a group."""

    def __init__(self, module, suffix):
        self.module, self.suffix = module, suffix

    def __call__(self, path, table, rows=1 << 20):
        if self.suffix == "parquet":
            pq.write_table(table, path, row_group_size=rows)
        else:
            make = pa.ipc.new_file if self.suffix == "file" else pa.ipc.new_stream
            options = pa.ipc.IpcWriteOptions(unify_dictionaries=True)
            with make(path, table.schema, options=options) as writer:
                writer.write_table(table, max_chunksize=rows)
        return InputFile(f"a.{self.suffix}", path, path.stat().st_size, "")


WRITERS = {name: Writer(module, name) for name, module in (("parquet", parquet), ("file", arrow), ("stream", arrow))}


@pytest.fixture(params=WRITERS)
def writer(request):
    return WRITERS[request.param]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("scratch") / "scratch"


def texts_of(chunks):
    return [text.decode() for chunk in chunks for text in chunk.texts]


LAYOUTS = [
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.binary(),
    pa.large_binary(),
    pa.binary_view(),
    "dictionary",
    pa.dictionary(pa.int8(), pa.large_string()),
]


@pytest.mark.parametrize("kind", LAYOUTS, ids=str)
def test_text_of_any_layout_is_read(writer, tmp_path, kind):
    table = table_of(kind=kind)
    (chunk,) = writer.module.read(writer(tmp_path / "a", table), Reading())
    assert all(type(text) is bytes for text in chunk.texts)
    assert texts_of([chunk]) == TEXTS
    assert (chunk.rows, chunk.row.tolist(), chunk.rejects) == (5, [0, 1, 2, 3, 4], ())


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(sorted(WRITERS)),
    st.lists(st.integers(1, 40), min_size=1, max_size=40),
    st.integers(1, 50),
    st.integers(20, 400),
    st.integers(1, 4),
)
def test_any_number_of_readers_get_the_same_chunks(scratch, name, lengths, group, size, readers):
    writer = WRITERS[name]
    texts = [f"{n}:" + "x" * length for n, length in enumerate(lengths)]
    file = writer(scratch, table_of(texts), group)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "CHUNK_BYTES", size)
        patch.setattr(parquet, "_BATCH_BYTES", 64)
        alone = list(writer.module.read(file, Reading(columns=("id",))))
        shared = [list(writer.module.read(file, Reading(columns=("id",)), k, readers)) for k in range(readers)]
        count = writer.module.chunks(file, Reading())
    assert texts_of(alone) == texts
    assert [n for chunk in alone for n in chunk.columns["id"].to_pylist()] == list(range(len(texts)))
    assert [chunk.index for chunk in alone] == list(range(len(alone)))
    assert count == (None if name == "stream" else len(alone))
    together = sorted((chunk for chunks in shared for chunk in chunks), key=lambda chunk: chunk.index)
    assert [c.texts for c in together] == [c.texts for c in alone]


def test_carried_columns_do_not_move_the_borders(writer, tmp_path, small_chunks):
    small_chunks(200)
    file = writer(tmp_path / "a", table_of([str(n) * 30 for n in range(50)]), 7)
    few = [chunk.rows for chunk in writer.module.read(file, Reading())]
    many = [chunk.rows for chunk in writer.module.read(file, Reading(columns=("tags", "meta")))]
    assert few == many
    assert len(few) > 3


def test_small_groups_share_a_chunk_and_a_large_one_is_divided():
    sizes = [(3, 3), (4, 4), (10, 20), (0, 0), (1, 1), (2, 50)]
    cut = list(spans.cut(range(6), sizes.__getitem__, 8))
    assert cut == [
        [(0, 0, 3), (1, 0, 4)],
        [(2, 0, 3)],
        [(2, 3, 6)],
        [(2, 6, 10)],
        [(4, 0, 1)],
        [(5, 0, 1)],
        [(5, 1, 2)],
    ]


def test_dots_reach_into_structs_and_nulls_of_the_parent_come_through(writer, tmp_path):
    file = writer(tmp_path / "a", table_of())
    columns = ("meta.title", "meta.nowhere", "meta", "tags", "id", "absent")
    (chunk,) = writer.module.read(file, Reading(columns=columns))
    assert chunk.columns.column_names == list(columns)
    assert chunk.columns["meta.title"].to_pylist() == [None, "t1", None, "t3", None]
    assert chunk.columns["meta"].to_pylist()[:2] == [None, '{"title":"t1","n":1}']
    assert chunk.columns["tags"].to_pylist()[0] == '["a","b"]'
    assert chunk.columns["id"].to_pylist() == [0, 1, 2, 3, 4]
    for name in ("meta.nowhere", "absent"):
        assert chunk.columns[name].null_count == 5


def test_a_nested_field_can_be_the_text_and_a_literal_name_wins(writer, tmp_path):
    nested = pa.table({"m": [{"t": "nested"}], "x": [1]})
    (chunk,) = writer.module.read(writer(tmp_path / "a", nested), Reading(text="m.t"))
    assert texts_of([chunk]) == ["nested"]
    both = nested.append_column("m.t", pa.array(["literal"]))
    (chunk,) = writer.module.read(writer(tmp_path / "b", both), Reading(text="m.t", columns=("m.t",)))
    assert texts_of([chunk]) == ["literal"]
    assert chunk.columns["m.t"].to_pylist() == ["literal"]


BAD = [b"fine", None, b"", b"\xff\xfe", b"much too long", b"fine too"]


def test_bad_rows_are_rejected_for_their_reasons(writer, tmp_path):
    table = pa.table({"text": pa.array(BAD, type=pa.binary()), "n": range(6)})
    reading = Reading(columns=("n",), skip_bad=True, max_document_bytes=10)
    (chunk,) = writer.module.read(writer(tmp_path / "a", table), reading)
    assert chunk.texts == [b"fine", b"fine too"]
    assert (chunk.rows, chunk.row.tolist(), chunk.columns["n"].to_pylist()) == (6, [0, 5], [0, 5])
    assert [(reject.row, reject.reason) for reject in chunk.rejects] == [
        (1, "null text"),
        (2, "empty text"),
        (3, "not UTF-8"),
        (4, "over the size limit"),
    ]
    assert all(reject.sample.isprintable() for reject in chunk.rejects)


def test_bytes_that_only_claim_to_be_strings_are_rejected_too(writer, tmp_path):
    text = pa.array([b"\xff\xfe", b"fine"], type=pa.binary()).view(pa.string())
    (chunk,) = writer.module.read(writer(tmp_path / "a", pa.table({"text": text})), Reading(skip_bad=True))
    assert chunk.texts == [b"fine"]
    assert [reject.reason for reject in chunk.rejects] == ["not UTF-8"]


def test_the_first_bad_row_stops_with_its_number_in_the_file(writer, tmp_path, small_chunks):
    small_chunks(40)
    file = writer(tmp_path / "a", pa.table({"text": ["x" * 30] * 9 + [""]}), 2)
    with pytest.raises(
        InputError, match=rf"^a\.{writer.suffix}, row 9: 'text' is empty.*mend the row.*on_bad_row: skip"
    ):
        list(writer.module.read(file, Reading()))


def test_a_column_of_nothing_but_nulls_is_null_text(writer, tmp_path):
    file = writer(tmp_path / "a", pa.table({"text": pa.nulls(2)}))
    (chunk,) = writer.module.read(file, Reading(skip_bad=True))
    assert [reject.reason for reject in chunk.rejects] == ["null text"] * 2
    assert len(chunk.texts) == 0


@pytest.mark.parametrize("skip_bad", [False, True])
def test_a_missing_text_field_names_those_that_are_there(writer, tmp_path, skip_bad):
    file = writer(tmp_path / "a", table_of())
    with pytest.raises(
        InputError, match=r"no field 'txt'; fields there: id, text, meta.title, meta.n.*; did you mean 'text'"
    ):
        list(writer.module.read(file, Reading(text="txt", skip_bad=skip_bad)))
    with pytest.raises(
        InputError, match=r"'id' is int64, not a string; of the strings, fields there: text, meta.title"
    ):
        list(writer.module.read(file, Reading(text="id", skip_bad=skip_bad)))


def test_a_table_without_rows_is_no_error(writer, tmp_path):
    file = writer(tmp_path / "a", table_of().slice(0, 0))
    assert texts_of(writer.module.read(file, Reading())) == []


def test_a_file_cut_short_anywhere_never_passes_as_a_shorter_one(writer, tmp_path):
    whole = writer(tmp_path / "a", table_of([f"{n}" * 20 for n in range(40)]), 10).path.read_bytes()
    cut = tmp_path / "cut"
    for keep in [*range(1, 64), *range(64, len(whole), 13), *range(len(whole) - 16, len(whole))]:
        cut.write_bytes(whole[:keep])
        with pytest.raises(InputError, match=r"^cut: .*(write|format)"):
            list(writer.module.read(InputFile("cut", cut, keep, ""), Reading(skip_bad=True)))


def test_another_formats_file_is_refused_by_name(writer, tmp_path):
    other = tmp_path / "other"
    other.write_bytes(b'{"text": "a"}\n' * 9)
    for action in (writer.module.chunks, lambda *a: list(writer.module.read(*a))):
        with pytest.raises(InputError, match=r"^other: not a whole (Parquet|Arrow) file \("):
            action(InputFile("other", other, 1, ""), Reading())


def test_what_is_missing_or_a_folder_is_one_sentence(writer, tmp_path):
    for name, cause in (("gone", "No such file"), (".", "Is a directory")):
        with pytest.raises(InputError, match=f"^a: cannot be read .{cause}"):
            list(writer.module.read(InputFile("a", tmp_path / name, 0, ""), Reading()))


def test_parquet_given_as_arrow_is_told_its_format(tmp_path):
    file = WRITERS["parquet"](tmp_path / "a", table_of())
    with pytest.raises(InputError, match="say format: parquet"):
        list(arrow.read(file, Reading()))


def test_a_flipped_byte_in_a_checked_parquet_page_is_said(tmp_path):
    path = tmp_path / "a"
    pq.write_table(
        pa.table({"text": [str(n) * 9 for n in range(1000)]}), path, write_page_checksum=True, compression=None
    )
    damaged = bytearray(path.read_bytes())
    damaged[2000] ^= 0x40
    path.write_bytes(bytes(damaged))
    with pytest.raises(InputError, match="not a whole Parquet file"):
        list(parquet.read(InputFile("a", path, 0, ""), Reading(skip_bad=True)))


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_compressed_arrow_batches_are_read(tmp_path, codec):
    path = tmp_path / "a"
    with pa.ipc.new_file(path, table_of().schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as writer:
        writer.write_table(table_of())
    file = InputFile("a", path, 0, "")
    (chunk,) = arrow.read(file, Reading())
    assert texts_of([chunk]) == TEXTS
    assert arrow.chunks(file, Reading()) is None


def test_large_strings_of_a_mapped_file_are_not_copied(tmp_path):
    path = tmp_path / "a"
    with pa.ipc.new_file(path, pa.schema([("text", pa.large_string())])) as writer:
        writer.write_table(pa.table({"text": pa.array(["x" * 1_000_000] * 8, type=pa.large_string())}))
    before = pa.total_allocated_bytes()
    (chunk,) = arrow.read(InputFile("a", path, 0, ""), Reading())
    assert len(chunk.texts) == 8
    assert pa.total_allocated_bytes() - before < 1_000_000


def test_a_divided_row_group_is_decoded_once_by_one_reader(tmp_path, small_chunks, monkeypatch):
    file = WRITERS["parquet"](tmp_path / "a", table_of([str(n) * 50 for n in range(100)]))
    small_chunks(500)
    opened = []
    enter = parquet._Groups._enter
    monkeypatch.setattr(parquet._Groups, "_enter", lambda self, group: opened.append(group) or enter(self, group))
    assert len(list(parquet.read(file, Reading()))) > 5
    assert opened == [0]
