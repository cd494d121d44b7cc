"""Hugging Face data sets: saved to disk, as a folder of data files, or on the hub at a pinned revision.

    path holds dataset_info.json or dataset_dict.json    datasets.load_from_disk(path)
    any other folder                                     datasets.load_dataset(path, name=config, split=…)
    option `hub`                                         datasets.load_dataset(hub, name=config, split=…, revision=…)

Options (all strings): `hub`, `revision`, `config`, `split` (default `train`), `streaming` (`true`), `cache_dir`.
A chunk is a fixed number of rows: about `CHUNK_BYTES` of text where the size is known, 4,096 rows of a stream.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from mixture.corpus import documents, fields, verdict
from mixture.corpus.documents import Chunk, InputFile, Reading
from mixture.errors import InputError, nearest
from mixture.storage import as_place

STREAM_ROWS = 4096
_SAVED = ("dataset_dict.json", "dataset_info.json", "state.json")


def chunks(file: InputFile, reading: Reading) -> int | None:
    """Return the number of chunks, or None for a stream.

    Raises:
        InputError: the set cannot be loaded or reached, or has no such configuration, split or text field.
    """
    data = _load(file, reading)
    with _explained(file, reading):
        return None if _is_stream(data) else -(-len(data) // _chunk_rows(file, data, reading))


def read(file: InputFile, reading: Reading, start: int = 0, step: int = 1) -> Iterator[Chunk]:
    """Yield chunks start, start+step, … to the end of the set; see `verdict.chunk_of_batches`.

    Raises:
        InputError: the set cannot be loaded or reached, lacks the text field, or has a bad row.
    """
    data = _load(file, reading)
    with _explained(file, reading):
        tables = (_stream_tables if _is_stream(data) else _tables)(file, data, reading, start, step)
        for index, first_row, table in tables:
            yield verdict.chunk_of_batches(index, file, reading, first_row, [table])


def _tables(file: InputFile, data: Any, reading: Reading, start: int, step: int) -> Iterator[tuple[int, int, pa.Table]]:
    rows = _chunk_rows(file, data, reading)
    wanted = data.select_columns(_roots(data.features.arrow_schema, reading)).with_format("arrow")
    for index in range(start, -(-len(data) // rows), step):
        yield index, index * rows, wanted[index * rows : min((index + 1) * rows, len(data))]


def _stream_tables(
    file: InputFile, data: Any, reading: Reading, start: int, step: int
) -> Iterator[tuple[int, int, pa.Table]]:
    for index, table in enumerate(data.with_format("arrow").iter(batch_size=STREAM_ROWS)):
        if index >= start and (index - start) % step == 0:
            verdict.check_schema(file, table.schema, reading)
            yield index, index * STREAM_ROWS, table


def _chunk_rows(file: InputFile, data: Any, reading: Reading) -> int:
    """Return how many rows make about `CHUNK_BYTES` of text."""
    schema = data.features.arrow_schema
    verdict.check_schema(file, schema, reading)
    rows = len(data)
    size = int(data.data.table.column(_roots(schema, reading)[0]).nbytes)
    return max(min(documents.CHUNK_BYTES * rows // max(size, 1), rows), 1)


def _roots(schema: pa.Schema, reading: Reading) -> list[str]:
    paths = (fields.arrow_path(schema, name) for name in (reading.text, *reading.columns))
    return list(dict.fromkeys(path[0] for path in paths if path))


def _is_stream(data: Any) -> bool:
    from datasets import IterableDataset

    return isinstance(data, IterableDataset)


def _load(file: InputFile, reading: Reading) -> Any:
    import datasets

    options = dict(reading.options)
    with _explained(file, reading), _quiet(datasets):
        if "hub" not in options and any((file.path / name).is_file() for name in _SAVED):
            return _split_of(file, datasets.load_from_disk(str(file.path)), options)
        if "hub" not in options and not file.path.is_dir():
            raise InputError(f"{file.name}: no such folder; give a data set's folder, or `hub:` and `revision:`")
        return datasets.load_dataset(
            options.get("hub", str(file.path)),
            name=options.get("config"),
            split=options.get("split", "train"),
            revision=options.get("revision"),
            streaming=options.get("streaming", "false").lower() == "true",
            cache_dir=options.get("cache_dir"),
        )


def _split_of(file: InputFile, data: Any, options: dict[str, str]) -> Any:
    if not isinstance(data, dict):
        return data
    split = options.get("split", "train")
    if split not in data:
        raise InputError(f"{file.name}: no split {split!r}; {nearest(split, data)} (known: {', '.join(data)})")
    return data[split]


@contextlib.contextmanager
def _quiet(datasets: Any) -> Iterator[None]:
    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


@contextlib.contextmanager
def _explained(file: InputFile, reading: Reading) -> Iterator[None]:
    """Say in one sentence what went wrong inside `datasets`, whose builders may raise anything."""
    options = dict(reading.options)
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        cause = " ".join(str(error).replace(str(as_place(file.path)), file.name).split())[:300].rstrip(". ")
        if "hub" not in options:
            raise InputError(
                f"{file.name}: not a data set that `datasets` can load ({cause}); check its files, and "
                "`config:` and `split:`"
            ) from error
        raise InputError(
            f"{options['hub']} at revision {options.get('revision', 'main')}: cannot be loaded from the hub ({cause}); "
            "check the network, the name, the revision, `config:` and `split:`, or download it once and give its "
            "folder under `paths:`"
        ) from error
