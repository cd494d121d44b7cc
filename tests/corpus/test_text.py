"""Text: one file, one document."""

import gzip

import pytest
import zstandard

from mixture.corpus import text
from mixture.corpus.documents import Reading
from mixture.errors import InputError

BYTES = "\ufeffErste Zeile,\r\nzweite é\0\n".encode()


@pytest.mark.parametrize(
    ("name", "pack"),
    [("a.txt", bytes), ("a.txt.gz", gzip.compress), ("a.txt.zst", zstandard.compress), ("a.py", bytes)],
)
def test_a_file_is_one_document_byte_for_byte(make, name, pack):
    file = make(name, pack(BYTES))
    (chunk,) = text.read(file, Reading(columns=("title",)))
    assert text.chunks(file, Reading()) == 1
    assert chunk.texts == [BYTES]
    assert (chunk.index, chunk.rows, chunk.row.tolist(), chunk.rejects) == (0, 1, [0], ())
    assert chunk.columns.to_pylist() == [{"title": None}]


def test_only_the_first_of_several_readers_gets_the_file(make):
    file = make("a.txt", BYTES)
    assert [len(list(text.read(file, Reading(), start, 3))) for start in range(3)] == [1, 0, 0]


def test_an_empty_file_holds_no_document_and_is_no_error(make):
    (chunk,) = text.read(make("a.txt", b""), Reading())
    assert (chunk.rows, len(chunk.texts), chunk.rejects) == (0, 0, ())


@pytest.mark.parametrize("data", [b"\xff\xfea\0", b"caf\xe9", b"\xed\xa0\x80"])
def test_a_file_that_is_not_utf8_is_a_reject(make, data):
    (chunk,) = text.read(make("a.txt", data), Reading(skip_bad=True))
    assert [(reject.row, reject.reason) for reject in chunk.rejects] == [(0, "not UTF-8")]
    assert (chunk.rows, len(chunk.texts)) == (1, 0)
    with pytest.raises(InputError, match=r"^a\.txt: not UTF-8 text: .*on_bad_row: skip"):
        list(text.read(make("a.txt", data), Reading()))


def test_a_file_over_the_limit_is_a_reject_and_is_not_read_to_its_end(make):
    file = make("a.txt.gz", gzip.compress(bytes(1 << 24)))
    (chunk,) = text.read(file, Reading(skip_bad=True, max_document_bytes=100))
    assert [reject.reason for reject in chunk.rejects] == ["over the size limit"]
    with pytest.raises(InputError, match="over the size limit of 100 bytes"):
        list(text.read(file, Reading(max_document_bytes=100)))


def test_a_compressed_file_cut_short_is_no_shorter_document(make):
    with pytest.raises(InputError, match="cut short"):
        list(text.read(make("a.txt.gz", gzip.compress(BYTES)[:-4]), Reading(skip_bad=True)))
