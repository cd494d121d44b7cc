"""Arrow IPC, as a file with a footer or as a stream (told apart by content): ranges of rows of the record batches.

Both are memory-mapped: text that lies in the file as large_string or large_binary is handed on without a copy.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pyarrow as pa

from mixture.corpus import bytestream, documents, fields, spans, verdict
from mixture.corpus.documents import Chunk, InputFile, Reading
from mixture.errors import InputError
from mixture.storage import open_read
from mixture.storage.tables import mapped

_FILE_MAGIC = b"ARROW1"


def chunks(file: InputFile, reading: Reading) -> int | None:
    """Return the number of chunks of an IPC file, from its batches' offsets; None for a stream or compressed batches.

    Raises:
        InputError: not a whole Arrow file, or it has no such text field.
    """
    with bytestream.guard(file, "Arrow"), _mapped(file) as (source, is_file):
        if not is_file:
            if source.size():
                _open_stream(file, source, reading)
            return None
        if not _in_place(_open_file(file, source, reading), source):
            return None
        return sum(1 for _ in _cut(_file_batches(file, source, reading), reading))


def read(file: InputFile, reading: Reading, start: int = 0, step: int = 1) -> Iterator[Chunk]:
    """Yield chunks start, start+step, … to the end of the file; see `verdict.chunk_of_batches`.

    Raises:
        InputError: the file is damaged, has no such text field, or (unless `reading.skip_bad`) has a bad row.
    """
    with bytestream.guard(file, "Arrow"), _mapped(file) as (source, is_file):
        batches = (_file_batches if is_file else _stream_batches)(file, source, reading)
        first_row = 0
        for index, stretches in enumerate(_cut(batches, reading)):
            if index >= start and (index - start) % step == 0:
                slices = [batch.slice(begin, end - begin) for batch, begin, end in stretches]
                yield verdict.chunk_of_batches(index, file, reading, first_row, slices)
            first_row += sum(end - begin for _, begin, end in stretches)


@contextlib.contextmanager
def _mapped(file: InputFile) -> Iterator[tuple[pa.NativeFile, bool]]:
    """Map a file into memory and say whether it is an IPC file; an empty one is neither, and holds nothing."""
    with open_read(file.path) as raw:
        head = raw.read(16)
    if not head.startswith((_FILE_MAGIC, b"\xff\xff\xff\xff")):
        bytestream.check_signature(file, head, "an Arrow file or stream")
    if not head:
        yield pa.BufferReader(b""), False
        return
    with mapped(file.path) as source:
        yield source, head.startswith(_FILE_MAGIC)


def _cut(batches: Iterator[pa.RecordBatch], reading: Reading) -> Iterator[list[spans.Stretch[pa.RecordBatch]]]:
    def measure(batch: pa.RecordBatch) -> tuple[int, int]:
        return batch.num_rows, fields.arrow_column(batch, reading.text).nbytes

    return spans.cut(batches, measure, documents.CHUNK_BYTES)


def _open_file(file: InputFile, source: pa.NativeFile, reading: Reading) -> pa.RecordBatchFileReader:
    reader = pa.ipc.open_file(source, options=pa.ipc.IpcReadOptions(use_threads=False))
    verdict.check_schema(file, reader.schema, reading)
    return reader


def _open_stream(file: InputFile, source: pa.NativeFile, reading: Reading) -> pa.RecordBatchStreamReader:
    reader = pa.ipc.open_stream(source, options=pa.ipc.IpcReadOptions(use_threads=False))
    verdict.check_schema(file, reader.schema, reading)
    return reader


def _in_place(reader: pa.RecordBatchFileReader, source: pa.NativeFile) -> bool:
    """Say whether batches are views of the mapped file; compressed ones are not."""
    if not reader.num_record_batches:
        return True
    source.seek(0)
    whole = source.read_buffer()
    buffers = (buffer for column in reader.get_batch(0).columns for buffer in column.buffers())
    return all(whole.address <= b.address < whole.address + whole.size for b in buffers if b is not None and b.size)


def _file_batches(file: InputFile, source: pa.NativeFile, reading: Reading) -> Iterator[pa.RecordBatch]:
    reader = _open_file(file, source, reading)
    if not _in_place(reader, source):
        # Decompress no column that nobody asked for. (Where nothing is compressed this would copy what is.)
        paths = (fields.arrow_path(reader.schema, name) for name in (reading.text, *reading.columns))
        wanted = sorted({reader.schema.get_field_index(path[0]) for path in paths if path})
        options = pa.ipc.IpcReadOptions(use_threads=False, included_fields=wanted)
        reader = pa.ipc.open_file(source, options=options)
    for number in range(reader.num_record_batches):
        yield reader.get_batch(number)


def _stream_batches(file: InputFile, source: pa.NativeFile, reading: Reading) -> Iterator[pa.RecordBatch]:
    if not source.size():
        return
    reader = _open_stream(file, source, reading)
    end = source.tell()
    for batch in reader:
        end = source.tell()
        yield batch
    # Arrow takes a stream that stops between two batches for a whole one; a torn copy looks just like that.
    if source.tell() == end:
        raise InputError(
            f"{file.name}: the Arrow stream stops without its end mark (cut short, or its writer was never closed); "
            "write or fetch it again"
        )
