"""What is missing is said before training begins; what is damaged is named, and not trained on."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mixture.errors import StoreError
from mixture.loader.steps import Steps
from mixture.shards.record import record_path, rows_path
from mixture.storage import write_json
from tests.conftest import given_back
from tests.loader.conftest import Shelf

Shelves = Callable[[str], Shelf]


def flip(path: Path, at: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)


def place_of(path: Path, row: int, column: str) -> int:
    """Where the tokens of a row, or something of its spans, lie in the file."""
    source = pa.memory_map(str(path))
    begin = source.read_buffer().address
    with pa.ipc.open_file(source) as reader:
        firsts = 0
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            if row < firsts + len(batch):
                inside = row - firsts
                if column == "input_ids":
                    values = batch.column(0).flatten()
                    return values.buffers()[1].address - begin + inside * batch.column(0).type.list_size * 2
                lists = batch.column("spans")
                span = lists.offsets[inside].as_py()
                field = lists.values.field(column)
                return field.buffers()[1].address - begin + span * field.type.bit_width // 8
            firsts += len(batch)
    raise AssertionError


def test_missing_shards_are_said_before_anything_is_read(mine: Shelf) -> None:
    paths = mine.paths()
    total = len(paths)
    paths[1].unlink()
    with pytest.raises(
        StoreError, match=rf"1 of {total} shards is missing \(shard-00001-of-.*\); name the folder where"
    ):
        mine.stream()
    for path in paths[2:]:
        path.unlink()
    with pytest.raises(StoreError, match=rf"{total - 1} of {total} shards are missing"):
        mine.stream()
    with pytest.raises(StoreError, match=rf"{total} of {total} shards are missing .* and {total - 3} more"):
        Shelf(mine.root, mine.lock, [mine.root / "nowhere"]).stream()


def test_a_cut_shard_is_said_before_anything_is_read(mine: Shelf) -> None:
    path = mine.paths()[2]
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(StoreError, match=rf"shard-00002-of-.*: {size - 8:,} bytes, the lock says {size:,}"):
        mine.stream()


def test_a_shard_that_is_cut_later_is_named_where_it_is_opened(mine: Shelf) -> None:
    stream, path = mine.stream(), mine.paths()[2]
    path.write_bytes(path.read_bytes()[:1000])
    first = sum(int(shard["sequences"]) for shard in mine.lock.shards[:2])
    stream.rows(np.arange(first))
    with pytest.raises(StoreError, match=r"shard-00002-of-.*: 1,000 bytes, the lock says"):
        stream.rows(np.array([first]))
    path.unlink()
    with pytest.raises(StoreError, match=r"shard-00002-of-.*missing"):
        stream.rows(np.array([first]))


@pytest.mark.parametrize("column", ["input_ids", "start", "stop", "doc_offset", "doc_length", "copy", "doc_id"])
def test_a_flipped_bit_is_named_with_its_row(mine: Shelf, column: str) -> None:
    stream, path = mine.stream(), mine.paths()[1]
    flip(path, place_of(path, 20, column))
    first = int(mine.lock.shards[0]["sequences"])
    stream.rows(np.arange(first + 20))
    with pytest.raises(StoreError, match=rf"shard-00001-of-.*: row 20 \(sequence {first + 20}\): damaged") as caught:
        stream.rows(np.arange(first + 15, first + 25))
    assert "\n" not in str(caught.value)
    stream.rows(np.arange(first + 21, len(stream)))


def test_damage_in_mid_run_ends_the_run_before_the_row_is_trained_on(mine: Shelf) -> None:
    stream = mine.stream()
    first = int(mine.lock.shards[0]["sequences"])
    bad = first + 20
    flip(mine.paths()[1], place_of(mine.paths()[1], 20, "input_ids"))
    steps = Steps(stream, batch=4, micro=2)
    seen: list[int] = []

    def train() -> None:
        for step in steps:
            for arrays in step:
                seen.extend(arrays.sequences)

    with pytest.raises(StoreError, match=rf"\(sequence {bad}\)"):
        train()
    assert bad not in seen
    assert seen == list(range(bad // 2 * 2))
    assert steps.state.sequences == bad // 4 * 4


def test_no_flipped_bit_goes_unseen_or_ends_the_process(shelves: Shelves, tmp_path: Path) -> None:
    mine = shelves("utk").copy(tmp_path / "mine")
    path = mine.paths()[0]
    truth = mine.tokens()
    wanted = mine.stream().rows(np.arange(int(mine.lock.shards[0]["sequences"])))
    draw = random.Random(3)
    size = path.stat().st_size
    # Everything but tokens is at the end of each record batch: half of the flips hit it.
    places = [draw.randrange(size) for _ in range(150)] + [draw.randrange(size - 2500, size) for _ in range(150)]
    told: list[str] = []
    for at in places:
        with given_back(path.parent):
            flip(path, at, draw.randrange(8))
            try:
                found = mine.stream().rows(np.arange(int(mine.lock.shards[0]["sequences"])))
            except StoreError as error:
                told.append(str(error))
                continue
        assert (found.tokens == truth[found.sequences]).all()
        assert all((getattr(found.spans, name) == column).all() for name, column in vars(wanted.spans).items())
    # What is not caught is padding of the file's format, which no one reads.
    assert len(told) > 200
    assert all(path.name in sentence and "\n" not in sentence for sentence in told)


def test_rows_of_another_lock_s_shard_are_refused(mine: Shelf) -> None:
    path = record_path(mine.paths()[0])
    record = json.loads(path.read_text())
    record.pop("seal")
    write_json(path, record | {"hash": "0" * 32})
    with pytest.raises(StoreError, match=r"shard-00000-of-.*: the shard of another lock"):
        mine.stream().rows(np.array([0]))


@pytest.mark.parametrize("beside", [record_path, rows_path])
def test_without_hashes_a_shard_is_read_only_where_nobody_asks_for_them(
    mine: Shelf, beside: Callable[[Path], Path]
) -> None:
    beside(mine.paths()[0]).unlink()
    with pytest.raises(StoreError, match=r"missing, and with it what rows are held to; copy it there with its shard"):
        mine.stream().rows(np.array([0]))
    assert len(mine.stream(check=False).rows(np.array([0])).tokens) == 1


def test_hashes_that_are_damaged_are_named(mine: Shelf) -> None:
    path = rows_path(mine.paths()[0])
    flip(path, 40)
    with pytest.raises(StoreError, match=r"shard-00000-of-.*rows\.json: damaged"):
        mine.stream().rows(np.array([0]))
    write_json(path, ["0" * 16])
    with pytest.raises(StoreError, match="1 hashes, the lock says"):
        mine.stream().rows(np.array([0]))
    write_json(path, ["no hash"])
    with pytest.raises(StoreError, match="damaged, not the hashes of rows"):
        mine.stream().rows(np.array([0]))


def test_unchecked_spans_that_lead_out_of_their_row_are_refused(mine: Shelf) -> None:
    path = mine.paths()[0]
    flip(path, place_of(path, 3, "start") + 1, 6)
    with pytest.raises(StoreError, match=r"row 3 \(sequence 3\): damaged, it has a span outside"):
        mine.stream(check=False).rows(np.arange(5))
