"""JSON lines: borders of chunks, compression, and what is said of broken files."""

import gzip
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from mixture.corpus import bytestream, documents, jsonl
from mixture.corpus.documents import InputFile, Reading
from mixture.errors import InputError


def lines_of(texts, end=b"\n"):
    return b"".join(json.dumps({"text": text}).encode() + end for text in texts)


def texts_of(chunks):
    return [text.decode() for chunk in chunks for text in chunk.texts]


def seen(chunk):
    """All of a chunk as plain values, for comparison."""
    rows = chunk.row.tolist()
    return chunk.index, chunk.rows, rows, chunk.texts, chunk.columns.to_pydict(), chunk.rejects


def zstd(data):
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


PACK = {".gz": gzip.compress, ".zst": zstd, ".zstd": zstd}


def test_documents_come_in_file_order_with_their_rows(make):
    file = make("a.jsonl", b'{"text": "one"}\n\n{"text": "two", "n": 1}\r\n  \n{"text": "\xc3\xa9"}')
    (chunk,) = jsonl.read(file, Reading())
    assert chunk.texts == [b"one", b"two", "é".encode()]
    assert (chunk.row.tolist(), chunk.rows, chunk.rejects) == ([0, 2, 4], 5, ())


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """Write a file that each hypothesis example overwrites."""
    folder = tmp_path_factory.mktemp("scratch")

    def write(suffix, data):
        path = folder / f"scratch.jsonl{suffix}"
        path.write_bytes(data)
        return InputFile(path.name, path, len(data), "")

    return write


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.text(max_size=30), min_size=1, max_size=30),
    st.integers(1, 200),
    st.integers(1, 5),
    st.sampled_from(["", ".gz", ".zst"]),
    st.booleans(),
)
def test_a_giant_file_gives_the_same_documents_to_any_number_of_readers(
    scratch, texts, size, readers, suffix, last_newline
):
    data = lines_of(["x" + text for text in texts])
    data = data if last_newline else data[:-1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "CHUNK_BYTES", size)
        file = scratch(suffix, PACK.get(suffix, bytes)(data))
        alone = list(jsonl.read(file, Reading()))
        shared = [list(jsonl.read(file, Reading(), start, readers)) for start in range(readers)]
    together = sorted((chunk for chunks in shared for chunk in chunks), key=lambda chunk: chunk.index)
    assert list(map(seen, together)) == list(map(seen, alone))
    assert texts_of(alone) == ["x" + text for text in texts]
    assert [chunk.index for chunk in alone] == list(range(-(-len(data) // size)))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 60), max_size=20), st.integers(1, 70))
def test_a_chunk_is_the_lines_that_begin_in_its_stretch_of_bytes(scratch, lengths, size):
    lines = lines_of(["x" * (1 + length) for length in lengths]).splitlines(keepends=True)
    begins, at = [], 0
    for line in lines:
        begins.append(at)
        at += len(line)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "CHUNK_BYTES", size)
        for suffix in ("", ".gz"):
            file = scratch(suffix, PACK.get(suffix, bytes)(b"".join(lines)))
            rows = [chunk.rows for chunk in jsonl.read(file, Reading())]
            assert rows == [sum(b // size == j for b in begins) for j in range(-(-at // size))]


def test_the_number_of_chunks_is_known_from_the_size_unless_compressed(make, small_chunks):
    small_chunks(10)
    data = lines_of(["one", "two"])
    assert jsonl.chunks(make("a.jsonl", data), Reading()) == -(-len(data) // 10)
    assert jsonl.chunks(make("a.jsonl.gz", gzip.compress(data)), Reading()) is None
    assert jsonl.chunks(make("empty.jsonl", b""), Reading()) == 0


def test_a_line_longer_than_many_chunks_leaves_them_empty(make, small_chunks):
    small_chunks(100)
    file = make("a.jsonl", lines_of(["a", "b" * 1000, "c"]))
    assert [chunk.rows for chunk in jsonl.read(file, Reading())] == [2, *[0] * 9, 1]


def test_one_long_line_is_searched_once_not_once_for_every_chunk(make, small_chunks, monkeypatch):
    small_chunks(10)
    monkeypatch.setattr(jsonl, "_SEARCH_BYTES", 100)
    data = lines_of(["b" * 20_000])
    reads = 0

    class Counting(io.BytesIO):
        def read(self, size=-1):
            nonlocal reads
            reads += 1
            return super().read(size)

    borders = jsonl._Borders(Counting(data))
    assert {borders.line_start(border) for border in range(10, len(data), 10)} == {len(data)}
    assert reads < 300


@pytest.mark.parametrize("suffix", PACK)
def test_compressed_frames_that_follow_one_another_are_one_file(make, suffix):
    parts = [lines_of(["one", "two"]), b"", lines_of(["three" * 100_000]), lines_of(["four"])]
    file = make("a.jsonl" + suffix, b"".join(PACK[suffix](part) for part in parts))
    assert texts_of(jsonl.read(file, Reading())) == ["one", "two", "three" * 100_000, "four"]


def test_a_skippable_frame_of_zstd_holds_nothing(make):
    skippable = b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc"
    file = make("a.jsonl.zst", skippable + zstd(lines_of(["one"])) + skippable)
    assert texts_of(jsonl.read(file, Reading())) == ["one"]


def test_zeros_after_a_gzip_member_hold_nothing(make):
    file = make("a.jsonl.gz", gzip.compress(lines_of(["one"])) + bytes(500))
    assert texts_of(jsonl.read(file, Reading())) == ["one"]


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("skip_bad", [False, True])
def test_a_compressed_file_cut_short_anywhere_never_passes_as_a_shorter_one(make, suffix, skip_bad):
    whole = PACK[suffix](lines_of([f"{n:x}" * 9 for n in range(50)]))
    for keep in range(len(whole)):
        file = make("a.jsonl" + suffix, whole[:keep])
        with pytest.raises(InputError, match=r"^a\.jsonl\.\w+: .*fetch"):
            list(jsonl.read(file, Reading(skip_bad=skip_bad)))


@pytest.mark.parametrize("suffix", PACK)
def test_a_second_frame_cut_short_is_said_too(make, suffix):
    data = PACK[suffix](lines_of(["one"])) + PACK[suffix](lines_of(["two"]))[:-5]
    with pytest.raises(InputError, match="cut short"):
        list(jsonl.read(make("a.jsonl" + suffix, data), Reading()))


@pytest.mark.parametrize("suffix", PACK)
def test_damaged_or_trailing_bytes_in_a_compressed_file_are_said(make, suffix):
    whole = bytearray(PACK[suffix](lines_of([f"{n:x}" for n in range(3000)])))
    with pytest.raises(InputError, match="not whole"):
        list(jsonl.read(make("a.jsonl" + suffix, bytes(whole) + b"garbage at the end"), Reading()))
    whole[-2] ^= 0xFF
    with pytest.raises(InputError, match="not whole"):
        list(jsonl.read(make("b.jsonl" + suffix, bytes(whole)), Reading()))


def test_a_stream_that_expands_enormously_is_given_in_bounded_blocks(make, monkeypatch):
    monkeypatch.setattr(bytestream, "_ZSTD_BLOCK", 256)
    file = make("zeros.zst", zstd(bytes(1 << 26)))
    assert max(map(len, bytestream.blocks(file))) <= 256 // 4 * 128 << 10
    file = make("zeros.gz", gzip.compress(bytes(1 << 25), 1))
    assert max(map(len, bytestream.blocks(file))) <= 1 << 20


def test_an_unwanted_chunk_is_not_parsed(make, small_chunks):
    small_chunks(30)
    broken = make("a.jsonl.gz", gzip.compress(lines_of(["a" * 20]) + b"not json, though as long as a chunk\n"))
    assert texts_of(jsonl.read(broken, Reading(), 0, 2)) == ["a" * 20]
    with pytest.raises(InputError, match="line 2"):
        list(jsonl.read(broken, Reading(), 1, 2))


def test_a_byte_order_mark_opens_a_file_but_not_a_line(make):
    mark = b"\xef\xbb\xbf"
    for suffix in ("", ".gz"):
        file = make("a.jsonl" + suffix, PACK.get(suffix, bytes)(mark + lines_of(["one", "two"])))
        assert texts_of(jsonl.read(file, Reading())) == ["one", "two"]
    file = make("b.jsonl", lines_of(["one"]) + mark + lines_of(["two"]))
    (chunk,) = jsonl.read(file, Reading(skip_bad=True))
    assert [(reject.row, reject.reason) for reject in chunk.rejects] == [(1, "invalid JSON")]


def test_an_empty_file_holds_no_rows_and_is_no_error(make):
    for file in (make("a.jsonl", b""), make("a.jsonl.gz", gzip.compress(b"")), make("a.jsonl.zst", zstd(b""))):
        assert texts_of(jsonl.read(file, Reading())) == []


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"PAR1\x15\x04\x15", "a Parquet file, not JSON lines; say format: parquet"),
        (b"ARROW1\0\0", "say format: arrow"),
        (gzip.compress(b"{}", mtime=0), "gzip data, not JSON lines; name it .gz"),
        (zstd(b"{}"), "zstd data, not JSON lines; name it .zst"),
        (b'[\n  {"text": "a"},\n', "one JSON array, not JSON lines"),
        (b'[{"text": "a"}, {"text": "b"}]', "one JSON array, not JSON lines"),
    ],
)
def test_a_file_of_another_format_is_named_even_where_bad_rows_are_skipped(make, data, said):
    with pytest.raises(InputError, match=said):
        list(jsonl.read(make("a.jsonl", data), Reading(skip_bad=True)))
    with pytest.raises(InputError, match=said):
        list(jsonl.read(make("a.jsonl.gz", gzip.compress(data)), Reading(skip_bad=True)))


def test_a_suffix_that_lies_about_the_compression_is_said(make):
    for suffix in PACK:
        with pytest.raises(InputError, match="suffix"):
            list(jsonl.read(make("a.jsonl" + suffix, lines_of(["plain"])), Reading()))


def test_a_file_that_cannot_be_opened_is_one_sentence_without_this_machines_path(tmp_path, monkeypatch):
    file = InputFile("folder.jsonl", tmp_path, 0, "")
    for action in (lambda: jsonl.chunks(file, Reading()), lambda: list(jsonl.read(file, Reading()))):
        with pytest.raises(InputError, match=r"^folder\.jsonl: cannot be read \(Is a directory\)"):
            action()

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied", str(tmp_path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match=r"^x\.gz: cannot be read \(Permission denied\)"):
        list(jsonl.read(InputFile("x.gz", tmp_path / "x.gz", 0, ""), Reading()))


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_the_first_bad_row_stops_with_its_line_in_the_file(make, small_chunks, suffix):
    small_chunks(50)
    data = lines_of(["one" * 10] * 7) + b'\n{"text": 3}\n{"text": null}\n'
    file = make("a.jsonl" + suffix, PACK.get(suffix, bytes)(data))
    with pytest.raises(InputError) as caught:
        list(jsonl.read(file, Reading()))
    said = str(caught.value)
    assert said.startswith(f"a.jsonl{suffix}, line 9 (row 8): 'text' is not a string")
    assert '{"text": 3}' in said
    assert "mend the row" in said
    assert "on_bad_row: skip" in said


def test_a_missing_field_is_answered_with_those_that_are_there(make):
    file = make("a.jsonl", b'{"id": 1, "contents": "x", "meta": {"title": "t"}}\n')
    with pytest.raises(InputError) as caught:
        list(jsonl.read(file, Reading(text="content")))
    assert "no field 'content' (fields there: id, contents, meta.title; did you mean 'contents'?)" in str(caught.value)


def test_what_the_parser_says_is_in_the_sentence(make):
    with pytest.raises(InputError, match=r"line 1 \(row 0\): invalid JSON \(.+\): \{oops"):
        list(jsonl.read(make("a.jsonl", b"{oops\n"), Reading()))
    with pytest.raises(InputError, match="not an array"):
        list(jsonl.read(make("b.jsonl", b"[1, 2]\n"), Reading()))


def test_a_document_of_100_mb_needs_a_few_times_its_size(make):
    file = make("a.jsonl", lines_of(["abcdefghi\n" * 10_000_000]))
    code = (
        "import sys; from pathlib import Path; from mixture.corpus import documents, jsonl\n"
        "def now(field): return next(int(l.split()[1]) for l in open('/proc/self/status') if l.startswith(field))\n"
        "path = Path(sys.argv[1]); file = documents.InputFile('a', path, 0, ''); before = now('VmRSS')\n"
        "chunk = next(jsonl.read(file, documents.Reading())); assert len(chunk.texts[0]) == 10 ** 8\n"
        "print((now('VmHWM') - before) * 1024)"
    )
    if not Path("/proc/self/status").exists():
        pytest.skip("peak memory is read from /proc")
    command = [sys.executable, "-c", code, str(file.path)]
    peak = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert 10**8 < peak < 5 * 10**8
