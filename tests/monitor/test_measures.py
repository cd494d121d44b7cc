"""The long table: written twice, added to, whole."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest

from mixture import schemas
from mixture.errors import MonitorError
from mixture.monitor import measures
from mixture.monitor.measures import Measure

ROW = Measure("tiny", 10, 4096, "behaviour", "niah", "", "score", 1024, 0.5, "", 0.5, 0.25, 0.75, 8)


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    given = [ROW, replace(ROW, length=None, depth=None), replace(ROW, step=None, tokens=None, cell="layer 3 head 7")]
    measures.write(given, tmp_path)
    for place in (tmp_path, tmp_path / measures.PARQUET, tmp_path / measures.JSON_LINES):
        assert set(measures.read(place)) == set(given)
    assert pq.read_schema(tmp_path / measures.PARQUET).equals(schemas.METRICS)
    assert len((tmp_path / measures.JSON_LINES).read_text().splitlines()) == 3


def test_a_write_adds_and_the_same_measurement_gives_way(tmp_path: Path) -> None:
    measures.write([ROW, replace(ROW, step=20, tokens=8192)], tmp_path)
    measures.write([replace(ROW, value=0.75), replace(ROW, depth=None, value=0.6), replace(ROW, depth=None)], tmp_path)
    found = measures.read(tmp_path)
    assert [(row.step, row.depth, row.value) for row in found] == [(10, None, 0.5), (10, 0.5, 0.75), (20, 0.5, 0.5)]


@pytest.mark.parametrize("field", measures.KEY)
def test_rows_that_differ_in_one_part_of_the_key_both_stay(tmp_path: Path, field: str) -> None:
    other = {"step": 11, "length": 2048, "depth": 0.25, "level": "mechanism"}.get(field, "other")
    measures.write([ROW], tmp_path)
    measures.write([replace(ROW, **{field: other})], tmp_path)  # type: ignore[arg-type]
    assert len(measures.read(tmp_path)) == 2


def test_the_files_are_the_same_whatever_was_written_first(tmp_path: Path) -> None:
    given = [replace(ROW, step=step, level=level) for step in (10, 20) for level in measures.LEVELS]
    measures.write(given, tmp_path / "at-once")
    for row in reversed(given):
        measures.write([row], tmp_path / "one-by-one")
    for name in (measures.PARQUET, measures.JSON_LINES):
        assert (tmp_path / "at-once" / name).read_bytes() == (tmp_path / "one-by-one" / name).read_bytes()
    assert [row.level for row in measures.read(tmp_path / "at-once")][:4] == list(measures.LEVELS)


def test_numbers_of_numpy_are_taken(tmp_path: Path) -> None:
    measures.write([replace(ROW, step=np.int64(3), depth=np.float32(0.5), value=np.float64(0.5))], tmp_path)
    (line,) = (tmp_path / measures.JSON_LINES).read_bytes().splitlines()
    assert orjson.loads(line)["step"] == 3
    assert measures.read(tmp_path)[0].depth == 0.5


def _write(folder: Path, step: int) -> None:
    measures.write([replace(ROW, step=step)], folder)


def test_two_programs_write_at_once_and_nothing_is_lost(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(tmp_path, step)) for step in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [row.step for row in measures.read(tmp_path)] == list(range(3))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"level": "habit"}, "level 'habit' is not known; it is one of behaviour"),
        ({"value": float("nan")}, "a measure is finite"),
        ({"high": float("inf")}, "a measure is finite"),
        ({"low": 0.6}, "value 0.5 is outside its interval 0.6 to 0.75"),
        ({"n": 0}, "n is 0; at least 1"),
        ({"step": -1}, "step is -1; at least 0"),
        ({"length": 0}, "length is 0; at least 1"),
        ({"depth": 1.5}, "depth is 1.5; a depth is between 0 and 1"),
    ],
)
def test_a_row_that_contradicts_itself_is_not_born(wrong: dict[str, object], sentence: str) -> None:
    with pytest.raises(MonitorError, match=sentence):
        replace(ROW, **wrong)  # type: ignore[arg-type]


def test_a_damaged_table_is_said_in_one_sentence_and_not_written_over(tmp_path: Path) -> None:
    measures.write([ROW], tmp_path)
    file = tmp_path / measures.PARQUET
    whole = file.read_bytes()
    for damaged in (whole[:-20], b"", whole[:4] + bytes(len(whole) - 8) + whole[-4:]):
        file.write_bytes(damaged)
        for use in (lambda: measures.read(tmp_path), lambda: measures.write([ROW], tmp_path)):
            with pytest.raises(MonitorError, match=r"metrics\.parquet: damaged .*metrics\.jsonl") as caught:
                use()
            assert "\n" not in str(caught.value)
        assert file.read_bytes() == damaged
    file.unlink()
    assert measures.read(tmp_path) == [ROW]
    measures.write([], tmp_path)
    assert file.read_bytes() == whole


def test_a_flipped_bit_of_a_page_is_found(tmp_path: Path) -> None:
    measures.write([ROW], tmp_path)
    file = tmp_path / measures.PARQUET
    whole = file.read_bytes()
    row_group = pq.ParquetFile(file).metadata.row_group(0).column(10)
    at = row_group.data_page_offset + row_group.total_compressed_size - 1
    file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(MonitorError, match="damaged"):
        measures.read(tmp_path)


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    measures.write([ROW, replace(ROW, step=20)], tmp_path)
    file = tmp_path / measures.JSON_LINES
    first, second = file.read_text().splitlines()
    for wrong in (second[:40], second.replace('"n"', '"m"'), "[1, 2]"):
        file.write_text(f"{first}\n{wrong}\n")
        with pytest.raises(MonitorError, match="line 2: is no measure"):
            measures.read(file)


def test_what_is_no_table_of_measures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MonitorError, match=r"holds no metrics\.parquet"):
        measures.read(tmp_path)
    with pytest.raises(MonitorError, match="there is no such file"):
        measures.read(tmp_path / "x.parquet")
    measures.write([ROW], tmp_path)
    rows = pq.read_table(tmp_path / measures.PARQUET)
    pq.write_table(rows.drop_columns(["depth"]), tmp_path / "x.parquet")
    with pytest.raises(MonitorError, match="has no column 'depth'"):
        measures.read(tmp_path / "x.parquet")


def test_a_row_over_the_whole_grid_has_no_place_in_it() -> None:
    assert not ROW.whole
    assert replace(ROW, length=None, depth=None).whole
    assert not replace(ROW, length=None, depth=None, cell="layer 3 head 7").whole
