"""Parquet and Arrow files open in an object store as on a disk, and give no more than is asked for."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mixture.errors import StoreError
from mixture.storage import mirror
from mixture.storage.tables import mapped, open_parquet
from tests.storage.objects import Store

COLUMNS = ("id", "text", "nested", "listed", "wide")
GROUPS = 6


def table() -> pa.Table:
    numbers = np.arange(600)
    return pa.table(
        {
            "id": numbers,
            "text": [f"text {n % 7}" for n in numbers],
            "nested": pa.array([{"a": int(n), "b": str(n)} for n in numbers]),
            "listed": pa.array([[int(n)] * (n % 4) for n in numbers]),
            # Too wide for what is fetched with the footer, or beside a neighbour.
            "wide": [np.random.default_rng(n).bytes(4000) for n in numbers],
        }
    )


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tables") / "a.parquet"
    pq.write_table(table(), path, row_group_size=100, write_page_checksum=True, compression="zstd")
    return path


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    st.lists(st.integers(0, GROUPS - 1), max_size=4),
    st.one_of(st.none(), st.lists(st.sampled_from((*COLUMNS, "nested.a")), max_size=3, unique=True)),
)
def test_any_columns_of_any_row_groups_are_what_they_are_on_a_disk(
    store: Store, file: Path, groups: list[int], columns: list[str] | None
) -> None:
    place = store.put("a.parquet", file.read_bytes())
    with open_parquet(file) as here, open_parquet(place) as there:
        assert there.metadata.num_row_groups == GROUPS
        assert there.read_row_groups(groups, columns).equals(here.read_row_groups(groups, columns))
        for group in groups[:1]:
            assert there.read_row_group(group, columns).equals(here.read_row_group(group, columns))
        batches = [list(one.iter_batches(64, groups, columns)) for one in (there, here)]
        assert batches[0] == batches[1]
        assert there.read(columns).equals(here.read(columns))


def test_only_the_footer_and_the_asked_columns_of_the_asked_groups_are_fetched(store: Store, file: Path) -> None:
    place = store.put("a.parquet", file.read_bytes())
    with open_parquet(place) as there:
        footer = store.proxy.traffic.down
        assert footer <= 64 << 10
        there.read_row_group(1, ["id"])
        assert store.proxy.traffic.down - footer < 300 << 10
        before = store.proxy.traffic.down
        there.read_row_groups([2, 3], ["wide"])
        wide = 2 * 100 * 4000
        assert wide * 0.9 < store.proxy.traffic.down - before < wide * 1.5
    store.proxy.reset()
    with open_parquet(place) as there:
        there.read_row_groups([2, 3], ["wide"])
    assert store.proxy.traffic.kinds == {"HEAD": 1}


def test_a_footer_longer_than_the_first_look_is_fetched_whole(store: Store) -> None:
    out = io.BytesIO()
    wide = pa.table({f"column {n}": [n] for n in range(2000)})
    pq.write_table(wide, out)
    with open_parquet(store.put("wide.parquet", out.getvalue())) as there:
        assert there.read().equals(wide)


def test_an_arrow_file_is_mapped_from_its_mirror(store: Store, tmp_path: Path) -> None:
    out = io.BytesIO()
    with pa.ipc.new_file(out, table().schema) as writer:
        writer.write_table(table())
    place = store.put("a.arrow", out.getvalue())
    assert pa.ipc.open_file(mapped(place)).read_all().equals(table())
    assert pa.ipc.open_file(mapped(place)).read_all().equals(table())
    assert len({request.range for request in store.proxy.traffic.of("GET")}) == len(store.proxy.traffic.of("GET"))


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\xff" * 8, b"no table at all" * 20])
def test_what_is_no_table_is_refused_as_on_a_disk(store: Store, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.parquet").write_bytes(content)
    for place in (tmp_path / "a.parquet", store.put("a.parquet", content)):
        with pytest.raises((pa.ArrowException, OSError)):
            open_parquet(place)
    with pytest.raises(StoreError, match="there is no such object"):
        open_parquet(store.place("none.parquet"))


def test_a_flipped_bit_in_a_page_is_found(store: Store, file: Path) -> None:
    whole = bytearray(file.read_bytes())
    whole[len(whole) // 2] ^= 1
    with open_parquet(store.put("a.parquet", bytes(whole))) as there, pytest.raises((pa.ArrowException, OSError)):
        there.read()
    assert mirror(store.place("a.parquet")).size == len(whole)
